"The method's arithmetic, given anything: contrast, entropy, layers, maps"
import math
import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings, strategies as st
from hypothesis.extra.numpy import arrays
from carve_nb.core.errors import CarveError
from carve_nb.core.saliency import Saliency, pick_layers
from carve_nb.formulas.algorithm import fuse_maps, step_weights
from carve_nb.formulas.clutter import entropy
from carve_nb.formulas.product import contrast, cost
from recipes.shared_distractor import map_share

GREAT = float(np.finfo(np.float32).max)
SIDES = st.integers(1, 6)
some = settings(max_examples=max(min(200, settings().max_examples), settings().max_examples//4))   # laws that follow from others, or take longer


def rows(lo=0., hi=GREAT, most=8): return arrays(np.float32, st.integers(1, most), elements=st.floats(float(np.float32(lo)), float(np.float32(hi)), width=32))


@st.composite
def pair(draw, hi=GREAT, lo=0.):
    "A_q and A_g of the same length"
    a = draw(rows(lo, hi))
    return a, draw(arrays(np.float32, len(a), elements=st.floats(float(np.float32(lo)), float(np.float32(hi)), width=32)))


LAMS = st.floats(1e-300, 1e300)


# contrast

@given(pair(), LAMS, st.booleans())
def test_contrast_finite(maps, lam, relative):
    "Whatever the two maps and λ > 0: finite, float32, and at least 0 unless it is a logarithm"
    out = contrast(*maps, lam, relative)
    assert out.dtype == torch.float32 and out.isfinite().all() and out.shape == maps[0].shape
    assert (out >= 0).all()


@given(pair(), rows(), LAMS, st.booleans())
def test_contrast_keeps_order(maps, more, lam, relative):
    "At a fixed A_g, more of the question's attention is never less of the map"
    (A_q, A_g), more = maps, np.resize(more, len(maps[0]))
    assume(np.isfinite(A_q.astype(np.float64) + more).all() and (A_q.astype(np.float64) + more <= GREAT).all())
    assert (contrast(A_q + more, A_g, lam, relative) >= contrast(A_q, A_g, lam, relative)).all()


@some
@given(pair(), rows(), LAMS)
def test_contrast_divides(maps, more, lam):
    "With λ a number of its own, more of the general attention is never more of the map"
    (A_q, A_g), more = maps, np.resize(more, len(maps[0]))
    assume((A_g.astype(np.float64) + more <= GREAT).all())
    assert (contrast(A_q, A_g + more, lam) <= contrast(A_q, A_g, lam)).all()


@some
@given(pair(hi=2.**10, lo=2.**-20), st.integers(-10, 10), st.floats(2**-10, 2**10))
def test_contrast_scales(maps, k, lam):
    "With λ in units of the mean, the unit of the general map drops out; that of the question's map stays"
    A_q, A_g = maps
    S = contrast(A_q, A_g, lam, relative=True)
    assert torch.equal(contrast(A_q, A_g*2**k, lam, relative=True)*2**k, S)
    assert torch.equal(contrast(A_q*2**k, A_g, lam, relative=True), S*2**k)


@given(pair(hi=1e3), st.floats(1e-6, 1e3), st.floats(1e-3, 1e3), st.sampled_from([-1, 1]))
def test_closed_form_is_least(maps, lam, step, sign):
    "No other value of any patch makes the objective smaller"
    A_q, A_g = (torch.tensor(a).double() for a in maps)
    A = contrast(*maps, lam).double()
    J, other = (cost(a[:, None], A_q[:, None], A_g[:, None], lam) for a in (A, A + sign*step*A.clamp_min(1)))
    assert (other >= J*(1 - 1e-9)).all()


# entropy

@given(rows(), st.sampled_from([2, math.e, 10]))
def test_entropy_bounds(a, base):
    "Between 0 and the logarithm of the number of patches"
    h = float(entropy(torch.tensor(a), base))
    assert -1e-12 <= h <= math.log(len(a), base) + 1e-9


@some
@given(rows(1e-3, 1e3), st.integers(-20, 20), st.randoms())
def test_entropy_same(a, k, chance):
    "Neither the unit nor the order of the patches matters; equal weights have the most"
    h = float(entropy(torch.tensor(a)))
    mixed = a.copy()
    chance.shuffle(mixed)
    assert math.isclose(float(entropy(torch.tensor(mixed*2**k))), h, abs_tol=1e-9)
    assert math.isclose(float(entropy(torch.full((len(a),), float(a[0])))), math.log2(len(a)), abs_tol=1e-9)
    assert math.isclose(float(entropy(torch.tensor(a), math.e))/math.log(2), h, abs_tol=1e-9)


# layers and steps

def sane(got, n): return got == sorted(set(got)) and got and set(got) <= set(range(n))


def depth_band(lo, hi, n): return pick_layers((float(lo), float(hi)), n)


def test_every_depth():
    "All depths from 1 to 100, all kinds of words for layers"
    for n in range(1, 101):
        assert pick_layers(None, n) == list(range(n))
        assert sane(pick_layers('paper', n), n)
        assert pick_layers('paper', n) == list(range(20, 26)) or n < 26
        for k in range(0, 11):
            lo = depth_band(0, k/10, n)
            assert sane(lo, n) and sane(depth_band(k/10, 1, n), n) and set(lo) | set(depth_band(k/10, 1, n)) == set(range(n))
            assert pick_layers((0., k/10), n) == lo
        assert pick_layers(n-1, n) == [n-1] == pick_layers([n-1, n-1, n-1], n) == pick_layers((1., 1.), n)
        assert pick_layers(range(n), n) == list(range(n))
        assert all(sane(pick_layers(word, n), n) for word in ('low', 'high')) and pick_layers('low', n, [n - 1]) == [n - 1] == pick_layers(None, n, [n - 1])
        assert pick_layers(.5, n) == pick_layers([.5], n) == depth_band(.5, .5, n) and pick_layers([.9, .5, .1], n) == sorted({*pick_layers(.1, n), *pick_layers(.5, n), *pick_layers(.9, n)})
        for bad in (n, -1, [0, n], [], [0, 1, .5], 'all', 'Paper', (.5, 1.1), (-.1, .5), (.7, .3), (math.nan, .5), (.2, math.inf), (.1, .5, 1.1), [1.1], -.1, [math.nan], [math.inf], math.nan):
            with pytest.raises(CarveError): pick_layers(bad, n)


@given(st.integers(1, 100), st.lists(st.one_of(st.integers(-2, 101), st.floats()), max_size=5))
def test_any_layers(n, spec):
    "Numbers of any kind: layers that exist, in order, or a `CarveError`"
    try: assert sane(pick_layers(spec, n), n)
    except CarveError: pass


@given(st.integers(1, 100), st.floats(0, 1), st.floats(0, 1))
def test_bands(n, a, b):
    "A wider band holds the narrower one, and a band has the share of the depth that it says, give or take its two ends"
    lo, hi = sorted((a, b))
    band = depth_band(lo, hi, n)
    assert sane(band, n) and band == list(range(band[0], band[-1] + 1))
    assert set(band) <= set(depth_band(lo/2, (1 + hi)/2, n))
    assert abs(len(band) - (hi - lo)*n) < 2


@some
@given(arrays(np.float32, st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 6)), elements=st.just(0.) | st.floats(2**-60, 1024, width=32)), st.booleans())
def test_fusing_adds(a, normalize):
    "The fused map has the weighted total of its parts; normalized, every part counts alike"
    a, w = torch.tensor(a), step_weights(len(a), 'all')
    S = fuse_maps(a, w, normalize)
    parts = a.double().sum(-1)
    want = (w.double()[:, None]*(parts > 1e-30) if normalize else w.double()[:, None]*parts).sum()
    assert (S >= 0).all() and math.isclose(float(S.sum()), float(want), rel_tol=1e-9, abs_tol=1e-9)


# maps

@st.composite
def saliency(draw, lo=0., hi=1e6, inside=True):
    "A map on any grid, one row or one column too, and where it lies in an image"
    v = draw(arrays(np.float32, st.tuples(SIDES, SIDES), elements=st.floats(float(np.float32(lo)), float(np.float32(hi)), width=32)))
    W, H = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    if inside: return Saliency(v, (W, H))
    x0, y0 = draw(st.floats(-20, W - .5)), draw(st.floats(-20, H - .5))
    return Saliency(v, (W, H), (x0, y0, max(x0 + 1, .5) + draw(st.floats(1, 60)), max(y0 + 1, .5) + draw(st.floats(1, 60))))


@given(saliency(lo=-1e6, inside=False))
def test_pixels_in_range(S):
    "Pixels lie between the least and the greatest patch; what the grid does not cover is 0"
    a = S.to_pixels()
    assert a.shape == S.size[::-1] and a.dtype == np.float32 and np.isfinite(a).all()
    slack = 1e-6*abs(S.values).max()
    assert a.max() <= max(S.values.max(), 0) + slack and a.min() >= min(S.values.min(), 0) - slack
    x, y = (np.arange(n) + .5 for n in S.size)
    out = ~(((y >= S.box[1]) & (y < S.box[3]))[:, None] & ((x >= S.box[0]) & (x < S.box[2])))
    assert not a[out].any()


@some
@given(arrays(np.float32, st.tuples(SIDES, SIDES), elements=st.floats(0, 1024, width=32)), st.integers(1, 6), st.integers(1, 6))
def test_pixels_keep_sum(v, kx, ky):
    "Where patches are whole pixels, every patch keeps its weight"
    gh, gw = v.shape
    a = Saliency(v, (gw*kx, gh*ky)).to_pixels()
    assert math.isclose(a.sum(dtype=np.float64), float(v.sum(dtype=np.float64))*kx*ky, rel_tol=1e-5, abs_tol=1e-3)


@some
@given(saliency(lo=-1e3, hi=1e3, inside=False), st.integers(0, 40), st.integers(0, 40), st.integers(0, 40), st.integers(0, 40))
def test_share(S, x0, y0, w, h):
    "Between 0 and 1, all of it in the whole image, and the shares of two halves add up"
    (W, H), box = S.size, (x0, y0, x0 + w, y0 + h)
    assert 0 <= map_share(S, box) <= 1 + 1e-12
    assert math.isclose(map_share(S, (0, 0, W, H)), 1, abs_tol=1e-12)
    assert math.isclose(map_share(S, (0, 0, W//2, H)) + map_share(S, (W//2, 0, W, H)), 1, abs_tol=1e-9)
    assert map_share(S, (x0, y0, x0, y0 + h)) == 0


@some
@given(saliency(lo=-1e3, hi=1e3, inside=False), st.integers(0, 40), st.integers(0, 40), st.integers(1, 40), st.integers(1, 40))
def test_pointing(S, x0, y0, w, h):
    "The peak lies in the image where a patch does, is hit in a box that holds it, and what is hit is pointed at"
    x, y = S.peak()
    cx, cy = S.centers()
    if ((cx > 0) & (cx < S.size[0])).any() and ((cy > 0) & (cy < S.size[1])).any(): assert 0 < x < S.size[0] and 0 < y < S.size[1]
    assert S.hit((x - 1, y - 1, x + 1, y + 1))
    box = x0, y0, x0 + w, y0 + h
    assert S.points_at(box) or not S.hit(box)
