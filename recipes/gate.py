"""A threshold on the model's own confidence keeps confident answers: its value, chosen on some scenes and
tested on others.

`python -m recipes.gate MODEL`: 16 minutes; `nbs/results/gate/MODEL-PART.jsonl.gz`."""

from functools import partial
from carve_nb.data.scenes import scene_records
from carve_nb.data.scoring import score_answer
from carve_nb.method.lookup import Lookup
from .records import Part, of_question, run_parts

PARTS = dict(   # name: split, first seed, questions of each kind
    calibration=('calibration', 943_000, dict(digit=80, exist=60)),
    fresh=('heldout', 943_000, dict(exist=400, digit=200)),
    existence=('heldout', 1_140_000, dict(exist=1500)))

def measure_gate(vlm, sample) -> dict: # a `Record`
    """How sure the model is of its plain answer; is that right, and the answer with the crop of `Lookup`; the
    seconds of both"""
    r = Lookup(skip_above=1, tokens=None)(vlm, sample.image, sample.question)
    first = r.rows.meta['seconds']
    right = {k: int(score_answer(a, sample)) for k, a in (('plain', r.plain_answer), ('again', r.answer))}
    seconds = [round(s, 3) for s in (first, sum(r.seconds.values()))]
    return dict(id=sample.id, answer=sample.answers[0], confidence=round(r.plain_answer.confidence, 4),
        **right,
        seconds=seconds)

def gate_part(split: str, start: int, part: str, kind: str, n: int) -> Part:
    "Return the record of one kind of question about the scenes of a part"
    return Part(f'{{model}}-{part}-{kind}', of_question(measure_gate),
        partial(scene_records, kinds=(kind,), split=split, start=start), n)

if __name__ == '__main__':
    run_parts({f'{part}-{kind}': gate_part(split, start, part, kind, n)
        for part, (split, start, kinds) in PARTS.items() for kind, n in kinds.items()}, 'gate')
