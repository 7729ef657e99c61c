"""Which row and layers point for each kind of question, rules for whose row is read, and what `lookup` answers, kind by kind."""
import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated
import numpy as np
import torch
from fastcore.script import call_parse
from carve_nb.attention.session import Session
from carve_nb.attention.vlm import VLM
from carve_nb.core.saliency import patch_cover
from carve_nb.core.text import QUERIES, pick_words
from carve_nb.data.drawing import COLORS, SHAPES
from carve_nb.data.questions import ASK
from carve_nb.data.records import Record
from carve_nb.data.scenes import make_scene, samples
from carve_nb.data.scoring import score_answer
from carve_nb.formulas.agreement import rank_patches
from carve_nb.formulas.threshold import regions
from carve_nb.method.base import as_saliency
from carve_nb.method.lookup import Lookup, other_words
from carve_nb.method.registry import make_method
from carve_nb.models.prompts import SHORT_ANSWER
from carve_nb.studies.profile import best_cell, row_agreement
from .baselines import all_rows, keep, norm, sink, token_sets
from .rows import head_map

KINDS = 'digit', 'color', 'shape', 'exist', 'twostep'                # whose answer stands at one place
ASKED = *KINDS, 'count', 'relation'
STARTS = dict(calibration=936_000, fresh=937_000, answers=938_000)   # first seeds; calibration has a split of its own
RULES = ('agreement', 'agreement, less the others', 'agreement in the prompt', 'last position', 'last content word',
    'most attention',
         'largest weight', 'least entropy', 'HiDe', 'Look Twice', 'localization heads', 'bare question, last position')


def questions_about(scene, kind, n) -> list:  # of `Record`s
    "Different questions of a kind whose answer stands at one place; of existence those with the answer yes"
    found = {}
    for k in range(40):
        q = ASK[kind](scene.objects, np.random.default_rng([scene.seed, KINDS.index(kind), k]))
        if q and q.box: found.setdefault(q.question, q)
    return [Record(f'{scene.name}-{kind}-{i}', scene.image, q.question, [q.answer], boxes=[q.box], kind=kind,
        image_key=scene.name)
            for i, q in enumerate([*found.values()][:n])]


def places(rows, n, row) -> list:  # `AttentionRows` of `all_rows`; tokens of the question; one of `QUERIES`
    "The tokens of a row; of a question that lacks them, the last position"
    return row != 'last' and pick_words(rows.question_tokens[:n], row, 'none') or [len(rows.question_tokens) - 1]


def bands(A) -> np.ndarray:  # [..., L, Nv] -> [..., L*(L + 1)/2, Nv]
    "The sum of each run of neighboring layers, from the first layer on"
    sums = np.concatenate([np.zeros_like(A[..., :1, :]), A.cumsum(-2)], -2)
    lo, hi = np.triu_indices(A.shape[-2])
    return sums[..., hi + 1, :] - sums[..., lo, :]


def prompt_agreement(A) -> np.ndarray:  # [T, L, Nv] of a prompt's tokens -> [T, L]
    "How far the layers of each token agree on what it does not share with the other tokens of its prompt"
    own = rank_patches(A) - rank_patches(A).mean(0)
    own /= np.linalg.norm(own, axis=-1, keepdims=True).clip(1e-9)
    corr = own @ own.swapaxes(1, 2)
    return (corr.sum(2) - 1)/(corr.shape[1] - 1)


def without_sinks(own, words):  # [Nv]; [K, Nv] of all words of a question
    "A map without the patch where over half of the words have their peaks"
    share = np.bincount(words.argmax(-1), minlength=len(own))/len(words)
    return np.where(share > .5, 0, own)


def rule_maps(rows, n, bare, read,
        heads) -> dict:  # of `all_rows`; [L, Nv]; (row, layers) of the profile; (layer, head)s -> name -> [Nv]
    "The map that each rule of `RULES` would read"
    W = rows.question.numpy()
    A, (row, layers) = W.mean(2), read
    every = A.mean(1)
    own, noun = (A[:, layers].mean(1), places(rows, n, row)), places(rows, n, 'noun')
    agreed = own[0][own[1]].mean(0)
    others = [i for i in other_words(rows, row, 'others') if i < n] if row != 'last' else [*range(n)]
    objects = pick_words(rows.question_tokens[:n], [*COLORS, *SHAPES, 'object'], 'none') or noun
    token, at = best_cell(prompt_agreement(A))
    first = token_sets(rows, n, 'noun')['first']
    p = norm(every)
    entropy = -(p*np.log(p.clip(1e-30))).sum(-1)
    maps = (agreed, norm(agreed) - norm(own[0][others]).mean(0), A[token, at].mean(0), every[-1], every[noun].mean(0),
            every[every.sum(1).argmax()], every[every.max(1).argmax()], every[entropy.argmin()],
            norm(every[noun].mean(0)) - norm(every[first]).mean(0), without_sinks(every[objects].mean(0), every[:n]),
            head_map(W[-1], rows.spans[0].grid, heads, blur=True).ravel(), bare.mean(0))
    return dict(zip(RULES, maps))


def pointed(maps, span, box) -> str:  # [..., Nv]; a character for each map
    inside = patch_cover(span, box) > 0
    return ''.join(str(int(inside[i])) for i in np.asarray(maps).argmax(-1).ravel())


def read_rules(vlm, sample, read, heads) -> tuple:  # ((`AttentionRows`, n) of `all_rows`, `rule_maps`)
    "What each rule would read of one question, from two passes"
    rows, n = all_rows(vlm, sample)
    bare = vlm.capture(sample.image, sample.question, suffix=None, max_new_tokens=1).read().numpy()
    return (rows, n), rule_maps(rows, n, bare, read, heads)


def measure_question(vlm, sample, read, heads) -> tuple:  # ([R, L, Nv] of `QUERIES`, record)
    "Pointing of each rule, and of each row in each run of layers: one after the other, a row's runs together"
    (rows, n), rules = read_rules(vlm, sample, read, heads)
    A, span = rows.question.mean(2).numpy(), rows.spans[0]
    R = np.stack([A[places(rows, n, r)].mean(0) for r in QUERIES])
    return (R, dict(id=sample.id, rules=pointed([*rules.values()], span, sample.box),
        cells=pointed(bands(R), span, sample.box)))


def measure_scene(vlm, seed, split, most, read, heads) -> dict:  # questions of a kind
    "Questions of each kind about one scene: pointing and, where there are several, the agreement of each row's layers"
    scene, found, every = make_scene(seed, split), {}, []
    for kind in KINDS:
        got = [measure_question(vlm, s, read, heads) for s in questions_about(scene, kind, most)]
        every += [R for R, _ in got[:1]]
        found[kind] = dict(asked=[record for _, record in got])
        if len(got) > 1: found[kind]['agreement'] = agreements([R for R, _ in got])
    if len(every) > 1 < most: found['mixed'] = dict(agreement=agreements(every))   # one question of each kind
    return found


def agreements(maps) -> list:  # [R, L, Nv] of each question -> [R][L]
    return row_agreement(np.array(maps)).round(4).tolist()


def measure_sinks(vlm, sample, biases, read, heads) -> dict:  # share -> bias; a digit question
    "Pointing of each rule under some artificial sinks"
    found = dict(id=sample.id)
    for share, bias in biases.items():
        with sink(vlm, bias): found[share] = measure_question(vlm, sample, read, heads)[1]['rules']
    return found


ALWAYS = Lookup(skip_above=1, tokens=None)   # asks again whatever the answer was, with a crop as large as the image

def measure_rule(vlm, sample, S) -> int:  # `Saliency`
    "Is the question answered rightly with the crop of the region of a map's peak, as `lookup` shows it?"
    def show(S): return ALWAYS.show(sample.image, regions(S, ALWAYS.p, 1, rank='peak'))
    r = ALWAYS.ask_again(Session(vlm, sample.image, shared=False),
        ALWAYS.located(sample.image, sample.question, S, show))
    return int(score_answer(r.answer, sample))


def measure_rules(vlm, sample, biases, read, heads) -> dict:  # share -> bias; a digit question
    "Right answers, alone and with the crop of each rule, without and with artificial sinks"
    found = dict(id=sample.id)
    for share, bias in biases.items():
        with sink(vlm, bias):
            (rows, _), rules = read_rules(vlm, sample, read, heads)
            alone = score_answer(vlm.ask(sample.image, sample.question, SHORT_ANSWER), sample)
            right = [measure_rule(vlm, sample, as_saliency(m, rows.spans[0], sample.image)) for m in rules.values()]
        found[share] = ''.join(str(int(score)) for score in (alone, *right))
    return found



def measure_answers(vlm, sample, others) -> dict:  # name -> method
    "Right or not, and point at where there is one: alone, `lookup` as it is, and with other rows and layers"
    session, found = Session(vlm, sample.image, sample.box), dict(id=sample.id)
    for name, method in dict(none='none', lookup=ALWAYS, **others).items():
        r = make_method(method).answer(session, sample.question)
        found[name] = [int(score_answer(r.answer, sample)), str(r.answer)]
        if r.saliency is not None and sample.box: found[name].append(int(r.saliency.points_at(sample.box)))
    return found


def chosen(scenes, kind) -> tuple:  # of `measure_scene`; one of `KINDS`, 'mixed' or 'mean' -> (row, places of layers, [R, L])
    "What agreement chooses for a kind, without boxes; 'mean': the mean of the kinds, each counted alike"
    def of(k): return np.mean([s[k]['agreement'] for s in scenes if 'agreement' in s.get(k, ())], 0)
    table = np.mean([of(k) for k in KINDS], 0) if kind == 'mean' else of(kind)
    row, layers = best_cell(table)
    return QUERIES[row], layers, table


def pointing_rates(scenes, kind,
        what='cells') -> np.ndarray:  # of `measure_scene`; 'cells' or 'rules' -> [questions, cells or rules]
    return np.array([[*map(int, asked[what])] for s in scenes for asked in s[kind]['asked']])


def cells(layers) -> list:  # number of them -> (row, layers) of each of the cells
    return [(row, [*range(lo, hi + 1)]) for row in QUERIES for lo, hi in zip(*np.triu_indices(layers))]


def best_cells(scenes, kinds=KINDS[:4]) -> dict:  # of calibration -> kind, or 'one' -> place of a cell
    "The cell that points at the target most often of each kind, and the one whose largest loss against these is least"
    mean = {k: pointing_rates(scenes, k).mean(0) for k in kinds}
    loss = np.max([m.max() - m for m in mean.values()], 0)
    return {k: int(m.argmax()) for k, m in mean.items()} | dict(one=int(loss.argmin()))


@call_parse
def run_kinds(
    model:str, # name or folder
    part:Annotated[str, 'what to measure', dict(choices=['calibration', 'fresh', 'sinks', 'rules', 'answers'])],
    out:str='kinds', # folder of the records
    n:int=300, # questions of a kind; of calibration: scenes
    kinds:str=','.join(ASKED), # of answers
):
    "Measure one part on one model; the same command goes on where it was stopped"
    torch.set_num_threads(1)
    vlm, out, name = VLM.from_pretrained(model), Path(out), Path(model).name
    out.mkdir(parents=True, exist_ok=True)
    path, results = out/f'{name}-{part}.jsonl', Path(__file__).parents[1]/'nbs/results'
    chosen = Lookup().settled(vlm)
    read = chosen.query, chosen.layers
    bodies = json.loads((results/'rows/rows.json').read_text())
    heads = bodies.get(name, bodies['carve-small'])['found']['localization heads, last']['heads']
    if part == 'calibration':
        start = STARTS[part]
        keep(path, range(start, start + n), lambda seed: measure_scene(vlm, seed, 'calibration', 4, read, heads))
    elif part == 'fresh':
        start = STARTS[part]
        keep(path, range(start, start + n), lambda seed: measure_scene(vlm, seed, 'heldout', 1, read, heads))
    elif part in ('sinks', 'rules'):
        given = results/f'sinks/{name}-biases.json'      # of a model with a sink of its own there is none
        biases = json.loads(given.read_text()) if given.exists() else None
        scenes = [questions_about(make_scene(seed, 'heldout'), 'digit', 1)[0]
            for seed in range(STARTS['fresh'], STARTS['fresh'] + n)]
        if part == 'sinks':
            shares = dict(zip(('0.3', '0.5'), biases[3::2])) if biases else dict(own=0.)
            keep(path, scenes, lambda s: measure_sinks(vlm, s, shares, read, heads))
        else:
            shares = {'0': 0.} | ({'0.3': biases[3]} if biases else {})
            keep(path, scenes, lambda s: measure_rules(vlm, s, shares, read, heads))
    else:
        scenes = [json.loads(line) for line in (out/f'{name}-calibration.jsonl').read_text().splitlines()]
        at = cells(vlm.n_layers)
        found = {k: replace(ALWAYS, query=at[i][0], layers=at[i][1]) for k, i in best_cells(scenes).items()}
        for kind in kinds.split(','):
            others = dict(one=found['one']) | (dict(own=found[kind]) if kind in found else {})
            keep(path.with_name(f'{path.stem}-{kind}.jsonl'), samples(kind, n, 'heldout', start=STARTS[part]),
                 lambda s: measure_answers(vlm, s, others))
