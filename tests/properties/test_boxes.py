"From the map to the crop, given anything: masks, regions and crops"

import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from carve_nb.core.image import union_box
from carve_nb.core.plotting import keep_mask
from carve_nb.formulas.threshold import regions, top_mask
from carve_nb.method.base import CropMethod

SIDES, SHARES = st.integers(1, 9), st.floats(1e-3, 1)
GREAT = float(np.finfo(np.float32).max)
ANY = (
    st.sampled_from([0.0, 0.0, 1.0, 2.0, 3.0])
    | st.floats(-GREAT, GREAT, width=32)
    | st.floats(0, 1, width=32)
)


def maps(values=ANY, sides=SIDES):
    "Maps of any size; values with many ties, or any that are finite"
    return arrays(np.float32, st.tuples(sides, sides), elements=values)


def image(W, H):
    "An image whose pixels all differ, as far as they can"
    i = np.arange(W * H, dtype=np.uint32).reshape(H, W)
    return Image.fromarray(np.stack([i * 7 % 256, i // 256 * 11 % 256, i * 13 % 251], -1).astype(np.uint8))


@pytest.mark.case(39)
@given(
    maps(),
    SHARES,
    st.integers(1, 9),
    st.sampled_from(['top_k', 'official']),
    st.sampled_from(['sum', 'peak']),
)
def test_regions(S, p, K, keep, rank):
    """The mask leaves out nothing greater; regions lie in the image, best first, as many as K allows, and all
    are the mask"""
    mask = top_mask(S, p)
    every = regions(S, p, S.size)
    assert mask.any() and (mask.all() or S[mask].min() > S[~mask].max())  # ties have one fate
    assert (keep_mask(every, S.shape[::-1]) == mask).all() and sum(r.area for r in every) == mask.sum()
    got = regions(S, p, K, keep, rank)
    assert len(got) == min(len(every), K if keep == 'top_k' else max(K, int(p * len(every))))
    for r in got:
        x0, y0, x1, y1 = r.box
        assert 0 <= x0 < x1 <= S.shape[1] and 0 <= y0 < y1 <= S.shape[0]
        assert r.mask.shape == (y1 - y0, x1 - x0) and r.area == r.mask.sum() > 0

    def worth(r):
        return r.score if rank == 'sum' else S[r.box[1] : r.box[3], r.box[0] : r.box[2]][r.mask].max()

    assert [*map(worth, got)] == sorted(map(worth, got), reverse=True)


@st.composite
def cropped(draw):
    "A map of an image's size, and the choices of a crop"
    S = draw(maps(st.sampled_from([0.0, 0.0, 0.0, 1.0, 2.0]) | st.floats(0, 1, width=32), st.integers(1, 20)))
    return (
        S,
        draw(SHARES),
        draw(st.integers(1, 4)),
        dict(
            fill=draw(st.sampled_from(['black', 'none'])),
            min_side=draw(st.integers(1, 30)),
            square=draw(st.booleans()),
            pad=draw(st.floats(0, 1)),
            limit=draw(st.integers(1, 200)),
        ),
    )


@given(cropped())
def test_crops(given_crop):
    """Inside the image, around all that is kept, at least the least size, not stretched beyond rounding,
    within the limit"""
    S, p, K, kw = given_crop
    (H, W), selected = S.shape, regions(S, p, K)
    v = CropMethod(**kw).show(image(W, H), selected)
    x0, y0, x1, y1 = v.box
    (w, h), around = (x1 - x0, y1 - y0), union_box([r.box for r in selected])
    assert 0 <= x0 <= around[0]
    assert around[2] <= x1 <= W
    assert 0 <= y0 <= around[1]
    assert around[3] <= y1 <= H
    assert w >= min(kw['min_side'], W)
    assert h >= min(kw['min_side'], H)
    assert v.scale >= 1
    assert abs(v.image.width - w * v.scale) <= 0.5 and abs(v.image.height - h * v.scale) <= 0.5
    assert max(v.image.size) <= max(kw['limit'] + 0.5, w, h)
    assert (
        v.scale == 1
        or max(v.image.width / W, v.image.height / H) >= 1 - 1e-9
        or max(v.image.size) >= kw['limit'] - 0.5
    )
    assert not (v.masked and kw['fill'] == 'none')
    want = image(W, H).crop(v.box).resize(v.image.size, Image.Resampling.LANCZOS)
    assert v.masked or v.image.tobytes() == want.tobytes()
