"""Do layers converge, and which need the image? Scenes on an easy and on a cluttered background, and four
kinds of questions.

`python -m recipes.layers MODEL [--part PART]`: 1 to 7 minutes a part; `nbs/results/study/convergence`,
`masking`."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import count, islice, pairwise
import numpy as np
from carve_nb.attention.vlm import VLM
from carve_nb.core.errors import CarveError
from carve_nb.core.stats import Estimate, corrected, paired_effect
from carve_nb.data.records import Record, image_key_of
from carve_nb.data.scenes import make_scene, to_sample
from carve_nb.studies.measure import question_layers, question_masking
from .correlation import image_places
from .records import Part, run_parts, run_study

CLUTTER = dict(easy=0.1, cluttered=0.9)


def clutter_samples(n: int):
    "Held-out questions, each on an easy and on a cluttered background; the id ends in its name"
    kinds = 'digit', 'color', 'shape'

    def endless():
        for seed in count():
            for name, knob in CLUTTER.items():
                s = to_sample(make_scene(seed, texture=knob, color=knob), kinds[seed % len(kinds)])
                if s:
                    yield replace(s, id=f'{s.id}-{name}')

    return islice(endless(), n)


def measure_clutter(vlm: VLM, sample: Record) -> dict:  # of `clutter_samples`
    "As `question_layers`, with the name of the background"
    return question_layers(vlm, sample) | dict(clutter=sample.id.rpartition('-')[2])


def masking_samples(n: int, kinds: Sequence[str] = ('digit', 'color', 'shape', 'exist')):
    "Held-out questions of several kinds in turn, one for each scene"
    seeds = count()
    for k in range(n):
        yield next(s for seed in seeds if (s := to_sample(make_scene(seed), kinds[k % len(kinds)])))


# from the outside in; record -> what counts once
def image_means(records: list[dict], *keys, unit: Callable = image_key_of) -> np.ndarray:
    "One entry of all records that have it, [n, ...], a row for each image: the mean over its records"
    rows = [(unit(r), r) for r in records]
    for k in keys:
        rows = [(name, r[k]) for name, r in rows if r.get(k) is not None]
    names, values = zip(*rows)
    return np.array([np.mean([values[i] for i in at], 0) for at in image_places(names)])


def scene_of(record: dict):
    "The unit that a record is counted under: the scene, if the records have it on both backgrounds"
    return record['id'].rpartition('-')[0] if record.get('clutter') else image_key_of(record)


column = partial(image_means, unit=scene_of)  # of a list over layers


def layer_costs(
    records: list[dict], way: str = 'onward'
) -> list:  # of `question_masking`; an `Estimate` for each layer
    """What it costs that a layer cannot see the image; p by `paired_test` and Holm.

    'onward': from the layer on; 'only': in it alone; 'adds': what the layer adds to the curve."""
    if not records:
        raise CarveError('No records of masking: measure something first.')
    plain = np.array([[r['plain']] for r in records])
    masked = np.array([r['only' if way == 'only' else 'onward'] for r in records])
    if way == 'adds':
        better = np.hstack([masked[:, 1:], plain])
    else:
        better = plain.repeat(masked.shape[1], 1)
    images = [image_key_of(r) for r in records]
    return corrected([paired_effect(a, b, images) for a, b in zip(better.T, masked.T)])


def fusion_layers(costs: list[Estimate]) -> tuple:  # of `layer_costs` for each layer alone
    """Which layers read the image (fuse), and which of them come back to it (review).

    A review comes after layers without a cost: 15 % of the depth, at least 2."""
    gap = max(2, math.ceil(0.15 * len(costs)))
    fuse = [l for l, e in enumerate(costs) if e.value > 0 and e.p < 0.05]
    for i, (before, layer) in enumerate(pairwise(fuse), 1):
        if layer - before > gap:
            return fuse, fuse[i:]
    return fuse, []


if __name__ == '__main__':
    convergence = Part('convergence', measure_clutter, clutter_samples, 400)
    masking = Part('masking', question_masking, masking_samples, 600)
    run_parts(dict(convergence=convergence, masking=masking), 'study_out', run_study)
