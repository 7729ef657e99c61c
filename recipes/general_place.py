"""Is it this image's general map that counts, or does another scene's divide as well?

`python -m recipes.general_place MODEL [--part PART] [--n 300]`: 5 minutes a part;
`nbs/results/trial/general_place-PART-MODEL.jsonl.gz`."""

from functools import partial
from carve_nb.attention.vlm import VLM
from carve_nb.core.text import GENERAL_INSTRUCTION, SHORT_ANSWER
from carve_nb.data.scenes import scene_records
from carve_nb.formulas.product import contrast
from .records import Part, points_at, run_parts

SCENE_SEED = 1_720_000


def measure_scene(vlm: VLM, pair: list, suffix: str | None = SHORT_ANSWER) -> dict:
    """Return for both tokens whether the raw map points, and whether it does divided by the general map of its
    own scene and of another"""
    scene, other = (record.opened() for record in pair)
    rows = vlm.capture(scene.image, scene.question, suffix=suffix)
    general = {'own': scene, 'another': other}
    general = {
        name: vlm.capture(sample.image, GENERAL_INSTRUCTION, suffix=suffix)
        for name, sample in general.items()
    }
    points = {}
    for query in ('noun', 'last'):
        A_q = rows.read(query=query)
        maps = dict(raw=A_q) | {
            name: contrast(A_q, rows_g.read(query=query), lam=1.0, relative=True)
            for name, rows_g in general.items()
        }
        points[query] = {name: int(points_at(A.sum(0), rows.spans[0], scene.box)) for name, A in maps.items()}
    return dict(id=scene.id, points=points)


def pair_scenes(n: int) -> list[list]:
    "Return questions for a digit, each with the question of the next scene"
    records = scene_records(n + 1, start=SCENE_SEED)
    return [*zip(records, records[1:])]


PARTS = dict(
    scene=Part('general_place-scene-{model}', measure_scene, pair_scenes, 300),
    bare=Part('general_place-bare-{model}', partial(measure_scene, suffix=None), pair_scenes, 300),
)

if __name__ == '__main__':
    run_parts(PARTS, 'trial')
