"""Samples, records, figures and tables of the study of how much of a general map changes with its wording."""

from itertools import combinations
import numpy as np
import pandas as pd
import torch
from PIL import Image
from scipy.special import rel_entr
from carve_nb.attention.session import Session
from carve_nb.core.errors import CarveError, choose
from carve_nb.core.saliency import patch_cover
from carve_nb.core.stats import Estimate, auroc, corrected, interval_of, mean_interval, paired_effect
from carve_nb.data.scenes import samples
from carve_nb.formulas.algorithm import fuse_maps
from carve_nb.formulas.product import check_maps, contrast
from carve_nb.formulas.variance import VARIANCE_PARTS, log_maps, variance_parts
from carve_nb.models.prompts import GENERAL_INSTRUCTIONS, SHORT_ANSWER
from .layers import image_means, mean_estimate
from .records import run_recipe

TEN_INSTRUCTIONS = (
    *GENERAL_INSTRUCTIONS,
    'What things are in the picture?',
    'Tell me what is in this image.',
    'Explain what you see in this picture.',
    'What objects do you see there?',
    'Describe the objects and the background.')

def instruction_maps(vlm, image, texts, suffix=SHORT_ANSWER) -> tuple: # [M, L, Nv], where they lie: an `ImageSpan`
    "Return one map for each text, question or instruction: head-mean attention of the last token"
    session = Session(vlm, image, shared=False)
    rows = [session.capture(t, suffix=suffix, question_rows=False) for t in texts]
    return np.stack([r.read().double().numpy() for r in rows]), rows[0].raster()

def invariance_samples(n, start=0):
    "Held-out questions about one object, of several kinds in turn"
    for i in range(start, start + n): yield from samples(('digit', 'color', 'shape')[i % 3], 1, start=7*i)

UNRELATED_QUESTIONS = (
    'Is there a pink heart?',
    'What color is the star?',
    'How many circles are there?',
    'Which number is on the green triangle?',
    'Where is the cross?')

def js_bits(p, q) -> np.ndarray: # [..., Nv] weights >= 0 twice, broadcast -> [...] 0: the same, 1: nothing in common
    "Jensen-Shannon divergence of rows, in bits"
    p, q = (np.asarray(a, np.float64) for a in (p, q))
    p, q = (a / a.sum(-1, keepdims=True).clip(1e-30) for a in (p, q))   # a row without attention stays zero
    m = (p + q) / 2
    return (rel_entr(p, m) + rel_entr(q, m)).sum(-1)/(2*np.log(2))

def mean_pair(A) -> np.ndarray: # [M, ..., Nv] -> [...]
    "Mean divergence over all pairs of the first axis"
    pairs = combinations(range(len(A)), 2)
    return np.mean([js_bits(A[i], A[j]) for i, j in pairs], 0)

def least_delta(A_gs, lam=.1): # [M, ..., Nv] maps of M >= 2 general instructions -> [..., Nv] float32 between 0 and 1
    """A lower bound of δ at each patch, from the differences of general maps, each scaled to the same total.

    `lam` is added to both, in units of the mean; it can only lower the bound."""
    A, _ = check_maps(A_gs, A_gs, lam)
    if len(A) < 2: raise CarveError("least_delta needs at least two general maps, [M, ..., Nv]")
    x = (A / A.mean(-1, keepdim=True).clamp_min(1e-30) + lam).log()
    return ((x.amax(0) - x.amin(0)) / 2).tanh()

LAMBDA_GRID = tuple(10.**(k/4) for k in range(-24, 9)) # λ that are tried, in units of the mean of A_g

def lambda_from_spread(A_gs): # [M, ..., Nv] maps of M >= 2 general instructions -> [..., 1]
    "The λ of each row under which each general map is predicted best by the others; for use with their mean"
    A, _ = check_maps(A_gs, A_gs, 1)
    M = len(A)
    if A.ndim < 2 or M < 2:
        raise CarveError(f"maps of shape {tuple(A.shape)}: the spread needs at least two general maps, [M, ..., Nv]")
    unit = A.mean((0, -1), keepdim=True)[0].double().clamp_min(1e-12)
    A = A.double() / unit
    others = ((A.sum(0, keepdim=True) - A) / (M - 1)).clamp_min(0)
    error = lambda l: (A/(others + l) - 1).square().mean((0, -1))
    miss = torch.stack([error(l) for l in LAMBDA_GRID])
    best = torch.tensor(LAMBDA_GRID, dtype=torch.float64)[miss.argmin(0)]
    return best[..., None] * unit

CAP = 10. # F_sem above this is not believed by the clipped ratio
OPERATORS = 'ratio', 'clipped', 'log', 'difference', 'absolute'

def contrast_by(
        op, A_q, A_g, lam=1e-8, relative=False): # one of `OPERATORS`; [..., Nv] twice -> [..., Nv] float32, finite
    "Contrast two maps as `contrast` does, by another operator"
    A_q, A_g = (a.double() for a in check_maps(A_q, A_g, lam))
    l = (torch.as_tensor(lam, dtype=torch.float64)*(A_g.mean(-1, keepdim=True) if relative else 1)).clamp(1e-30, 1e300)
    if choose(op, OPERATORS, 'op') == 'difference': return (A_q - A_g).relu().float()
    if op == 'absolute': return (A_q - A_g).abs().float()
    if op == 'log': return ((A_q + l).log() - (A_g + l).log()).float()
    return contrast(A_q, A_g, lam, relative).clamp_max(CAP if op == 'clipped' else torch.inf)

def layer_contrast(A, last=-1, among=None) -> tuple: # [L, Nv] of all layers -> [Nv] float32, index of the layer taken
    "Absolute difference of a late layer k and the layer farthest from it among candidates C; None: all"
    p = check_maps(A, A, 1)[0].double()     # far layers share so little that float32 makes ties of them
    p = p/p.sum(-1, keepdim=True).clamp_min(1e-30)
    among = list(range(len(p)) if among is None else among)
    if not among or {*among, last} - {*range(-len(p), len(p))}:
        raise CarveError(f"layers {among} and {last}: name layers that exist, 0 to {len(p)-1}")
    i = among[int(((p.sqrt()[among] - p.sqrt()[last])**2).sum(-1).argmax())]
    return contrast_by('absolute', p[last], p[i]), i

def contrast_ways(A_q, A_gs, A_none) -> dict: # [L, Nv], [M, L, Nv], [L, Nv] -> name -> [L', Nv]
    "The map of a question under every operator; the first instruction is the usual one; `A_none`: without the question"
    A_q, A_gs = torch.as_tensor(A_q), torch.as_tensor(A_gs)
    g, mean = A_gs[0], A_gs.mean(0)
    return {
        'question alone': A_q,
        'general alone': g,
        'ratio': contrast(A_q, g),
        'ratio, relative λ': contrast(A_q, g, .1, True),
        'clipped': contrast_by('clipped', A_q, g),
        'log': contrast_by('log', A_q, g, .1, True),
        'difference': contrast_by('difference', A_q, g),
        'LASER': contrast_by('difference', A_q, torch.as_tensor(A_none)),
        'layers': layer_contrast(A_q)[0][None],
        'ratio, mean of ten': contrast(A_q, mean),
        'adaptive': contrast(A_q, mean, lambda_from_spread(A_gs))}

def map_metrics(S, pointed) -> dict: # [Nv] fused map, [Nv] bool patches of the region -> hit (0 or 1), auroc
    "Whether the peak lies in the region, and the AUROC of its patches"
    return dict(hit=int(pointed[np.argmax(S)]), auroc=round(auroc(S, pointed), 6))

def judge_ways(task, G, none, span, box) -> dict: # maps [L, Nv], [M, L, Nv], [L, Nv]; true region or None
    "`map_metrics` of every operator for one sample, and of the ratio with each instruction; empty without a region"
    pointed = np.zeros(1, bool) if box is None else patch_cover(span, box) > 0
    if not pointed.any() or pointed.all(): return {}
    score = lambda A: map_metrics(fuse_maps(A[None], torch.ones(1)).numpy(), pointed)
    ways = {k: score(v) for k, v in contrast_ways(task, G, none).items()}
    with_each = [score(contrast(task, g))['hit'] for g in G]
    return dict(ways=ways, with_each=with_each, area=round(float(pointed.mean()), 6))

def measure_invariance(vlm, sample) -> dict:
    "One record of the study of invariance"
    image, floor = sample.image.convert('RGB'), .1      # κ
    turned = image.transpose(Image.Transpose.ROTATE_180)
    maps = lambda texts: np.stack([instruction_maps(vlm, im, texts, SHORT_ANSWER)[0] for im in (image, turned)])
    G, Q = maps(TEN_INSTRUCTIONS), maps(UNRELATED_QUESTIONS)
    (task,), span = instruction_maps(vlm, image, [sample.question], SHORT_ANSWER)
    (none,), _ = instruction_maps(vlm, image, [SHORT_ANSWER], None)
    rounded = lambda values: {k: np.round(v, 6).tolist() for k, v in values.items()}
    parts, g = lambda A: rounded(variance_parts(log_maps(A, floor))), G[0]
    delta, w = least_delta(g, floor).numpy(), g.mean(0)
    js = dict(
        general=mean_pair(g), paper=mean_pair(g[:5]), question=mean_pair(Q[0]),
        task=js_bits(task, g).mean(0), none=js_bits(none, g).mean(0), turned=js_bits(*G).mean(0))
    each = [js_bits(g[m], np.delete(g, m, 0)).mean() for m in range(len(g))]
    return dict(
        id=sample.id, general=parts(G), question=parts(Q), js=rounded(js), each=np.round(each, 6).tolist(),
        delta=rounded(dict(median=np.median(delta, -1), weighted=(delta*w).sum(-1)/w.sum(-1).clip(1e-30))),
        **judge_ways(task, g, none, span, sample.box))

def part_sums(records, group, parts, layer=None) -> tuple: # 'general' or 'question'; some of `VARIANCE_PARTS`
    "Variance of some parts, and all of it, of each image"
    v = {k: image_means(records, group, k) for k in VARIANCE_PARTS}
    v = {k: a.mean(1) if layer is None else a[:, layer] for k, a in v.items()}
    return sum(v[k] for k in parts), sum(v.values())

def part_share(records, group, parts, layer=None) -> Estimate:
    "The share of some parts in the variance of the log maps, in one layer or in all"
    def share(a, b):
        a, b = a.mean(-1), b.mean(-1)
        return a / np.where(np.abs(b) > 1e-12, b, np.nan)
    some, total = part_sums(records, group, parts, layer)
    value = float(share(some, total))
    ends = interval_of(share, [some, total]) if np.isfinite(value) else (value, value)
    return Estimate(value, *ends, len(some))

def image_share(records, group) -> np.ndarray:
    "The share of position and image for each image alone, for paired tests; 0 for an image without variance"
    some, total = part_sums(records, group, VARIANCE_PARTS[:2])
    return some/total.clip(1e-12)

DISTANCE_LINES = dict(
    question=('two specific questions', ':', 'C1'), task=('own question and an instruction', '--', 'C3'),
    turned=('image and turned image', '-.', 'C7'), general=('two of ten instructions', '-', 'C0'),
    paper=("two of the paper's five", (0, (1, .5)), 'C9'))

def summarize_invariance(records) -> list: # of data frames
    "Variance of position and image, distances of maps, the least δ, and what operators find of known regions"
    js = {k: image_means(records, 'js', k).mean(1) for k in DISTANCE_LINES}
    tables = [
        pd.DataFrame({'share of position and image':
            {k: part_share(records, k, VARIANCE_PARTS[:2]) for k in ('general', 'question')}}),
        pd.DataFrame({'JS divergence, bits': {k: mean_estimate(v) for k, v in js.items()}, 'over two instructions':
            {k: paired_effect(v, js['general']) for k, v in js.items() if k != 'general'}}),
        pd.DataFrame({'δ is at least':
            {k: mean_estimate(image_means(records, 'delta', k).mean(1)) for k in ('weighted', 'median')}})]
    judged = [r for r in records if 'ways' in r]
    if not judged: return tables
    area, hit = ({k: image_means(judged, 'ways', k, v) for k in judged[0]['ways']} for v in ('auroc', 'hit'))
    t = pd.DataFrame({
        'AUROC': {k: mean_estimate(v) for k, v in area.items()},
        'peak in the region, %': {k: mean_interval(v) for k, v in hit.items()}})
    for base in ('ratio', 'question alone'):
        others = [k for k in area if k != base]
        t[f'AUROC over {base} (Holm)'] = pd.Series(corrected([paired_effect(area[k], area[base]) for k in others]),
            others)
    each = {k: mean_interval(h) for k, h in zip(TEN_INSTRUCTIONS, image_means(judged, 'with_each').T)}
    return [*tables, t, pd.DataFrame({'ratio hits with': each})]

if __name__ == '__main__':
    run_recipe('invariance', measure_invariance, invariance_samples, summarize_invariance, 200)
