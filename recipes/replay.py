"""Clutter moves attention: does the moved attention carry the answers that clutter costs?

The attention of all tokens after the image is recorded on a calm and on a busy background of one scene, and
replayed, whole or in part, where the model reads the other. Answers are one token, so one pass answers.

`python -m recipes.replay MODEL [--part PART] [--n N]`: 15 to 40 minutes a model;
`nbs/results/trial/replay-MODEL.jsonl.gz`, `replay-exist-MODEL.jsonl.gz`."""

from dataclasses import dataclass
from functools import partial
import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor
from transformers import Cache
from carve_nb.attention.edits import Edit, applying
from carve_nb.attention.vlm import VLM
from carve_nb.core.image import Box
from carve_nb.core.saliency import patch_cover
from carve_nb.core.text import SHORT_ANSWER, pick_words
from carve_nb.data.records import Record
from carve_nb.data.scenes import make_scene, to_sample
from carve_nb.method.crop import grow_box
from carve_nb.models.kernel import CACHE
from carve_nb.models.model import model_lock
from carve_nb.models.prefix_cache import keep_offset
from carve_nb.models.prompts import Prompt
from .records import Part, copies, ratio_of_means, read_up_to_images, run_parts, seed_of

FIRST_SEED = dict(mixed=1_700_000, exist=1_710_000)
KINDS = dict(mixed=('digit', 'exist', 'color'), exist=('exist',))
LEVELS = dict(calm=(0, 0), busy=(1.0, 0.5))  # texture and color of the background
OTHER_GROUND = 20_000  # added to a scene's seed: the seed of its second pair of backgrounds
DRAWS = 3  # of noise
SMALLEST = 1e-30  # weight: float32 has no logarithm of less


@dataclass
class Reading:
    "A prompt that the model has read, with the attention of the tokens after the image"

    prompt: Prompt
    cache: Cache  # of all tokens up to the end of the image
    weights: Tensor  # [L, H, R, K]
    token: int  # with which the answer begins


@dataclass
class Parts:
    "Attention [..., K] in three parts, of which each can be exchanged"

    share: Tensor  # [..., 1] of the image in all attention
    image: Tensor  # [..., Nv] on the image, sum 1
    text: Tensor  # [..., K] on the other tokens, sum 1; 0 on the image


def split_parts(weights: Tensor, columns: Tensor) -> Parts:
    "Take attention apart; `columns` are the image tokens. A part that gets nothing is even"
    image = weights[..., columns] + SMALLEST
    share = image.sum(-1, keepdim=True)
    text = (weights + SMALLEST).index_fill(-1, columns, 0.0)
    return Parts(share, image / share, text / text.sum(-1, keepdim=True))


def join_parts(share: Tensor, image: Tensor, text: Tensor, columns: Tensor) -> Tensor:
    "Put attention together again"
    return (text * (1 - share)).index_copy(-1, columns, share * image)


def entropy_of(p: Tensor) -> Tensor:
    "Compute the entropy in nats, [..., 1]"
    return torch.special.entr(p).sum(-1, keepdim=True)


def temper(p: Tensor, wanted: Tensor) -> Tensor:
    "Raise a distribution [..., N] to the power at which it has the wanted entropy [..., 1], in nats"
    log = p.clamp(min=SMALLEST).log()
    low, high = torch.full_like(wanted, -4.0), torch.full_like(wanted, 4.0)  # of the power's logarithm
    for _ in range(12):
        middle = (low + high) / 2
        wide = entropy_of((log * middle.exp()).softmax(-1)) > wanted
        low, high = torch.where(wide, middle, low), torch.where(wide, high, middle)
    return (log * ((low + high) / 2).exp()).softmax(-1)


def distance(p: Tensor, q: Tensor) -> Tensor:
    "Compute the total variation of two sets of distributions [L, H, R, N], mean of each layer, [L]"
    return (p - q).abs().sum(-1).mean((1, 2)) / 2


def jitter(p: Tensor, size: Tensor, seed: int) -> Tensor:
    "Add noise to the scores of [L, H, R, N], in each layer as much as gives that total variation [L]"
    log = p.clamp(min=SMALLEST).log()
    noise = torch.randn(p.shape, generator=torch.Generator().manual_seed(seed))
    low, high = torch.zeros(len(p)), torch.full([len(p)], 8.0)

    def noisy(scale: Tensor):
        return (log + scale[:, None, None, None] * noise).softmax(-1)

    for _ in range(10):
        middle = (low + high) / 2
        small = distance(p, noisy(middle)) < size
        low, high = torch.where(small, middle, low), torch.where(small, high, middle)
    return noisy(low)


def mix_parts(own: Reading, other: Reading, seed: int) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Return the attention of each arm, [L, H, R, K], everything but the arm's part as in `own`; and how far
    the distribution on the image moves in it"""
    columns = own.prompt.columns
    a, b = (split_parts(reading.weights, columns) for reading in (own, other))
    images = {
        'distribution': b.image,
        'place': temper(b.image, entropy_of(a.image)),
        'spread': temper(a.image, entropy_of(b.image)),
    }
    size = distance(a.image, b.image)
    images |= {f'noise {k}': jitter(a.image, size, DRAWS * seed + k) for k in range(DRAWS)}
    moved = {name: round(float(distance(a.image, image).mean()), 4) for name, image in images.items()}
    arms = {name: join_parts(a.share, image, a.text, columns) for name, image in images.items()}
    return dict(share=join_parts(b.share, a.image, a.text, columns)) | arms, moved


def row_groups(prompt: Prompt) -> dict[str, slice]:
    "Return which rows after the image are before the object's word, its own, after it, and the last"
    start = max(span.end for span in prompt.spans)
    asked = [prompt.tokens[i] for i in prompt.question]
    word = [int(prompt.question[i]) - start for i in pick_words(asked, 'noun')]
    last = len(prompt) - start - 1
    return {
        'before': slice(0, word[0]),
        'word': slice(word[0], word[-1] + 1),
        'after': slice(word[-1] + 1, last),
        'last': slice(last, last + 1),
    }


def first_tokens(vlm: VLM, prompt: Prompt, cache: Cache, n: int) -> list[int]:
    "Return the token with which each of n copies begins its answer"
    start = max(span.end for span in prompt.spans)
    ids = vlm.to_device(prompt)['input_ids'][:, start:].expand(n, -1)
    logits = vlm.model(input_ids=ids, **{CACHE: copies(cache, n)}, logits_to_keep=1).logits
    return logits[:, -1].argmax(-1).tolist()


def read_attention(vlm: VLM, image: Image.Image, question: str) -> Reading:
    "Read one image with a question, and keep the attention of all tokens after the image"
    prompt = vlm.prompt(image, question, SHORT_ANSWER)
    cache = read_up_to_images(vlm, prompt)
    kept = {}

    def keep(layer: int, weights: Tensor, rows: Tensor):
        kept[layer] = weights[0]
        return weights

    edit = Edit(vlm.layers, weights=keep, after=max(span.end for span in prompt.spans))
    with applying(vlm, edit):
        (token,) = first_tokens(vlm, prompt, cache, 1)
    return Reading(prompt, cache, torch.stack([kept[layer] for layer in vlm.layers]), token)


Arms = dict[str, tuple[Tensor, Tensor]]  # name -> attention [L, H, R, K]; where it is replayed, [L, R] bool


def replay(vlm: VLM, own: Reading, arms: Arms) -> dict[str, int]:
    "Return the token with which the model begins its answer under each arm"
    patterns, cells = (torch.stack(of) for of in zip(*arms.values()))

    def put(layer: int, weights: Tensor, rows: Tensor):
        at = vlm.layers.index(layer)
        return torch.where(cells[:, at, None, :, None], patterns[:, at], weights)

    edit = Edit(vlm.layers, weights=put, after=max(span.end for span in own.prompt.spans))
    with applying(vlm, edit):
        tokens = first_tokens(vlm, own.prompt, own.cache, len(arms))
    return dict(zip(arms, tokens))


def all_rows(own: Reading) -> Tensor:
    "Return that attention is replayed in all layers at all positions after the image, [L, R]"
    layers, _, rows, _ = own.weights.shape
    return torch.ones(layers, rows, dtype=torch.bool)


def some_rows(own: Reading, other: Reading) -> Arms:
    "Return the arms that replay the rows whole, in one layer or at some positions alone"
    places: dict = {f'layer {layer}': layer for layer in range(len(own.weights))}
    places |= {f'{name} row': (slice(None), rows) for name, rows in row_groups(own.prompt).items()}
    arms = {}
    for name, at in places.items():
        cells = torch.zeros_like(all_rows(own))
        cells[at] = True
        arms[name] = other.weights, cells
    return arms


def compose_images(pairs: list[dict[str, Image.Image]], box: Box) -> dict[str, Image.Image]:
    """Return the calm image with busy pixels only around the target, only elsewhere, and the target's own
    pixels, those that are equal on all backgrounds, with all others gray"""
    calm, busy = pairs[0]['calm'], pairs[0]['busy']
    region = grow_box(box, calm.size, 96, square=True, pad=0.5)

    def paste(base: Image.Image, top: Image.Image):
        made = base.copy()
        made.paste(top.crop(region), region[:2])
        return made

    pixels = np.stack([np.asarray(image) for pair in pairs for image in pair.values()])
    inside = np.zeros(pixels.shape[1:3], bool)
    inside[box[1] : box[3], box[0] : box[2]] = True
    own = inside & (pixels == pixels[0]).all((0, -1))
    alone = Image.fromarray(np.where(own[..., None], pixels[0], np.uint8(128)))
    return {'around': paste(calm, busy), 'elsewhere': paste(busy, calm), 'own pixels': alone}


def describe_map(reading: Reading, box: Box | None) -> dict:
    """Return share, entropy in bits and, where there is a target, attention on it and pointing, of the
    distribution on the image at the object's word and at the last position, mean of layers and heads"""
    parts = split_parts(reading.weights, reading.prompt.columns)
    groups = row_groups(reading.prompt)
    facts = {}
    for query in ('word', 'last'):
        rows = groups[query]
        image = parts.image[:, :, rows].mean((0, 1, 2))
        bits = entropy_of(parts.image[:, :, rows]).mean() / np.log(2)
        facts[query] = dict(share=float(parts.share[:, :, rows].mean()), bits=float(bits))
        if box:
            inside = torch.as_tensor(patch_cover(reading.prompt.spans[0], box) > 0)
            facts[query] |= dict(target=float(image[inside].sum()), points=int(inside[image.argmax()]))
    return {query: {k: round(v, 4) for k, v in of.items()} for query, of in facts.items()}


def find_question(seed: int, kind: str) -> tuple[int, Record]:
    "Return the seed of a scene, a million larger where it has no such question, and the question"
    sample = to_sample(make_scene(seed), kind)
    return (seed, sample) if sample else find_question(seed + 10**6, kind)


def right_answers(vlm: VLM, sample: Record, own: Reading, arms: Arms) -> dict[str, int]:
    "Return whether the answer under each arm is right"
    truth = true_token(vlm, sample)
    return {name: int(token == truth) for name, token in replay(vlm, own, arms).items()}


def measure_arms(vlm: VLM, sample: Record, own: Reading, source: Reading) -> tuple[dict, dict]:
    "Return whether the answer is right with each part of another reading's attention, and the distances"
    mixed, moved = mix_parts(own, source, seed_of(sample))
    return right_answers(vlm, sample, own, {name: (a, all_rows(own)) for name, a in mixed.items()}), moved


def measure_lost(vlm: VLM, sample: Record, pair: dict[str, Reading], images: dict[str, Image.Image]) -> dict:
    """Return of a lost answer whether it is right with some of the rows alone, with the rows of a second pair
    of backgrounds, and in three composed images"""
    calm, busy = pair['calm'], pair['busy']

    def read(image: Image.Image):
        return read_attention(vlm, image, sample.question)

    second = paint_scene(seed_of(sample), OTHER_GROUND)
    arms = some_rows(busy, calm) | {
        f'{level}, other pair': (read(image).weights, all_rows(busy)) for level, image in second.items()
    }
    shown = {} if sample.kind == 'exist' else compose_images([images, second], sample.box)
    return right_answers(vlm, sample, busy, arms) | {
        way: int(read(image).token == true_token(vlm, sample)) for way, image in shown.items()
    }


def paint_scene(seed: int, ground: int = 0) -> dict[str, Image.Image]:
    "Paint a scene on a calm and a busy background, those of its seed or of one so much larger"
    return {
        level: make_scene(seed, texture=texture, color=color, ground=seed + ground).image
        for level, (texture, color) in LEVELS.items()
    }


def true_token(vlm: VLM, sample: Record) -> int:
    "Return the token with which the true answer begins"
    return vlm.tokenizer(sample.answers[0], add_special_tokens=False).input_ids[0]


def measure_scene(vlm: VLM, asked: tuple[int, str], places: bool) -> dict:
    """Return the answers on a calm and a busy background of one scene, and with the rows of the other; where
    they differ also with parts of them and, `places` and where clutter loses the answer, what `measure_lost`
    gives"""
    seed, sample = find_question(*asked)
    images = paint_scene(seed)
    with torch.inference_mode(), model_lock(vlm.model), keep_offset(vlm.model):
        pair = {level: read_attention(vlm, image, sample.question) for level, image in images.items()}
        right = {level: int(reading.token == true_token(vlm, sample)) for level, reading in pair.items()}
        found = dict(
            id=sample.id,
            kind=sample.kind,
            truth=sample.answers[0],
            right=right,
            map={level: describe_map(reading, sample.box) for level, reading in pair.items()},
        )
        for level, source in ('busy', 'calm'), ('calm', 'busy'):
            own, other = pair[level], pair[source]
            rows = dict(rows=(other.weights, all_rows(own)))
            found[f'into {level}'] = right_answers(vlm, sample, own, rows)
            if right['calm'] != right['busy']:
                more, found[f'moved {level}'] = measure_arms(vlm, sample, own, other)
                found[f'into {level}'] |= more
        if places and right['calm'] > right['busy']:
            found['lost'] = measure_lost(vlm, sample, pair, images)
    return found


def show_replay(vlm: VLM, seed: int, kind: str) -> tuple[dict[str, Reading], dict[str, str]]:
    """Return what the model reads on both backgrounds of a scene, and its answers, on the busy one also with
    the calm rows"""
    seed, sample = find_question(seed, kind)
    with torch.inference_mode(), model_lock(vlm.model), keep_offset(vlm.model):
        pair = {
            level: read_attention(vlm, image, sample.question) for level, image in paint_scene(seed).items()
        }
        busy = pair['busy']
        replayed = replay(vlm, busy, dict(rows=(pair['calm'].weights, all_rows(busy))))['rows']
    tokens = {level: reading.token for level, reading in pair.items()} | dict(replayed=replayed)
    return pair, {name: vlm.tokenizer.decode([token]).strip() for name, token in tokens.items()}


def list_questions(n: int, part: str) -> list[tuple[int, str]]:
    "Return the seed of each scene and the kind of its question"
    kinds = KINDS[part]
    return [(FIRST_SEED[part] + i, kinds[i % len(kinds)]) for i in range(n)]


def to_dataframe(records: list[dict]) -> pd.DataFrame:
    "Return a row for each question: whether it is right on both backgrounds and with each arm"
    rows = []
    for r in records:
        row = dict(id=r['id'], kind=r['kind'], truth=r['truth'], **r['right'], **r.get('lost', {}))
        rows.append(
            row
            | {f'{arm}, into {level}': right for level in LEVELS for arm, right in r[f'into {level}'].items()}
        )
    return pd.DataFrame(rows)


def lost_answers(table: pd.DataFrame) -> pd.DataFrame:
    "Return the questions that are right on the calm background and wrong on the busy one"
    return table[(table.calm == 1) & (table.busy == 0)]


def share_passed(table: pd.DataFrame) -> tuple[float, float, float]:
    """Return the part of what clutter costs, over all questions, that passes through the attention, mean of
    both directions, with its 95 % bootstrap interval"""
    back = table['rows, into busy'] - table.busy
    broken = table.calm - table['rows, into calm']
    return ratio_of_means((back + broken).to_numpy() / 2, (table.calm - table.busy).to_numpy())


def show_share(table: pd.DataFrame) -> str:
    "Return that part in percent, the ends of its interval to the nearest five, which the draws do not move"
    passed, *ends = share_passed(table)
    low, high = (5 * round(20 * end) for end in ends)
    return f'{100 * passed:.0f} % [{low}, {high}]'


PARTS = {
    part: Part(record, partial(measure_scene, places=places), partial(list_questions, part=part), n)
    for part, record, places, n in (
        ('mixed', 'replay-{model}', True, 810),
        ('exist', 'replay-exist-{model}', False, 500),
    )
}

if __name__ == '__main__':
    run_parts(PARTS, 'trial')
