"A process that asks on and on does not grow: tensors, hooks, objects, memory."

import gc
import itertools
import os
import threading
from pathlib import Path
import numpy as np
import pytest
import torch
from faults.clean import state
from PIL import Image
from carve_nb.attention.session import Session
from carve_nb.data.drawing import COLORS, SHAPES
from carve_nb.method.carve import Carve
from carve_nb.models import model as models
from carve_nb.models.prompts import Ask


def counts(vlm):
    "What must be the same later on, and how many objects there are"
    gc.collect()
    kinds = [type(o) for o in gc.get_objects()]
    tensors = sum(issubclass(kind, torch.Tensor) for kind in kinds)
    return (str(state(vlm)), tensors, threading.active_count(), len(models._locks)), len(kinds)


def ask_on(vlm, start, stop, one):
    """Another image and another question each time: answers, captures, and the whole method, alone and in one
    session"""
    words = itertools.cycle(f'What is the {s} {e}?' for s in (*COLORS, 'same') for e in SHAPES)
    for i, question in zip(range(stop), words):
        if i < start:
            continue
        image = Image.fromarray(np.random.default_rng(i).integers(0, 256, (48, 64, 3), np.uint8))
        if i % 10 == 9:
            Carve(max_new_tokens=3)(one if i % 20 == 9 else vlm, image, question)
        elif i % 5 == 3:
            vlm.capture(image, question, steps='all', max_new_tokens=3)
        elif i % 10 == 5:
            Session(vlm).ask(Ask((image, image), question, max_new_tokens=3))
        else:
            vlm.ask(image, question, max_new_tokens=3)
        assert sum(getattr(stored.value, 'nbytes', 0) for stored in one.kept.values()) <= one.megabytes * 1e6


@pytest.mark.filterwarnings('ignore:.*does not know')
@pytest.mark.parametrize(
    'name, start, end, objects',
    [
        ('llava', 40, 100, 60),
        *(pytest.param(name, 200, 1000, 500, marks=pytest.mark.soak) for name in ('llava', 'carve-tiny')),
    ],
)
def test_thousand_asks(name, start, end, objects, load, figure):
    "What is there after a garbage collection, at two numbers of questions"
    vlm = load(name)
    one = Session(vlm)
    one.megabytes = 1
    ask_on(vlm, 0, start, one)
    one.forget()
    (before, few), level = counts(vlm), resident()
    ask_on(vlm, start, end, one)
    assert one.kept
    one.forget()
    (after, more), grown = counts(vlm), resident() - level
    figure(f'{end:,} questions to {name}: megabytes and objects more', [round(grown / 1e6, 1), more - few])
    assert after == before
    assert more - few < objects
    assert end < 1000 or grown < 8e6


def resident():
    "Bytes of this process, on Linux"
    pages = Path('/proc/self/statm')
    return int(pages.read_text().split()[1]) * os.sysconf('SC_PAGE_SIZE') if pages.exists() else 0
