"""A sink added to both models, from 0 to .8 of the attention: its effect on the map of `lookup`, raw and
less the question's other words.

`python -m recipes.baselines MODEL`: a quarter of an hour a model;
`nbs/results/sinks/MODEL-{biases,fresh,fresh-images}`."""

import json
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated
import numpy as np
import torch
from fastcore.script import call_parse
from PIL import Image
from carve_nb.attention.vlm import VLM
from carve_nb.core.saliency import Saliency
from carve_nb.core.text import SHORT_ANSWER, pick_words
from carve_nb.data.scenes import samples
from carve_nb.method.lookup import Lookup, other_words
from carve_nb.method.profiles import query_in
from carve_nb.models.kernel import find_cache, mask_rows
from carve_nb.studies.profile import scene_questions, sink_figure
from .records import run_trial

@contextmanager
def sink(vlm, bias): # nats
    """Inside the block every word behind the first image scores its first token higher by `bias`, in all
    layers and heads"""
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
    try:
        hooks.append(vlm.model.register_forward_pre_hook(begin, with_kwargs=True))
        layers = [m for m in vlm.model.modules() if hasattr(m, 'layer_idx')
            and getattr(m, 'config', None) is vlm.text_config]
        hooks += [m.register_forward_pre_hook(biased, with_kwargs=True) for m in layers]
        yield
    finally:
        for hook in hooks: hook.remove()

SHARES = 0, .1, .2, .3, .4, .5, .65, .8   # of the first patch in the row that lookup reads, mean over scenes

def shares_at(vlm, biases, scenes) -> np.ndarray: # of `Record`s; [n]
    "The mean share of the first patch under each bias"
    chosen = Lookup().choose(vlm)[0]
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

# (`AttentionRows` of the question's tokens and all behind them, how many are the question's)
def all_rows(vlm, sample) -> tuple:
    "The rows of all words, in one pass"
    prompt = vlm.prompt(sample.image, sample.question, SHORT_ANSWER)
    own = prompt.question
    return vlm.forward(replace(prompt, question=[*range(own[0], len(prompt))]), max_new_tokens=1), len(own)

def norm(a): return a/a.sum(-1, keepdims=True).clip(1e-30)

def scene_maps(vlm, sample) -> list: # of `Saliency`
    "The map that `lookup` reads, and that less the map of the question's other words, from one pass"
    chosen = Lookup().choose(vlm)[0]
    rows, n = all_rows(vlm, sample)
    A = rows.question[:, rows.places(chosen.layers)].mean((1, 2)).numpy()
    span = rows.spans[0]
    asked = replace(rows, question_tokens=rows.question_tokens[:n])
    own = [len(A) - 1] if chosen.query == 'last' else pick_words(asked.question_tokens, chosen.query)
    raw = norm(A[own].mean(0))
    less = raw - norm(A[other_words(asked, chosen.query, 'others')]).mean(0)
    return [Saliency(v.reshape(span.grid), sample.image.size, span.box) for v in (raw, less)]

def measure_scene(vlm, sample, biases) -> dict: # a digit question
    "Of each bias: the sink's share, is the row's peak on it, and pointing of both maps"
    found = dict(id=sample.id)
    for share, bias in zip(SHARES, biases):
        with sink(vlm, bias): maps = scene_maps(vlm, sample)
        own = maps[0].values.ravel()
        pointing = ''.join(str(int(S.points_at(sample.box))) for S in maps)
        found[str(share)] = dict(share=round(float(own[0]), 4), on_sink=int(own.argmax() == 0),
            pointing=pointing)
    return found

def measure_images(vlm, bias, images) -> dict: # lists of `Record`s, several of each image
    "How strong a sink is under a bias: `sink_figure` of the map that `lookup` reads"
    chosen, maps = Lookup().choose(vlm)[0], []
    with sink(vlm, bias):
        for sample in sum(images, []):
            rows = vlm.capture(sample.image, sample.question, suffix=SHORT_ANSWER)
            maps.append(rows.saliency(layers=chosen.layers, query=query_in(rows, chosen.query)).values.ravel())
    return dict(bias=bias, images=len(images), across=sink_figure(maps))

@call_parse
def run_baselines(
    model:str, # name or folder
    out:Annotated[str, 'folder of the records'] = 'sinks',
    n:int = 300): # questions
    "Find the biases, then measure maps and images under each; the same command goes on where it was stopped"
    path = Path(out)/f'{Path(model).name}-biases.json'
    several = {}
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(
            find_biases(VLM.from_pretrained(model), samples('digit', 16, 'calibration', start=930_000))))
    biases = json.loads(path.read_text())
    for s in scene_questions(30, 932_000): several.setdefault(s.image_key, []).append(s)
    images = [v for v in several.values() if len(v) > 1]
    run_trial('{model}-fresh', model, out, samples('digit', n, 'heldout', start=931_000),
        lambda vlm, s: measure_scene(vlm, s, biases))
    run_trial('{model}-fresh-images', model, out, biases, lambda vlm, bias: measure_images(vlm, bias, images))
