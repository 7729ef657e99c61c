"""A sticker that draws the row which points, under the question and under the general instruction alike: the
world that CARVE assumes, made on purpose.

`python -m recipes.shared_distractor MODEL`: about 15 minutes; `nbs/results/study/shared`,
`shared-carve-small`."""

from dataclasses import replace
from functools import partial
import numpy as np
from carve_nb.attention.session import Session
from carve_nb.core.image import box_index, scale_box
from carve_nb.core.io import TINY
from carve_nb.data.scenes import samples
from carve_nb.data.scoring import score_answer
from carve_nb.method.controls import QuestionOnly
from carve_nb.method.registry import make_method
from .records import Part, overlap, run_parts, run_study, seed_of
from .stickers import find_sticker, free_place, paste

WAYS = { # name → (method, which region)
    'A_Q, region by sum': ('question-only', 'sum'), 'divided, region by sum': ('carve', 'sum'),
    'A_Q, region of the peak': ('question-only', 'peak'), 'divided, region of the peak': ('carve', 'peak')}
ROWS_READ = {TINY: {}, 'carve-small': dict(query='content', layers=[1, 2, 3, 4])}

def planted_scene(vlm, sample) -> tuple: # sample with the sticker, its box
    "The scene with a sticker at a place drawn from its seed"
    sticker = find_sticker(vlm, words=ROWS_READ[vlm.name].get('words'))
    rng = np.random.default_rng([2, seed_of(sample)])
    place = free_place(rng, sticker.size, sample.image.size, sample.box, raster=sticker.width//2)
    return replace(sample, image=paste(sample.image, sticker, place)), place

def map_share(S, box) -> float: # a `Saliency`; between 0 and 1
    "Return the share of a map in a box; negative values count as 0, a map of zeros as uniform"
    weights = S.to_pixels().clip(0).astype(np.float64)
    if not weights.any(): weights[:] = 1
    inside = [max(v, 0) for v in scale_box([round(float(v)) for v in box], S.size, weights.shape[::-1])]
    return float(weights[box_index(inside)].sum()/weights.sum())

def measure_shared(vlm, sample) -> dict:
    """Every way on one scene with the sticker: answer, what the peak points at, what the crop shows; shares
    of attention"""
    read = ROWS_READ[vlm.name]
    seen, place = planted_scene(vlm, sample)
    ways = {}
    for way, (name, rank) in WAYS.items():
        ways[way] = make_method(name, **read, rank=rank)
    if read: ways["last content word's row, A_Q"] = QuestionOnly(query='noun')
    alone = make_method('oracle', final_images='crop', square=False, limit=4096, min_side=28)    # the crop alone
    session = Session(vlm)
    made = {}
    shares = {}
    for name, method in {'none': make_method('none'), **ways, 'oracle': alone}.items():
        r = method(session, seen.image, seen.question, box=sample.box)
        made[name] = dict(answer=str(r.answer), correct=score_answer(r.answer, sample))
        if name not in ways: continue
        made[name] |= dict(pointing=int(r.saliency.points_at(sample.box)),
            caught=int(r.saliency.points_at(place)),
            shown=int(overlap(sample.box, r.crop.box) > .5), distracted=int(overlap(place, r.crop.box) > .5))
        if name == 'divided, region by sum':
            shares = {k: [round(map_share(S, b), 4) for b in (sample.box, place)] for k,
                S in zip('QG', r.maps.values())}
    return dict(id=sample.id, place=list(place), made=made, shares=shares)

if __name__ == '__main__':
    run_parts(dict(all=Part('shared', measure_shared, partial(samples, 'digit'), 300)), 'study_out',
        run_study)
