"""Show the crop of another object instead of the target's: is it the place that helps, or any large digit?"""
from pathlib import Path
from typing import Annotated
import torch
from fastcore.script import call_parse
from carve_nb.attention.vlm import VLM
from carve_nb.data.scenes import make_scene
from carve_nb.data.scoring import score_answer
from carve_nb.method.controls import Oracle
from carve_nb.method.lookup import Lookup
from carve_nb.runs.demo import find_sample
from carve_nb.runs.store import read_run
from .baselines import keep

STORED = {'carve-tiny': 'demo', 'carve-small': 'demo-carve-small'}


def other_object(sample):  # a `Record` of a scene
    "Return an object with another digit than the target, the nearest in size to it"
    _, seed, _ = sample.id.split('-')
    area = lambda box: (box[2] - box[0])*(box[3] - box[1])
    others = [o for o in make_scene(int(seed), 'heldout').objects if str(o.digit) != sample.answers[0]]
    return min(others, key=lambda o: abs(area(o.box) - area(sample.box)), default=None)


def measure_other(vlm, sample, oracle) -> dict:
    "Answers without a crop, with the target's crop and with that of the other object, all crops shown alike after the image"
    other = other_object(sample)
    if other is None: return dict(id=sample.id)
    ask = lambda box: oracle(vlm, sample.image, sample.question, box=box)
    target, wrong = ask(sample.box), ask(other.box)
    answers = dict(none=target.plain_answer, target=target.answer, other=wrong.answer)
    return dict(id=sample.id, digit=sample.answers[0], shown=str(other.digit)) | {k: a.text for k,
        a in answers.items()} | dict(
        right={k: int(score_answer(a, sample)) for k, a in answers.items()},
        scale=[round(r.crop.scale, 2) for r in (target, wrong)])


@call_parse
def run_other_object(
    model:str, # name
    out:Annotated[str, 'folder of the records'] = 'other_object'):
    "Ask the 300 digit questions of the demo; the same command goes on where it was stopped"
    torch.set_num_threads(1)
    vlm, folder = VLM.from_pretrained(model), Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    oracle = Oracle.like(Lookup().settled(vlm))
    ids = [r['id'] for r in read_run(f'nbs/results/{STORED[model]}').select('none', 'digit')]
    keep(folder/f'{model}.jsonl', [find_sample(i) for i in ids], lambda s: measure_other(vlm, s, oracle))
