"""Which query token and layers point for each kind of question, and what `lookup` answers, kind by kind.

`python -m recipes.kinds MODEL --part PART`: `calibration`, 7 minutes a model, is packed first, since the
answers read it; then `fresh`, 4, and `answers-KIND`, 25 in all; `nbs/results/kinds/MODEL-PART.jsonl.gz`."""
from dataclasses import replace
from functools import cache, partial
import numpy as np
from carve_nb.attention.session import Session
from carve_nb.core.text import QUERIES, pick_words
from carve_nb.data.questions import ASK
from carve_nb.data.records import Record
from carve_nb.data.scenes import make_scene, samples
from carve_nb.data.scoring import score_answer
from carve_nb.method.lookup import Lookup
from carve_nb.method.registry import make_method
from .baselines import all_rows
from .records import RESULTS, Part, load_trial, points_at, run_parts

KINDS = 'digit', 'color', 'shape', 'exist', 'twostep'                # whose answer is at one place
ASKED = *KINDS, 'count', 'relation'
ANSWERS = 938_000                                                    # first seed
# split, first seed, questions of a kind
PARTS = dict(calibration=('calibration', 936_000, 4), fresh=('heldout', 937_000, 1))
# asks again whatever the answer was, with a crop as large as the image
ALWAYS = Lookup(skip_above=1, tokens=None)

def questions_about(scene, kind, n) -> list: # of `Record`s
    "Different questions of a kind whose answer is at one place; of existence those with the answer yes"
    found = {}
    for k in range(40):
        q = ASK[kind](scene.objects, np.random.default_rng([scene.seed, KINDS.index(kind), k]))
        if q and q.box: found.setdefault(q.question, q)
    return [Record(f'{scene.name}-{kind}-{i}', scene.image, q.question, [q.answer], boxes=[q.box], kind=kind,
        image_key=scene.name)
            for i, q in enumerate([*found.values()][:n])]

def places(rows, n, row) -> list: # `AttentionRows` of `all_rows`; tokens of the question; one of `QUERIES`
    "The tokens of a row; of a question that lacks them, the last position"
    return (row != 'last' and pick_words(rows.question_tokens[:n], row, 'none')
        or [len(rows.question_tokens) - 1])

def bands(A) -> np.ndarray: # [..., L, Nv] -> [..., L*(L + 1)/2, Nv]
    "The sum of each run of neighboring layers, from the first layer on"
    sums = np.concatenate([np.zeros_like(A[..., :1, :]), A.cumsum(-2)], -2)
    lo, hi = np.triu_indices(A.shape[-2])
    return sums[..., hi + 1, :] - sums[..., lo, :]

def measure_question(vlm, sample) -> dict:
    "Pointing of each row in each run of layers: one after the other, a row's runs together"
    rows, n = all_rows(vlm, sample)
    A = rows.question.mean(2).numpy()
    R = np.stack([A[places(rows, n, r)].mean(0) for r in QUERIES])
    return dict(id=sample.id, cells=''.join(
        map(str, points_at(bands(R), rows.spans[0], sample.box).ravel().astype(int))))

def measure_scene(vlm, seed, split, most) -> dict: # questions of a kind
    "Questions of each kind about one scene"
    scene = make_scene(seed, split)
    return {kind: dict(asked=[measure_question(vlm, s) for s in questions_about(scene, kind, most)])
        for kind in KINDS}

def measure_answers(vlm, sample, others) -> dict: # name -> method
    "Right or not, and point at where there is one: alone, `lookup` as it is, and with other rows and layers"
    session = Session(vlm)
    found = dict(id=sample.id)
    for name, method in dict(none='none', lookup=ALWAYS, **others).items():
        r = make_method(method)(session, sample.image, sample.question, box=sample.box)
        found[name] = [int(score_answer(r.answer, sample)), str(r.answer)]
        if r.saliency is not None and sample.box: found[name].append(int(r.saliency.points_at(sample.box)))
    return found

def pointing_rates(scenes, kind) -> np.ndarray: # of `measure_scene`; -> [questions, cells]
    return np.array([[*map(int, asked['cells'])] for s in scenes for asked in s[kind]['asked']])

def cells(layers) -> list: # number of them -> (row, layers) of each of the cells
    return [(row, [*range(lo, hi + 1)]) for row in QUERIES for lo, hi in zip(*np.triu_indices(layers))]

def best_cells(scenes, kinds=KINDS[:4]) -> dict: # of calibration -> kind, or 'one' -> place of a cell
    """The cell that points at the target most often of each kind, and the one whose largest loss against
    these is least"""
    mean = {k: pointing_rates(scenes, k).mean(0) for k in kinds}
    loss = np.max([m.max() - m for m in mean.values()], 0)
    return {k: int(m.argmax()) for k, m in mean.items()} | dict(one=int(loss.argmin()))

@cache
def chosen_cells(model: str) -> dict: # of `best_cells`
    "Choose cells from the packed calibration record of a model"
    return best_cells(load_trial(f'{model}-calibration', RESULTS/'kinds'))

def ask_chosen(vlm, sample) -> dict:
    "Measure the answers with the cell that is chosen for all kinds, and with that of the question's own kind"
    best, places = chosen_cells(vlm.name), cells(vlm.n_layers)
    asked = {name: best[kind] for name, kind in dict(one='one', own=sample.kind).items() if kind in best}
    others = {name: replace(ALWAYS, query=places[i][0], layers=places[i][1]) for name, i in asked.items()}
    return measure_answers(vlm, sample, others)

def scene_part(name: str) -> Part:
    "Return the record of one of `PARTS`"
    split, start, most = PARTS[name]
    def measure(vlm, seed): return measure_scene(vlm, seed, split, most)
    return Part('{model}-' + name, measure, lambda n: range(start, start + n), 300)

if __name__ == '__main__':
    answers = {f'answers-{kind}': Part('{model}-answers-' + kind, ask_chosen, partial(samples, kind, start=ANSWERS), 300)
        for kind in ASKED}
    run_parts({name: scene_part(name) for name in PARTS} | answers, 'kinds')
