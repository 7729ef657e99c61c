"""Controls that readers of the book missed: the target shown and not enlarged, several query tokens cut at
once, the general map's own share at a word, and clutter around the target alone.

`python -m recipes.controls MODEL [--part PART] [--n 200]`: minutes each;
`nbs/results/trial/controls-PART-MODEL.jsonl.gz`."""

from collections.abc import Callable
from functools import partial
import numpy as np
from PIL import Image
from carve_nb.attention.session import Session
from carve_nb.attention.vlm import VLM
from carve_nb.core.plotting import draw_boxes
from carve_nb.core.text import SHORT_ANSWER
from carve_nb.data.records import Record
from carve_nb.data.scenes import scene_records
from carve_nb.data.scoring import score_answer
from carve_nb.method.controls import Oracle
from .clutter import ask_scene
from .invariance import TEN_INSTRUCTIONS, share_of
from .knockout import answer_tokens, read_under, row_places
from .records import Part, run_parts, seed_of
from .replay import LEVELS

FIRST_SEED = 1_660_000


def gray_outside(image: Image.Image, box: tuple) -> Image.Image:
    "Return the image with all pixels outside the box gray"
    gray = Image.new('RGB', image.size, (128, 128, 128))
    gray.paste(image.crop(box), box[:2])
    return gray


def measure_shown(vlm: VLM, sample: Record) -> dict:
    """Return right answers with the target enlarged, with the same pixels in their place and all others
    gray, both after the image, and with a box drawn around the target in the one image."""
    oracle = Oracle(tokens=None)
    session, ask = Session(vlm), oracle.asked(vlm, sample.image, sample.question)
    result = oracle(session, sample.image, sample.question, box=sample.box)
    box = result.crop.box
    shown = {
        'same size': [sample.image, gray_outside(sample.image, box)],
        'drawn box': [draw_boxes(sample.image, [box])],
    }
    answers = {'none': result.plain_answer, 'enlarged': result.answer} | {
        way: session.ask(ask.but(images=tuple(images))) for way, images in shown.items()
    }
    return dict(right={way: int(score_answer(answer, sample)) for way, answer in answers.items()})


def measure_clutter(vlm: VLM, sample: Record) -> dict:
    """Return right answers on the calmest and the busiest background of one scene: without a crop, with the
    true region's, and with the same pixels in their place and all others gray, in place of the image"""
    oracle, right = Oracle(), {}
    for level, knobs in LEVELS.items():
        asked = ask_scene(seed_of(sample), sample.kind, *knobs)
        result = oracle(vlm, asked.image, asked.question, box=asked.box)
        alone = vlm.ask(gray_outside(asked.image, result.crop.box), asked.question, suffix=oracle.suffix)
        answers = {'none': result.plain_answer, 'oracle': result.answer, 'alone': alone}
        right |= {f'{way}, {level}': int(score_answer(answer, asked)) for way, answer in answers.items()}
    return dict(kind=sample.kind, right=right)


def kept_under(vlm: VLM, sample: Record, choose_cuts: Callable) -> tuple[int, dict[str, int]]:
    """Return whether the answer is right, and whether the true one stays under each cut from the image in all
    layers; `choose_cuts(places, words, behind, rng)` returns the positions of each"""
    prompt = vlm.prompt([sample.image], sample.question, SHORT_ANSWER)
    plain = vlm.generate(prompt, 8)
    tokens = answer_tokens(vlm, sample, plain)
    places = row_places(prompt, len(tokens))
    start, end = places['before'][0], len(prompt)
    cuts = choose_cuts(
        places, range(start, end), range(start, end + len(tokens) - 1), np.random.default_rng(seed_of(sample))
    )
    images, layers = prompt.columns.tolist(), [[*range(vlm.n_layers)]]
    _, kept, _ = read_under(
        vlm, prompt, tokens, {name: (rows, images, layers) for name, rows in cuts.items()}
    )
    return int(plain == sample.answers[0]), dict(zip(cuts, map(int, kept[1:])))


def draw_others(rng: np.random.Generator, words: range, taken: list[int]) -> list[int]:
    "Draw as many other positions as are taken"
    return sorted(rng.choice([i for i in words if i not in taken], len(taken), replace=False).tolist())


def measure_joint(vlm: VLM, sample: Record) -> dict:
    """Return whether the true answer stays if the object's word, the second and fourth token after it, or all
    three are cut from the image in all layers; and three others"""

    def cuts(places, words, behind, rng):
        three = [*places['word'], *places['+2'], *places['+4']]
        return {'word': [*places['word']], 'three': three, 'three others': draw_others(rng, words, three)}

    right, kept = kept_under(vlm, sample, cuts)
    return dict(kind=sample.kind, right=right, kept=kept)


def measure_share(vlm: VLM, sample: Record) -> dict:
    """Return the image's own share of the general map, over ten instructions, at the last content word and at
    the last position"""
    session = Session(vlm)
    return dict(
        share={query: share_of(session, sample.image, TEN_INSTRUCTIONS, query) for query in ('noun', 'last')}
    )


PARTS = {
    'shown': (measure_shown, ('digit',)),
    'joint': (measure_joint, ('color', 'shape')),
    'clutter': (measure_clutter, ('digit', 'color')),
    'share': (measure_share, ('digit',)),
}


def measure_control(vlm: VLM, part: str, record: Record) -> dict:
    "Return what a part measures of one question"
    return dict(id=record.id) | PARTS[part][0](vlm, record.opened())


def control(part: str) -> Part:
    "Return the record of one of `PARTS`"
    questions = partial(scene_records, kinds=PARTS[part][1], start=FIRST_SEED)
    return Part(
        f'controls-{part}-{{model}}', lambda vlm, record: measure_control(vlm, part, record), questions, 200
    )


if __name__ == '__main__':
    run_parts({part: control(part) for part in PARTS}, 'trial')
