"""Rank correlation, partial correlation, odds and binned means, each with its interval.

Chapters 1 and 9 and `recipes.clutter` use it; it makes no record."""

import warnings
from collections.abc import Callable, Sequence
import numpy as np
from fastcore.basics import groupby
from scipy import stats
from carve_nb.core.errors import StatisticsError
from carve_nb.core.stats import TAIL, Estimate, check_scores, mean_interval

STEEPEST = 10  # log-odds per standard deviation; beyond it answers are as good as separated


def correlate(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    "Return Pearson's correlation along the last axis"
    x, y = (o - o.mean(-1, keepdims=True) for o in (x, y))
    return (x * y).sum(-1) / np.sqrt((x * x).sum(-1) * (y * y).sum(-1))


def rank_correlation(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    "Return the correlation of the ranks along the last axis"
    return correlate(stats.rankdata(x, axis=-1), stats.rankdata(y, axis=-1))


# numbers [m]; covariates [m, k]; the image of each
def check_columns(
    *columns: Sequence, given: np.ndarray | None = None, clusters: Sequence | None = None
) -> tuple:
    """Return the columns, the covariates and a number for the image of each; raise an error where too little
    varies"""
    arrays = check_scores(*columns)
    m = len(arrays[0])
    given = np.zeros((m, 0)) if given is None else np.asarray(given, float).reshape(m, -1)
    images = np.arange(m) if clusters is None else np.unique(list(clusters), return_inverse=True)[1]
    if m < 4 or not all(map(np.ptp, [*arrays, images])):
        raise StatisticsError(f'{m} values, or what does not vary, or one image: nothing can correlate.')
    return *arrays, given, images


def residuals(x: np.ndarray, given: np.ndarray) -> np.ndarray:  # [..., m]; covariates [..., m, k]
    "Return the ranks minus what least squares on the ranks of the covariates explains"

    def centered(a: np.ndarray, axis: int):
        ranks = stats.rankdata(a, axis=axis)
        return ranks - ranks.mean(axis, keepdims=True)

    R = centered(x, -1)[..., None]
    Z = centered(given, -2)
    Zt = Z.swapaxes(-1, -2)
    beta = np.linalg.pinv(Zt @ Z, rcond=1e-10, hermitian=True) @ (Zt @ R)
    return (R - Z @ beta)[..., 0]


def image_places(clusters: Sequence) -> list:
    "Return where the questions on each image stand, images in order of appearance"
    return [np.array(places) for places in groupby(enumerate(clusters), 1, 0).values()]


# columns [..., m] -> [...]; [m] arrays, one entry for each image
def bootstrap_values(stat: Callable, columns: Sequence, n: int = 2000, seed: int = 0) -> np.ndarray:
    "Return a statistic of samples drawn with replacement, [n]"
    with np.errstate(invalid='ignore', divide='ignore'), warnings.catch_warnings():
        warnings.simplefilter('ignore', stats.DegenerateDataWarning)  # of an interval that is not asked for
        return stats.bootstrap(
            columns,
            lambda *c, axis: stat(*c),
            n_resamples=n,
            batch=max(1, 1_000_000 // len(columns[0])),
            paired=True,
            method='percentile',
            rng=seed,
        ).bootstrap_distribution


def expanded_ends(
    values: np.ndarray, m: int
) -> tuple:  # [n] of `bootstrap_values`; questions or images that were drawn
    """Return the 95 % interval of drawn values: percentiles, a little wider for few questions (Hesterberg
    2015)"""
    tail = stats.norm.cdf(np.sqrt(m / (m - 1)) * stats.t.ppf(TAIL, m - 1))
    return tuple(map(float, np.nanquantile(values, [tail, 1 - tail])))


# as `bootstrap_values`; the image of each entry
def draw_images(stat: Callable, columns: Sequence, n: int, clusters: Sequence, seed: int = 0) -> np.ndarray:
    "Return a statistic of samples of whole images drawn with replacement"
    rng = np.random.default_rng(seed)
    parts = image_places(clusters)
    draws = (np.concatenate([parts[i] for i in rng.integers(len(parts), size=len(parts))]) for _ in range(n))
    with np.errstate(invalid='ignore', divide='ignore'):
        return np.array([stat(*(np.asarray(c)[draw] for c in columns)) for draw in draws])


def spearman(
    # draws; the image of each question; covariates [m, k]
    x: np.ndarray,
    y: np.ndarray,
    n: int = 2000,
    clusters: Sequence | None = None,
    given: np.ndarray | None = None,
) -> Estimate:
    "Return the rank correlation, or that of what covariates leave unexplained, with its bootstrap interval"
    x, y, given, images = check_columns(x, y, given=given, clusters=clusters)
    size, k = given.shape
    m = len(set(images))
    df = size - 2 - k
    if df < 1 or min(np.ptp(residuals(v, given)) for v in (x, y)) < 1e-6:
        raise StatisticsError(f'{k} covariates leave nothing of {size} questions to correlate.')

    def stat(x: np.ndarray, y: np.ndarray, *columns: np.ndarray):
        if not columns:
            return rank_correlation(x, y)
        covariates = np.stack(columns, -1)
        return correlate(residuals(x, covariates), residuals(y, covariates)).clip(-1, 1)

    columns = [x, y, *given.T]
    value = float(stat(*columns))
    values = bootstrap_values(stat, columns, n) if m == size else draw_images(stat, columns, n, images)
    t = abs(value) * np.sqrt(df / max(1 - value * value, 1e-300))
    p = 2 * stats.t.sf(t, df) if m == size else 2 * stats.t.sf(abs(value) / np.nanstd(values), m - 1)
    return Estimate(value, *expanded_ends(values, m), size, float(p))


def logistic(
    x: np.ndarray, y: np.ndarray, given: np.ndarray | None = None, clusters: Sequence | None = None
) -> Estimate:  # y [m], between 0 and 1; the rest as in `spearman`
    """Return the change of the log-odds of y per standard deviation of x, with an interval that takes images
    for independent"""
    from statsmodels.genmod.families import Binomial
    from statsmodels.genmod.generalized_linear_model import GLM
    from statsmodels.tools.sm_exceptions import PerfectSeparationWarning

    x, y, given, images = check_columns(x, y, given=given, clusters=clusters)
    m = len(x)
    X = np.column_stack([given, x])
    X = np.column_stack([np.ones(m), (X - X.mean(0)) / np.maximum(X.std(0), 1e-300)])
    ranks = [np.linalg.matrix_rank(X[:, : j + 1]) for j in range(X.shape[1])]
    new = np.diff(ranks, prepend=0) > 0  # what follows from the columns before it says nothing
    if not new[-1] or min(y.sum(), (1 - y).sum()) < 5 * (new.sum() - 1):
        raise StatisticsError(
            f'x follows from the covariates, or {m} answers are too few: 5 of the rarer kind for each.'
        )
    with warnings.catch_warnings(), np.errstate(over='ignore'):
        warnings.simplefilter('error', PerfectSeparationWarning)
        try:
            fit = GLM(y, X[:, new], Binomial()).fit(cov_type='cluster', cov_kwds=dict(groups=images))
        except PerfectSeparationWarning:
            raise StatisticsError(f'{m} answers are separated without an error.') from None
    slope = float(fit.params[-1])
    if abs(slope) > STEEPEST:
        raise StatisticsError(f'{m} answers are all but separated.')
    return Estimate(slope, *map(float, fit.conf_int(2 * TAIL)[-1]), m, float(fit.pvalues[-1]))


def bin_means(
    x: np.ndarray, y: np.ndarray, bins: int = 10, clusters: Sequence | None = None
) -> tuple:  # [m] numbers; the image of each
    "Return the mean x of each bin, and the list of `Estimate`s of y; equal values stay in one bin"
    x, _, images = check_columns(x, clusters=clusters)
    (y,) = check_scores(y)
    bin_of = np.searchsorted(np.unique(np.quantile(x, np.arange(1, bins) / bins)), x)
    members = [bin_of == k for k in np.unique(bin_of)]
    means = [mean_interval(y[m], clusters=images[m].tolist()) for m in members]
    return np.array([x[m].mean() for m in members]), means


def try_estimate(f: Callable, *args, fewest: int = 0, **kw):
    "Return a statistic, or None where too little varies, or where `clusters` are fewer than `fewest`"
    if len(set(kw.get('clusters', range(fewest)))) < fewest:
        return None
    try:
        return f(*args, **kw)
    except StatisticsError:
        return None
