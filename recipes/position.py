"""Whether answers and maps depend on where in the image the target lies, in raster order or in two dimensions."""

from functools import partial
import numpy as np, pandas as pd
from matplotlib.figure import Figure
from carve_nb.method.carve import Carve
from carve_nb.method.controls import QuestionOnly
from carve_nb.formulas.depth import head_mean_rows
from carve_nb.core.saliency import patch_cover
from carve_nb.core.plotting import plot_band, plot_forest, plot_style
from carve_nb.data.scoring import score_answer
from carve_nb.data.questions import center
from carve_nb.data.scenes import samples
from carve_nb.studies.entropy import describe_sample
from .clutter import BOOTSTRAP_DRAWS
from .correlation import bin_means, logistic, spearman, try_estimate
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
    with vlm.sharing(): pair = Carve().capture_both(vlm, sample.image, sample.question)
    rows, span, box, points = pair[0], pair[0].spans[0], sample.box, {}
    for name, method in dict(question=QuestionOnly(), carve=Carve()).items():
        S = method.from_rows(sample.image, sample.question, *pair).saliency
        points[name] = dict(pointing=int(S.points_at(box)), hit=int(S.hit(box)))
    cover, last = patch_cover(span, box), head_mean_rows(rows)
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

OUTCOME_COLORS = dict(question='#0173b2', carve='#029e73', correct='#56b4e9', lift='#949494')

def plot_position(records) -> Figure:
    "What is found along row, column and ring, and the effects with clutter held fixed"
    t = place_table(records)
    effects = place_effects(t)
    with plot_style():
        fig = Figure((8, 2.9), dpi=80, layout='constrained')
        *axes, last = fig.subplots(1, 4, width_ratios=(1, 1, 1, 1.3))
        for ax, (place, label) in zip(axes, COORDINATES.items()):
            for outcome in ('question', 'carve', 'correct'):
                x, means = bin_means(t[place], t[outcome], 7, 1)
                plot_band(ax, x, means, OUTCOME_COLORS[outcome], scale=100, ms=3, lw=1)
            ax.set(xlabel=f'{label}, patches', ylim=(0, 103))
        axes[0].set_ylabel('% of questions')
        plot_forest(last, {k: [effects[o, k] for o in OUTCOMES] for k in COORDINATES}, colors=list(OUTCOME_COLORS.values()))
        last.set(xlabel='log-odds (lift: correlation)', title='clutter held fixed')
        marks = [last.plot([], [], color=OUTCOME_COLORS[k])[0] for k in OUTCOMES]
        fig.legend(marks, OUTCOMES.values(), loc='outside lower center', ncols=4)
    return fig

if __name__ == '__main__':
    run_recipe(
        'position', measure_position, position_samples, plot_position,
        lambda records: [pd.Series(place_effects(place_table(records))).unstack()], 600)
