"""What is a crop worth by what it shows: the target, another object by its digit, the center, black?

`python -m recipes.other_crops MODEL [--part PART] [--n 600]`: about 25 minutes a model, `copied` 5;
`nbs/results/trial/other_crops-MODEL.jsonl.gz`, `other_crops-copied-MODEL.jsonl.gz`."""

from functools import partial
import numpy as np
from PIL import Image
from carve_nb.attention.session import Session
from carve_nb.attention.vlm import VLM
from carve_nb.core.image import box_size
from carve_nb.data.records import Record
from carve_nb.data.scenes import scene_records
from carve_nb.data.scoring import score_answer
from carve_nb.method.base import CropMethod
from carve_nb.method.controls import Oracle
from carve_nb.method.results import Result
from .records import Part, of_question, overlap, run_parts, seed_of

FIRST_SEED, COPIED_SEED = 1_630_000, 1_730_000


def other_objects(sample: Record) -> dict:
    """Return one other object for each draw: with another digit, any, with the same digit; each the nearest
    in size, any by chance"""
    (target,) = (o for o in sample.objects if o.box == sample.box)
    others = [o for o in sample.objects if o != target]

    def nearest(objects: list):
        return min(
            objects, key=lambda o: abs(np.prod(box_size(o.box)) - np.prod(box_size(target.box))), default=None
        )

    chance = others[np.random.default_rng(seed_of(sample)).integers(len(others))] if others else None
    return {
        'another digit': nearest([o for o in others if o.digit != target.digit]),
        'any object': chance,
        'same digit': nearest([o for o in others if o.digit == target.digit]),
    }


def center_box(sample: Record) -> tuple[int, int, int, int]:
    "Return the box of the target's size in the middle of the image"
    (w, h), (x, y) = box_size(sample.box), (s // 2 for s in sample.image.size)
    return x - w // 2, y - h // 2, x - w // 2 + w, y - h // 2 + h


def black_right(session: Session, sample: Record, method: CropMethod, result: Result) -> int:
    "Return whether the answer is right with a black image in place of the crop of a method's result"
    images = [*result.shown[:-1], Image.new('RGB', result.crop.image.size)]
    last = method.asked(session.vlm, images, sample.question).but(tokens=(None, method.tokens))
    return int(score_answer(session.ask(last), sample))


def measure_crops(vlm: VLM, sample: Record) -> dict:
    "Return right answers without a crop and with each crop, shown after the image as `lookup` shows its own"
    session = Session(vlm)
    oracle = Oracle()
    boxes = {k: o and o.box for k, o in other_objects(sample).items()}
    boxes |= dict(target=sample.box, center=center_box(sample))
    plain = session.ask(oracle.asked(vlm, sample.image, sample.question))
    right = dict(none=int(score_answer(plain, sample)))
    shares = {}
    for name, box in boxes.items():
        if box is None:
            continue
        result = oracle(session, sample.image, sample.question, box=box)
        right[name] = int(score_answer(result.answer, sample))
        shares[name] = round(overlap(sample.box, result.crop.box), 2)
        if name == 'target':
            right['black'] = black_right(session, sample, oracle, result)
    return dict(id=sample.id, right=right, shown=shares)


def measure_copied(vlm: VLM, sample: Record) -> dict:
    "Return the answers without a crop and with the crop of another digit, that digit, and the true one"
    other = other_objects(sample)['another digit']
    result = Oracle()(vlm, sample.image, sample.question, other and other.box)
    return dict(
        id=sample.id,
        truth=sample.answers[0],
        other=other and str(other.digit),
        none=str(result.plain_answer),
        crop=str(result.answer),
    )


PARTS = dict(
    all=Part(
        'other_crops-{model}', of_question(measure_crops), partial(scene_records, start=FIRST_SEED), 600
    ),
    copied=Part(
        'other_crops-copied-{model}',
        of_question(measure_copied),
        partial(scene_records, start=COPIED_SEED),
        300,
    ),
)

if __name__ == '__main__':
    run_parts(PARTS, 'trial')
