"""A gate on the model's own confidence leaves sure answers alone: where it should stand, chosen on some scenes and tested on others."""

from pathlib import Path
from typing import Annotated
import torch
from fastcore.script import call_parse
from carve_nb.attention.vlm import VLM
from carve_nb.data.scenes import scene_records
from carve_nb.data.scoring import score_answer
from carve_nb.method.lookup import Lookup
from .baselines import keep

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
    torch.set_num_threads(1)
    vlm, folder, (split, start, kinds) = VLM.from_pretrained(model), Path(out), PARTS[part]
    folder.mkdir(parents=True, exist_ok=True)
    asked = {kind: scene_records(n, (kind,), split, start) for kind, n in kinds.items()}
    for upto in range(1, 21):     # a twentieth of each kind, and so on
        for kind, records in asked.items():
            path = folder/f'{Path(model).name}-{part}-{kind}.jsonl'
            keep(path, records[:len(records)*upto//20], lambda r: measure_gate(vlm, r.opened()))
