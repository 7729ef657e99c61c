"""A gate on the model's own confidence leaves sure answers alone: where it should stand, chosen on some scenes and tested on others.

`python -m recipes.gate MODEL --part calibration`, `fresh` or `existence`: 1, 4 and 11 minutes; `nbs/results/gate/MODEL-PART.jsonl.gz`,
the kinds of a part one after the other."""

from typing import Annotated
from fastcore.script import call_parse
from carve_nb.data.scenes import scene_records
from carve_nb.data.scoring import score_answer
from carve_nb.method.lookup import Lookup
from .records import run_trial

PARTS = dict(   # name: split, first seed, questions of each kind
    calibration=('calibration', 943_000, dict(digit=80, exist=60)),
    fresh=('heldout', 943_000, dict(exist=400, digit=200)),
    existence=('heldout', 1_140_000, dict(exist=1500)))

def measure_gate(vlm, sample) -> dict: # a `Record`
    "How sure the model is of its plain answer; is that right, and the answer with the crop of `Lookup`; the seconds of both"
    r = Lookup(skip_above=1, tokens=None)(vlm, sample.image, sample.question)
    first = r.seconds['capture']
    right = {k: int(score_answer(a, sample)) for k, a in (('plain', r.plain_answer), ('again', r.answer))}
    seconds = [round(s, 3) for s in (first, sum(r.seconds.values()))]
    return dict(id=sample.id, answer=sample.answers[0], confidence=round(r.plain_answer.confidence, 4), **right,
        seconds=seconds)

@call_parse
def run_gate(
    model:str, # name or folder
    out:Annotated[str, 'folder of the records'] = 'gate',
    part:Annotated[str, 'which scenes', dict(choices=list(PARTS))] = 'calibration'):
    "Ask with `Lookup` and without a gate, from which any gate is replayed; the same command goes on where it was stopped"
    split, start, kinds = PARTS[part]
    for kind, n in kinds.items():
        asked = scene_records(n, (kind,), split, start)
        run_trial(f'{{model}}-{part}-{kind}', model, out, asked, lambda vlm, r: measure_gate(vlm, r.opened()))
