"""The table of the front page: ways to choose the crop, one fresh set of 1,200 questions for a digit.

`python -m recipes.front_page MODEL [--part PART] [--n 1200]`: about 40 minutes a model, `profile` 20, `paper`
5; `nbs/results/trial/front_page-MODEL.jsonl.gz`, `front_page-profile-MODEL.jsonl.gz`,
`front_page-paper-MODEL.jsonl.gz`, `front_page-peak-MODEL.jsonl.gz`, which goes on from the first."""

from dataclasses import replace
from functools import cache, partial
import numpy as np
from carve_nb.attention.session import Session
from carve_nb.attention.vlm import VLM
from carve_nb.core.image import box_size, union_box
from carve_nb.data.records import Record
from carve_nb.data.scenes import scene_records
from carve_nb.data.scoring import score_answer
from carve_nb.method.carve import Carve
from carve_nb.method.controls import QuestionOnly
from carve_nb.method.profiles import short_name
from carve_nb.method.registry import make_method
from carve_nb.method.results import Result
from .records import RESULTS, Part, load_trial, of_question, overlap, run_parts, seed_of

FIRST_SEED = 1_640_000
METHODS = 'none', 'random', 'center', 'question-only', 'carve', 'lookup', 'oracle'


def shown_part(result: Result, sample: Record) -> float:
    "Return how much of the target the crop of a result shows"
    return round(overlap(sample.box, result.crop.box), 2)


def measure_methods(vlm: VLM, sample: Record) -> dict:
    """Return for each method whether its answer is right, whether its map points, and how much of the target
    its crop shows"""
    session = Session(vlm)
    by_method = {}
    for name in METHODS:
        result = make_method(name)(session, sample.image, sample.question, box=sample.box)
        line = dict(right=int(score_answer(result.answer, sample)))
        if result.saliency is not None:
            line['points'] = int(result.saliency.points_at(sample.box))
        if not result.whole:
            line['shown'] = shown_part(result, sample)
        by_method[name] = line
    return dict(id=sample.id, made=by_method)


def measure_profile(vlm: VLM, sample: Record) -> dict:
    "Return the same of CARVE at the query token of the model's profile"
    result = Carve.for_model(vlm)(vlm, sample.image, sample.question)
    return dict(
        id=sample.id,
        right=int(score_answer(result.answer, sample)),
        points=int(result.saliency.points_at(sample.box)),
        shown=shown_part(result, sample),
    )


def measure_paper(vlm: VLM, sample: Record) -> dict:
    """Return whether the answer is right with the crop of the paper's settings, and with the same kept shape
    at a random place; how much of the target each shows"""
    method = Carve.paper()
    result = method(vlm, sample.image, sample.question)
    box = union_box([region.box for region in result.regions])
    rng = np.random.default_rng(seed_of(sample))
    shift = [
        int(rng.integers(side + 1)) - start
        for side, start in zip(np.subtract(sample.image.size, box_size(box)), box)
    ]
    moved = [replace(region, box=tuple(np.add(region.box, shift * 2).tolist())) for region in result.regions]
    crop = method.show(sample.image, moved)
    answer = vlm.ask(crop.image, sample.question, suffix=method.suffix)
    return dict(
        id=sample.id,
        right=dict(paper=int(score_answer(result.answer, sample)), random=int(score_answer(answer, sample))),
        shown=dict(paper=shown_part(result, sample), random=round(overlap(sample.box, crop.box), 2)),
    )


def find_crop(method: Carve, session: Session, sample: Record):
    "Return what a method finds and crops, before its last question"
    return method.look(session, method.asked(session.vlm, sample.image, sample.question))


@cache
def stored_answers(model: str) -> dict[str, dict]:
    "Return what each method made of each question of the table, by the question's id"
    records = load_trial(f'front_page-{model}', RESULTS / 'trial')
    return {record['id']: record['made'] for record in records}


def measure_peak(vlm: VLM, sample: Record) -> dict:
    """Return of `carve` and `question-only` whether the answer is right and how much of the target the crop shows,
    with the region of the largest sum and with that of the highest peak.

    The table's answer stands for each crop that it knows; about another crop the model is asked."""
    session, stored, right_by_box, by_rank = Session(vlm), stored_answers(short_name(vlm)), {}, {}
    for rank in ('sum', 'peak'):
        for name, method in (('carve', Carve(rank=rank)), ('question-only', QuestionOnly(rank=rank))):
            result = find_crop(method, session, sample)
            box, share = tuple(result.crop.box), shown_part(result, sample)
            line = stored[sample.id][name]
            if rank == 'sum' and line['shown'] == share:
                right_by_box[box] = line['right']
            if box not in right_by_box:
                answer = method(session, sample.image, sample.question).answer
                right_by_box[box] = int(score_answer(answer, sample))
            by_rank[f'{name}, {rank}'] = dict(right=right_by_box[box], shown=share, box=list(box))
    return dict(id=sample.id, made=by_rank)


QUESTIONS = partial(scene_records, start=FIRST_SEED)


def halves_differ(made: dict) -> bool:  # of `measure_methods`
    "Tell whether exactly one of the crops of `carve` and `question-only` shows half of the target"
    return (made['carve']['shown'] >= 0.5) != (made['question-only']['shown'] >= 0.5)


def peak_questions(n: int) -> list:
    "Return the questions of the table, those first where the crops of carve-smol differ in half of the target"
    stored = stored_answers('carve-smol')
    questions = QUESTIONS(PARTS['all'].n)
    return sorted(questions, key=lambda record: not halves_differ(stored[record.id]))[:n]


PARTS = dict(
    all=Part('front_page-{model}', of_question(measure_methods), QUESTIONS, 1200),
    profile=Part('front_page-profile-{model}', of_question(measure_profile), QUESTIONS, 1200),
    paper=Part('front_page-paper-{model}', of_question(measure_paper), QUESTIONS, 300),
    peak=Part('front_page-peak-{model}', of_question(measure_peak), peak_questions, 1200),
)

if __name__ == '__main__':
    run_parts(PARTS, 'trial')
