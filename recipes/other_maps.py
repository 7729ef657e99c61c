"""Does any other map carry what clutter costs? The attention of another calm drawing, of another busy one, the
calm attention in a blank image, and the calm attention mirrored, over all scenes.

`python -m recipes.other_maps MODEL [--part PART] [--n N]`: an hour a model;
`nbs/results/trial/other_maps-PART-MODEL.jsonl.gz`, measured at commit 943136e5 on scenes from seed 4,100,000 on,
`mirrored` later on those of `color`."""

from collections.abc import Callable
from functools import partial
import pandas as pd
import torch
from PIL import Image, ImageOps
from torch import Tensor
from carve_nb.attention.vlm import VLM
from carve_nb.data.records import Record
from carve_nb.models.model import model_lock
from carve_nb.models.prefix_cache import keep_offset
from .records import Part, run_parts
from .replay import Reading, all_rows, find_question, paint_scene, read_attention, replay, true_token

FIRST_SEED = dict(color=4_100_000, digit=4_110_000, exist=4_120_000)
OTHER_GROUND = 500_000  # added to a scene's seed: the seed of the other drawing's backgrounds
INTO = dict(
    busy=('calm', 'other calm', 'other busy'), calm=('busy', 'other busy', 'other calm'), blank=('calm',)
)


def measure_replays(vlm: VLM, sample: Record, images: dict, sources: Callable) -> dict:
    """Return whether the answer is right on each image, and with the attention that `sources` puts into it:
    readings of the images -> {image: {name of the attention: weights}}"""
    with torch.inference_mode(), model_lock(vlm.model), keep_offset(vlm.model):
        readings = {name: read_attention(vlm, image, sample.question) for name, image in images.items()}
        tokens = {name: reading.token for name, reading in readings.items()}
        for name, some in sources(readings).items():
            own = readings[name]
            arms = {f'{source} into {name}': (weights, all_rows(own)) for source, weights in some.items()}
            tokens |= replay(vlm, own, arms)
        truth = true_token(vlm, sample)
    return dict(
        id=sample.id,
        truth=sample.answers[0],
        right={name: int(token == truth) for name, token in tokens.items()},
    )


def measure_scene(vlm: VLM, asked: tuple[int, str]) -> dict:
    """Return whether the answer is right on a calm, a busy and a blank background, and with the attention of
    another: the blank image has no objects"""
    seed, sample = find_question(*asked)
    other = {f'other {level}': image for level, image in paint_scene(seed, OTHER_GROUND).items()}
    images = paint_scene(seed) | other
    images['blank'] = Image.new('RGB', images['calm'].size, (128, 128, 128))

    def sources(readings: dict):
        return {name: {source: readings[source].weights for source in some} for name, some in INTO.items()}

    return measure_replays(vlm, sample, images, sources)


def to_dataframe(records: list[dict]) -> pd.DataFrame:
    "Return a row for each question: whether it is right on each background and with each attention"
    names = {'calm into busy': 'rows, into busy', 'busy into calm': 'rows, into calm'}
    return pd.DataFrame([r['right'] for r in records]).rename(columns=names)


def mirror_attention(reading: Reading) -> Tensor:  # [L, H, R, K]
    "Return attention with the left and the right of the image exchanged; the other tokens keep theirs"
    columns = reading.prompt.columns
    mirrored = columns.view(reading.prompt.spans[0].grid).flip(-1).flatten()
    return reading.weights.index_copy(-1, columns, reading.weights[..., mirrored])


def measure_mirrored(vlm: VLM, asked: tuple[int, str]) -> dict:
    """Return whether the answer is right with the calm attention mirrored, in the busy and the calm image, beside
    the calm attention as it is; as a control the mirrored attention in the mirrored images"""
    seed, sample = find_question(*asked)
    images = paint_scene(seed)
    images |= {f'mirrored {level}': ImageOps.mirror(image) for level, image in images.items()}

    def sources(readings: dict):
        maps = {'calm': readings['calm'].weights, 'calm turned': mirror_attention(readings['calm'])}
        return dict.fromkeys(readings, maps)

    return measure_replays(vlm, sample, images, sources)


def list_questions(kind: str, n: int) -> list[tuple[int, str]]:
    "Return the seeds of scenes, with the kind of their question"
    return [(FIRST_SEED[kind] + i, kind) for i in range(n)]


PARTS = {
    kind: Part(f'other_maps-{kind}-{{model}}', measure_scene, partial(list_questions, kind), 200)
    for kind in FIRST_SEED
}
PARTS['mirrored'] = Part(
    'other_maps-mirrored-{model}', measure_mirrored, partial(list_questions, 'color'), 200
)

if __name__ == '__main__':
    run_parts(PARTS, 'trial')
