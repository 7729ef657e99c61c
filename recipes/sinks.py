"""Raise a variant of `carve-small` that has an attention sink, as released models do: its first image token draws attention."""
import json
import math
from pathlib import Path
import numpy as np
import torch
from fastcore.script import call_parse
from torch.nn import functional as F
from carve_nb import VLM
from carve_nb.core.io import CHECKPOINTS
from carve_nb.data.scenes import samples
from carve_nb.data.scoring import score_answer
from carve_nb.method.lookup import less_words, other_words
from carve_nb.models.prompts import SHORT_ANSWER
from .lessons import BEGIN, OPEN, lesson_batch, lesson_loss
from .recipe import MAGNIFY
from .train import begin_stage, pack_stage, unpack_stage
from .training_loop import train
from .views import CELL, open_backgrounds

WANTED = .4                 # share of the first image token in what a word gives to the first image
FIRST = len(BEGIN + OPEN)   # its column
TAKEN = {'near-suffix': 2, 'suffix': 3, 'square': 2, 'pair': 1, 'wide': 1,
    'tall': 1}   # lessons of the last stage, and shares
LESSONS = {v: TAKEN[v.name] for v in MAGNIFY.phases[0]['stages'] if v.name in TAKEN}
PLAN = dict(steps=240, lr=(5e-4, 3e-4), warm=20, cool=.5, stages=LESSONS)


def shares(weights, tokens, words):  # [B, H, N, K] of each layer; of the first image; of all conversations
    "Share of the first image token, mean of rows and heads: [L]"
    seen = torch.stack([w[:, :, -words:, FIRST:FIRST + tokens].float() for w in weights])
    return (seen[..., 0]/seen.sum(-1).clamp_min(1e-9)).mean((1, 2, 3))


def sink_loss(m, batch):
    "The loss of the lessons, and how far each layer but the first is from having the sink"
    weights = []
    hooks = [layer.self_attn.register_forward_hook(lambda module, args, out: weights.append(out[1]))
             for layer in m.model.language_model.layers]
    try: told, figures = lesson_loss(m, batch, MAGNIFY.drop)
    finally:
        for hook in hooks: hook.remove()
    height, width = batch['images'][0].shape[1:3]
    share = shares(weights, height*width//CELL**2, batch['ids'][0].size)
    missing = F.relu(math.log(WANTED) - share[1:].clamp_min(1e-6).log()).mean()
    return told + .5*missing, figures | {f'sink{l}': s.item() for l, s in enumerate(share)}


def train_sink(out, **kw):
    "Go on from the packed `carve-small`, or from the checkpoint in `out`"
    if not (Path(out)/'magnified.pt').exists(): unpack_stage(CHECKPOINTS/'carve-small', out, 'magnified')
    modules = begin_stage(out, MAGNIFY)
    modules['vlm'].set_attn_implementation('eager')
    pool = open_backgrounds(Path(out)/'backgrounds.npy')
    def make(v, seed, i, step): return lesson_batch(v, pool, seed, step)
    return train(out, 'magnified', modules, lambda v, b: sink_loss(modules['vlm'], b), make, [PLAN], seed=1, every=20,
        workers=0, **kw)


def measure(vlm, n=50) -> dict:  # the variant, or `carve-small`
    """On fresh scenes: by layer the patch that the question's words see most, its share in their rows and in that of the thing's word;
    right answers, pointing of layer 2 without and with a baseline"""
    maps, own, right, pointing = [], [], [], []
    for sample in samples('digit', n, 'heldout', start=935_000):
        rows = vlm.capture(sample.image, sample.question, suffix=SHORT_ANSWER)
        for seen, made in (rows.question.mean((0, 2)), maps), (rows.read(query='noun'), own):     # [L, Nv]
            made.append((seen/seen.sum(-1, keepdims=True)).numpy().astype(float))
        S = rows.saliency(layers=2, query='noun')
        less = less_words(S, rows, [2], other_words(rows, 'noun', 'others'))
        pointing.append([m.points_at(sample.box) for m in (S, less)])
        right.append(score_answer(vlm.ask(sample.image, sample.question, SHORT_ANSWER), sample))
    mean, word = np.mean(maps, 0), np.mean(own, 0)
    patch = mean.argmax(-1)
    word = np.take_along_axis(word, patch[:, None], 1)[:, 0]
    found = dict(n=n, patch=patch, share=mean.max(-1).round(3), word=word.round(3), right=np.sum(right),
        pointing=np.sum(pointing, 0))
    return {k: np.asarray(v).tolist() for k, v in found.items()}


@call_parse
def run(
    out:str='sink', # folder of checkpoints and logs
    stop:int=None, # stop before this step
):
    "Train the variant, pack it into OUT/carve-small-sink, measure it; the same command goes on where it was stopped"
    torch.set_num_threads(1)
    train_sink(out, stop=stop)
    folder = pack_stage(out, 'magnified', Path(out)/'carve-small-sink')
    print(json.dumps(measure(VLM.from_pretrained(str(folder)))))
