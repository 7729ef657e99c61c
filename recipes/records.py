"""Measure the questions of a recipe on a model, keep their records, and read those that are kept."""
import gzip
import json
from argparse import ArgumentParser
from collections.abc import Callable
from pathlib import Path
import torch
from carve_nb.attention.vlm import VLM
from carve_nb.core.io import TINY
from carve_nb.runs.store import read_records
from carve_nb.studies.measure import measure_each
from .baselines import keep

MODELS = TINY, 'carve-small'

def study_folder(name, model=TINY, root='study_out') -> Path:
    "Return the folder of the records of a measurement on a model"
    short = Path(model).name
    return Path(root)/(name if short == TINY else f'{name}-{short}')

def load_records(name, root='results/study', models=MODELS) -> dict: # model -> records
    "Read the records of a measurement on several models"
    return {m: read_records(study_folder(name, m, root))[0] for m in models}

def load_trial(name: str, root: str='results/trial') -> list[dict]:
    "Read the records of a run of the fair trial, one question each"
    with gzip.open(Path(root)/f'{name}.jsonl.gz', 'rt') as lines: return [*map(json.loads, lines)]

def run_trial(name: str, model: str, out: str, todo: list, measure: Callable):
    """Measure a run of the fair trial, one line a question; the same call goes on where it was stopped.

    `measure(vlm, thing)` returns what is kept of one thing of `todo`, for `out/NAME-MODEL.jsonl`."""
    torch.set_num_threads(1)
    vlm, folder = VLM.from_pretrained(model), Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    keep(folder/f'{name}-{Path(model).name}.jsonl', todo, lambda thing: measure(vlm, thing))

def run_recipe(name, measure, questions, tables, n): # functions: of a model and a question, of n, of the records
    "Measure what `study_out` does not keep yet, of as many questions and the model that the shell names; print the tables"
    parser = ArgumentParser()
    parser.add_argument('--model', default=TINY, help='name, folder or Hub id')
    parser.add_argument('--n', type=int, default=n, help='questions')
    asked = parser.parse_args()
    out = study_folder(name, asked.model)
    records = measure_each(measure, VLM.from_pretrained(asked.model), questions(asked.n), out)
    for table in tables(records): print(table if isinstance(table, str) else table.to_string())
    print(f'written to {out}')
