"""The small files from which three interactive figures of the site and the quickstart's three choices are
drawn, without a kernel.

`python -m recipes.figures`, in the root of a clone: a minute; `nbs/results/figure`,
`carve_nb/records/switches.json`, `nbs/images`."""

import base64
import io
import json
from pathlib import Path
import numpy as np
from PIL import Image
from carve_nb.attention.vlm import VLM
from carve_nb.core.plotting import CONCEPT_COLORS, draw_boxes, plot_panels, widen_box
from carve_nb.core.saliency import pick_layers
from carve_nb.core.stats import mean_interval
from carve_nb.core.text import SHORT_ANSWER
from carve_nb.data.eye_test import eye_question, share
from carve_nb.data.questions import Question
from carve_nb.data.scenes import Scene, make_scene, samples
from carve_nb.formulas.clutter import color, entropy, texture
from carve_nb.method.registry import make_method
from carve_nb.runs.store import Run, read_run
from carve_nb.studies.measure import capture_pair
from .knockout import POSITIONS, START, position_by_layer, row_places
from .records import load_trial

LETTERS = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_'
DECADES = 9  # the smallest weight that is not stored as 0 is 1e-9
STEPS = 64 * 64 - 2


def encode_weights(a: np.ndarray) -> str:  # two characters a weight
    "Weights as text, on a logarithmic scale"
    a = np.asarray(a, np.float64).ravel().clip(0, 1)
    nonzero = a >= 10.0**-DECADES
    codes = np.where(
        nonzero, 1 + np.rint(STEPS * (np.log10(np.where(nonzero, a, 1)) / DECADES + 1)), 0
    ).astype(int)
    return ''.join(LETTERS[c // 64] + LETTERS[c % 64] for c in codes)


def decode_weights(text: str, shape: tuple) -> np.ndarray:  # float32
    "Weights out of text"
    codes = np.array([LETTERS.index(c) for c in text]).reshape(-1, 2) @ [64, 1]
    weights = np.where(codes > 0, 10.0 ** (DECADES * ((codes - 1) / STEPS - 1)), 0)
    return weights.astype(np.float32).reshape(shape)


def image_link(image: Image.Image, side: int, quality: int = 40) -> str:  # an address that holds it
    "A small image as text"
    buffer = io.BytesIO()
    image.resize((side, side)).save(buffer, 'WEBP', quality=quality, method=6)
    return f'data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}'


def write_figure(path: str | Path, figure: dict):
    "Write the values of a figure as JSON without spaces"
    text = json.dumps(figure, ensure_ascii=False, separators=(',', ':'))
    Path(path).write_text(text + '\n', encoding='utf-8')


def scene_facts(scene: Scene, query: Question, seed: int) -> dict:  # plain values
    "What is asked of a scene, and the truth"
    return dict(
        seed=seed,
        question=query.question,
        truth=query.answer,
        target=list(query.box),
        size=list(scene.image.size),
    )


def clutter_stage(vlm: VLM, seed: int, amount: float) -> dict:  # plain values, for JSON
    "One stage of the knob"
    scene = make_scene(seed, texture=amount, color=amount / 2)
    q, maps = capture_pair(vlm, scene.image, scene.question('digit').question)
    layers = pick_layers('paper', vlm.n_layers)
    shares = {k: m[0, layers] / m[0, layers].sum(-1, keepdim=True) for k, m in maps.items()}
    return dict(
        shape=[len(layers), *q.spans[0].grid],
        texture=round(texture(scene.image), 4),
        color=round(color(scene.image), 4),
        answer=str(q.answer),
        H={k: round(entropy(s).mean().item(), 4) for k, s in shares.items()},
        maps={k: encode_weights(s) for k, s in shares.items()},
        image=image_link(scene.image, 192),
    )


def clutter_figure(vlm: VLM, seed: int) -> dict:  # plain values, for JSON
    "Everything that the knob for clutter is drawn from"
    scene = make_scene(seed)
    stages = [clutter_stage(vlm, seed, amount) for amount in (0.0, 0.25, 0.5, 0.75, 1.0)]
    return dict(scene_facts(scene, scene.question('digit'), seed), stages=stages)


SENTENCE = ':suffix=None', ''
QUERY = '', ':query=noun'  # with the word's row


def switch_settings() -> dict:  # '011' (no sentence, the word's row, divided) -> method
    "The methods that the three switches stand for, off and on"
    return {
        f'{i}{j}{k}': name + QUERY[j] + SENTENCE[i]
        for i in (0, 1)
        for j in (0, 1)
        for k, name in enumerate(('question-only', 'carve'))
    }


def shares(run: Run, method: str, key: str) -> list:  # [share, lo, hi] in %
    "How many lines of a method are right, or point, with the interval"
    e = mean_interval([float(r[key]) for r in run.select(method, 'digit')])
    return [round(100 * v, 1) for v in (e.value, e.lo, e.hi)]


def switch_figure(vlm: VLM, seed: int, run: Run) -> dict:
    "Run the eight methods of the three switches on one scene, beside their rates on the run's questions"
    scene = make_scene(seed)
    query, switches = scene.question('digit'), {}
    results = {k: make_method(m)(vlm, scene.image, query.question) for k, m in switch_settings().items()}
    for (k, m), r in zip(switch_settings().items(), results.values()):
        alone = 'none' + SENTENCE[int(k[0])]
        switches[k] = dict(
            method=m,
            map=np.rint(999 * r.saliency.values / r.saliency.values.max()).astype(int).tolist(),
            crop=list(r.crop.box),
            answer=str(r),
            plain=str(r.plain_answer),
            pointing=r.saliency.points_at(query.box),
            pointing_rates=shares(run, m, 'pointing'),
            right=shares(run, m, 'score'),
            alone=shares(run, alone, 'score'),
        )
    return dict(
        scene_facts(scene, query, seed),
        word=query.question.rstrip('?').split()[-1],
        grid=list(results['100'].saliency.values.shape),
        n=len(run.select('none', 'digit')),
        switches=switches,
        image=image_link(scene.image, 448, 70),
    )


def size_stage(
    vlm: VLM, seed: int, step: int
) -> tuple:  # plain values, for JSON; image for those without scripts
    "A target of one size: both answers, and the map and crop of `lookup`"
    r = eye_question(seed, 'digit', step).opened()
    result = make_method('lookup')(vlm, r.image, r.question)
    target = list(r.boxes[0])
    S = result.saliency
    stage = dict(
        share=round(100 * share(step), 1),
        side=r.image.width,
        target=target,
        map=np.rint(999 * S.values / S.values.max()).astype(int).tolist(),
        pointing=S.points_at(target),
        crop=list(result.crop.box),
        alone=str(result.plain_answer),
        looked=str(result),
        image=image_link(r.image, 256, 45),
        shown=image_link(result.crop.image, 192, 55),
    )
    return stage, draw_boxes(
        r.image,
        [widen_box(target, r.image.width // 50), result.crop.box],
        ['white', CONCEPT_COLORS['contrast']],
        r.image.width // 150,
    )


def size_figure(vlm: VLM, seed: int) -> tuple:  # plain values, for JSON; image for those without scripts
    "Everything that the figure whose target shrinks is drawn from"
    sample = eye_question(seed, 'digit', 0)
    stages, images = zip(*(size_stage(vlm, seed, step) for step in range(0, 17, 2)))
    panels = {
        f'{s["share"]:g} %: alone {s["alone"]}, lookup {s["looked"]}': p for s, p in zip(stages, images)
    }
    selected = dict([*panels.items()][2::2])
    figure = dict(seed=seed, question=sample.question, truth=sample.answer, stages=stages)
    return figure, plot_panels(
        selected,
        f'{sample.question} ({sample.answer}) One thing at four sizes, in % of the side of the image.',
        330,
    )


# of the records
ASKED = dict(exist='is it there?', color='what color?', shape='what shape?', crop='a digit, second look')


def word_at(vlm: VLM, kind: str) -> list:  # the tokens of one question, at `POSITIONS`
    "The tokens of a question of a kind at `POSITIONS`"
    (sample,) = samples('digit' if kind == 'crop' else kind, 1, start=START)
    prompt = vlm.prompt([sample.image] * (2 if kind == 'crop' else 1), sample.question, SHORT_ANSWER)
    places = row_places(prompt, 1)
    return [prompt.tokens[places[p][-1]].strip().lower() or '↵' for p in POSITIONS]


def rows_figure(models: list[VLM]) -> dict:  # loaded; plain values, for JSON
    "Everything that the figure of rows is drawn from, in %"
    figure = {}
    for vlm in models:
        for kind, label in ASKED.items():
            pointing, lost = position_by_layer(load_trial(f'{vlm.name}-{kind}', 'nbs/results/knockout'))
            percent = lambda cells: (100 * cells.mean(0)).round(1).tolist()
            layers = [*map(str, range(pointing.shape[1] - 1)), 'all']
            figure.setdefault(str(vlm.name), {})[label] = dict(
                n=len(pointing),
                layers=layers,
                tokens=word_at(vlm, kind),
                pointing=percent(pointing),
                lost=percent(lost),
            )
    return figure


if __name__ == '__main__':
    tiny = VLM.from_pretrained('carve-tiny')
    small = VLM.from_pretrained('carve-small')
    clutter = clutter_figure(tiny, 145)
    switches = switch_figure(small, 145, read_run('nbs/results/switches-small'))
    size, still = size_figure(small, 945_600)
    folder = Path('nbs/results/figure')
    kept = {
        folder / 'clutter.json': clutter,
        folder / 'size.json': size,
        folder / 'rows.json': rows_figure([small, tiny]),
        Path('carve_nb/records/switches.json'): switches,
    }
    for path, figure in kept.items():
        write_figure(path, figure)
    still.save('nbs/images/size.png', optimize=True)
