"""Measure the questions of a recipe on a model, keep their records, and read those that are kept."""
import gzip
import json
from argparse import ArgumentParser
from collections.abc import Callable
from pathlib import Path
import numpy as np
import torch
from carve_nb.attention.vlm import VLM
from carve_nb.core.image import box_size, common_box
from carve_nb.core.io import TINY
from carve_nb.core.saliency import patch_cover
from carve_nb.runs.store import read_records
from carve_nb.studies.measure import measure_each

MODELS = TINY, 'carve-small'

def study_folder(name, model=TINY, root='study_out') -> Path:
    "Return the folder of the records of a measurement on a model"
    short = Path(model).name
    return Path(root)/(name if short == TINY else f'{name}-{short}')

def load_records(name, root='results/study', models=MODELS) -> dict: # model -> records
    "Read the records of a measurement on several models"
    return {m: read_records(study_folder(name, m, root))[0] for m in models}

def load_trial(name: str, root: str='results/trial') -> list[dict]:
    "Read the records of a run, one question each"
    with gzip.open(Path(root)/f'{name}.jsonl.gz', 'rt') as lines: return [*map(json.loads, lines)]

def lines_by_method(run) -> dict: # `Run` -> method -> id of a question -> its line
    "Sort the lines of a run"
    lines = {}
    for line in run.records: lines.setdefault(line['method'], {})[line['id']] = line
    return lines

def overlap(box, crop) -> float: # (x0, y0, x1, y1) twice
    "Return how much of a box lies in a crop"
    return np.maximum(box_size(common_box(box, crop)), 0).prod()/np.prod(box_size(box))

def points_at(maps, span, box) -> np.ndarray: # [..., patches]; where they lie; (x0, y0, x1, y1) -> [...] of bool
    "Return whether the strongest patch of each map overlaps the box"
    return (patch_cover(span, box) > 0)[np.asarray(maps.argmax(-1))]

def run_trial(name: str, model: str, out: str, todo: list, measure: Callable):
    """Measure each thing of `todo`, a line of `out/NAME.jsonl` each; lines that the file holds are not measured again.

    `name` has `{model}` where the model's name goes; `measure(vlm, thing)` returns what is kept of a thing."""
    torch.set_num_threads(1)
    vlm, path = VLM.from_pretrained(model), Path(out)/f'{name.format(model=Path(model).name)}.jsonl'
    path.parent.mkdir(parents=True, exist_ok=True)
    done = len(path.read_text().splitlines()) if path.exists() else 0
    for thing in todo[done:]:
        line = json.dumps(measure(vlm, thing))
        with open(path, 'a') as f: print(line, file=f)

def parse_shell(n: int, **defaults):
    "Read the model from the shell, and how many questions; one that has no default must be named"
    parser = ArgumentParser()
    for name, value in defaults.items(): parser.add_argument(name, default=value, nargs='?' if value else None)
    parser.add_argument('--n', type=int, default=n, help='questions')
    return parser.parse_args()

def run_recipe(name: str, measure: Callable, questions: Callable, n: int): # functions: of a model and a question, of n
    "Measure what `study_out` does not keep yet, of as many questions and the model that the shell names"
    asked = parse_shell(n, **{'--model': TINY})
    out = study_folder(name, asked.model)
    measure_each(measure, VLM.from_pretrained(asked.model), questions(asked.n), out)
    print(f'written to {out}')

def run_questions(name: str, measure: Callable, questions: Callable, n: int, out: str='trial', model: str|None=None):
    "Measure as many questions on the model as the shell names, as `run_trial`; the same command goes on where it was stopped"
    asked = parse_shell(n, model=model, **{'--out': out})
    run_trial(name, asked.model, asked.out, questions(asked.n), lambda vlm, record: measure(vlm, record.opened()))
