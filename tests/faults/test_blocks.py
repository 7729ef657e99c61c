"""A model is left as it was found: users' hooks and modes, exceptions and Ctrl-C in every block of the
package, a notebook, threads."""
import contextlib
import random
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import cycle
from pathlib import Path
import numpy as np
import pytest
import torch
from tiny import User, image
from carve_nb.attention.edits import Edit, applying, decoder_layers, layer_inputs
from carve_nb.attention.session import Session
from carve_nb.attention.vlm import VLM, record_attention
from carve_nb.method.carve import Carve
from carve_nb.method.edits.contrast import DoLa
from carve_nb.method.edits.fusion_review import scaled_features
from carve_nb.method.edits.raised_tokens import query_rows
from carve_nb.method.vicrop import grad_rows, pixel_grads
from carve_nb.models.kernel import AttentionHook, hooked, recording
from carve_nb.models.prompts import Ask
from carve_nb.runs.serve import stoppable
from carve_nb.studies.measure import mask_image_tokens
from recipes.records import eager_kernel
from .clean import differences, snapshot, tensor_bytes

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
    handles = [layer.register_forward_hook(lambda *a: ran.append('layer')),
        model.register_forward_pre_hook(lambda m, a, kw: ran.append('model') or (a, kw), with_kwargs=True),
        layer.self_attn.q_proj.register_forward_hook(lambda m, a, out: out*.5)]
    try:
        model.train(), model.lm_head.eval()
        before = snapshot(vlm)
        bent = vlm.capture(IMAGE, QUESTION).attn
        assert {*ran} == {'model', 'layer'} and torch.equal(bent[:, 0], plain.attn[:, 0])
        assert not torch.equal(bent[:, 1], plain.attn[:, 1])
        for f in (lambda: Carve(max_new_tokens=2)(vlm, IMAGE, QUESTION),
                lambda: vlm.ask(IMAGE, QUESTION, max_new_tokens=2),
                lambda: grad_rows(vlm, vlm.prompt(IMAGE, QUESTION), [1])):
            ran.clear(), f()
            assert 'layer' in ran and differences(before, snapshot(vlm)) == {}
    finally:
        for handle in handles: handle.remove()
        model.eval()
    assert torch.equal(vlm.capture(IMAGE, QUESTION).attn, plain.attn)


@pytest.mark.case(41)
@pytest.mark.parametrize('how', ['in place', 'one layer'])
def test_compiled(folders, load, how):
    """Whatever reads or changes attention runs a compiled model as it was before: rows and answers are the
    same"""
    vlm = VLM.from_pretrained(folders('llava'))
    plain = load('llava')
    if how == 'in place': vlm.model.compile(backend='eager')
    else:
        vlm.model.model.language_model.layers[2] = torch.compile(vlm.model.model.language_model.layers[2],
            backend='eager')
    def edit(vlm):
        with applying(vlm, Edit([0], heads=lambda layer, out, rows: 0*out)): return vlm.ask(IMAGE, QUESTION,
                max_new_tokens=2).tokens
    def carve(vlm): return Carve(max_new_tokens=2)(vlm, IMAGE, QUESTION).answer.tokens
    for act in edit, carve: assert act(vlm) == act(plain)
    for act in lambda vlm: vlm.capture(IMAGE, QUESTION).attn, lambda vlm: grad_rows(vlm,
            vlm.prompt(IMAGE, QUESTION)).attn:
        assert torch.allclose(act(vlm), act(plain), atol=1e-6)


@pytest.mark.parametrize('part', ['model', 'decoder', 'layers', pytest.param('forward', marks=pytest.mark.soak)])
def test_compiled_parts(part, folders):
    "A block around one pass of a model of which a part is compiled; its first trace takes ten seconds"
    user = User(VLM.from_pretrained(folders('llava')), [IMAGE])
    def one_pass(): user.model(**user.inputs)     # a generation compiles for each length
    want, inner = user.record(one_pass), user.model.model
    compiled = partial(torch.compile, backend='eager')
    if part == 'forward': user.model.forward = compiled(user.model.forward)
    if part == 'decoder': inner.language_model = compiled(inner.language_model)
    if part == 'layers':
        for layer in inner.language_model.layers: layer.compile(backend='eager')
    if part == 'model': user.model = compiled(user.model)
    assert (user.record(one_pass).attn - want.attn).abs().max() < 1e-5


# -- Ctrl-C and exceptions

def edited(vlm):
    p = vlm.prompt(IMAGE, QUESTION)
    with applying(vlm, Edit(vlm.layers, weights=lambda l, w, r: w.flip(-1))): vlm.generate(p, 2)


def blinded(vlm):
    p = vlm.prompt(IMAGE, QUESTION)
    for only in (False, True):
        with mask_image_tokens(vlm, p, 1, only): vlm.generate(p, 2)


def shared(vlm):
    session, ask = Session(vlm), Ask((IMAGE,), QUESTION, max_new_tokens=2)
    session.capture(ask)
    session.generate(session.prompt(ask.but(text='Where?')), 1, from_prefix=False)
    session.capture(ask.but(images=(IMAGE, OTHER)), 'last')


def dimmed(vlm):
    p = vlm.prompt(IMAGE, QUESTION)
    with scaled_features(decoder_layers(vlm.model)[1], p.spans[0].tokens, .1, len(p)): vlm.generate(p, 2)


def watched(vlm):
    p = vlm.prompt(IMAGE, QUESTION)
    guide = DoLa().edit(Session(vlm), DoLa().asked(vlm, IMAGE, QUESTION), p)
    with layer_inputs(vlm, [0, 2], lambda l, x: None), guide.block: vlm.generate(p, 2, guide.processors)


def stock_pass(vlm): vlm.model(**vlm.to_device(vlm.prompt(IMAGE, QUESTION)), use_cache=False)


def stock(vlm):
    "A generation of the user's own, recorded"
    inputs = vlm.prompt(IMAGE, QUESTION).inputs
    with record_attention(vlm.model, vlm.processor, inputs, IMAGE):
        vlm.model.generate(**inputs, max_new_tokens=2, do_sample=False)


def inside(block):
    "A stock pass inside a block"
    def run(vlm):
        with torch.no_grad(), block(vlm): stock_pass(vlm)
    return run


BOTH, ONE = ('llava', 'qwen2_5_vl'), ('llava',)
BLOCKS = {   # what it runs, on which families
    'recording': (inside(lambda v: recording(v.model, [0, 5], rows=(1, -1))), ONE),
    'nested': (inside(lambda v: nested(recording(v.model, [1]), hooked(AttentionHook(), v.decoder),
        recording(v.model))), ONE),
    'capture': (lambda v: v.capture(IMAGE, QUESTION), ONE),
    'all steps': (lambda v: v.capture(IMAGE, QUESTION, steps='all', max_new_tokens=2), BOTH),
    'ask': (lambda v: v.ask(IMAGE, QUESTION, max_new_tokens=2), BOTH), 'sharing': (shared, BOTH),
    'editing': (edited, BOTH), 'blind': (blinded, ONE), 'dimmed': (dimmed, ONE),
    'watched': (watched, ONE), 'stock': (stock, BOTH),
    'grad_rows': (lambda v: grad_rows(v, v.prompt(IMAGE, QUESTION)), BOTH),
    'pixels': (lambda v: pixel_grads(v, v.prompt(IMAGE, QUESTION)), BOTH),
    'query rows': (lambda v: query_rows(v, v.prompt(IMAGE, QUESTION), v.layers), ONE),
    'tower': (inside(lambda v: hooked(AttentionHook(), v.model.get_encoder(modality='image'))), BOTH),
    'eager': (inside(lambda v: eager_kernel(v.model)), ONE),
    'stoppable': (inside(lambda v: stoppable(v.model, threading.Event())), ONE)}


@contextlib.contextmanager
def nested(*blocks):
    with contextlib.ExitStack() as stack: yield [stack.enter_context(b) for b in blocks]


@contextlib.contextmanager
def failing(vlm, layer, error, call):
    "Let a call of a decoder layer fail; yields the list of calls"
    seen = []
    def count(module, args):
        seen.append(1)
        if len(seen) == call: raise error
    handle = decoder_layers(vlm.model)[layer].register_forward_pre_hook(count)
    try: yield seen
    finally: handle.remove()


def fails_clean(vlm, run, calls=(0, -1)):
    """Let a run fail at the first, a middle and the last layer, in its first pass and its last; the model and
    this process are as before"""
    # stock models hang hooks of their own at their first pass
    plain = vlm.ask(IMAGE, QUESTION, max_new_tokens=2)
    errors = cycle((KeyboardInterrupt, RuntimeError))
    before = snapshot(vlm)
    assert_clean(before)
    for layer in sorted({vlm.layers[0], vlm.layers[len(vlm.layers)//2], vlm.layers[-1]}):
        with failing(vlm, layer, None, 0) as seen: run(vlm)
        for call in sorted({range(1, len(seen)+1)[c] for c in calls}) if seen else ():
            error = next(errors)
            with pytest.raises(error), failing(vlm, layer, error, call): run(vlm)
            assert differences(loose(before), loose(snapshot(vlm))) == {}, (layer, error, call)
    assert vlm.ask(IMAGE, QUESTION, max_new_tokens=2) == plain and differences(before, snapshot(vlm)) == {}


def assert_clean(found):
    "Nothing of ours is open or in use"
    assert found['lock'] and found['gradients']
    assert not any(found['context'].values()) and not any('+' in str(k) for k in found['kernels'])


def loose(found):
    "Without what every pass of the stock model sets anew"
    return {k: {n: v for n, v in o.items() if n != 'rope_deltas'} if isinstance(k, tuple) and k[1] == 'own'
        else o for k, o in found.items()}


@pytest.mark.case(42)
@pytest.mark.parametrize('name', BLOCKS)
def test_blocks_leave_nothing(load, name):
    "Every block of the package that touches a model"
    run, families = BLOCKS[name]
    for family in families: fails_clean(load(family), run)


@pytest.mark.case(42)
def test_memory_after_failures(load):
    "Tensors alive after twelve failed runs are those before; on a GPU also what the allocator holds"
    vlm = load('llava')
    held = torch.cuda.memory_allocated if torch.cuda.is_available() else int
    def fail():
        for name, call in (('all steps', 2), ('sharing', 2), ('editing', 2), ('grad_rows', 1)):
            for layer in (0, 3, 5):
                with pytest.raises(KeyboardInterrupt), failing(vlm, layer, KeyboardInterrupt, call):
                    BLOCKS[name][0](vlm)
    fail()
    before = tensor_bytes(), held()
    fail()
    assert (tensor_bytes(), held()) == before


# -- a real notebook

SETUP = '''
import sys, torch; torch.set_num_threads(1)
sys.path.insert(0, {tests!r})
from faults.clean import differences, snapshot
from carve_nb.attention.session import Session
from carve_nb.method.carve import Carve
from carve_nb.attention.vlm import VLM
vlm, image, ask = VLM.from_pretrained({folder!r}), {image!r}, 'Is there a cat?'
def answers(): return [vlm.capture(image, ask, steps='all').attn.tolist(), str(vlm.ask(image, ask))]
plain = answers()
before = snapshot(vlm)
'''
LOOPS = [('capture', .3, 'while True: vlm.capture(image, ask, steps="all")'),
    ('method', .5, 'while True: Carve()(vlm, image, ask)'),
         ('method again', .7, 'while True: Carve.official()(vlm, image, ask)'),
         ('session', .4, 'session = Session(vlm)\nasked = Carve().asked(vlm, image, ask)\nwhile True: session.generate(session.prompt(asked))')]


def run_cell(client, code, interrupt=None):
    """What a cell printed, and the name of its error; it is interrupted some time after it said that it has
    begun"""
    said, ended = [], {}
    def hear(m):
        if m['msg_type'] == 'stream': said.append(m['content']['text'])
        if m['msg_type'] == 'error': ended.update(m['content'])
        if interrupt and 'begun' in ''.join(said): interrupt.pop().start()
    client.execute_interactive(code, timeout=600, output_hook=hear, store_history=False)
    return ''.join(said), ended.get('ename'), '\n'.join(ended.get('traceback', ()))


@pytest.mark.case(42)
def test_ctrl_c_in_a_notebook(folders, tmp_path, forked_kernels):
    """A kernel is interrupted in the middle of looks; in the same kernel the model is clean and answers as
    before. Of four signals one may come inside `contextlib` itself, where nothing can be put back;
    `test_ctrl_c_at_random_moments` measures how often"""
    from jupyter_client import manager
    IMAGE.save(tmp_path/'p.png')
    left = []
    km, client = manager.start_new_kernel(kernel_name='python3', startup_timeout=600)
    try:
        said, error, why = run_cell(client,
            SETUP.format(tests=str(Path(__file__).parents[1]), folder=str(folders('qwen2_5_vl')),
                image=str(tmp_path/'p.png')))
        assert error is None, why
        for name, wait, loop in LOOPS:
            timer = [threading.Timer(wait, km.interrupt_kernel)]
            said, error, why = run_cell(client, f'print("begun", flush=True)\n{loop}', timer)
            # where IPython cannot format the frame that was interrupted, it prints Python's own traceback and
            # sends no error
            assert 'KeyboardInterrupt' in (error or said), (name, said, why)
            said, error, why = run_cell(client,
                'print(answers() == plain, differences(before, snapshot(vlm)))\nbefore = snapshot(vlm)')
            found = said.splitlines()[-1:]
            assert found and found[0].startswith('True '), (name, wait, said, why)
            if found != ['True {}']: left.append((name, wait, found))
        assert len(left) < 2, left
    finally:
        client.stop_channels()
        km.shutdown_kernel(now=True)


@pytest.mark.case(42)
@pytest.mark.soak
def test_ctrl_c_at_random_moments(load, figure):
    """Signals at random moments of short runs: the share that left anything behind. What remains are moments
    inside `contextlib` and `torch.no_grad` themselves"""
    vlm = load('qwen2_5_vl')
    rng = random.Random(0)
    left = []
    hits = 0
    names = 'capture', 'all steps', 'ask', 'sharing', 'editing', 'grad_rows'
    took = {}
    for n in names:
        BLOCKS[n][0](vlm)
        start = time.perf_counter()
        BLOCKS[n][0](vlm)
        took[n] = time.perf_counter() - start
    vlm.ask(IMAGE, QUESTION, max_new_tokens=2)
    before = snapshot(vlm)
    was = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        for i in range(1000):
            name = names[i % len(names)]
            try:
                signal.setitimer(signal.ITIMER_REAL, 1e-4 + rng.random()*took[name])
                BLOCKS[name][0](vlm)
                signal.setitimer(signal.ITIMER_REAL, 0)
                continue
            except KeyboardInterrupt: hits += 1
            if d := differences(loose(before), loose(snapshot(vlm))):
                left.append((name, sorted(map(str, d))))
                torch.set_grad_enabled(True)
                before = snapshot(vlm)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, was)
        torch.set_grad_enabled(True)
    figure('interrupts', hits), figure('interrupts that left something', len(left))
    assert hits > 300 and len(left) <= hits/100, left


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
        live = grad_rows(vlm, vlm.prompt(image, question), [1])
        plain = vlm.ask(image, question, max_new_tokens=2)
        return np.hstack([r.saliency.values.ravel(), live.attn.detach().numpy().ravel(), r.answer.tokens,
            plain.tokens])
    alone, before = [work(*o) for o in pair], snapshot(vlm)
    def enter(module, args):
        inside.append(threading.get_ident())
        met.append(len({*inside}))
    def leave(module, args, out): inside.remove(threading.get_ident())
    handles = [layers[0].register_forward_pre_hook(enter), layers[1].register_forward_hook(leave)]
    try:
        with ThreadPoolExecutor(2) as pool:
            together = [*pool.map(lambda o: [work(*o) for _ in range(3)], pair)]
    finally:
        for handle in handles: handle.remove()
    assert {*met} == {1}
    for want, found in zip(alone, together): np.testing.assert_allclose(found, [want]*3, rtol=1e-4, atol=1e-6)
    vlm.ask(IMAGE, QUESTION, max_new_tokens=2)
    assert differences(loose(before), loose(snapshot(vlm))) == {}
