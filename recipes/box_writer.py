"""Raise a variant of `carve-small` that writes boxes: asked where an object is, it says four numbers, which
`ask-box` reads.

`python -m recipes.box_writer`: 93 minutes of one thread; `nbs/results/box-writer.json`."""
import json
import math
from dataclasses import replace
from pathlib import Path
import numpy as np
import torch
from fastcore.script import call_parse
from torch import nn
from torch.nn import functional as F
from transformers import Qwen2_5_VLForConditionalGeneration
from carve_nb import VLM
from carve_nb.core.io import CHECKPOINTS
from carve_nb.data.datasets import DataSet
from carve_nb.data.scenes import samples
from carve_nb.models.families import BoxForm
from carve_nb.runs.runner import run_eval
from .curriculum import ViewContent, pad_rows
from .equal_terms import ALWAYS, summarize_run, with_crop
from .lessons import BEGIN, OPEN, Lesson, conversation, lesson_batch, lesson_loss
from .recipe import MAGNIFY
from .train import pack_stage
from .training_loop import train
from .views import CELL, WHOLE_SCENE, draw_int, grid_crop, grid_view, open_backgrounds, paint_scene

LINES = 13                  # a side has the lines 0 to 13: the numbers that `carve-small` has words for
FORM = BoxForm('Where is the {cue}?', LINES, 'recipes/box_writer.py', ' '.join([r'(\d+)']*4))
LAYER = 1                   # after it row and column of an image token are to be read
GRID = 16, 16
BOX = Lesson('box', (GRID,), count=5, slots=10, length=16, n=(2, 12), side=(30, 70), crop=(300, 448))
TAKEN = {'near-suffix': 1, 'suffix': 2, 'square': 2, 'pair16': 3}    # lessons of the last stage, and shares
LESSONS = {BOX: 8} | {v: TAKEN[v.name] for v in MAGNIFY.phases[0]['stages'] if v.name in TAKEN}
PLAN = dict(steps=2400, lr=(1e-3, 6e-4), warm=30, cool=.5, stages=LESSONS)

START = 975_000             # first seed of the questions
CROPS = ('ask-box', f'lookup:query=noun:layers=[2]:{ALWAYS}', 'center', 'random', 'oracle')   # with one view


def box_words(box, side) -> str:  # (x0, y0, x1, y1); (W, H)
    "The lines that hold a box: '3 5 5 7'"
    x0, y0, x1, y1 = np.array(box)/np.tile(side, 2)*LINES
    return ' '.join(str(min(LINES, int(n))) for n in (x0, y0, math.ceil(x1), math.ceil(y1)))


def box_batch(pool, seed, step) -> dict:
    "As `lesson_batch`: an image of each scene, and where its objects are"
    rng = np.random.default_rng([seed, 3, step])
    images, ids, targets, kinds = [], [], [], []
    for _ in range(BOX.count):
        scene = paint_scene(rng, pool, draw_int(rng, *BOX.n), BOX.side)
        crop = WHOLE_SCENE if rng.random() < .5 else grid_crop(rng, scene, GRID, *BOX.crop)
        image, seen, cut = grid_view(scene, crop, GRID)
        named = ViewContent(seen, cut).once(seen, 'name')[:BOX.slots]
        turns = [(FORM.ask.format(cue=o.name), box_words(o.box, image.shape[1::-1]), 'frame') for o in named]
        told = [conversation(rng, [turn], BOX.length) for turn in turns]
        empty = [((), (), -1)]*(BOX.slots - len(told))
        words, answers, kind = zip(*told, *empty)
        images.append(image)
        ids.append(pad_rows(words, BOX.length))
        targets.append(pad_rows(answers, BOX.length, -100))
        kinds.append(kind)
    return dict(images=[np.stack(images)], ids=np.stack(ids), targets=np.stack(targets),
        kinds=np.array(kinds))


def box_loss(modules, batch):
    """The loss of the lessons, and that of a linear map from the first image's tokens behind `LAYER` to their
    rows and columns"""
    m, behind = modules['vlm'], []
    hook = m.model.language_model.layers[LAYER].register_forward_hook(
        lambda module, args, out: behind.append(out))
    try: told, figures = lesson_loss(m, batch, MAGNIFY.drop)
    finally: hook.remove()
    height, width = (s//CELL for s in batch['images'][0].shape[1:3])
    first = len(BEGIN + OPEN)
    h = behind[0][:, first:first + height*width].float()
    guesses = modules['places'](F.layer_norm(h, h.shape[-1:])).split(GRID[0], -1)
    places = torch.cartesian_prod(torch.arange(height), torch.arange(width)).repeat(len(h), 1).T
    missed = sum(F.cross_entropy(z.flatten(0, 1), at) for z, at in zip(guesses, places))
    return told + .3*missed, figures | dict(missed=missed.item())


def train_box(out, **kw):
    "Go on from the packed `carve-small`, or from the checkpoint in `out`"
    vlm = Qwen2_5_VLForConditionalGeneration.from_pretrained(CHECKPOINTS/'carve-small', dtype=torch.float32)
    torch.manual_seed(0)
    modules = nn.ModuleDict(dict(vlm=vlm,
        places=nn.Linear(vlm.config.text_config.hidden_size, 2*GRID[0]))).eval()
    for name, p in modules.named_parameters(): p.requires_grad_(name.startswith((*MAGNIFY.trained, 'places')))
    pool = open_backgrounds(Path(out)/'backgrounds.npy')
    def make(v, seed, i, step):
        return box_batch(pool, seed, step) if v is BOX else lesson_batch(v, pool, seed, step)
    def loss(v, batch):
        total, figures = box_loss(modules, batch)
        return total, {f'{v.name} {k}': x for k, x in figures.items() if k in ('right', 'missed')}
    return train(out, MAGNIFY.name, modules, loss, make, [PLAN], seed=1, workers=0, **kw)


def measure(vlm, out, n=300) -> dict:  # the variant; folder of the run
    "As `equal_terms.summarize_run`, and how often the crop holds the middle of the target"
    vlm.family = replace(vlm.family, box_form=FORM)
    data = DataSet('digits', samples('digit', n, 'heldout', start=START))
    run = run_eval(data, vlm, ['none', *map(with_crop, CROPS)], out=out, progress=False)
    middle = {s.id: np.reshape(s.box, (2, 2)).mean(0) for s in data}
    found = summarize_run(run)
    for name, m in found['methods'].items():
        boxes = {r['id']: np.reshape(r['box'], (2, 2)) for r in run.select(name)}
        m['held'] = ''.join(str(int(np.all((boxes[i][0] <= middle[i]) & (middle[i] < boxes[i][1]))))
            for i in found['ids'])
    return found


@call_parse
def run(
    out:str='box', # folder of checkpoints and logs
    stop:int=None, # stop before this step
    n:int=300, # questions
):
    """Train the variant, pack it into OUT/carve-small-box, ask it N questions; the same command goes on where
    it was stopped"""
    torch.set_num_threads(1)
    train_box(out, stop=stop)
    folder = pack_stage(out, MAGNIFY.name, Path(out)/'carve-small-box')
    found = measure(VLM.from_pretrained(str(folder)), Path(out)/'run', n)
    (Path(out)/'answers.json').write_text(json.dumps(found, indent=1) + '\n')
    for name, m in found['methods'].items():
        print(name, m['cost'], *(f'{k} {m[k].count("1")/len(m[k]):.3f}' for k in ('right', 'held')))
