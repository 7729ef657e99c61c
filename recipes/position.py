"""Whether answers and maps depend on where in the image the target lies, in raster order or in two dimensions."""

from functools import partial
import numpy as np
import pandas as pd
from carve_nb.attention.session import Session
from carve_nb.core.saliency import patch_cover
from carve_nb.data.questions import center
from carve_nb.data.scenes import samples
from carve_nb.data.scoring import score_answer
from carve_nb.method.carve import Carve
from carve_nb.method.controls import QuestionOnly
from carve_nb.studies.measure import describe_sample
from .clutter import BOOTSTRAP_DRAWS
from .correlation import logistic, spearman, try_estimate
from .records import run_recipe

COORDINATES = dict(row='row, from above', column='column, from the left', ring='distance from the middle')

def target_place(span, box, n_prompt) -> dict: # `ImageSpan` of the image; true region; tokens of the prompt
    "Where a region lies: row, column and ring in patches, and tokens between the target's middle and the last position"
    (gh, gw), (x0, y0, x1, y1), (x, y) = span.grid, span.box, center(box)
    row, column = (y - y0)*gh/(y1 - y0), (x - x0)*gw/(x1 - x0)
    ring = max(abs(row - gh/2), abs(column - gw/2))
    at = span.tokens[min(int(row), gh - 1)*gw + min(int(column), gw - 1)]
    return dict(row=round(row, 3), column=round(column, 3), ring=round(ring, 3), between=n_prompt - 1 - int(at))

def position_samples(n, start=0):
    "Held-out digit questions, one of each seed"
    for k in range(n): yield from samples('digit', 1, 'heldout', start + k)

def measure_position(vlm, sample) -> dict:
    "The plain answer, pointing of two maps, lift by layer, where the target lies and what clutter there is"
    pair = Carve().capture_both(Session(vlm, sample.image, shared=False), sample.question)
    rows, span, box, points = pair[0], pair[0].spans[0], sample.box, {}
    for name, method in dict(question=QuestionOnly(), carve=Carve()).items():
        S = method.from_rows(sample.image, sample.question, *pair).saliency
        points[name] = dict(pointing=int(S.points_at(box)), hit=int(S.hit(box)))
    cover, last = patch_cover(span, box), rows.read().double().numpy()
    lift = last @ cover/last.sum(1).clip(1e-30)/cover.mean()
    return dict(
        id=sample.id, grid=list(span.grid), **target_place(span, box, rows.meta['n_prompt']), **describe_sample(sample),
        target_side=box[2] - box[0], truth=sample.answer, answer=str(rows.answer),
        correct=score_answer(rows.answer, sample), points=points, lift=lift.round(4).tolist())

CLUTTER_COLUMNS = 'T_c', 'C_c', 'objects', 'target_side'
OUTCOMES = dict(
    question="pointing of the question's map", carve="pointing of CARVE's map", correct='right answer', lift='lift')

def place_table(records) -> pd.DataFrame: # of `measure_position`
    "A row for each question: places, clutter, outcomes"
    t = pd.DataFrame(records)
    found = {k: [p[k]['pointing'] for p in t.points] for k in ('question', 'carve')}
    return t[[*COORDINATES, 'between', *CLUTTER_COLUMNS, 'correct']].assign(**found, lift=t['lift'].map(np.mean))

def place_effects(t) -> dict: # of `place_table`; → (outcome, place) -> `Estimate`, or None where too little varies
    "What each coordinate does, the other two and clutter held fixed; distance in tokens alone beside clutter"
    effects = {}
    for outcome in OUTCOMES:
        stat = partial(spearman, n=BOOTSTRAP_DRAWS) if outcome == 'lift' else logistic
        for place in (*COORDINATES, 'between'):
            others = [k for k in COORDINATES if k != place and place in COORDINATES]
            given = t[[*others, *CLUTTER_COLUMNS]].to_numpy(float)
            effects[outcome, place] = try_estimate(stat, t[place], t[outcome], given=given, fewest=10)
    return effects

if __name__ == '__main__':
    run_recipe(
        'position', measure_position, position_samples,
        lambda records: [pd.Series(place_effects(place_table(records))).unstack()], 600)
