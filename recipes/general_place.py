"""Does it matter where in its prompt the general map is read: by the question's rule, or at the place of the
question's token?

`python -m recipes.general_place MODEL [--n 600]`: about 30 minutes;
`nbs/results/trial/general_place-carve-small.jsonl.gz`."""
from dataclasses import dataclass
from functools import partial
from carve_nb.attention.session import Session
from carve_nb.attention.vlm import VLM
from carve_nb.core.text import pick_words
from carve_nb.data.scenes import scene_records
from carve_nb.data.scoring import score_answer
from carve_nb.method.carve import Carve
from carve_nb.method.controls import QuestionOnly
from .records import Part, of_question, run_parts

FIRST_SEED = 1_620_000

@dataclass(repr=False)
class SamePlace(Carve):
    "`Carve` that reads the general map at the place of the question's token in the prompt"
    def maps(self, rows_q, rows_g):
        "Return A_Q and A_G [1, layers, patches], both read at the position of the question's token"
        token = pick_words(rows_q.question_tokens, self.query)[-1:]
        return self.read_rows(rows_q), rows_g.read(query=token, layers=self.layers, heads=self.heads,
            tiles=self.tiles)[None]

LAMBDAS = {'one mean': dict(lam=1., relative=True), 'published': dict(lam=1e-8, relative=False)}
WAYS = {'raw': QuestionOnly(query='noun')} | {
    f'{place}, {lam}': method(query='noun', **fields)
    for lam, fields in LAMBDAS.items() for place, method in (('rule', Carve), ('same place', SamePlace))}

def measure_places(vlm: VLM, sample) -> dict:
    """Return pointing without the contrast and with A_G read at both places under both lambdas; answers but
    for the published"""
    session = Session(vlm, sample.image)
    partial = {way: method.look(session, sample.question) for way, method in WAYS.items()}
    points = {way: int(r.saliency.points_at(sample.box)) for way, r in partial.items()}
    asked = {way: WAYS[way].ask_again(session, r).answer
        for way, r in partial.items() if 'published' not in way}
    return dict(id=sample.id, points=points,
        right={way: int(score_answer(a, sample)) for way, a in asked.items()})

if __name__ == '__main__':
    questions = partial(scene_records, start=FIRST_SEED)
    run_parts(dict(all=Part('general_place-{model}', of_question(measure_places), questions, 600)), 'trial')
