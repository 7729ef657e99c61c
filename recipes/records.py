"""Measure the questions of a recipe on a model, keep their records, and read those that are kept."""
from pathlib import Path
from carve_nb.attention.vlm import VLM
from carve_nb.core.io import TINY
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

def measure_recipe(name, measure, questions, model, plot, tables): # functions of the records: a figure; a list of tables
    "Measure what is not kept in `study_out` yet; draw the figure, print the tables"
    out = study_folder(name, model)
    records = measure_each(measure, VLM.from_pretrained(model), questions, out)
    plot(records).savefig(out/f'{name}.png', metadata=dict(Software=None))
    for table in tables(records): print(table if isinstance(table, str) else table.to_string())
    print(f'written to {out}')
