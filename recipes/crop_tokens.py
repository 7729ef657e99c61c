"""Accuracy over the image tokens of the crop, chosen on calibration scenes and tested on fresh ones.

`python -m recipes.crop_tokens OUT`: 2.6 hours for all six parts; `nbs/results/crop_tokens/PART.json`."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated
import numpy as np
from fastcore.script import call_parse
from carve_nb.data.datasets import DataSet
from carve_nb.data.scenes import make_scene, to_sample
from carve_nb.runs.runner import run_eval
from carve_nb.runs.store import Run
from .records import lines_by_method

TOKENS = 16, 36, 64, 100, 144, 196  # of a crop on the curve; None as well: as many as the image
# chosen before the part `fresh` was asked; and, after it had failed there, before `again`
FIRST, CHOSEN = 64, 144
LOOKS = 'lookup', 'carve', 'oracle'


def with_tokens(method: str, tokens: int | None) -> str:
    "A method as a run names it, its crops with at most so many tokens; `lookup` asks again always"
    return f'{method}:{"skip_above=1:" * (method == "lookup")}tokens={tokens}'


CURVE = ['none', *(with_tokens(m, t) for m in LOOKS for t in (None, *TOKENS))]
SIZED = ['none', *(with_tokens(m, t) for m in ('lookup', 'oracle') for t in (None, 36, 64, 144))]
PARTS = dict(  # name: split, first seed, questions, sides of the objects in pixels, methods
    calibration=('calibration', 925_000, 150, (36, 60), CURVE),
    fresh=(
        'heldout',
        926_000,
        600,
        (36, 60),
        ['none', *(with_tokens(m, t) for m in LOOKS for t in (None, FIRST))],
    ),
    again=(
        'heldout',
        927_000,
        600,
        (36, 60),
        ['none', *(with_tokens(m, t) for m in LOOKS for t in (None, CHOSEN))],
    ),
    small=('heldout', 928_000, 150, (22, 30), SIZED),
    large=('heldout', 929_000, 150, (64, 90), SIZED),
    others=(
        'heldout',
        929_500,
        150,
        (36, 60),
        [
            'none',
            *(
                with_tokens(m, t)
                for t in (None, CHOSEN)
                for m in ('random', 'center', 'question-only', 'rel-att', *LOOKS)
            ),
        ],
    ),
)


def scene_questions(split: str, start: int, n: int, side: tuple) -> list:
    "Questions for a digit about scenes with objects of some sides, the first from a seed on"
    questions, seed = [], start
    while len(questions) < n:
        if sample := to_sample(make_scene(seed, split, side=side), 'digit'):
            questions.append(sample)
        seed += 1
    return questions


def summary(run: Run) -> dict:
    "What is kept of a run: scores, seconds and longer sides of the crops, in the order of the questions"
    lines = lines_by_method(run)
    ids = [*lines['none']]
    side = lambda b: max(b[2] - b[0], b[3] - b[1]) if b else None
    return dict(
        ids=ids,
        methods={
            m: dict(
                score=[int(of[i]['score']) for i in ids],
                seconds=[of[i]['seconds'] for i in ids],
                crop=[side(of[i].get('box')) for i in ids],
            )
            for m, of in lines.items()
        },
    )


@dataclass
class Part:
    "What one part of the measurement found"

    ids: list  # of the questions
    methods: dict  # name -> score, seconds and longer side of the crop of each question

    def scores(self, method: str):
        return np.array(self.methods[method]['score'])

    def cost(self, method: str):
        return float(np.median(np.divide(self.methods[method]['seconds'], self.methods['none']['seconds'])))


def load_part(folder: str | Path, name: str) -> Part:
    return Part(**json.loads((Path(folder) / f'{name}.json').read_text()))


@call_parse
def run_crop_tokens(
    out: Annotated[str, 'folder of the runs and summaries'],
    model: Annotated[str, 'name'] = 'carve-small',
    parts: Annotated[str, 'names of parts'] = ','.join(PARTS),
):
    "Measure the parts; what is finished is not measured again"
    for name in parts.split(','):
        *which, methods = PARTS[name]
        data = DataSet(name, scene_questions(*which))
        run = run_eval(data, model, methods, out=Path(out) / name, progress=False)
        (Path(out) / f'{name}.json').write_text(json.dumps(summary(run)))
