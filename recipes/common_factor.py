"""How much of its attention a head has in common over questions, and whether that makes dividing help."""

from itertools import cycle, islice
import numpy as np
import pandas as pd
from carve_nb.attention.session import Session
from carve_nb.core.errors import CarveError
from carve_nb.core.saliency import Saliency, patch_cover
from carve_nb.core.stats import expanded_ends
from carve_nb.data.questions import ASK
from carve_nb.data.scenes import samples
from carve_nb.formulas.product import contrast
from carve_nb.models.prompts import GENERAL_INSTRUCTION, SHORT_ANSWER
from .correlation import rank_correlation, spearman, try_estimate
from .records import run_recipe

FLOORS = dict(log=0, damped=.1) # κ, in units of the row's mean

def centered_logs(A, floor=0) -> np.ndarray: # [..., Nv] attention rows; κ
    "Logits of a head, up to a constant: mean 0 in each row"
    A = np.asarray(A, np.float64)
    x = np.log((A/A.mean(-1, keepdims=True).clip(1e-37) + floor).clip(1e-37))
    return x - x.mean(-1, keepdims=True)

def common_variance(x) -> tuple: # [M, ..., Nv] centered logs under M questions on one image
    "Variance components of place, common to all questions, and of place by question"
    M, N = len(x), x.shape[-1]
    if M < 2: raise CarveError(f'{M} question: what is common shows from two questions on')
    mean = x.mean(0)
    rest = ((x - mean)**2).sum((0, -1))/((M - 1)*(N - 1))
    return (M*(mean**2).sum(-1)/(N - 1) - rest)/M, rest

HEAD_MAPS = dict(
    question='$A_Q$', instruction='$A_G$', ratio='$A_Q/A_G$', ours='$A_Q/(A_G + \\lambda)$',
    others='$A_Q$ over the other questions')
POINTING = 'pointing', 'hit', 'lift'

def head_maps(A, G) -> dict: # [M, L, H, Nv] under M questions; [L, H, Nv] under the general instruction
    "The maps of every head under every question: name of `HEAD_MAPS` → [M, L, H, Nv]"
    A, G = np.asarray(A, np.float64), np.asarray(G, np.float64)
    logs = np.log(A.clip(1e-37))
    apart = logs - (logs.sum(0) - logs)/(len(A) - 1)
    return dict(
        question=A, instruction=np.broadcast_to(G, A.shape), ratio=contrast(A, G, 1e-8, False).numpy(),
        ours=contrast(A, G, 1., True).numpy(), others=np.exp(apart - apart.max(-1, keepdims=True)))

def point_maps(maps, span, size, box) -> np.ndarray: # [..., Nv]; `ImageSpan` and (W, H) of the image; true region
    "Peak and share of many maps of one image at once: [3, ...] of `POINTING`"
    cover, (x0, y0, x1, y1) = patch_cover(span, box), box
    x, y = Saliency(np.zeros(span.grid), size, span.box).centers()
    inside = np.outer((y0 <= y) & (y < y1), (x0 <= x) & (x < x1)).ravel()
    peak, share = maps.argmax(-1), maps @ cover/maps.sum(-1).clip(1e-37)
    return np.stack([cover[peak] > 0, inside[peak], share/cover.mean()])

QUERY_KINDS = 'digit', 'color', 'shape', 'exist', 'count', 'relation'
ONE_OBJECT = 'digit', 'color', 'shape', 'exist'

def common_samples(n, start=0): # scenes; first seed; → yields `Sample`s
    "Held-out scenes with their digit question"
    for k in range(n): yield from samples('digit', 1, 'heldout', start + k)

def mixed_questions(objects, n=8, seed=0) -> list:
    # `SceneObject`s; questions; of the choice; → of `Question`, all different
    "Questions of several kinds about one scene"
    rng, queries = np.random.default_rng(seed), {}
    for kind in islice(cycle(QUERY_KINDS), 50*n):
        q = ASK[kind](objects, rng)
        if q and len(queries) < n: queries.setdefault(q.question, q)
    return list(queries.values())

def head_facts(A, G, boxes, span, size) -> dict: # maps as in `head_maps`; M targets, None: the whole scene
    "Common and own variance of every head by floor, and sums of pointing by map; all [L][H]"
    asked = [i for i, b in enumerate(boxes) if b]
    rounded = lambda a: np.round(a, 5).tolist()
    variance = {k: [rounded(part) for part in common_variance(centered_logs(A, floor))] for k, floor in FLOORS.items()}
    points = {k: rounded(sum(point_maps(maps[i], span, size, boxes[i]) for i in asked))
              for k, maps in head_maps(A, G).items()}
    return dict(variance=variance, points=points, asked=len(asked))

def measure_common(vlm, sample, questions=8, suffix=SHORT_ANSWER) -> dict: # with objects
    "One image under many questions: `head_facts` of single heads and, in `layers`, of their mean"
    queries = mixed_questions(sample.objects, questions, int(sample.id.split('-')[1]))
    texts = [q.question for q in queries] + [GENERAL_INSTRUCTION]
    session = Session(vlm, sample.image, shared=False)
    rows = [session.capture(t, suffix=suffix, question_rows=False, max_new_tokens=1) for t in texts]
    *A, G = np.stack([r.attn[0][..., r.span(0)].numpy() for r in rows])
    how = [q.box if q.kind in ONE_OBJECT else None for q in queries], rows[0].spans[0], sample.image.size
    mean = lambda a: np.mean(a, -2, keepdims=True)
    return dict(id=sample.id, questions=len(A), heads=head_facts(A, G, *how), layers=head_facts(mean(A), mean(G), *how))

DRAWS = 1000 # of the bootstrap over images

def drawn_heads(records, of='heads', floor='log') -> dict: # or 'layers': the mean over heads; a key of `FLOORS`
    """Share and gains of all heads in each draw of images: name → [1 + DRAWS, heads].

    The first draw takes each image once. Names: 'share', and (map, of `POINTING`)."""
    n = len(records)
    drawn = np.random.default_rng(0).multinomial(n, np.full(n, 1/n), DRAWS)
    w = np.vstack([np.ones(n, int), drawn]).astype(float)
    add = lambda read: w @ np.array([np.ravel(read(r[of])) for r in records], float)
    common, own = (add(lambda h: h['variance'][floor][i]) for i in (0, 1))
    asked = add(lambda h: h['asked'])
    return dict(share=common/(common + own)) | {
        (name, what): add(lambda h: h['points'][name][i])/asked
        for name in HEAD_MAPS for i, what in enumerate(POINTING)}

def share_table(records, name='ratio', what='pointing', of='heads', floor='log') -> pd.DataFrame:
    "Every head with its common share, and what a map gains over the question's, in points (lift: in times chance)"
    drawn = drawn_heads(records, of, floor)
    scale = 1 if what == 'lift' else 100
    gain = scale*(drawn[name, what] - drawn['question', what])
    layer, head = np.indices(np.shape(records[0][of]['variance'][floor][0])).reshape(2, -1)
    lo, hi = np.array([expanded_ends(g[1:], len(records)) for g in gain.T]).T
    return pd.DataFrame(dict(layer=layer, head=head, share=drawn['share'][0],
        question=scale*drawn['question', what][0], gain=gain[0], lo=lo, hi=hi))

def common_correlation(records, name='ratio', what='pointing', floor='log') -> tuple:
    "Spearman over heads of common share and gain: (`Estimate` with layers drawn, or None; ends with images drawn)"
    t, drawn = share_table(records, name, what, floor=floor), drawn_heads(records, floor=floor)
    over_layers = try_estimate(spearman, t.share, t.gain, n=DRAWS, clusters=t.layer.tolist())
    with np.errstate(invalid='ignore', divide='ignore'):
        values = rank_correlation(drawn['share'], drawn[name, what] - drawn['question', what])
    return over_layers, expanded_ends(values[1:], len(records))

if __name__ == '__main__':
    run_recipe(
        'common', measure_common, common_samples, lambda records: [share_table(records, of=k)
        for k in ('heads', 'layers')], 60)
