"""Train a world in which the general map is noise, and a decoder that never sees an image with its crop;
measure both.

`python -m recipes.worlds train forced`, then `marked`, and `unpaired --stop 950`: 15, 10 and 20 minutes
on one free core; `assume` reads the maps of a marked world, `answer` asks: 5 to 10 minutes each;
`nbs/results/trial/`."""
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated
import numpy as np
import torch
from fastcore.script import call_parse
from PIL import Image, ImageDraw
from torch import Tensor, nn
from transformers import LlavaForConditionalGeneration
from carve_nb.attention.session import Session
from carve_nb.attention.vlm import VLM
from carve_nb.core.io import CHECKPOINTS
from carve_nb.core.saliency import patch_cover
from carve_nb.core.text import GENERAL_INSTRUCTION, SHORT_ANSWER
from carve_nb.data.drawing import SIZE
from carve_nb.data.questions import describe
from carve_nb.data.scenes import _apart, make_scene, samples
from carve_nb.formulas.product import contrast
from carve_nb.formulas.threshold import regions
from carve_nb.method.base import as_saliency
from carve_nb.method.carve import Carve
from carve_nb.method.controls import Oracle
from carve_nb.method.lookup import Lookup
from carve_nb.method.results import Look
from carve_nb.models.prompts import GENERAL_INSTRUCTIONS, Ask
from .curriculum import TURNS, Stage, ViewContent, draw_turns, fill_slots, make_batch
from .models import batch_loss, new_model
from .recipe import BRIEF_KINDS, LATE, SHARP_KINDS, TINY
from .records import run_trial
from .train import save_model
from .training_loop import train
from .views import WHOLE_SCENE, draw_crop, patch_labels, take_view, visible_objects

@dataclass
class Mark:
    "A white disc with a black rim: the *thing* that descriptions name and no question asks about"
    box: tuple[int, int, int, int]
    color: str = ''
    shape: str = ''
    digit: int = -1

def place_mark(rng: np.random.Generator, objects: list, side: tuple[int, int]=(44, 64)) -> Mark|None:
    "Return a mark at a place that no object covers; None where there is no room"
    for _ in range(60):
        size = int(rng.integers(side[0], side[1] + 1))
        x, y = rng.integers(2, SIZE - size - 1, 2).tolist()
        box = x, y, x + size, y + size
        if all(_apart(box, o.box, 4) for o in objects): return Mark(box)
    return None

def paint_mark(image: Image.Image, mark: Mark) -> Image.Image:
    "Return the image with the mark on it"
    x0, y0, x1, y1 = mark.box
    big = Image.new('L', (4*(x1 - x0), 4*(y1 - y0)))
    ImageDraw.Draw(big).ellipse((0, 0, big.width - 1, big.height - 1), fill=255)
    disc = big.reduce(4)
    inner = Image.new('L', disc.size)
    inner.paste(disc.resize((disc.width - 8, disc.height - 8)), (4, 4))
    painted = image.copy()
    painted.paste((10, 10, 10), (x0, y0), disc)
    painted.paste((255, 255, 255), (x0, y0), inner)
    return painted

def mark_answer(answer: str, general: bool, there: bool, forced: bool) -> str:
    """Return the answer of the marked world: descriptions first say whether there is a mark; `forced`: every
    answer does"""
    return f'{"one" if there else "no"} thing . {answer}' if forced or general else answer

def marked_row(rng: np.random.Generator, s: Stage, forced: bool) -> tuple:
    "Return one image, or an image and a crop of it, with its turns"
    side = (50, 120) if rng.random() < s.big else s.side
    scene = make_scene(int(rng.integers(2**40)), 'train', side=side, n=int(rng.integers(3, 13)))
    mark = place_mark(rng, scene.objects) if rng.random() < .5 else None
    if mark: scene = replace(scene, image=paint_mark(scene.image, mark))
    whole = s.pairs or rng.random() < s.whole
    crops = [WHOLE_SCENE] if whole else [draw_crop(rng, scene.objects, *s.crop)]
    if s.pairs: crops.append(draw_crop(rng, scene.objects, *s.crop))
    views = [take_view(rng, scene, crop, 8*s.n, 0.) for crop in crops]
    marks = [visible_objects([mark], crop, 8*s.n) if mark else [] for crop in crops]
    there = any(m.seen > .5 for shown in marks for m in shown)
    labels = [patch_labels(seen + cut, s.n) for _, seen, cut in views]
    for label, shown in zip(labels, marks):
        for m in shown:
            x0, y0, x1, y1 = (int(v//8) for v in m.box)
            label[:, y0:y1 + 1, x0:x1 + 1] = -1
    _, seen, cut = views[0]
    kinds = s.kinds or [0 if kind in ('where', 'what') else share for kind, (_, share) in TURNS.items()]
    turns = draw_turns(rng, ViewContent(seen, cut), s.slots, weights=kinds)
    if 'describe' in s.name:
        instructions = [] if cut else rng.permutation(5)[:s.slots]
        turns = [(GENERAL_INSTRUCTIONS[i], describe(seen), 'instruction') for i in instructions]
    def framed(general, answer): return mark_answer(answer, general, there, forced)
    slots = fill_slots(rng, turns, s.slots, s.length, len(seen), s.short, framed)
    images = np.stack([im for im, *_ in views])
    cells = np.tile(np.arange(s.n**2), (len(views), 1))
    return images, np.stack(labels), cells, *slots

def marked_batch(s: Stage, seed: int, i: int, forced: bool) -> list:
    "Make a batch of the marked world, the same whenever it is made"
    rng = np.random.default_rng([seed, 4242, sum(map(ord, s.name)), i])
    rows = [marked_row(rng, s, forced) for _ in range(s.count*s.views)]
    return [torch.from_numpy(np.stack(c)) for c in zip(*rows)]

STAGES = {
    Stage('marked', big=.2, whole=.6, length=32, kinds=SHARP_KINDS): 4,
    Stage('marked-brief', slots=14, length=18, big=.1, whole=.7, short=0., kinds=BRIEF_KINDS): 3,
    Stage('marked-pairs', views=2, length=32, crop=(64, 300), big=.2, pairs=True): 3,
    Stage('marked-describe', crop=(200, 448), slots=3, length=72, big=.2, whole=.8): 3}
FORCED, MARKED = ([dict(steps=steps, lr=LATE, warm=30, cool=.6, stages=STAGES)] for steps in (500, 300))
UNPAIRED = [p | dict(stages={replace(s, pairs=False): n for s, n in p['stages'].items()})
    for p in TINY.scaled(.28).phases[1:]]
WORLDS = ('marked', 'forced', 'unpaired')
FIRST_SEED = 1_650_000

def world_model(world: str, out: Path) -> LlavaForConditionalGeneration:
    """Return the model with which a world's training begins, in single precision.

    `forced`: `carve-tiny`; `marked`: the model of `forced`; `unpaired`: `carve-tiny` with new layers of
    the decoder."""
    folder = out/'forced'/'model' if world == 'marked' else CHECKPOINTS/'carve-tiny'
    model = LlavaForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    if world == 'unpaired':
        decoder = model.model.language_model
        new = new_model(seed=0).model.language_model
        decoder.layers.load_state_dict(new.layers.state_dict())
        decoder.norm.load_state_dict(new.norm.state_dict())
        for name, p in model.named_parameters(): p.requires_grad_('language_model' in name)
    return model.eval()

def train_world(world: str, out: Path, stop: int|None=None):
    "Train a model of a world, or go on from its checkpoint, and pack it"
    model = world_model(world, out)
    def make(s, seed, i, step):
        return make_batch(s, seed, i) if world == 'unpaired' else marked_batch(s, seed, i, world == 'forced')
    phases = dict(forced=FORCED, marked=MARKED, unpaired=UNPAIRED)[world]
    train(out/world, 'training', nn.ModuleDict(dict(vlm=model)), partial(batch_loss, model), make, phases,
        TINY.parts,
          every=50, stop=stop, workers=0)
    save_model(model, out/world/'model')

def marked_samples(n: int, start: int=FIRST_SEED) -> list:
    "Return n held-out questions for a digit about scenes with a mark: (`Record`, `Mark`) each"
    found = []
    for sample in samples('digit', n, start=start):
        mark = place_mark(np.random.default_rng([4242, int(sample.id.split('-')[1])]), sample.objects)
        if mark: found.append((replace(sample, image=paint_mark(sample.image, mark)), mark))
    return found

TOKENS = 'last', 'noun', 'digit step'

def both_maps(session: Session, sample, forced: bool) -> tuple:
    """Return the rows under the question, and token -> (A_Q, A_G), [layers, patches] each, mean over heads.

    `last`: the last position, and the step of the description that names the mark; `noun`: the last
    content word of both prompts; `digit step`: the step that predicts the digit, and the same step of the
    description."""
    ask = Ask((sample.image,), sample.question, SHORT_ANSWER)
    rows, general = session.capture(ask), session.capture(ask.but(text=GENERAL_INSTRUCTION))
    digit = 3*forced
    def step(r, i): return r.read(step=min(i, len(r.attn) - 1))
    return rows, {
        'last': (step(rows, 0), step(general, 0)),
        'noun': tuple(r.read(query='noun') for r in (rows, general)),
        'digit step': (step(rows, digit), step(general, digit))}

def fused(A_q: Tensor, A_g: Tensor) -> dict[str, Tensor]:
    "Return the raw map, and the contrast with lambda of one mean, summed over layers"
    return dict(raw=A_q.sum(0), contrast=contrast(A_q, A_g, 1., relative=True).sum(0))

def measure_assumptions(vlm: VLM, sample, mark: Mark, forced: bool) -> dict:
    """Return for each token whether both maps peak on the mark, their weight on it, and whether raw map and
    contrast point"""
    session, read = Session(vlm), {}
    rows, maps = both_maps(session, sample, forced)
    on_mark, on_target = (patch_cover(rows.spans[0], box) for box in (mark.box, sample.box))
    for token, (A_q, A_g) in maps.items():
        line = {}
        for name, A in dict(A_Q=A_q, A_G=A_g).items():
            total = A.sum(0)
            line[name] = [int(on_mark[total.argmax()] > 0),
                round(float((total.double() @ on_mark)/total.sum()), 3)]
        line |= {way: int(on_target[S.argmax()] > 0) for way, S in fused(A_q, A_g).items()}
        read[token] = line
    return dict(id=sample.id, answer=str(rows.answer), read=read)

def is_right(answer, sample) -> int:
    "Return whether the answer, without a first sentence on the mark, is the digit"
    return int(str(answer).rpartition('thing.')[2].strip() == sample.answers[0])

def measure_answers(vlm: VLM, sample, mark: Mark, forced: bool) -> dict:
    """Return right answers without a crop, with the true region, and with the crop of each token's raw map
    and contrast"""
    session, method = Session(vlm), Carve()
    ask = method.asked(vlm, sample.image, sample.question)
    rows, maps = both_maps(session, sample, forced)
    true = Oracle.like(method)(session, sample.image, sample.question, box=sample.box)
    right = dict(none=is_right(rows.answer, sample), oracle=is_right(true.answer, sample))
    for token, pair in maps.items():
        for way, S in fused(*pair).items():
            kept = regions(as_saliency(S, rows.spans[0], sample.image), method.p, method.K, rank='peak')
            found = method.crop_out(Look(regions=kept, rows=rows), sample.image, sample.question)
            right[f'{token}, {way}'] = is_right(method.ask_again(session, ask, found).answer, sample)
    return dict(id=sample.id, right=right)

def measure_unpaired(vlm: VLM, sample) -> dict:
    "Return right answers without a crop, and with the true region alone and after the image"
    what = Session(vlm), sample.image, sample.question, sample.box
    both = Oracle.like(Lookup())(*what)
    alone = Oracle.like(Lookup(), final_images='crop')(*what)
    answers = dict(none=both.plain_answer, alone=alone.answer, both=both.answer)
    return dict(id=sample.id, right={k: is_right(a, sample) for k, a in answers.items()})

@call_parse
def run_worlds(
    verb: Annotated[str, 'what to do', dict(choices=['train', 'assume', 'answer'])],
    world: Annotated[str, 'which', dict(choices=[*WORLDS, 'carve-tiny'])], # carve-tiny: measured beside them
    out: Annotated[str, 'folder of the models and records'] = 'trial',
    n: int = 300, # questions
    stop: int = None, # train up to this step
):
    "Train a model of a world, or measure it; the same command goes on where it was stopped"
    torch.set_num_threads(1)
    folder = Path(out)
    if verb == 'train': return train_world(world, folder, stop)
    model = folder/world/'model' if world in WORLDS else world
    name = f'worlds-{verb}-{world}'
    if verb == 'answer' and world in ('unpaired', 'carve-tiny'):
        return run_trial(name, model, out, samples('digit', n, start=FIRST_SEED), measure_unpaired)
    measure = measure_assumptions if verb == 'assume' else measure_answers
    run_trial(name, model, out, marked_samples(n), lambda vlm, pair: measure(vlm, *pair, world == 'forced'))
