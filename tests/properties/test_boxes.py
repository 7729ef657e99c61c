"From the map to the crop, given anything: masks, regions, boxes, crops, and the way back"
import math
import numpy as np
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from carve_nb.core.image import box_iou, box_size, union_box
from carve_nb.core.plotting import keep_mask
from carve_nb.core.saliency import Saliency, tent_weights
from carve_nb.formulas.threshold import Region, regions, split_mask, top_mask
from carve_nb.method.settings import Crops, grow_box
from carve_nb.models.prompts import MAX_SIDE_RATIO, check_shape

some = settings(max_examples=max(min(200, settings().max_examples), settings().max_examples//4))   # laws that follow from others, or take longer
SIDES, SHARES = st.integers(1, 9), st.floats(1e-3, 1)
GREAT = float(np.finfo(np.float32).max)
ANY = st.sampled_from([0., 0., 1., 2., 3.]) | st.floats(-GREAT, GREAT, width=32) | st.floats(0, 1, width=32)


def maps(values=None, sides=SIDES):
    "Maps of any size; values with many ties, or any that are finite"
    return arrays(np.float32, st.tuples(sides, sides), elements=ANY if values is None else values)


def masks(): return arrays(bool, st.tuples(SIDES, SIDES))


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

@given(maps(), SHARES)
def test_mask_never_empty(S, p):
    "Something is kept, and nothing that is left out is greater than what is kept"
    m = top_mask(S, p)
    assert m.shape == S.shape and m.dtype == bool and m.any()
    assert m.all() or S[m].min() > S[~m].max()      # ties have one fate


@given(maps())
def test_mask_whole(S):
    "p = 1 keeps everything"
    assert top_mask(S, 1).all()


@given(maps(), SHARES, SHARES)
def test_mask_grows(S, a, b):
    "A greater share keeps what a smaller one kept"
    a, b = sorted((a, b))
    assert (top_mask(S, b) | ~top_mask(S, a)).all()


@some
@given(st.integers(1, 12), st.integers(1, 12), SHARES, st.randoms())
def test_mask_share(h, w, p, chance):
    "Without ties the mask has the share that was asked for, rounded up at most"
    order = list(range(h*w))
    chance.shuffle(order)
    kept = int(top_mask(np.array(order, np.float32).reshape(h, w), p).sum())
    assert kept == h*w - math.ceil(round((h*w - 1)*(1 - p), 9)) or abs(kept - p*h*w) <= 1


@some
@given(maps(st.just(0.) | st.floats(2**-60, 1024, width=32)), SHARES, st.integers(-8, 8))
def test_mask_unit(S, p, k):
    "The unit of the map does not matter"
    assert (top_mask(S, p) == top_mask(S*2.**k, p)).all()


# regions

def components(mask, connectivity):
    "Sets of connected pixels, by the graph of neighbors"
    h, w = mask.shape
    steps = [(0, 1), (1, 0)] + [(1, 1), (1, -1)]*(connectivity == 8)
    i, j = [], []
    for dy, dx in steps:
        for y in range(h - dy):
            for x in range(max(0, -dx), min(w, w - dx)):
                if mask[y, x] and mask[y + dy, x + dx]: i.append(y*w + x), j.append((y + dy)*w + x + dx)
    label = connected_components(coo_array((np.ones(len(i)), (i, j)), (h*w, h*w)), directed=False)[1].reshape(h, w)
    return {frozenset(map(tuple, np.argwhere((label == v) & mask).tolist())) for v in np.unique(label[mask])}


def pixels(r): return frozenset((int(y) + r.box[1], int(x) + r.box[0]) for y, x in np.argwhere(r.mask))


@given(masks(), st.sampled_from([4, 8]))
def test_components(mask, connectivity):
    "The regions of a mask are those of its graph; areas, sums and boxes are theirs"
    S = np.arange(mask.size, dtype=np.float32).reshape(mask.shape)
    found = split_mask(mask, S, connectivity)
    assert {pixels(r) for r in found} == components(mask, connectivity)
    for r in found:
        own = pixels(r)
        ys, xs = zip(*own)
        assert r.area == len(own) and r.box == (min(xs), min(ys), max(xs) + 1, max(ys) + 1) and r.score == sum(S[o] for o in own)


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


@some
@given(maps(), SHARES)
def test_connectivity(S, p):
    "Eight neighbors join what four leave apart"
    four, eight = ([pixels(r) for r in regions(S, p, S.size, c)] for c in (4, 8))
    assert len(eight) <= len(four) and all(sum(f <= e for e in eight) == 1 for f in four)


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


@some
@given(st.data(), st.integers(1, 60), st.integers(1, 60))
def test_overlap(data, W, H):
    "A share, the same both ways, 1 for equal boxes only"
    a, b = data.draw(boxes(W, H)), data.draw(boxes(W, H))
    v = box_iou(a, b)
    assert 0 <= v <= 1 and v == box_iou(b, a) and (v == 1) == (a == b)
    both = np.zeros((2, H, W), bool)
    for m, (x0, y0, x1, y1) in zip(both, (a, b)): m[y0:y1, x0:x1] = True
    assert math.isclose(v, both.all(0).sum()/both.any(0).sum())


@some
@given(st.integers(1, 20), st.integers(1, 60), st.floats(-30, 30), st.floats(.5, 90))
def test_tents(cells, n, lo, length):
    "Weights of a pixel add up to 1 inside the grid and to 0 outside it, and none is negative"
    w, x = tent_weights(cells, n, lo, lo + length), np.arange(n) + .5
    inside = (x >= lo) & (x < lo + length)
    assert (w >= 0).all() and np.allclose(w.sum(1), inside) and ((w > 0).sum(1) <= 2).all()


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
    v = Crops(**kw).show(image(W, H), kept)
    x0, y0, x1, y1 = v.box
    (w, h), around = (x1 - x0, y1 - y0), union_box([r.box for r in kept])
    assert 0 <= x0 <= around[0] and around[2] <= x1 <= W and 0 <= y0 <= around[1] and around[3] <= y1 <= H
    assert w >= min(kw['min_side'], W) and h >= min(kw['min_side'], H) and v.scale >= 1
    assert abs(v.image.width - w*v.scale) <= .5 and abs(v.image.height - h*v.scale) <= .5
    assert max(v.image.size) <= max(kw['limit'] + .5, w, h)
    assert v.scale == 1 or max(v.image.width/W, v.image.height/H) >= 1 - 1e-9 or max(v.image.size) >= kw['limit'] - .5
    assert not (v.masked and kw['fill'] == 'none')
    if not v.masked: assert v.image.tobytes() == image(W, H).crop(v.box).resize(v.image.size, Image.Resampling.LANCZOS).tobytes()


@some
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
    v = Crops(fill, square, pad, limit, min_side=least).show(img, [part])
    check_shape(v.image)
    assert 0 <= v.box[0] <= box[0] and box[2] <= v.box[2] <= size[0] and 0 <= v.box[1] <= box[1] and box[3] <= v.box[3] <= size[1]


@given(looked())
def test_nothing_hidden(look):
    "Whatever is kept is seen: no pixel of a kept region is black in the crop that was not black before"
    S, p, K, kw = look
    (H, W), kept = S.shape, regions(S, p, K)
    img = Image.new('RGB', (W, H), 'white')
    v = Crops(**kw | dict(limit=1, fill='black')).show(img, kept)     # not enlarged
    assert v.scale == 1
    x0, y0, x1, y1 = v.box
    assert (np.asarray(v.image)[keep_mask(kept, (W, H))[y0:y1, x0:x1]] == 255).all()


@given(looked())
def test_whole_is_whole(look):
    "p = 1 gives the image itself, bit for bit"
    S, _, K, kw = look
    img = image(*S.shape[::-1])
    v = Crops(**kw).show(img, regions(S, 1, K))
    assert v.image.tobytes() == img.tobytes() and v.box == (0, 0, *img.size) and v.scale == 1 and not v.masked


@some
@given(looked())
def test_size_of_a_crop(look):
    "A crop has the size of its box times its scale"
    S, p, K, kw = look
    v = Crops(**kw).show(image(*S.shape[::-1]), regions(S, p, K))
    assert np.allclose(np.multiply(box_size(v.box), v.scale), v.image.size, atol=.51)


@some
@given(st.booleans(), st.integers(1, 14), st.integers(1, 60), st.integers(1, 60), SHARES, st.integers(1, 3), st.data())
def test_thin_grids(upright, n, W, H, p, K, data):
    "Grids of one row or one column go the whole way"
    v = data.draw(arrays(np.float32, (n, 1) if upright else (1, n), elements=st.floats(0, 1, width=32)))
    S = Saliency(v, (W, H))
    a = S.to_pixels()
    assert (np.ptp(a, 1) if upright else np.ptp(a, 0)).max() <= 1e-6
    crop = Crops('black').show(image(W, H), regions(S, p, K))
    assert 0 <= crop.box[0] < crop.box[2] <= W and 0 <= crop.box[1] < crop.box[3] <= H and min(crop.image.size) >= 1

