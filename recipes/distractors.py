"""A trained sticker, the same in pieces, a watermark and rings in held-out scenes, and who still finds the target."""

from dataclasses import dataclass, replace
import numpy as np
from carve_nb.core.saliency import patch_cover
from carve_nb.data.records import Record
from carve_nb.data.scenes import samples
from .ablation import ask_all, paired, tidy, wide
from .records import run_recipe
from .stickers import PLANTS, attention_share, find_sticker, free_place, plant

@dataclass
class PlantedSample(Record):
    "A question about a scene that gets a distractor"
    planted: str = 'clean' # a key of `PLANTS`
    place: tuple|None = None # where it goes

def distractors_samples(n, start=0):
    "Held-out digit questions with every distractor, five of a seed in turn; it is planted when a model is asked"
    for i in range(n):
        seed, kind = start + i//len(PLANTS), list(PLANTS)[i % len(PLANTS)]
        s, = samples('digit', 1, 'heldout', seed)
        place = PLANTS[kind] and free_place(np.random.default_rng([2, seed]), PLANTS[kind], s.image.size, s.box)
        yield PlantedSample(**vars(s) | dict(id=f'{s.id}-{kind}', planted=kind, place=place))

DISTRACTED = { # name in the record -> method
    **{k: k for k in ('none', 'question-only')},
    'carve λ→0': 'carve:lam=1e-8:relative=False', 'carve λ=0.1': 'carve:lam=.1', 'carve': 'carve',
    'carve λ=10': 'carve:lam=10.',
    **{k: k for k in ('paper', 'official', 'rel-att', 'pure-grad', 'oracle')}}
KINDS = [k for k in PLANTS if k != 'clean']
SHARES = dict(question_share=('question', '-'), instruction_share=('instruction', '--'))

def point_at(result, sample) -> dict: # `Result`, `PlantedSample`
    "What the peak of a map finds, 0 or 1: the target, or what was planted"
    S = result.saliency
    if S is None: return {}
    caught = sample.place is not None and S.points_at(sample.place)
    return dict(pointing=int(S.points_at(sample.box)), hit=int(S.hit(sample.box)), caught=int(caught))

def measure_distractors(vlm, sample, methods=tuple(DISTRACTED)) -> dict: # `VLM`, `PlantedSample`, names of `DISTRACTED`
    "Every method on one scene, what its peak finds, and the share of attention that the distractor draws by layer"
    image, place = plant(sample.image, sample.planted, sample.place, find_sticker(vlm)), sample.place
    seen = replace(sample, image=image)
    made, pair = ask_all(vlm, seen, {k: DISTRACTED[k] for k in methods}, lambda r: point_at(r, sample))
    shares = [attention_share(r.read().double().numpy(), patch_cover(r.spans[0], place)).round(5).tolist() if place else []
        for r in pair]
    return dict(id=sample.id, planted=sample.planted, truth=sample.answer, made=made, **dict(zip(SHARES, shares)))

def distractor_costs(records, key='pointing'): # of `measure_distractors`; or 'correct' or 'hit'
    "What each distractor costs each method, against the same scenes clean: a row for each (planted, method)"
    w = wide(tidy(records, 'planted'), key)
    return paired({(k, m): (w[k, m], w['clean', m]) for k in KINDS for m in w['clean']}).rename_axis(['planted',
        'method'])

def gains_over(
        records, key='pointing', base='question-only'): # as `distractor_costs`, or 'caught'; the method to compare with
    "What every method gains over one of them, with each distractor: a row for each (planted, method)"
    w = wide(tidy(records, 'planted'), key)
    return paired({(k, m): (w[k, m], w[k, base]) for k in (KINDS if key == 'caught' else PLANTS) for m in w[k]
        if m != base}).rename_axis(
        ['planted', 'method'])

def drawn(records, kind, field): # of `measure_distractors`; a key of `PLANTS`; a key of `SHARES`
    "Mean share of attention that a distractor draws, by layer, in per cent"
    return 100*np.mean([r[field] for r in records if r['planted'] == kind], 0)

if __name__ == '__main__':
    run_recipe(
        'distractors', measure_distractors, distractors_samples,
        lambda records: [distractor_costs(records), gains_over(records)], 600)
