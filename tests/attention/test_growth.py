"A process that asks on and on does not grow: tensors, hooks, objects, memory."
import gc
import itertools
import os
import threading
from pathlib import Path
import numpy as np
import pytest
import torch
from PIL import Image
from carve_nb.attention.session import Session
from carve_nb.attention.vlm import VLM
from carve_nb.data.drawing import COLORS, SHAPES
from carve_nb.method.carve import Carve
from carve_nb.models import model as models
from carve_nb.models.kernel import open_hooks

HOOKS = '_forward_hooks', '_forward_pre_hooks', '_backward_hooks', '_state_dict_hooks'


def state(vlm):
    "What must be the same later on"
    gc.collect()
    kinds = [type(o) for o in gc.get_objects()]
    return dict(tensors=sum(issubclass(k, torch.Tensor) for k in kinds), hooks=sum(len(getattr(m, h)) for m in vlm.model.modules() for h in HOOKS),
                threads=threading.active_count(), kernel=vlm.text_config._attn_implementation, open=open_hooks.get(), locks=len(models._locks)), len(kinds)


def ask_on(vlm, start, stop, one):
    "Another image and another question each time: answers, captures, and the whole method, alone and in one session"
    words = itertools.cycle(f'What is the {s} {e}?' for s in (*COLORS, 'same') for e in SHAPES)
    for i, question in zip(range(stop), words):
        if i < start: continue
        image = Image.fromarray(np.random.default_rng(i).integers(0, 256, (48, 64, 3), np.uint8))
        if i%10 == 9: Carve(max_new_tokens=3).answer(one.other([image]) if i%20 == 9 else Session(vlm, image), question)
        elif i%5 == 3: vlm.capture(image, question, steps='all', max_new_tokens=3)
        elif i%10 == 5: Session(vlm, [image, image]).ask(question, max_new_tokens=3)
        else: vlm.ask(image, question, max_new_tokens=3)
        assert sum(t.nbytes for r in one.captures.values() for t in (r.attn, r.question)) <= one.megabytes*1e6


def bounded(vlm, megabytes):
    session = Session(vlm, Image.new('RGB', (64, 48)))
    session.megabytes = megabytes
    return session


@pytest.mark.filterwarnings('ignore:.*does not know')
def test_sixty_asks(load):
    vlm, one = load('llava'), bounded(load('llava'), 1)
    ask_on(vlm, 0, 40, one)
    one.forget()
    before, objects = state(vlm)
    ask_on(vlm, 40, 100, one)
    assert one.captures
    one.forget()
    after, more = state(vlm)
    assert after == before
    assert more - objects < 60, f'{more - objects} objects more after 60 questions'


def resident():
    "Bytes of this process, on Linux"
    pages = Path('/proc/self/statm')
    return int(pages.read_text().split()[1])*os.sysconf('SC_PAGE_SIZE') if pages.exists() else 0


@pytest.mark.soak
@pytest.mark.filterwarnings('ignore:.*does not know')
@pytest.mark.parametrize('name', ['llava', 'carve-tiny'])
def test_thousand_asks(name, load, figure):
    "Memory is compared after a garbage collection, at 200 and at 1,000 questions"
    vlm = VLM.from_pretrained('carve-tiny') if name == 'carve-tiny' else load(name)
    one = bounded(vlm, 2)
    ask_on(vlm, 0, 200, one)
    (before, objects), level = state(vlm), resident()
    ask_on(vlm, 200, 1000, one)
    (after, more), grown = state(vlm), resident() - level
    kept = len(one.captures)*4*2   # tensors of the captures that the session keeps
    figure(f'1,000 questions to {name}: megabytes grown from question 200 on', round(grown/1e6, 1))
    figure(f'1,000 questions to {name}: objects more', more - objects)
    assert {**after, 'tensors': 0} == {**before, 'tensors': 0} and abs(after['tensors'] - before['tensors']) <= kept
    assert grown < 8e6 and more - objects < 500
