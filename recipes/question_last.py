"""Is it the short-answer instruction that takes the last position's attention away, or its place after the
question?

`python -m recipes.question_last MODEL [--n 300]`: about 25 minutes a model;
`nbs/results/trial/question_last-MODEL.jsonl.gz`."""

from functools import partial
from carve_nb.attention.session import Session
from carve_nb.attention.vlm import VLM
from carve_nb.core.text import SHORT_ANSWER
from carve_nb.data.records import Record
from carve_nb.data.scenes import scene_records
from carve_nb.data.scoring import score_answer
from carve_nb.formulas.clutter import entropy
from carve_nb.method.carve import Carve
from carve_nb.method.lookup import Lookup
from carve_nb.method.results import Result
from carve_nb.models.prompts import Ask
from .other_crops import black_right
from .records import Part, of_question, run_parts

FIRST_SEED = 1_600_000
SCRAMBLED = 'using the word phrase a single or question answer.'
WORDINGS = dict(
    bare='{question}',
    after=f'{{question}} {SHORT_ANSWER}',
    before=f'{SHORT_ANSWER} {{question}}',
    scrambled=f'{{question}} {SCRAMBLED}',
    dots='{question}' + 10 * ' .',
)
ORDERS = 'after', 'before', 'bare'  # in which methods are asked


def read_wording(session: Session, sample: Record, wording: str) -> dict:
    """Return whether the last position points, its share of attention on the image, and the spread of that
    share"""
    rows = session.capture(
        Ask((sample.image,), WORDINGS[wording].format(question=sample.question)), answer=False
    )
    last = rows.read().double()  # [layers, patches]
    points = int(rows.saliency(query='last').points_at(sample.box))
    share, bits = last.sum(-1).mean(), entropy(last).mean()
    return dict(points=points, share=round(float(share), 4), bits=round(float(bits), 3))


def ask_methods(session: Session, sample: Record) -> dict:
    """Return right answers and pointing of today's `lookup`, and of each method in each order of question and
    instruction"""
    today = Lookup()(session, sample.image, sample.question)
    black = None if today.whole else black_right(session, sample, Lookup(), today)
    judged = {'lookup': judge(today, sample) | dict(black=black)}
    methods = dict(last=Lookup(query='last', suffix=None), carve=Carve(suffix=None))
    for order in ORDERS:
        question = WORDINGS[order].format(question=sample.question)
        for name, method in methods.items():
            judged[f'{name}, {order}'] = judge(method(session, sample.image, question), sample)
    return judged


def judge(result: Result, sample: Record) -> dict:
    """Return whether the answers with and without the crop are right, whether the map points, and whether
    there is a crop"""
    points = None if result.saliency is None else int(result.saliency.points_at(sample.box))
    right, plain = (int(score_answer(answer, sample)) for answer in (result.answer, result.plain_answer))
    return dict(right=right, plain=plain, points=points, crop=int(not result.whole))


def measure_question_last(vlm: VLM, sample: Record) -> dict:
    "Return pointing in each wording, and answers in each order, of one question for a digit"
    session = Session(vlm)
    read = {wording: read_wording(session, sample, wording) for wording in WORDINGS}
    return dict(id=sample.id, read=read, made=ask_methods(session, sample))


if __name__ == '__main__':
    questions = partial(scene_records, start=FIRST_SEED)
    run_parts(
        dict(all=Part('question_last-{model}', of_question(measure_question_last), questions, 300)), 'trial'
    )
