"""The study of what a map follows: the shape asked for, its color, or both."""
import pandas as pd
from carve_nb.core.saliency import Saliency
from carve_nb.core.stats import mean_interval
from carve_nb.core.text import pick_words
from carve_nb.data.drawing import COLORS, SHAPES
from carve_nb.data.records import Record
from carve_nb.data.scenes import make_scene
from carve_nb.formulas.product import contrast
from .ablation import ask_all, paired, tidy, wide
from .records import run_recipe

SIBLINGS = dict(none=(0, 0), shape=(4, 0), color=(0, 4), both=(2, 2)) # others with the target's shape, with its color

def sibling_pairs(order, siblings): # a random order of all pairs, color * 6 + shape
    "Six of them, the target first"
    (target, *others), (a, b) = order, SIBLINGS[siblings]
    same_shape, same_color = [p for p in others if p % 6 == target % 6], [p for p in others if p//6 == target//6]
    neither = [p for p in others if p not in same_shape + same_color]
    return [target, *same_shape[:a], *same_color[:b], *neither][:6]

def binding_samples(n, start=0, split='heldout'):
    "Questions for the digit on one of six objects, four of a seed in turn: each kind of siblings, in the id"
    for i in range(n):
        kind, pairs = list(SIBLINGS)[i % len(SIBLINGS)], []
        arrange = lambda order: pairs.extend(sibling_pairs(order, kind)) or pairs
        scene = make_scene(start + i//len(SIBLINGS), split, n=6, arrange=arrange)
        name = f'{list(COLORS)[pairs[0]//6]} {SHAPES[pairs[0] % 6]}'
        target, = (o for o in scene.objects if o.name == name)
        yield Record(
            f'{scene.name}-{kind}', scene.image, f'What digit is on the {name}?', [target.digit], boxes=[target.box],
            kind='digit', objects=scene.objects, image_key=scene.name)


POINTED = dict(T='the target', S='a sibling of shape', C='a sibling of color', O='another object', B='the background')

def asked_object(sample): # with the true region and all objects
    "The object that the question names"
    found, = (o for o in sample.objects if o.box == sample.box)
    return found

def pointed_at(S, sample) -> str: # `Saliency`; a key of `POINTED`
    "What the strongest patch of a map overlaps"
    target, near = asked_object(sample), [o for o in sample.objects if S.points_at(o.box)]
    if target in near: return 'T'
    if any(o.shape == target.shape for o in near): return 'S'
    if any(o.color == target.color for o in near): return 'C'
    return 'O' if near else 'B'

def point_and_hit(result, sample) -> dict:
    "What is kept of the map of a `Result`, if it has one"
    S = result.saliency
    return {} if S is None else dict(at=pointed_at(S, sample), hit=int(S.hit(sample.box)))


def rows_by_word(rows_q, rows_g, sample) -> dict: # `AttentionRows` under question and instruction; name -> [L, Nv]
    "Head-mean rows on the image, by word and layer, not renormalized"
    target, span, words = asked_object(sample), rows_q.span(0), rows_q.question_tokens
    of = lambda word: rows_q.question[pick_words(words, word, 'none')].mean((0, 2))[:, span]
    last, general = (r.attn[0].mean(1)[:, span] for r in (rows_q, rows_g))
    return {'color word': of(target.color), 'shape word': of(target.shape), 'last position': last,
            'contrast': contrast(last, general, 1., True)}


BINDING_METHODS = 'none', 'question-only', 'carve', 'pure-grad', 'grad-att', 'oracle'

def measure_binding(vlm, sample,
        methods=BINDING_METHODS) -> dict: # `VLM`, one of `binding_samples`, names in the registry
    "Every method on one question, and what the row of each word points at: keys of `POINTED`, one letter a layer"
    made, pair = ask_all(vlm, sample, {k: k for k in methods}, lambda r: point_and_hit(r, sample))
    span, words = pair[0].spans[0], {}
    for name, rows in rows_by_word(*pair, sample).items():
        words[name] = ''.join(pointed_at(Saliency(grid, sample.image.size, span.box), sample)
            for grid in rows.reshape(-1, *span.grid))
    return dict(id=sample.id, siblings=sample.id.rpartition('-')[2], truth=sample.answer, made=made, words=words)


def score_table(records, by, unit=lambda r: r['id']) -> pd.DataFrame: # with `made`
    "A row for each question and method, with its pointing where it has a map"
    t = tidy(records, by, unit)
    return t.assign(pointing=(t['at'] == 'T').astype(float).where(t['at'].notna()))

def compare_groups(records, by='siblings') -> pd.DataFrame:
    "Every method in every group of a field, and its gain over the baseline: (by, method) with n, accuracy, pointing, hit, gain, p, test, p_holm"
    scores = {name: wide(score_table(records, by), key) for name,
        key in dict(accuracy='correct', pointing='pointing', hit='hit').items()}
    right = scores['accuracy']
    tests = paired({(g, m): (right[g, m], right[g, 'none']) for g,
        m in right if m != 'none'}).rename(columns=dict(change='gain'))
    means = {name: {label: mean_interval(w[label].dropna()) for label in w} for name, w in scores.items()}
    tests = tests[['gain', 'p', 'test', 'p_holm']].rename_axis([by, 'method'])
    return pd.DataFrame(means, index=right.columns).assign(n=right.count()).join(tests)


if __name__ == '__main__':
    run_recipe('binding', measure_binding, binding_samples, lambda records: [compare_groups(records)], 600)
