"From the map to the crop, given anything: masks, regions, boxes, crops, and the way back"
import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from carve_nb.core.image import union_box
from carve_nb.core.plotting import keep_mask
from carve_nb.formulas.threshold import Region, regions, top_mask
from carve_nb.method.crop import CropRule, grow_box
from carve_nb.models.prompts import MAX_SIDE_RATIO, check_shape

SIDES, SHARES = st.integers(1, 9), st.floats(1e-3, 1)
GREAT = float(np.finfo(np.float32).max)
ANY = st.sampled_from([0., 0., 1., 2., 3.]) | st.floats(-GREAT, GREAT, width=32) | st.floats(0, 1, width=32)


def maps(values=None, sides=SIDES):
    "Maps of any size; values with many ties, or any that are finite"
    return arrays(np.float32, st.tuples(sides, sides), elements=ANY if values is None else values)


@st.composite
def boxes(draw, W, H):
    "A box inside an image"
    x0, y0 = draw(st.integers(0, W - 1)), draw(st.integers(0, H - 1))
    return x0, y0, draw(st.integers(x0 + 1, W)), draw(st.integers(y0 + 1, H))


def image(W, H):
    "An image whose pixels all differ, as far as they can"
    i = np.arange(W*H, dtype=np.uint32).reshape(H, W)
    return Image.fromarray(np.stack([i*7 % 256, i//256*11 % 256, i*13 % 251], -1).astype(np.uint8))


# masks

@pytest.mark.case(39)
@given(maps(), SHARES)
def test_mask_never_empty(S, p):
    "Something is kept, and nothing that is left out is greater than what is kept"
    m = top_mask(S, p)
    assert m.shape == S.shape and m.dtype == bool and m.any()
    assert m.all() or S[m].min() > S[~m].max()      # ties have one fate


# regions

@given(maps(), SHARES, st.integers(1, 9), st.sampled_from([4, 8]), st.sampled_from(['top_k', 'official']), st.sampled_from(['sum', 'peak']))
def test_regions(S, p, K, connectivity, keep, rank):
    "Inside the image, apart from each other, best first, as many as K allows; all of them together are the mask"
    mask, every = top_mask(S, p), regions(S, p, S.size, connectivity)
    assert (keep_mask(every, S.shape[::-1]) == mask).all() and sum(r.area for r in every) == mask.sum()
    got = regions(S, p, K, connectivity, keep, rank)
    assert len(got) == min(len(every), K if keep == 'top_k' else max(K, int(p*len(every))))
    for r in got:
        x0, y0, x1, y1 = r.box
        assert 0 <= x0 < x1 <= S.shape[1] and 0 <= y0 < y1 <= S.shape[0] and r.mask.shape == (y1 - y0, x1 - x0) and r.area == r.mask.sum() > 0
    def worth(r): return r.score if rank == 'sum' else S[r.box[1]:r.box[3], r.box[0]:r.box[2]][r.mask].max()
    assert [*map(worth, got)] == sorted(map(worth, got), reverse=True)


# boxes

@given(st.data(), st.integers(1, 60), st.integers(1, 60), st.integers(0, 80), st.booleans(), st.floats(0, 2))
def test_grown_box(data, W, H, least, square, pad):
    "Inside the image, around the old box, with the least sides and the room that were asked for, as far as the image goes"
    box = data.draw(boxes(W, H))
    x0, y0, x1, y1 = grow_box(box, (W, H), least, square, pad)
    assert 0 <= x0 <= box[0] < box[2] <= x1 <= W and 0 <= y0 <= box[1] < box[3] <= y1 <= H
    w, h = x1 - x0, y1 - y0
    assert w >= min(max(least, (box[2] - box[0])*(1 + 2*pad) - 1e-5), W) and h >= min(max(least, (box[3] - box[1])*(1 + 2*pad) - 1e-5), H)
    if square: assert w == h or min(w, h) in (W, H)


# crops

@st.composite
def looked(draw):
    "An image, a map of its size and the choices of a second look"
    S = draw(maps(st.sampled_from([0., 0., 0., 1., 2.]) | st.floats(0, 1, width=32), st.integers(1, 20)))
    return S, draw(SHARES), draw(st.integers(1, 4)), dict(fill=draw(st.sampled_from(['black', 'none'])), min_side=draw(st.integers(1, 30)),
        square=draw(st.booleans()), pad=draw(st.floats(0, 1)), limit=draw(st.integers(1, 200)))


@given(looked())
def test_crops(look):
    "Inside the image, around all that is kept, at least the least size, not stretched beyond rounding, and within the limit"
    S, p, K, kw = look
    (H, W), kept = S.shape, regions(S, p, K)
    v = CropRule(**kw).show(image(W, H), kept)
    x0, y0, x1, y1 = v.box
    (w, h), around = (x1 - x0, y1 - y0), union_box([r.box for r in kept])
    assert 0 <= x0 <= around[0] and around[2] <= x1 <= W and 0 <= y0 <= around[1] and around[3] <= y1 <= H
    assert w >= min(kw['min_side'], W) and h >= min(kw['min_side'], H) and v.scale >= 1
    assert abs(v.image.width - w*v.scale) <= .5 and abs(v.image.height - h*v.scale) <= .5
    assert max(v.image.size) <= max(kw['limit'] + .5, w, h)
    assert v.scale == 1 or max(v.image.width/W, v.image.height/H) >= 1 - 1e-9 or max(v.image.size) >= kw['limit'] - .5
    assert not (v.masked and kw['fill'] == 'none')
    if not v.masked: assert v.image.tobytes() == image(W, H).crop(v.box).resize(v.image.size, Image.Resampling.LANCZOS).tobytes()


@st.composite
def long_parts(draw):
    "The size of an image that may be asked about, and a part that may be a long line"
    short = draw(st.integers(1, 40))
    long = draw(st.sampled_from([1, 7, 120, 190, 199, MAX_SIDE_RATIO]))*short - draw(st.integers(0, 5))*(short > 5)
    (x0, _, x1, _), (_, y0, _, y1) = draw(boxes(long, short)), draw(boxes(long, short))
    if draw(st.booleans()): x0, x1 = min(x0, long//50), max(x1, long - long//50)
    return ((long, short), (x0, y0, x1, y1)) if draw(st.booleans()) else ((short, long), (y0, x0, y1, x1))


@given(long_parts(), st.sampled_from([28, 96, 1]), st.booleans(), st.floats(0, .5), st.sampled_from(['black', 'none']), st.sampled_from([20, 448, 4096]))
def test_crops_have_a_shape(part, least, square, pad, fill, limit):
    "Of an image that may be asked about, each crop may be: it is not over 200 times longer than wide"
    (size, box), img = part, Image.new('RGB', part[0], 'white')
    check_shape(img)
    part = Region(box, 1., (box[2]-box[0])*(box[3]-box[1]), np.ones((box[3]-box[1], box[2]-box[0]), bool))
    v = CropRule(fill, square, pad, limit, min_side=least).show(img, [part])
    check_shape(v.image)
    assert 0 <= v.box[0] <= box[0] and box[2] <= v.box[2] <= size[0] and 0 <= v.box[1] <= box[1] and box[3] <= v.box[3] <= size[1]


@given(looked())
def test_nothing_hidden(look):
    "Whatever is kept is seen: no pixel of a kept region is black in the crop that was not black before"
    S, p, K, kw = look
    (H, W), kept = S.shape, regions(S, p, K)
    img = Image.new('RGB', (W, H), 'white')
    v = CropRule(**kw | dict(limit=1, fill='black')).show(img, kept)     # not enlarged
    assert v.scale == 1
    x0, y0, x1, y1 = v.box
    assert (np.asarray(v.image)[keep_mask(kept, (W, H))[y0:y1, x0:x1]] == 255).all()


@pytest.mark.case(38)
@given(looked())
def test_whole_is_whole(look):
    "p = 1 gives the image itself, bit for bit"
    S, _, K, kw = look
    img = image(*S.shape[::-1])
    v = CropRule(**kw).show(img, regions(S, 1, K))
    assert v.image.tobytes() == img.tobytes() and v.box == (0, 0, *img.size) and v.scale == 1 and not v.masked
