"The method's arithmetic, given anything: contrast, entropy, layers, maps"

import math
from types import SimpleNamespace
import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import arrays
from carve_nb.attention.vlm import VLM
from carve_nb.core.errors import CarveError
from carve_nb.core.saliency import Saliency, pick_layers
from carve_nb.formulas.clutter import entropy
from carve_nb.formulas.product import contrast

SIDES = st.integers(1, 6)
POSITIVE = st.floats(0, float(np.finfo(np.float32).max), width=32)
# which take longer
some = settings(max_examples=max(min(200, settings().max_examples), settings().max_examples // 4))


@given(
    arrays(np.float32, st.tuples(st.just(2), st.integers(1, 8)), elements=POSITIVE),
    st.floats(1e-300, 1e300),
    st.booleans(),
)
def test_contrast_finite(maps, lam, relative):
    "Whatever the two maps and λ > 0: finite, float32, and at least 0"
    out = contrast(*maps, lam, relative)
    assert out.dtype == torch.float32
    assert out.isfinite().all()
    assert out.shape == maps[0].shape
    assert (out >= 0).all()


@given(arrays(np.float32, st.integers(1, 8), elements=POSITIVE), st.sampled_from([2, math.e, 10]))
def test_entropy_bounds(a, base):
    "Between 0 and the logarithm of the number of patches"
    assert -1e-12 <= float(entropy(torch.tensor(a), base)) <= math.log(len(a), base) + 1e-9


def sane(got, n):
    return got == sorted(set(got)) and got and set(got) <= set(range(n))


BAD = (
    'all',
    'Paper',
    'low',
    [],
    (0.5, 1.1),
    (-0.1, 0.5),
    (0.7, 0.3),
    (math.nan, 0.5),
    (0.2, math.inf),
    (0.1, 0.5, 1.1),
    [1.1],
    -0.1,
    math.nan,
)


def test_every_depth():
    """All depths from 1 to 100: the band that the paper's word names; what names no layer is refused"""
    for n in range(1, 101):
        assert pick_layers('paper', n) == [*range(20, 26)] or n < 26
        assert sane(pick_layers('paper', n), n)
        hybrid = SimpleNamespace(n_layers=n, layers=[n - 1])  # whose last layer alone attends
        assert VLM.pick_layers(hybrid, 'paper') == [n - 1] == VLM.pick_layers(hybrid)
        assert pick_layers(0.5, n) == pick_layers([0.5], n) == pick_layers((0.5, 0.5), n)
        assert pick_layers(n - 1, n) == [n - 1] == pick_layers((1.0, 1.0), n)
        for bad in (n, -1, [0, n], [0, 1, 0.5], *BAD):
            with pytest.raises(CarveError):
                pick_layers(bad, n)


@given(st.integers(1, 100), st.lists(st.one_of(st.integers(-2, 101), st.floats()), max_size=5))
def test_any_layers(n, spec):
    "Numbers of any kind: layers that exist, in order, or a `CarveError`"
    try:
        assert sane(pick_layers(spec, n), n)
    except CarveError:
        pass


@st.composite
def saliency(draw):
    "A map on any grid, one row or one column too, and where it lies in an image"
    v = draw(arrays(np.float32, st.tuples(SIDES, SIDES), elements=st.floats(-1e6, 1e6, width=32)))
    W = draw(st.integers(1, 40))
    H = draw(st.integers(1, 40))
    x0 = draw(st.floats(-20, W - 0.5))
    y0 = draw(st.floats(-20, H - 0.5))
    return Saliency(
        v,
        (W, H),
        (x0, y0, max(x0 + 1, 0.5) + draw(st.floats(1, 60)), max(y0 + 1, 0.5) + draw(st.floats(1, 60))),
    )


@given(saliency())
def test_pixels_in_range(S):
    "Pixels lie between the least and the greatest patch; what the grid does not cover is 0"
    a = S.to_pixels()
    assert a.shape == S.size[::-1]
    assert a.dtype == np.float32
    assert np.isfinite(a).all()
    slack = 1e-6 * abs(S.values).max()
    assert a.max() <= max(S.values.max(), 0) + slack and a.min() >= min(S.values.min(), 0) - slack
    x, y = (np.arange(n) + 0.5 for n in S.size)
    inside = ((y >= S.box[1]) & (y < S.box[3]))[:, None] & ((x >= S.box[0]) & (x < S.box[2]))
    assert not a[~inside].any()


@some
@given(saliency())
def test_pointing(S):
    "The peak lies in the image where a patch does, and a map points at a box around its peak"
    x, y = S.peak()
    if all(((c > 0) & (c < n)).any() for c, n in zip(S.centers(), S.size)):
        assert 0 < x < S.size[0] and 0 < y < S.size[1]
    assert S.points_at((x - 1, y - 1, x + 1, y + 1))
