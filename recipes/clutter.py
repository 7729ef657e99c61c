"""Does clutter spread attention, and does that cost answers? A grid of scenes, and one scene on five
backgrounds.

`python -m recipes.clutter MODEL [--part PART]`: 4 to 8 minutes a part; `nbs/results/study/entropy`,
`intervention`."""

from dataclasses import replace
from functools import partial
import numpy as np
import pandas as pd
from carve_nb.attention.vlm import VLM
from carve_nb.core.saliency import pick_layers
from carve_nb.data.records import Record, image_key_of
from carve_nb.data.scenes import make_scene, to_sample
from carve_nb.studies.measure import question_entropy
from .correlation import logistic, spearman, try_estimate
from .records import Part, run_parts, run_study

ENTROPY_GRID = dict(
    texture=(0, 0.2, 0.35, 0.5, 0.65, 0.8, 1.0),
    color=(0, 0.02, 0.06, 0.15, 0.5),
    kind=('digit', 'exist', 'color'),
)
LEVELS = dict(texture=(0, 0.25, 0.5, 0.75, 1.0), color=(0, 0.02, 0.06, 0.15, 0.5))
LADDERS = dict(texture=dict(color=0.06), color=dict(texture=0.25), both={})  # what rises: what stays


def ask_scene(seed: int, kind: str, texture: float, color: float):
    """A question about a held-out scene; if it has none of this kind, about the scene with a seed larger by a
    million"""
    sample = to_sample(make_scene(seed, texture=texture, color=color), kind)
    if not sample:
        return ask_scene(seed + 10**6, kind, texture, color)
    return replace(sample, id=f'{sample.id}-t{texture:g}-c{color:g}')


def entropy_samples(n: int):
    "Held-out questions over a grid of texture and color; 105 questions cover it once"
    for k in range(n):
        yield ask_scene(10_000 + k, **{name: v[k % len(v)] for name, v in ENTROPY_GRID.items()})


def intervention_samples(n: int, start: int = 0):
    "The same objects, question and answer on five backgrounds; 45 have one question of each kind and ladder"
    for k in range(start, start + n):
        j, level = divmod(k, 5)
        ladder = list(LADDERS)[j % 3]
        kind = ENTROPY_GRID['kind'][j // 3 % 3]
        knobs = {name: values[level] for name, values in LEVELS.items()} | LADDERS[ladder]
        yield replace(ask_scene(30_000 + j, kind, **knobs), id=f'{ladder}-{j}-{kind}-{level}')


def measure_intervention(vlm: VLM, sample: Record) -> dict:  # of `intervention_samples`
    "As `question_entropy`, with the ladder, the question (`group`), and the level, 0 (calm) to 4 (busy)"
    group, level = sample.id.rsplit('-', 2)[::2]
    return question_entropy(vlm, sample) | dict(group=group, ladder=group.split('-')[0], level=int(level))


BOOTSTRAP_DRAWS = 400  # of every bootstrap here
FEWEST = 10  # images; fewer carry no correlation and no odds
COVARIATES = 'objects', 'side', 'tokens'


def to_dataframe(records: list[dict], step: str = 'last', layers: str = 'paper') -> pd.DataFrame:
    """Return a row for each question: bits of the 'first' or 'last' generated token, mean of
    `pick_layers(layers)`"""
    prefixes = dict(H='', share='share_', lift='lift_')
    rows = []
    for r in records:
        row = {k: v for k, v in r.items() if k not in prefixes} | dict(image_key=image_key_of(r))
        for field, prefix in prefixes.items():
            for name, by_step in r.get(field, {}).items():
                values = by_step[step]
                row[prefix + name] = float(np.mean([values[l] for l in pick_layers(layers, len(values))]))
        rows.append(row)
    return pd.DataFrame(rows)


def layer_values(
    records: list[dict], m: str, step: str = 'last'
) -> np.ndarray:  # of `question_entropy`; name of the map
    "Entropy by layer, [questions, L] bits"
    return np.array([r['H'][m][step] for r in records])


def clutter_levels(t: pd.DataFrame, column: str, ladder: str) -> np.ndarray:  # table of `to_dataframe`
    "One column of the table, for the questions that are complete on one ladder, [questions, 5]"
    wide = t[t.ladder == ladder].pivot(index='group', columns='level', values=column)
    return wide.reindex(columns=range(5)).dropna().to_numpy(float)


def associate(t: pd.DataFrame, x: str, y: str) -> tuple:
    """How two columns go together, plainly and with the covariates held fixed: `Estimate`s or None.

    Rank correlation; with y 'correct' log-odds of a right answer per standard deviation, the kind of
    question held fixed too."""
    varies = [c for c in COVARIATES if c in t and t[c].notna().all() and t[c].nunique() > 1]
    stat = partial(spearman, n=BOOTSTRAP_DRAWS)
    covariates = t[varies]
    if y == 'correct':
        stat, covariates = logistic, pd.get_dummies(t.kind, drop_first=True).join(covariates)
    estimate = lambda given: try_estimate(
        stat, t[x], t[y], given=given, clusters=t.image_key.tolist(), fewest=FEWEST
    )
    return estimate(None), estimate(covariates.to_numpy(float)) if covariates.size else None


if __name__ == '__main__':
    grid = Part('entropy', question_entropy, entropy_samples, 1575)
    # the same scenes on five backgrounds
    ladders = Part('intervention', measure_intervention, intervention_samples, 2250)
    run_parts(dict(grid=grid, ladders=ladders), 'study_out', run_study)
