"""A model is left as it was found: users' hooks and modes, exceptions and Ctrl-C in every block of the
package, threads."""

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle
import numpy as np
import pytest
import torch
from tiny import image
from carve_nb.attention.edits import Edit, applying, decoder_layers
from carve_nb.attention.session import Session
from carve_nb.attention.vlm import VLM, record_attention
from carve_nb.method.carve import Carve
from carve_nb.method.vicrop import grad_rows
from carve_nb.models.kernel import AttentionHook, hooked
from carve_nb.models.prompts import Ask
from carve_nb.runs.serve import Deadline, stoppable
from carve_nb.studies.measure import mask_image_tokens
from recipes.tiny_models import make_tiny_checkpoint
from .clean import state, tensor_bytes

QUESTION = 'What animal is this?'
IMAGE = image(80, 64)
OTHER = image(60, 90, 1)
pytestmark = pytest.mark.usefixtures('quiet_models')


# -- hooks, modes, torch.compile


@pytest.mark.case(41)
def test_users_hooks_and_modes(load):
    """Hooks of the user run and stay, also one that changes something; each module keeps its own mode;
    gradients stay on"""
    vlm, ran = load('llava'), []
    plain = vlm.capture(IMAGE, QUESTION)
    layer = decoder_layers(vlm.model)[1]
    model = vlm.model
    handles = [
        layer.register_forward_hook(lambda *a: ran.append('layer')),
        model.register_forward_pre_hook(lambda m, a, kw: ran.append('model') or (a, kw), with_kwargs=True),
        layer.self_attn.q_proj.register_forward_hook(lambda m, a, out: out * 0.5),
    ]
    try:
        model.train(), model.lm_head.eval()
        before = state(vlm)
        bent = vlm.capture(IMAGE, QUESTION).attn
        assert {*ran} == {'model', 'layer'} and torch.equal(bent[:, 0], plain.attn[:, 0])
        assert not torch.equal(bent[:, 1], plain.attn[:, 1])
        Carve(max_new_tokens=2)(vlm, IMAGE, QUESTION)
        grad_rows(vlm, vlm.prompt(IMAGE, QUESTION), [1])
        assert state(vlm) == before
    finally:
        for handle in handles:
            handle.remove()
        model.eval()
    assert torch.equal(vlm.capture(IMAGE, QUESTION).attn, plain.attn)


@pytest.mark.case(41)
def test_compiled_model(tmp_path):
    "It is read as it was before it was compiled; of two layers, since each is compiled"
    vlm = VLM.from_pretrained(make_tiny_checkpoint('llava', tmp_path, layers=2))
    plain = vlm.capture(IMAGE, QUESTION, max_new_tokens=1).attn
    vlm.model.compile(backend='eager')
    assert torch.allclose(vlm.capture(IMAGE, QUESTION, max_new_tokens=1).attn, plain, atol=1e-6)


@pytest.mark.case(41)
def test_compiled_layer(folders, load):
    "Whatever reads or changes attention runs it as it was before: rows and answers are the same"
    vlm, plain = VLM.from_pretrained(folders('llava')), load('llava')
    layers = vlm.model.model.language_model.layers
    layers[2] = torch.compile(layers[2], backend='eager')

    def edit(vlm):
        with applying(vlm, Edit([0], heads=lambda layer, out, rows: 0 * out)):
            return vlm.ask(IMAGE, QUESTION, max_new_tokens=2).tokens

    assert edit(vlm) == edit(plain)
    for read in (
        lambda vlm: vlm.capture(IMAGE, QUESTION, max_new_tokens=1).attn,
        lambda vlm: grad_rows(vlm, vlm.prompt(IMAGE, QUESTION))[0],
    ):
        assert torch.allclose(read(vlm), read(plain), atol=1e-6)


# -- Ctrl-C and exceptions


def edited(vlm):
    p = vlm.prompt(IMAGE, QUESTION)
    with applying(vlm, Edit(vlm.layers, weights=lambda l, w, r: w.flip(-1))):
        vlm.generate(p, 2)


def blinded(vlm):
    p = vlm.prompt(IMAGE, QUESTION)
    for only in (False, True):
        with mask_image_tokens(vlm, p, 1, only):
            vlm.generate(p, 2)


def shared(vlm):
    session, ask = Session(vlm), Ask((IMAGE,), QUESTION, max_new_tokens=2)
    session.capture(ask)
    session.generate(session.prompt(ask.but(text='Where?')), 1, from_prefix=False)
    session.capture(ask.but(images=(IMAGE, OTHER)), 'last')


def stock_pass(vlm):
    vlm.model(**vlm.to_device(vlm.prompt(IMAGE, QUESTION)), use_cache=False)


def stock(vlm):
    "A generation of the user's own, recorded"
    inputs = vlm.prompt(IMAGE, QUESTION).inputs
    with record_attention(vlm.model, vlm.processor, inputs, IMAGE):
        vlm.model.generate(**inputs, max_new_tokens=2, do_sample=False)


def inside(block):
    "A stock pass inside a block"

    def run(vlm):
        with torch.no_grad(), block(vlm):
            stock_pass(vlm)

    return run


BLOCKS = {  # those of single methods are in tests/method/test_methods.py
    'capture': lambda vlm: vlm.capture(IMAGE, QUESTION, steps='all', max_new_tokens=2),
    'sharing': shared,
    'editing': edited,
    'blind': blinded,
    'stock': stock,
    'grad_rows': lambda vlm: grad_rows(vlm, vlm.prompt(IMAGE, QUESTION)),
    'tower': inside(lambda vlm: hooked(AttentionHook(), vlm.model.get_encoder(modality='image'))),
    'stoppable': inside(lambda vlm: stoppable(vlm.model, Deadline(600))),
}


@contextlib.contextmanager
def failing(vlm, layer, error, call):
    "Let a call of a decoder layer fail; yields the list of calls"
    calls = []

    def count(module, args):
        calls.append(1)
        if len(calls) == call:
            raise error

    handle = decoder_layers(vlm.model)[layer].register_forward_pre_hook(count)
    try:
        yield calls
    finally:
        handle.remove()


def fails_clean(vlm, run):
    "Let a run fail at the first, a middle and the last layer, in its first pass and its last"
    plain = vlm.ask(
        IMAGE, QUESTION, max_new_tokens=2
    )  # stock models hang hooks of their own at their first pass
    errors = cycle((KeyboardInterrupt, RuntimeError))
    before = state(vlm)
    assert before['free'] and not before['open']
    for layer in sorted({vlm.layers[0], vlm.layers[len(vlm.layers) // 2], vlm.layers[-1]}):
        with failing(vlm, layer, None, 0) as calls:
            run(vlm)
        for call in {1, len(calls)} if calls else ():
            error = next(errors)
            with pytest.raises(error), failing(vlm, layer, error, call):
                run(vlm)
            assert state(vlm) == before, (layer, error, call)
    assert vlm.ask(IMAGE, QUESTION, max_new_tokens=2) == plain


@pytest.mark.case(42)
@pytest.mark.parametrize('family', ['llava', 'qwen2_5_vl'])
@pytest.mark.parametrize('name', BLOCKS)
def test_blocks_leave_nothing(load, name, family):
    "Every block of the package that touches a model"
    fails_clean(load(family), BLOCKS[name])


@pytest.mark.case(42)
def test_memory_after_failures(load):
    "Tensors alive after twelve failed runs are those before; on a GPU also what the allocator holds"
    vlm = load('llava')
    held = torch.cuda.memory_allocated if torch.cuda.is_available() else int

    def fail():
        for name, call in (('capture', 2), ('sharing', 2), ('editing', 2), ('grad_rows', 1)):
            for layer in (0, 3, 5):
                with pytest.raises(KeyboardInterrupt), failing(vlm, layer, KeyboardInterrupt, call):
                    BLOCKS[name](vlm)

    fail()
    before = tensor_bytes(), held()
    fail()
    assert (tensor_bytes(), held()) == before


# -- threads


@pytest.mark.case(43)
@pytest.mark.parametrize('name', ['llava', 'qwen2_5_vl'])
def test_threads_take_turns(load, name):
    """Passes of two threads never overlap, whatever they call, and each gets what it would get alone; the
    model is as before"""
    vlm, inside, met = load(name), [], []
    layers = decoder_layers(vlm.model)
    pair = [(IMAGE, QUESTION), (OTHER, 'Is it red?')]

    def work(image, question):
        r = Carve(max_new_tokens=2)(vlm, image, question)
        attention, _ = grad_rows(vlm, vlm.prompt(image, question), [1])
        plain = vlm.ask(image, question, max_new_tokens=2)
        return np.hstack(
            [r.saliency.values.ravel(), attention.numpy().ravel(), r.answer.tokens, plain.tokens]
        )

    alone, before = [work(*o) for o in pair], state(vlm)

    def enter(module, args):
        inside.append(threading.get_ident())
        met.append(len({*inside}))

    def leave(module, args, out):
        inside.remove(threading.get_ident())

    handles = [layers[0].register_forward_pre_hook(enter), layers[1].register_forward_hook(leave)]
    try:
        with ThreadPoolExecutor(2) as pool:
            together = [*pool.map(lambda o: [work(*o) for _ in range(3)], pair)]
    finally:
        for handle in handles:
            handle.remove()
    assert {*met} == {1}
    for want, repeated in zip(alone, together):
        np.testing.assert_allclose(repeated, [want] * 3, rtol=1e-4, atol=1e-6)
    assert state(vlm) == before
