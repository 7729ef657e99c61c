"""Measure the figures that answer in chapters 2, 4 and 7: stored maps, and a number for each.

`python -m recipes.live_figures [--n 300]`: about 5 minutes;
`nbs/results/figure/{tokens,formula,program}.json`, `nbs/images/tokens.png`."""

import inspect
import numpy as np
import torch
from fastcore.script import call_parse
from torch import Tensor
from carve_nb.attention.vlm import VLM
from carve_nb.core.plotting import outline_target, plot_panels, widen_box
from carve_nb.core.saliency import Saliency
from carve_nb.core.text import GENERAL_INSTRUCTION, SHORT_ANSWER
from carve_nb.data.scenes import make_scene, samples
from carve_nb.formulas.product import contrast
from .figures import decode_weights, encode_weights, image_link, scene_facts, write_figure
from .program import program
from .question_last import WORDINGS
from .records import points_at, read_words

SEED = 145  # the running scene
MODELS = 'carve-small', 'carve-tiny'
ORDERS = 'after', 'before', 'bare'
STILL = 0, 5, 6, 18  # tokens of the still: *What*, *orange*, *heart*, the last


def running_scene() -> tuple:  # scene, its question for a digit, plain values for JSON
    "Return the running scene and what every figure is drawn from"
    scene = make_scene(SEED)
    query = scene.question('digit')
    return scene, query, scene_facts(scene, query, SEED) | dict(image=image_link(scene.image, 320, 70))


def token_maps(rows) -> Tensor:  # of `read_words` -> [words + 1, layers, patches], mean over heads
    "Stack the maps of all words and of the last position"
    return torch.stack([rows.read(query=q) for q in [*range(len(rows.question_tokens)), 'last']])


def whole_numbers(maps: Tensor) -> list:  # [..., patches] -> lists of 0 to 999
    "Scale each map to its largest value"
    return (999 * maps / maps.amax(-1, keepdim=True)).round().int().tolist()


def measure_pointing(vlm: VLM, order: str, n: int) -> list:  # [words + 1] of 0 to 1
    """Return how often the map of each token, summed over layers, points at the object of a question for a
    digit"""
    points = []
    for sample in samples('digit', n, 'heldout'):
        rows = read_words(
            vlm, sample.image, WORDINGS[order].format(question=sample.question), max_new_tokens=1
        )
        points.append(points_at(token_maps(rows).sum(1), rows.spans[0], sample.box))
    return np.mean(points, 0).tolist()


def tokens_figure(models: list, n: int) -> dict:
    "Return what the figure of chapter 2 is drawn from: each token's map, and how often it points"
    scene, query, facts = running_scene()
    figure = facts | dict(n=n, orders={})
    for order in ORDERS:
        text = WORDINGS[order].format(question=query.question)
        read = {}
        for vlm in models:
            rows = read_words(vlm, scene.image, text, max_new_tokens=1)
            pointing = [round(100 * share, 1) for share in measure_pointing(vlm, order, n)]
            maps = whole_numbers(token_maps(rows).sum(1))
            read[vlm.name] = dict(grid=list(rows.spans[0].grid), pointing=pointing, maps=maps)
        tokens = [token.strip() for token in rows.question_tokens]
        figure['orders'][order] = dict(tokens=[*tokens, 'last'], models=read)
    return figure


LAMBDAS = [0.0001, 0.01, 0.1, 1.0, 10.0]  # in means of A_G


# of `read_words` -> [λ, tokens of G, patches], summed over layers
def contrast_all(question, general) -> Tensor:
    "Divide the map of the object's word by that of each token of the general instruction"
    A_Q = question.read(query='noun')
    return torch.stack([contrast(A_Q, token_maps(general), lam, relative=True).sum(1) for lam in LAMBDAS])


def formula_figure(vlm: VLM, n: int) -> dict:
    """Return what the figure of chapter 4 is drawn from: A_Q of the object's word and A_G of each token,
    layer by layer"""
    scene, query, facts = running_scene()
    question, general = (
        read_words(vlm, scene.image, text, max_new_tokens=1) for text in (query.question, GENERAL_INSTRUCTION)
    )
    points = []
    for sample in samples('digit', n, 'heldout'):
        pair = [
            read_words(vlm, sample.image, text, max_new_tokens=1)
            for text in (sample.question, GENERAL_INSTRUCTION)
        ]
        maps = pair[0].read(query='noun').sum(0), contrast_all(*pair)
        points.append([points_at(m, question.spans[0], sample.box) for m in maps])
    raw, contrasted = (np.mean(values, 0) for values in zip(*points))
    return facts | dict(
        n=n,
        grid=list(question.spans[0].grid),
        layers=vlm.n_layers,
        lambdas=LAMBDAS,
        raw=round(100 * raw.item(), 1),
        tokens=[*(token.strip() for token in general.question_tokens), 'last'],
        pointing=(100 * contrasted).round(1).tolist(),
        A_Q=encode_weights(question.read(query='noun')),
        A_G=[encode_weights(maps) for maps in token_maps(general)],
    )


SETTINGS = {  # of `program`, and the suffix of its instruction
    'heart': (dict(query='noun'), SHORT_ANSWER),
    'last token': (dict(query='last'), SHORT_ANSWER),
    "the paper's": (dict(query='last', last=True, layers=[6, 7], lam=1e-8), None),
}


def program_stage(vlm: VLM, scene, query, given: dict, suffix: str | None) -> dict:
    "Return what each variable of `program` holds with one of its settings"
    Q = (query.question, SHORT_ANSWER)
    G = (GENERAL_INSTRUCTION, suffix)
    S, crop, answer = program(vlm, scene.image, Q, G, **given)
    rows = [vlm.capture(scene.image, text, given.get('layers'), 'all', suffix=end) for text, end in (Q, G)]
    step = min(len(r.attn) for r in rows) - 1 if given.get('last') else 0
    A_Q, A_G = (r.read(query=given['query'], step=step) for r in rows)
    shapes = ' and '.join(str([*r.attn.shape]) for r in rows)
    return dict(
        rows=f'{shapes}: steps, layers, heads, patches',
        step=f'{step}',
        shape=f'{[*A_Q.shape]}: layers, patches',
        A_Q=whole_numbers(A_Q.sum(0)),
        A_G=whole_numbers(A_G.sum(0)),
        S=whole_numbers(torch.as_tensor(S.values).flatten()),
        grid=list(S.values.shape),
        box=list(crop.box),
        answer=str(answer),
        shown=image_link(crop.image, 160, 60),
    )


def program_figure(vlm: VLM) -> dict:
    """Return what the figure of chapter 7 is drawn from: the lines of `program`, and what they hold with
    three settings"""
    scene, query, facts = running_scene()
    _, *body = inspect.getsource(program).splitlines()
    lines = [[part.strip() for part in line.partition('  #')[::2]] for line in body]
    stages = [
        dict(name=name, **program_stage(vlm, scene, query, *setting)) for name, setting in SETTINGS.items()
    ]
    return facts | dict(lines=lines, stages=stages)


def draw_still(title: str, panels: dict):  # caption -> flat map, on the grid of carve-small -> PIL image
    "Draw the maps of a figure for those who read it without scripts"
    scene, query, _ = running_scene()
    around = widen_box(query.box)

    def draw(values):
        return Saliency(np.reshape(values, (16, 16)), scene.image.size, image=scene.image).plot()

    return plot_panels(
        {name: outline_target(draw(values), around) for name, values in panels.items()}, title, 330
    )


def draw_stills(figures: dict):  # of `run_live_figures`
    """Draw both figures for those who read them without scripts: four tokens, and the formula with the
    smallest λ"""
    tokens, formula = figures['tokens'], figures['formula']
    order = tokens['orders']['after']
    small = order['models']['carve-small']
    panels = {f'{order["tokens"][i]}: {small["pointing"][i]:.0f} %': small['maps'][i] for i in STILL}
    draw_still(f'{tokens["question"]} Answer the question using ... (carve-small)', panels).save(
        'nbs/images/tokens.png', optimize=True
    )
    place = formula['tokens'].index('description')
    A_Q, A_G = (
        torch.tensor(decode_weights(text, (formula['layers'], -1)))
        for text in (formula['A_Q'], formula['A_G'][place])
    )
    S = contrast(A_Q, A_G, LAMBDAS[0], relative=True)
    titles = (
        f'A_Q: {formula["raw"]:.0f} %',
        '÷ A_G, of “description”',
        f'= contrast: {formula["pointing"][0][place]:.0f} %',
    )
    drawn = draw_still(
        f'A_Q / (A_G + λ), λ = {LAMBDAS[0]} means of A_G',
        {name: maps.sum(0) for name, maps in zip(titles, (A_Q, A_G, S))},
    )
    drawn.save('nbs/images/formula.png', optimize=True)


@call_parse
def run_live_figures(
    n: int = 300,  # questions that each share counts
):
    "Measure the figures, and draw the stills of two; that of the third is in the chapter"
    torch.set_num_threads(1)
    models = [VLM.from_pretrained(name) for name in MODELS]
    figures = dict(
        tokens=tokens_figure(models, n),
        formula=formula_figure(models[0], n),
        program=program_figure(models[0]),
    )
    for name, figure in figures.items():
        write_figure(f'nbs/results/figure/{name}.json', figure)
    draw_stills(figures)
