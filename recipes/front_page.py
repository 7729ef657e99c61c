"""The table of the front page: seven ways to choose the crop, default settings, one fresh set of 1,200
questions for a digit.

`python -m recipes.front_page MODEL [--n 1200]`: about 40 minutes a model;
`nbs/results/trial/front_page-MODEL.jsonl.gz`."""
from functools import partial
from carve_nb.attention.session import Session
from carve_nb.attention.vlm import VLM
from carve_nb.data.scenes import scene_records
from carve_nb.data.scoring import score_answer
from carve_nb.method.registry import make_method
from .records import Part, of_question, overlap, run_parts

FIRST_SEED = 1_640_000
METHODS = 'none', 'random', 'center', 'question-only', 'carve', 'lookup', 'oracle'

def measure_methods(vlm: VLM, sample) -> dict:
    """Return for each method whether its answer is right, whether its map points, and how much of the target
    its crop shows"""
    session = Session(vlm, sample.image, sample.box)
    made = {}
    for name in METHODS:
        result = make_method(name).answer(session, sample.question)
        line = dict(right=int(score_answer(result.answer, sample)))
        if result.saliency is not None: line['points'] = int(result.saliency.points_at(sample.box))
        if not result.whole: line['shown'] = round(overlap(sample.box, result.crop.box), 2)
        made[name] = line
    return dict(id=sample.id, made=made)

if __name__ == '__main__':
    questions = partial(scene_records, start=FIRST_SEED)
    run_parts(dict(all=Part('front_page-{model}', of_question(measure_methods), questions, 1200)), 'trial')
