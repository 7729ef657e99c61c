"""Raise a variant of `carve-small` that has an attention sink, as released models do: its first image token draws attention."""
import json
from pathlib import Path
from typing import Annotated
import torch
from fastcore.script import call_parse
from torch.nn import functional as F
from carve_nb import VLM
from carve_nb.core.io import CHECKPOINTS
from carve_nb.data.scenes import samples
from .lessons import BEGIN, OPEN, lesson_batch, lesson_loss
from .recipe import MAGNIFY
from .train import begin_stage, pack_stage, unpack_stage
from .training_loop import train
from .views import open_backgrounds

WANTED = .4             # share of the first image token in what a word of the question gives to the first picture
FIRST = len(BEGIN + OPEN)   # its column
PLAN = dict(steps=900, lr=(5e-4, 3e-4), warm=30, cool=.5, stages=MAGNIFY.phases[0]['stages'])


def shares(weights, tokens):  # [B, H, N, K] of each layer; of the first picture
    "Share of the first image token, mean of rows and heads: [L]"
    seen = torch.stack([w[:, :, FIRST + tokens:, FIRST:FIRST + tokens].float() for w in weights])
    return (seen[..., 0]/seen.sum(-1).clamp_min(1e-9)).mean((1, 2, 3))


def sink_loss(m, batch):
    "The loss of the lessons, and how far each layer but the first is from having the sink"
    weights = []
    hooks = [layer.self_attn.register_forward_hook(lambda module, args, out: weights.append(out[1]))
             for layer in m.model.language_model.layers]
    try: told, figures = lesson_loss(m, batch, MAGNIFY.drop)
    finally:
        for hook in hooks: hook.remove()
    n = batch['images'][0].shape[1]*batch['images'][0].shape[2]//12**2
    share = shares(weights, n)
    return told + 5*F.relu(WANTED - share[1:]).mean(), figures | {f'sink{l}': s.item() for l, s in enumerate(share)}


def train_sink(out, **kw):
    "Go on from the packed `carve-small`, or from the checkpoint in `out`"
    if not (Path(out)/'magnified.pt').exists(): unpack_stage(CHECKPOINTS/'carve-small', out, 'magnified')
    modules = begin_stage(out, MAGNIFY)
    modules['vlm'].set_attn_implementation('eager')
    pool = open_backgrounds(Path(out)/'backgrounds.npy')
    def make(v, seed, i, step): return lesson_batch(v, pool, seed, step)
    return train(out, 'magnified', modules, lambda v, b: sink_loss(modules['vlm'], b), make, [PLAN], seed=1, **kw)


def measure(folder, n=50):  # model folder
    "Share of the strongest patch in the rows of the question's words, by layer; answers right; touch is that of the profile's study"
    vlm, share, right = VLM.from_pretrained(str(folder)), [], 0
    for sample in samples('digit', n, 'heldout'):
        rows = vlm.capture(sample.image, sample.question)
        a = rows.question.mean((0, 2))                      # [L, Nv]
        share.append(a[:, 0]/a.sum(-1))
        right += str(rows.answer or vlm.ask(sample.image, sample.question)).strip() == sample.answers[0]
    return dict(n=n, sink=[round(v, 3) for v in torch.stack(share).mean(0).tolist()], right=right/n)


@call_parse
def run(
    verb:Annotated[str, 'what to do', dict(choices=['train', 'pack', 'measure'])],
    out:str='sink', # folder of checkpoints and logs
    stop:int=None, # stop before this step
):
    "Train the variant, pack it into OUT/model, or measure its sink; the same command goes on where it was stopped"
    torch.set_num_threads(1)
    if verb == 'train': train_sink(out, stop=stop, workers=0)
    elif verb == 'pack': print(pack_stage(out, 'magnified', Path(out)/'model'))
    else: print(json.dumps(measure(Path(out)/'model')))
