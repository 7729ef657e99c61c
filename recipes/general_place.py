"""Does it matter where in its prompt the general map is read, by the question's rule or at the place of the
question's token, and in which scene?

`python -m recipes.general_place MODEL [--part PART] [--n 600]`: about 30 minutes, `scene` and `bare` 5;
`nbs/results/trial/general_place-carve-small.jsonl.gz`, `general_place-PART-MODEL.jsonl.gz`."""
from dataclasses import dataclass
from functools import partial
from carve_nb.attention.session import Session
from carve_nb.attention.vlm import VLM
from carve_nb.core.text import GENERAL_INSTRUCTION, SHORT_ANSWER, pick_words
from carve_nb.data.scenes import scene_records
from carve_nb.data.scoring import score_answer
from carve_nb.method.carve import Carve
from carve_nb.method.controls import QuestionOnly
from carve_nb.formulas.product import contrast
from .records import Part, of_question, points_at, run_parts

FIRST_SEED, SCENE_SEED = 1_620_000, 1_720_000

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
    session, ask = Session(vlm), Carve().asked(vlm, sample.image, sample.question)
    partial = {way: method.look(session, ask) for way, method in WAYS.items()}
    points = {way: int(r.saliency.points_at(sample.box)) for way, r in partial.items()}
    asked = {way: WAYS[way].ask_again(session, ask, r).answer
        for way, r in partial.items() if 'published' not in way}
    return dict(id=sample.id, points=points,
        right={way: int(score_answer(a, sample)) for way, a in asked.items()})

def measure_scene(vlm: VLM, pair: list, suffix: str|None = SHORT_ANSWER) -> dict:
    """Return for both tokens whether the raw map points, and whether it does divided by the general map of its
    own scene and of another"""
    own, other = (record.opened() for record in pair)
    rows = vlm.capture(own.image, own.question, suffix=suffix)
    general = {'own': own, 'another': other}
    general = {name: vlm.capture(sample.image, GENERAL_INSTRUCTION, suffix=suffix)
        for name, sample in general.items()}
    points = {}
    for query in ('noun', 'last'):
        A_q = rows.read(query=query)
        maps = dict(raw=A_q) | {name: contrast(A_q, rows_g.read(query=query), **LAMBDAS['one mean'])
            for name, rows_g in general.items()}
        points[query] = {name: int(points_at(A.sum(0), rows.spans[0], own.box)) for name, A in maps.items()}
    return dict(id=own.id, points=points)

def pair_scenes(n: int) -> list[list]:
    "Return questions for a digit, each with the question of the next scene"
    records = scene_records(n + 1, start=SCENE_SEED)
    return [*zip(records, records[1:])]

PARTS = dict(place=Part('general_place-{model}', of_question(measure_places),
        partial(scene_records, start=FIRST_SEED), 600),
    scene=Part('general_place-scene-{model}', measure_scene, pair_scenes, 300),
    bare=Part('general_place-bare-{model}', partial(measure_scene, suffix=None), pair_scenes, 300))

if __name__ == '__main__': run_parts(PARTS, 'trial')
