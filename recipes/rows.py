"""One pass has the attention of every word of the question: which of them points, in which layers, for which kind of question, and by which rule it is found."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated
import numpy as np
import torch
from fastcore.script import call_parse
from scipy import ndimage
from torch import nn
from torch.nn import functional as F
from carve_nb.attention.session import Session
from carve_nb.attention.vlm import VLM
from carve_nb.core.saliency import Saliency, patch_cover
from carve_nb.data.drawing import COLORS, SHAPES
from carve_nb.data.scenes import make_scene, samples, to_sample
from carve_nb.formulas.agreement import layer_agreement, rank_patches
from carve_nb.formulas.algorithm import fuse_contrast
from carve_nb.core.text import QUERIES
from carve_nb.method.profiles import query_in
from carve_nb.models.prompts import GENERAL_INSTRUCTION, SHORT_ANSWER
from carve_nb.studies.profile import best_cell, scene_questions
from . import lessons
from .contrast import tower_tokens
from .lessons import Lesson, lesson_batch, lesson_loss
from .models import new_small_model
from .recipe import FEW
from .training_loop import train
from .views import (
    CELL,
    WHOLE_SCENE,
    draw_int,
    grid_crop,
    grid_room,
    grid_view,
    open_backgrounds,
    paint_scene,
    patch_labels,
)
from .vocabulary import encode_small

START = 910_000   # first seed of the calibration and of the held-out scenes; no other page uses seeds from here on

def row_stack(vlm, image, question, suffix=SHORT_ANSWER) -> tuple: # ([R, L, H, Nv] of `QUERIES`, `AttentionRows`)
    "All rows of one question, from one pass"
    rows = vlm.capture(image, question, suffix=suffix, max_new_tokens=8)
    return np.stack([rows.read(query=query_in(rows, r), heads=None).numpy() for r in QUERIES]), rows

def calibration_rows(vlm, n=50) -> tuple: # ([K, R, L, H, Nv] of each scene that has several questions, grid)
    "The rows of up to four questions about each of n calibration scenes"
    scenes = {}
    for s in scene_questions(n, START):
        R, rows = row_stack(vlm, s.image, s.question)
        scenes.setdefault(s.image_key, []).append(R)
    return [np.stack(v) for v in scenes.values() if len(v) > 1], rows.spans[0].grid

def fresh_questions(n, start=START) -> list: # of `Record`s, one a scene
    "Held-out questions for a digit"
    found, seed = [], start
    while len(found) < n:
        s = to_sample(make_scene(seed, 'heldout'), 'digit')
        if s: found.append(s)
        seed += 1
    return found

def agreement_table(scenes, merge) -> np.ndarray: # of `calibration_rows`; [K, L, H, Nv] -> [K, n, Nv] -> [R, n]
    "Agreement of the layers, or of the heads, of each row"
    return np.mean([[layer_agreement(rank_patches(merge(s[:, r]))) for r in range(len(QUERIES))] for s in scenes], 0)

def agreeing_layers(scenes) -> tuple: # (row, layers, table)
    "The rule of `profile_model`"
    table = agreement_table(scenes, lambda a: a.mean(2))
    row, layers = best_cell(table)
    return QUERIES[row], layers, table

def agreeing_heads(scenes) -> tuple: # (row, (layer, head)s)
    "The same with each head as a layer of its own"
    row, at = best_cell(agreement_table(scenes, lambda a: a.reshape(len(a), -1, a.shape[-1])))
    return QUERIES[row], [divmod(int(i), scenes[0].shape[3]) for i in at]

def spatial_entropy(a): # [gh, gw]
    "Entropy over the connected parts of what exceeds twice the mean"
    high = (a - 2*a.mean()).clip(0)
    parts, n = ndimage.label(high > .001, np.ones((3, 3)))
    if not n: return np.inf
    p = np.bincount(parts.ravel(), high.ravel())[1:]
    return float(-(p/p.sum() @ np.log(p/p.sum())))

def elbow(values): # [n]
    "The value farthest from the chord of the sorted values"
    y, x = np.sort(values), np.arange(len(values))
    dx, dy = x[-1], y[-1] - y[0]
    return y[abs(dx*(y - y[0]) - dy*x).argmax()]

def localization_heads(maps, least=10, k=3) -> list: # [L, H, gh, gw] of each question; heads noted of each, heads kept
    "The (layer, head)s with much attention on the image that are most often among those in fewest parts"
    sums = np.mean([m.sum((2, 3)) for m in maps], 0)
    ready, chosen = sums >= elbow(sums.ravel()), np.zeros(sums.size)
    for m in maps:
        out = ~ready | (m[:, :, -1].max(-1) > .05)      # too little; or caught by the bottom row
        e = np.array([np.inf if skip else spatial_entropy(a) for a,
            skip in zip(m.reshape(-1, *m.shape[2:]), out.ravel())])
        best = np.argsort(e, kind='stable')[:least]
        chosen[best[np.isfinite(e[best])]] += 1
    return [divmod(int(i), sums.shape[1]) for i in np.argsort(-chosen, kind='stable')[:k]]

def contrastive_heads(scenes, k=10) -> list: # [K, L, H, Nv] of each scene -> (layer, head, weight)s
    "The heads whose maps differ most between two questions about one image"
    d = np.mean([np.linalg.norm(R - np.roll(R, 1, 0), axis=-1).mean(0) for R in scenes], 0)
    return [(*divmod(int(i), d.shape[1]), float(d.flat[i])) for i in np.argsort(-d.ravel())[:k]]

def choose(scenes, grid) -> dict: # of `calibration_rows`
    "What each rule chooses without boxes and without answers"
    row, layers, table = agreeing_layers(scenes)
    heads_row, heads = agreeing_heads(scenes)
    found = {'agreement': dict(query=row, layers=layers, table=table.round(4).tolist()),
        'agreeing heads': dict(query=heads_row, heads=heads)}
    for r in dict.fromkeys(('last', row)):
        own = [s[:, QUERIES.index(r)] for s in scenes]
        found[f'localization heads, {r}'] = dict(query=r,
            heads=localization_heads([q.reshape(*q.shape[:2], *grid) for s in own for q in s]))
        found[f'contrastive heads, {r}'] = dict(query=r, heads=contrastive_heads(own))
    return found

def head_map(A, grid, heads, blur=False): # [L, H, Nv] -> [gh, gw]
    "The mean of some heads' maps, perhaps each blurred by one patch"
    maps = [A[l, h].reshape(grid) for l, h in heads]
    return np.mean([ndimage.gaussian_filter(m, 1.) for m in maps] if blur else maps, 0)

def row_maps(R, grid) -> dict: # [R, L, H, Nv]
    "The map of each row in each layer, and in all"
    cells = {f'{r} {l}': R[i, l] for i, r in enumerate(QUERIES) for l in range(R.shape[1])}
    cells |= {f'{r} all': R[i].reshape(-1, R.shape[-1]) for i, r in enumerate(QUERIES)}
    return {k: a.mean(0).reshape(grid) for k, a in cells.items()}

def measure_rows(vlm, sample, found) -> dict: # name -> 0 or 1
    "Pointing of each row in each layer, with the sentence behind the question and bare; of the chosen row, undivided and divided"
    (R, rows), (bare, _), (G, _) = (row_stack(vlm, sample.image, q, suffix) for q, suffix in (
        (sample.question, SHORT_ANSWER), (sample.question, None), (GENERAL_INSTRUCTION, SHORT_ANSWER)))
    return pointing_rows(R, bare, G, found, rows.spans[0], sample)

def pointing_rows(R, bare, G, found, span, sample) -> dict:
    "The same of rows that are there"
    row, layers = found['agreement']['query'], found['agreement']['layers']
    A, A_g = (torch.tensor(a[QUERIES.index(r), layers].mean(1))[None] for a,
        r in ((R, row), (G, 'last' if row == 'last' else 'question')))
    maps = row_maps(R, span.grid) | {f'bare {k}': v for k, v in row_maps(bare, span.grid).items()}
    maps |= dict(chosen=A[0].mean(0).numpy()) | {f'chosen, λ = {lam:g}': fuse_contrast(A, A_g, 'first', lam,
        True).numpy() for lam in (1., .1)}
    return {k: int(Saliency(v.reshape(span.grid), sample.image.size, span.box).points_at(sample.box)) for k,
        v in maps.items()}

HEADS_OF = dict(thing=6, last=18, bare=20)   # places among the rows below
BEHIND = {k: ' '.join(SHORT_ANSWER[:-1].split()[:k])
    for k in range(10)} | {10: SHORT_ANSWER}   # words -> text behind the question

def _pointed(maps, span, box) -> str: # [..., Nv]; a character for each map
    inside = patch_cover(span, box) > 0
    return ''.join(str(int(inside[i])) for i in maps.argmax(-1).ravel())

def rows_of_all_words(vlm, image, question): # `AttentionRows`
    "The rows of the question's words and of the sentence behind it, at all steps"
    prompt = vlm.prompt(image, question, SHORT_ANSWER)
    words = vlm.tokenizer(f'{question} {SHORT_ANSWER}', add_special_tokens=False).input_ids
    start = prompt.question[0]
    return vlm.forward(replace(prompt, question=list(range(start, start + len(words)))), steps='all', max_new_tokens=8)

def measure_positions(vlm, sample) -> dict: # a digit question
    """Pointing of the rows of the 18 words of question and sentence, the last position, the answer's own, the last of the bare question.

    Of each by layer and in all layers; of `HEADS_OF` by layer and head; lists as strings of 0 and 1."""
    full = rows_of_all_words(vlm, sample.image, sample.question)
    bare = vlm.capture(sample.image, sample.question, suffix=None, max_new_tokens=1)
    rows = torch.cat([full.question, full.attn[[0, -1]], bare.attn[:1]])
    layers = torch.cat([rows.mean(2), rows.mean((1, 2))[:, None]], 1)
    heads = rows[[*HEADS_OF.values()]]
    return {name: _pointed(maps, full.spans[0], sample.box) for name,
        maps in dict(pointing=layers, heads=heads).items()}

def measure_behind(vlm, sample) -> dict: # number of words of the sentence behind the question -> 0 or 1
    "Pointing of the last position, mean of all layers"
    session = Session(vlm, sample.image, shared=False)
    rows = {k: session.capture(sample.question, suffix=text or None, max_new_tokens=1) for k, text in BEHIND.items()}
    return {str(k): int(_pointed(r.read().mean(0), r.spans[0], sample.box)) for k, r in rows.items()}

KINDS = 'digit', 'color', 'shape', 'exist'
VARIANTS = dict(mixed=.3, always=1., never=0., line=.3, tower=.3)   # share of questions with the sentence behind them
TEXT, TOWER, PROJECTOR = (f'vlm.model.{part}' for part in ('language_model', 'visual', 'visual.merger'))

def variant_lessons(short) -> dict: # share of questions with the sentence -> what a batch holds: share
    "Near and whole crops of few image tokens"
    near = Lesson('near', ((8, 8),), 10, 6, 28, KINDS, crop=(110, 300), side=(36, 80), short=short)
    return {near: 2, Lesson('whole', ((12, 12),), 6, 8, 28, KINDS, crop=(300, 448), side=(38, 80), n=(2, 12),
        short=short): 2}

def new_body(depth=6) -> nn.ModuleDict: # layers of the decoder
    "The tower of carve-small as it is, a fresh projector and a fresh decoder, 192 wide"
    m = new_small_model(decoder_width=192, decoder=depth)
    tower = VLM.from_pretrained('carve-small').model.model.visual.state_dict()
    m.model.visual.load_state_dict({k: v for k, v in tower.items() if 'merger' not in k}, strict=False)
    return nn.ModuleDict(dict(vlm=m))

ALIGNED = [*COLORS, 'nothing'], [*SHAPES, 'nothing'], [*'0123456789', 'nothing']

def aligned_batch(v, pool, seed,
        step) -> list: # (tokens along a side, crops); backgrounds -> images, labels of their tokens
    "Crops with color, shape and digit of each image token"
    (n, count), rng, rows = v, np.random.default_rng([seed, 9, step]), []
    grid, room = (n, n), grid_room((n, n)) if n > 8 else WHOLE_SCENE
    for _ in range(count):
        lo = draw_int(rng, 38, 80)
        scene = paint_scene(rng, pool, draw_int(rng, 2, 12), (int(.75*lo), lo), room)
        image, seen, cut = grid_view(scene, room if n > 8 else grid_crop(rng, scene, grid, 110, 300), grid)
        rows.append((image, patch_labels([replace(o, box=tuple(c*8/CELL for c in o.box)) for o in seen + cut], n)))
    return [np.stack(c) for c in zip(*rows)]

def aligned_loss(m, images, labels): # model; of `aligned_batch`
    "Projected image tokens against the words for what they show"
    f = F.normalize(tower_tokens(m.model.visual, torch.as_tensor(images))[1].float(), dim=-1)
    labels, E = torch.as_tensor(labels).transpose(0, 1).flatten(1), m.get_input_embeddings().weight
    words = [F.normalize(E[[encode_small(w)[0] for w in names]], dim=-1) for names in ALIGNED]
    return sum(F.cross_entropy((16*f @ W.T).flatten(0, 1), lab, ignore_index=-1) for W, lab in zip(words, labels))/3

def line_positions(parts): # as `prefix_places` takes them
    "A position for each image token, as for a word, instead of one for its row and one for its column"
    n = sum(1 if isinstance(p, int) else p[0]*p[1] for p in parts)
    return torch.arange(n).expand(3, -1).clone(), n

def train_body(out, what, depth=6, steps=250): # folder; 'text' and then 'align', which all share, or one of `VARIANTS`
    "One stage of a body; it goes on where it was stopped"
    few, base = replace(FEW, kinds=KINDS), Path(out)/f'base{depth}'
    pool = open_backgrounds(Path(out)/'backgrounds.npy', 300)
    stage = 'tune' if what in VARIANTS else what
    phases = dict(
        text=[dict(steps=500, lr=(1e-3, 1e-3), stages={few: 1})],
        align=[dict(steps=150, lr=(2e-3, 1e-3), stages={(8, 16): 2, (12, 8): 1}, warm=20, cool=.3)],
        tune=[dict(steps=steps, lr=(1e-3, 6e-4), stages=variant_lessons(VARIANTS.get(what, 0.)), warm=30,
        cool=.4)])[stage]
    learned = dict(text=(TEXT,), align=(PROJECTOR,), tune=(TEXT, TOWER if what == 'tower' else PROJECTOR))[stage]
    m, before = new_body(depth), dict(align='text', tune='align').get(stage)
    if before: m.load_state_dict(torch.load(base/f'{before}.pt', weights_only=True)['model'])
    for name, p in m.named_parameters(): p.requires_grad_(name.startswith(learned))
    if what == 'line': lessons.prefix_places = line_positions
    def make(v, seed, i, step): return (lesson_batch if isinstance(v, Lesson) else aligned_batch)(v, pool, seed, step)
    def loss(v, batch):
        if isinstance(v, Lesson): return lesson_loss(m['vlm'], batch, .1)
        l = aligned_loss(m['vlm'], *batch)
        return l, dict(align=l.item())
    return train(base if stage != 'tune' else Path(out)/f'{what}{depth}', stage, m.eval(), loss, make, phases, every=50,
        workers=0)

@call_parse
def run_rows(
    verb:Annotated[str, 'what to do', dict(choices=['rows', 'positions', 'behind', 'train'])],
    what:str, # model, by name or folder; of train: text, align or a variant
    out:str='rows', # folder of the records, or of the training
    n:int=200, # questions
    depth:int=6, # layers of the decoder that is trained
):
    "Measure the rows of a model, or train a variant; the same command goes on where it was stopped"
    if verb == 'train':
        train_body(out, what, depth)
        return
    vlm, path = VLM.from_pretrained(what), Path(out)/f'{verb}-{Path(what).name}.jsonl'
    path.parent.mkdir(parents=True, exist_ok=True)
    done, book = (path.read_text().splitlines() if path.exists() else [],
        dict(positions=measure_positions, behind=measure_behind))
    found = () if verb in book else (choose(*calibration_rows(vlm)),)
    measure = book.get(verb, measure_rows)
    for sample in (samples('digit', n, 'heldout') if verb in book else fresh_questions(n))[len(done):]:
        got = measure(vlm, sample, *found)
        with open(path, 'a') as f: print(json.dumps(dict(id=sample.id) | got), file=f)
