"""Does dividing lose the peak or the region? Crops by share, rank and map, other contrasts, layers; a reference
that lacks one object; answers.

`python -m recipes.region MODEL [--part PART] [--n N]`: minutes on `carve-tiny`, hours on `carve-smol`;
`nbs/results/trial/region-PART-MODEL.jsonl.gz`, measured at commit 943136e5 on scenes from seed 4,000,000 on,
which choose nothing; `shares` and `twins` later."""

from collections.abc import Callable
from functools import partial
from unittest.mock import patch
import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor
from carve_nb.attention.session import Session
from carve_nb.attention.vlm import VLM
from carve_nb.core.errors import CarveError
from carve_nb.core.image import Box, box_size
from carve_nb.core.saliency import Saliency
from carve_nb.core.stats import holm, mcnemar
from carve_nb.data import scenes
from carve_nb.data.records import Record
from carve_nb.data.scenes import make_scene, scene_records
from carve_nb.data.scoring import score_answer
from carve_nb.formulas.product import contrast
from carve_nb.formulas.threshold import Region, split_mask, top_mask
from carve_nb.method.base import as_saliency
from carve_nb.method.carve import Carve
from carve_nb.method.controls import QuestionOnly
from carve_nb.method.crop import grow_box
from carve_nb.method.lookup import Lookup
from carve_nb.method.profiles import find_profile, short_name
from carve_nb.models.image_tokens import ImageSpan
from .records import Part, of_question, overlap, points_at, run_parts, seed_of
from .twins import twin_records

FIRST_SEED = dict(maps=4_000_000, contrasts=4_000_000, ideal=4_050_000, answers=4_060_000, shares=4_200_000)
TWINS_SEED = 1_180_000
SHARES = 0.02, 0.04, 0.08, 0.16, 0.32  # p, the kept share of the pixels
RANKS = 'largest sum', 'highest peak'
HOLDS = 0.95  # part of the target that a crop must show
# that the profiles chose for their token until 2026-11-30
CHOSEN_LAYERS = {'carve-tiny': [1, 2, 3], 'carve-small': [2], 'carve-smol': [19, 21, 22, 23]}


def query_tokens(vlm: VLM) -> list[str]:
    "Return the last token and, where it is another, that of the model's profile"
    return [*dict.fromkeys(('last', find_profile(vlm).query))]


def both_maps(vlm: VLM, sample: Record) -> tuple[ImageSpan, dict[str, tuple[Tensor, Tensor]]]:
    "Return where the image lies, and of both tokens the maps of the question and of the general instruction"
    session, ask = Session(vlm), Carve().asked(vlm, sample.image, sample.question)
    rows = session.capture(ask, answer=False)
    general = session.capture(ask.but(text=Carve().instruction), answer=False)
    maps = {query: Carve(query=query).maps(rows, general) for query in query_tokens(vlm)}
    return rows.spans[0], {query: (A_q[0], A_g[0]) for query, (A_q, A_g) in maps.items()}


def chosen_layers(vlm: VLM) -> list[int]:
    "Return the layers that the profile of a packaged model had chosen"
    if (name := short_name(vlm)) not in CHOSEN_LAYERS:
        raise CarveError(
            f'--part maps compares the layers chosen for {", ".join(CHOSEN_LAYERS)}, and none for {name}: take --part shares.'
        )
    return CHOSEN_LAYERS[name]


def share_of_total(A: Tensor) -> Tensor:
    "Scale each layer's attention on the image to a sum of 1"
    return A / A.sum(-1, keepdim=True)


def contrasts(A_q: Tensor, A_g: Tensor, weighed: bool = True) -> dict[str, Tensor]:  # [L, patches] both
    """Return the raw map, the quotients with both lambdas, and contrasts that keep how much A_q attends.

    In these a layer counts as much as in A_q or, not `weighed`, as much as any other."""
    q, g = (share_of_total(A.double()) for A in (A_q, A_g))
    mean = g.mean(-1, keepdim=True)
    quotient = contrast(A_q, A_g, 1.0, relative=True).double()
    keeping = {
        'difference': (q - g).clamp_min(0),
        'A log ratio': (q * torch.log((q + mean / 1000) / (g + mean / 1000))).clamp_min(0),
        'square root of A_G': q / (g + mean).sqrt(),
        'fourth root of A_G': q / (g + mean) ** 0.25,
    }
    if weighed:
        keeping = {name: A * A_q.sum(-1, keepdim=True) for name, A in keeping.items()}
    return (
        {'raw': A_q, 'quotient': quotient, 'quotient, 1e-8': contrast(A_q, A_g, 1e-8)}
        | keeping
        | {'root of A times quotient': (A_q.double() * quotient).sqrt()}
    )


def strongest_layer(A_q: Tensor, A_g: Tensor) -> int:
    "Return the layer where the question adds most attention, the largest ||ReLU(A_q - A_g)|| (LASER's rule)"
    return int((A_q - A_g).clamp_min(0).norm(dim=-1).argmax())


def best_regions(pixels: np.ndarray, p: float) -> list[Region]:
    "Return the region of the top share with the largest sum, and the one with the highest peak"
    found = split_mask(top_mask(pixels, p), pixels)

    def peak(region: Region):
        x0, y0, x1, y1 = region.box
        return pixels[y0:y1, x0:x1][region.mask].max()

    return [max(found, key=lambda region: region.score), max(found, key=peak)]


def random_box(box: Box, size: tuple[int, int], rng: np.random.Generator) -> Box:
    "Return a box of the same size at a random place"
    (w, h), (W, H) = box_size(box), size
    x, y = int(rng.integers(W - w + 1)), int(rng.integers(H - h + 1))
    return x, y, x + w, y + h


def crop_boxes(saliency: Saliency) -> list[Box]:
    "Return the box of the crop of each share, by the largest sum and by the highest peak"
    method, pixels, boxes = Carve(), saliency.to_pixels(), []
    for p in SHARES:
        regions = [region.on_image(saliency.size) for region in best_regions(pixels, p)]
        boxes += [
            grow_box(region.box, saliency.size, method.min_side, method.square, method.pad)
            for region in regions
        ]
    return boxes


def measure_boxes(saliency: Saliency, target: Box, rng: np.random.Generator) -> dict:
    """Return of each share and rank whether the crop holds the target, whether a random one of its size does,
    and its area in percent of the image"""
    boxes = crop_boxes(saliency)

    def held(boxes: list):
        return ''.join(str(int(overlap(target, box) >= HOLDS)) for box in boxes)

    return dict(
        holds=held(boxes),
        random=held([random_box(box, saliency.size, rng) for box in boxes]),
        area=[round(100 * np.prod(box_size(box)) / np.prod(saliency.size)) for box in boxes],
    )


def measure_maps(vlm: VLM, sample: Record) -> dict:
    """Return for both tokens: what the crops of three maps hold; pointing of all contrasts, of the raw map and
    the quotient by groups of layers, and of the raw map layer by layer"""
    chosen = chosen_layers(vlm)
    others = [layer for layer in range(vlm.n_layers) if layer not in chosen]
    groups = dict(all=[*range(vlm.n_layers)], profile=chosen, others=others)
    span, read = both_maps(vlm, sample)
    rng, measured = np.random.default_rng(seed_of(sample)), {}
    for query, (A_q, A_g) in read.items():
        maps = contrasts(A_q, A_g, weighed=False)
        points = {name: A.sum(0) for name, A in maps.items()}
        points['strongest layer'] = A_q[strongest_layer(A_q, A_g)]
        points |= {
            f'{name}, {group}': maps[name][layers].sum(0)
            for name in ('raw', 'quotient')
            for group, layers in groups.items()
        }
        measured[query] = dict(
            points={name: int(points_at(S, span, sample.box)) for name, S in points.items()},
            layers=''.join(map(str, points_at(A_q, span, sample.box).astype(int))),
            crops={
                name: measure_boxes(
                    as_saliency(maps[name].sum(0).float(), span, sample.image), sample.box, rng
                )
                for name in ('raw', 'quotient', 'quotient, 1e-8')
            },
        )
    return dict(id=sample.id) | measured


def measure_contrasts(vlm: VLM, sample: Record) -> dict:
    "Return for both tokens the pointing of each contrast, and of the raw map with all layers scaled to one sum"
    span, read = both_maps(vlm, sample)
    points = {}
    for query, (A_q, A_g) in read.items():
        maps = contrasts(A_q, A_g) | {'raw, scaled': share_of_total(A_q)}
        points[query] = {name: int(points_at(A.sum(0), span, sample.box)) for name, A in maps.items()}
    return dict(id=sample.id, points=points)


def shown_shares(saliency: Saliency, target: Box) -> list[float]:
    "Return how much of the target the crop of each share and rank shows"
    return [round(float(overlap(target, box)), 2) for box in crop_boxes(saliency)]


def measure_shares(vlm: VLM, sample: Record) -> dict:
    """Return for both tokens the pointing of each contrast, and how much of the target the crops of the raw map and
    of the quotient show"""
    span, read = both_maps(vlm, sample)
    measured = dict(points={}, shown={})
    for query, (A_q, A_g) in read.items():
        maps = {name: A.sum(0) for name, A in contrasts(A_q, A_g).items()}
        measured['points'][query] = {name: int(points_at(S, span, sample.box)) for name, S in maps.items()}
        measured['shown'][query] = {
            name: shown_shares(as_saliency(maps[name].float(), span, sample.image), sample.box)
            for name in ('raw', 'quotient')
        }
    return dict(id=sample.id) | measured


def paint_without(seed: int, box: Box) -> Image.Image:
    "Paint a scene without the object in the box"
    lay_out = scenes._lay_out

    def without(*args):
        return [painted for painted in lay_out(*args) if tuple(painted[0].box) != tuple(box)]

    with patch.object(scenes, '_lay_out', without):
        return make_scene(seed).image


def measure_ideal(vlm: VLM, sample: Record) -> dict:
    """Return whether the peak is on the target and whether it is on another object: raw, and contrasted with
    A_G, with A_Q of the scene without the target, and with A_Q of the scene without that other object"""
    seed = seed_of(sample)
    rest = [o for o in sample.objects if tuple(o.box) != tuple(sample.box)]
    other = rest[int(np.random.default_rng(seed).integers(len(rest)))]
    images = {'no target': paint_without(seed, sample.box), 'no other': paint_without(seed, other.box)}
    session, ask = Session(vlm), Carve().asked(vlm, sample.image, sample.question)
    rows = session.capture(ask, answer=False)
    references = {'A_G': session.capture(ask.but(text=Carve().instruction), answer=False)}
    references |= {
        name: session.capture(ask.but(images=(image,)), answer=False) for name, image in images.items()
    }
    points = {}
    for query in query_tokens(vlm):
        maps = {}
        for name, reference in references.items():
            A_q, A_r = (A[0] for A in Carve(query=query).maps(rows, reference))
            found = contrasts(A_q, A_r)
            maps |= {'raw': found['raw']} | {
                f'{name}, {kind}': found[kind] for kind in ('quotient', 'quotient, 1e-8', 'difference')
            }
        points[query] = {
            name: [int(points_at(A.sum(0), rows.spans[0], box)) for box in (sample.box, other.box)]
            for name, A in maps.items()
        }
    return dict(id=sample.id, objects=len(sample.objects), points=points)


def ways(query: str) -> dict:
    "Return the five methods of which answers are asked"

    def raw(p: float):
        return QuestionOnly(query=query, p=p)

    return {
        'raw, .04': raw(0.04),
        'quotient, .04': Carve(query=query),
        'quotient, .04, peak': Carve(query=query, rank='peak'),
        'raw, .08': raw(0.08),
        'quotient, .08': Carve(query=query, p=0.08),
    }


def measure_answers(vlm: VLM, sample: Record) -> dict:
    "Return right answers without a crop and in five arms at the profile's token, and what their crops show"
    session, query = Session(vlm), find_profile(vlm).query
    results = {name: method(session, sample.image, sample.question) for name, method in ways(query).items()}
    plain = next(iter(results.values())).plain_answer
    return dict(
        id=sample.id,
        none=int(score_answer(plain, sample)),
        right={name: int(score_answer(result.answer, sample)) for name, result in results.items()},
        shown={name: round(overlap(sample.box, result.crop.box), 2) for name, result in results.items()},
    )


def name_pointed(points: Callable, sample: Record) -> str:  # does the map point at a box?
    "Return what a map points at: T, the target; S, an object of its shape; C, of its color; O, neither"
    (target,) = (o for o in sample.objects if tuple(o.box) == tuple(sample.box))
    near = [o for o in sample.objects if points(o.box)]
    if target in near:
        return 'T'
    if any(o.shape == target.shape for o in near):
        return 'S'
    return 'C' if any(o.color == target.color for o in near) else 'O'


def measure_twins(vlm: VLM, sample: Record) -> dict:
    """Return among twins what the raw map of all layers points at, for both tokens, and whether the answers
    without a crop and of `lookup` are right"""
    session, ask = Session(vlm), Carve().asked(vlm, sample.image, sample.question)
    result = Lookup()(session, sample.image, sample.question)
    rows, at = session.capture(ask), {}
    for query in query_tokens(vlm):
        A_q = Carve(query=query).read_rows(rows)[0].sum(0)
        at[query] = name_pointed(partial(points_at, A_q, rows.spans[0]), sample)
    answers = dict(none=result.plain_answer, lookup=result.answer)
    return dict(
        id=sample.id,
        at=at,
        right={name: int(score_answer(answer, sample)) for name, answer in answers.items()},
    )


def by_rank(rows: list) -> np.ndarray:
    "Arrange what was measured of each crop, [questions, shares, ranks]"
    return np.array(rows, float).reshape(-1, len(SHARES), len(RANKS))


def crops_hold(readings: list[dict], name: str, key: str = 'holds') -> np.ndarray:
    "Tell whether the crop of a map holds the target; of `measure_maps`, at one token"
    return by_rank([[*map(int, reading['crops'][name][key])] for reading in readings])


def crops_show(records: list[dict], query: str, name: str) -> np.ndarray:
    "Return how much of the target the crop of a map shows; of `measure_shares`"
    return by_rank([record['shown'][query][name] for record in records])


def change_table(pairs: dict[tuple, tuple[np.ndarray, np.ndarray]]) -> tuple[pd.DataFrame, dict]:
    """Tabulate of each column the crops that succeed, raw map and contrast [questions, shares], a star where they
    differ; with p by Holm of each (column, share)"""
    places = [(column, i) for column in pairs for i in range(len(SHARES))]
    adjusted = dict(zip(places, holm([mcnemar(*(of[:, i] for of in pairs[column])) for column, i in places])))

    def cell(column: tuple, i: int) -> str:
        raw, quotient = (100 * of[:, i].mean() for of in pairs[column])
        return f'{raw:.1f} → {quotient:.1f}' + '*' * (adjusted[column, i] < 0.05)

    cells = {column: [cell(column, i) for i in range(len(SHARES))] for column in pairs}
    return pd.DataFrame(cells, [f'p = {p:g}'.replace('0.', '.') for p in SHARES]), adjusted


def crops_table(by_name: dict[str, list[dict]]) -> tuple[pd.DataFrame, dict]:
    "Tabulate of each name the crops that hold the target, as `change_table`, and random ones beside them"
    pairs = {
        (name, rank): tuple(crops_hold(readings, of)[:, :, j] for of in ('raw', 'quotient'))
        for name, readings in by_name.items()
        for j, rank in enumerate(RANKS)
    }
    table, adjusted = change_table(pairs)
    for name, readings in by_name.items():
        chance = crops_hold(readings, 'raw', 'random')[:, :, 0].mean(0)
        table[name, 'random'] = [f'{100 * share:.1f}' for share in chance]
    return table[[*by_name]], adjusted


def questions(part: str, n: int) -> list:
    "Return questions for a digit on an object among others"
    records = scene_records(n + n // 10 + 5, start=FIRST_SEED[part])
    return [record for record in records if len(record.objects) > 1][:n]


PARTS = {
    part: Part(f'region-{part}-{{model}}', of_question(measure), partial(questions, part), n)
    for part, measure, n in (
        ('maps', measure_maps, 1200),
        ('contrasts', measure_contrasts, 1200),
        ('ideal', measure_ideal, 300),
        ('answers', measure_answers, 300),
        ('shares', measure_shares, 400),
    )
}
PARTS['twins'] = Part(
    'region-twins-{model}', of_question(measure_twins), partial(twin_records, start=TWINS_SEED), 150
)

if __name__ == '__main__':
    run_parts(PARTS, 'trial')
