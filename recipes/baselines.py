"""A sink added to both models, from 0 to .8 of the attention: its effect on `lookup`, and the words of the same prompt whose attention removes it."""

import json
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated
import numpy as np
import torch
from fastcore.script import call_parse
from PIL import Image
from scipy.stats import rankdata
from carve_nb.attention.vlm import VLM
from carve_nb.core.saliency import Saliency
from carve_nb.core.text import QUERIES, pick_words
from carve_nb.data.scenes import samples
from carve_nb.data.scoring import score_answer
from carve_nb.formulas.agreement import layer_agreement
from carve_nb.formulas.threshold import regions
from carve_nb.method.lookup import Lookup, other_words
from carve_nb.method.profiles import query_in
from carve_nb.models.kernel import find_cache, mask_rows, restore
from carve_nb.models.prompts import SHORT_ANSWER
from carve_nb.studies.profile import best_cell, scene_questions

@contextmanager
def sink(vlm, bias): # nats
    "Inside the block every word behind the first image scores its first token higher by `bias`, in all layers and heads"
    first = int(vlm.prompt(Image.new('RGB', (64, 64)), 'what').spans[0].tokens[0])
    words, hooks = [], []   # of the pass under way: which of its tokens are words
    def begin(module, args, kw): words[:] = [kw['input_ids'] != vlm.model.config.image_token_id]
    def biased(module, args, kw):
        cache, (B, Q), device = find_cache(kw.values()), words[0].shape, words[0].device
        K = Q + (cache.get_seq_length(module.layer_idx) if cache is not None else 0)
        mask = mask_rows(kw['attention_mask'], torch.arange(Q, device=device), Q, K)
        if mask is None: mask = torch.ones(Q, K, dtype=torch.bool, device=device)
        if mask.dtype == torch.bool:
            mask = torch.zeros(mask.shape, dtype=vlm.dtype, device=device).masked_fill(~mask,
                torch.finfo(vlm.dtype).min)
        mask = mask.expand(B, 1, Q, K).clone()
        mask[..., first] += bias*words[0][:, None]
        return args, kw | dict(attention_mask=mask)
    def close():
        for hook in hooks: hook.remove()
    with restore(close):
        hooks.append(vlm.model.register_forward_pre_hook(begin, with_kwargs=True))
        layers = [m for m in vlm.model.modules() if hasattr(m, 'layer_idx')
            and getattr(m, 'config', None) is vlm.text_config]
        hooks += [m.register_forward_pre_hook(biased, with_kwargs=True) for m in layers]
        yield

SHARES = 0, .1, .2, .3, .4, .5, .65, .8   # of the first patch in the row that lookup reads, mean over scenes

def shares_at(vlm, biases, scenes) -> np.ndarray: # of `Record`s; [n]
    "The mean share of the first patch under each bias"
    chosen = Lookup().settled(vlm)
    found = np.zeros((len(scenes), len(biases)))
    for i, s in enumerate(scenes):
        for j, bias in enumerate(biases):
            with sink(vlm, bias): rows = vlm.capture(s.image, s.question, suffix=SHORT_ANSWER)
            S = rows.saliency(layers=chosen.layers, query=query_in(rows, chosen.query)).values
            found[i, j] = S[0, 0]/S.sum()
    return found.mean(0)

def find_biases(vlm, scenes, shares=SHARES) -> list:
    "The bias that gives each share, from a coarse search and two finer ones"
    at = np.concatenate([[0], np.geomspace(2, 1024, 19)])
    got = shares_at(vlm, at, scenes)
    for _ in range(2):
        more = np.interp(shares[1:], got, at)
        at, got = np.append(at, more), np.append(got, shares_at(vlm, more, scenes))
        order = np.argsort(at)
        at, got = at[order], got[order]
    return np.interp(shares, got, at).round(3).tolist()

# the first four words of the question; those before the row's; all but those; the sentence behind; less their map, or over it
BASELINES = 'none', 'first -', 'before -', 'others -', 'sentence -', 'before /', 'others /', 'sentence /'

def all_rows(vlm, sample) -> tuple: # (`AttentionRows` of the question's tokens and all behind them, how many are the question's)
    "The rows of all words, in one pass"
    prompt = vlm.prompt(sample.image, sample.question, SHORT_ANSWER)
    own = prompt.question
    return vlm.forward(replace(prompt, question=[*range(own[0], len(prompt))]), max_new_tokens=1), len(own)

def token_sets(rows, n, row) -> dict: # of `all_rows`; -> name -> places of tokens; 'own': those of the row
    "Whose maps are compared"
    sentence = range(n, len(rows.question_tokens))
    asked = replace(rows, question_tokens=rows.question_tokens[:n])
    own = [len(rows.question_tokens) - 1] if row == 'last' else pick_words(asked.question_tokens, row)
    before = other_words(asked, row, 'before')
    return dict(own=own, first=before[:4], before=before, others=other_words(asked, row, 'others'),
        sentence=[i for i in sentence if i not in own])

def norm(a): return a/a.sum(-1, keepdims=True).clip(1e-30)

def baseline_maps(A, sets) -> dict: # [tokens, Nv]; of `token_sets`; -> name -> [Nv]
    "The row's map, less and over those of other words; over: one even share is added below"
    own = norm(A[sets['own']].mean(0))
    made = dict(none=own)
    for name in BASELINES[1:]:
        words, how = name.split()
        other = norm(A[sets[words]]).mean(0)
        made[name] = own - other if how == '-' else own/(other + 1/len(own))
    return made

def scene_maps(vlm, sample) -> dict: # name -> `Saliency`
    "The map of each baseline, from one pass"
    chosen = Lookup().settled(vlm)
    rows, n = all_rows(vlm, sample)
    A = rows.question[:, [rows.layers.index(l) for l in chosen.layers]].mean((1, 2)).numpy()
    span = rows.spans[0]
    maps = baseline_maps(A, token_sets(rows, n, chosen.query))
    return {k: Saliency(v.reshape(span.grid), sample.image.size, span.box) for k, v in maps.items()}

def measure_scene(vlm, sample, biases) -> dict: # a digit question
    "Of each bias: the sink's share, is the row's peak on it, and point at of each map"
    found = dict(id=sample.id)
    for share, bias in zip(SHARES, biases):
        with sink(vlm, bias): maps = scene_maps(vlm, sample)
        own = maps['none'].values.ravel()
        pointing = ''.join(str(int(S.points_at(sample.box))) for S in maps.values())
        found[str(share)] = dict(share=round(float(own[0]), 4), on_sink=int(own.argmax() == 0), pointing=pointing)
    return found

def measure_answers(vlm, sample, biases, names) -> dict: # of `BASELINES`
    "Under some biases: is the plain answer right, and that with the crop of each map?"
    look, found = Lookup(), dict(id=sample.id)
    for share, bias in zip(SHARES, biases):
        if share not in ANSWERED: continue
        with sink(vlm, bias):
            maps = scene_maps(vlm, sample)
            right = lambda images: str(int(score_answer(vlm.ask(images, sample.question, SHORT_ANSWER), sample)))
            crops = [look.show(sample.image, regions(maps[k], look.p, 1, rank='peak')) for k in names]
            found[str(share)] = dict(plain=int(right([sample.image])),
                right=''.join(right([sample.image, v.image]) for v in crops))
    return found

def share_of_one_patch(maps) -> tuple: # [n, Nv] of questions about different images
    "The share of the questions whose peaks fall on one patch, and the mean share of their maps that lies there"
    peaks = maps.argmax(-1)
    patch = np.bincount(peaks).argmax()
    return float((peaks == patch).mean()), float(norm(maps)[:, patch].mean())

def measure_images(vlm, bias, images) -> dict: # lists of `Record`s, several of each image
    "What a profile would choose under a bias: row and layers by agreement, without and less the others; how strong the sink is"
    agreed, maps = dict(none=[], others=[]), []
    chosen = Lookup().settled(vlm)
    for asked in images:
        ranks = dict(none=[], others=[])
        with sink(vlm, bias):
            for sample in asked:
                rows = vlm.capture(sample.image, sample.question, suffix=SHORT_ANSWER)
                words, last = rows.question.mean(2).numpy(), rows.attn[0].mean(1).numpy()     # [Q, L, Nv], [L, Nv]
                own = {r: last if r == 'last' else words[pick_words(rows.question_tokens, r)].mean(0) for r in QUERIES}
                less = {r: norm(a) - norm(words[other_words(rows, r, 'others') or slice(None)]).mean(0) for r,
                    a in own.items()}
                floor = lambda a: np.maximum(a, a.mean(-1, keepdims=True)/100)
                ranks['none'].append([rankdata(floor(a), axis=1) for a in own.values()])
                ranks['others'].append([rankdata(a.round(9), axis=1) for a in less.values()])
                maps.append(own[chosen.query][[rows.layers.index(l) for l in chosen.layers]].mean(0))
        for k, r in ranks.items(): agreed[k].append([layer_agreement(of) for of in np.array(r).swapaxes(0, 1)])
    maps = np.array(maps)
    at = np.cumsum([0, *map(len, images)])
    within = np.mean([share_of_one_patch(maps[i:j]) for i, j in zip(at, at[1:])], 0)
    chosen = {}
    for k, a in agreed.items():
        table = np.mean(a, 0)
        r, places = best_cell(table)
        chosen[k] = dict(query=QUERIES[r], layers=[rows.layers[i] for i in places],
            agreement=round(float(table.max()), 4))
    return dict(bias=bias, images=len(images), chosen=chosen, across=np.round(share_of_one_patch(maps), 4).tolist(),
        within=within.round(4).tolist())

PARTS = dict( # name: split, first seed, questions, those that are answered, with which maps
    calibration=('calibration', 930_000, 100, 100, BASELINES),
    fresh=('heldout', 931_000, 300, 150, ('none', 'others -')))
# first seeds of thirty images with several questions, calibration split
IMAGES = dict(calibration=930_000, fresh=932_000)
ANSWERED = 0, .1, .3, .5

def keep(path, todo, measure):
    "One line for each thing to do; those that the file holds are not measured again"
    done = len(path.read_text().splitlines()) if path.exists() else 0
    for thing in todo[done:]:
        got = json.dumps(measure(thing))
        with open(path, 'a') as f: print(got, file=f)

@call_parse
def run_baselines(
    model:str, # name or folder
    out:Annotated[str, 'folder of the records'] = 'baselines',
    part:Annotated[str, 'what to measure', dict(choices=list(PARTS))] = 'calibration',
    answers:int = None): # questions that are answered; those of the part by default
    "Measure one part on one model; the same command goes on where it was stopped"
    torch.set_num_threads(1)
    vlm, folder, (split, start, n, asked, names) = VLM.from_pretrained(model), Path(out), PARTS[part]
    folder.mkdir(parents=True, exist_ok=True)
    def path(name): return folder/f'{Path(model).name}-{name}'
    if not path('biases.json').exists():
        path('biases.json').write_text(json.dumps(find_biases(vlm, samples('digit', 16, 'calibration', start=930_000))))
    biases, several, scenes = json.loads(path('biases.json').read_text()), {}, samples('digit', n, split, start=start)
    for s in scene_questions(30, IMAGES[part]): several.setdefault(s.image_key, []).append(s)
    keep(path(f'{part}.jsonl'), scenes, lambda s: measure_scene(vlm, s, biases))
    keep(path(f'{part}-answers.jsonl'), scenes[:asked if answers is None else answers],
        lambda s: measure_answers(vlm, s, biases, names))
    keep(path(f'{part}-images.jsonl'), biases, lambda bias: measure_images(vlm, bias,
        [v for v in several.values() if len(v) > 1]))
