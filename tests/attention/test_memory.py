"What a long answer holds of attention: the steps that are read, on the host."
import weakref
import pytest
import torch
from tiny import QUESTION, WIDE
from carve_nb.attention.session import Session
from carve_nb.method.registry import make_method
from carve_nb.models import kernel

LONG = 200


@pytest.fixture
def talking(load):
    "A tiny model that ends no answer before `LONG` tokens"
    vlm = load('llava')
    own = vlm.model.generation_config
    was, own.eos_token_id = own.eos_token_id, None
    yield vlm
    own.eos_token_id = was


@pytest.mark.parametrize(('steps', 'later'), [('first', 0), ('last', 1), ('all', LONG - 1)])
def test_a_pass_leaves_the_device_and_is_kept_if_it_is_read(talking, monkeypatch, steps, later):
    """All rows of a thought of 2,048 tokens stayed on the device until its end, 26 GB on a 7B, though one step of
    them was read"""
    layers, seen, held = [], [], []
    stack, on_pass = kernel.stack_layers, kernel.Recorder.on_pass
    def stacked(weights):
        layers.extend(map(weakref.ref, weights))
        return stack(weights)
    def begin(rec, before):
        seen.append((len(layers), sum(layer() is not None for layer in layers)))
        held.append(sum(passed.attn.nbytes for passed in rec.passes if passed.attn is not None))
        on_pass(rec, before)
    monkeypatch.setattr(kernel, 'stack_layers', stacked)
    monkeypatch.setattr(kernel.Recorder, 'on_pass', begin)
    rows = talking.forward(talking.prompt(WIDE, QUESTION), steps=steps, max_new_tokens=LONG, answer=True)
    assert len(rows.tokens) == len(seen) == LONG
    read = 1 if steps == 'first' else LONG
    assert seen == [(min(i, read)*talking.n_layers, 0) for i in range(LONG)]
    row = rows.attn[0].nbytes
    assert held[1:] == [held[1] + row*min(i, later) for i in range(LONG - 1)]
    assert torch.equal(rows.attn, talking.capture(WIDE, QUESTION, steps='all', max_new_tokens=LONG).only(None, steps).attn)


@pytest.mark.parametrize('name', ['carve', 'lookup', 'rel-att', 'fusion-crop', 'question-only', 'carve:steps=last', 'paper'])
def test_methods_keep_what_they_read(talking, name):
    "A method whose answer is long keeps no more than under a short one, unless it pairs the steps"
    def kept(n):
        session = Session(talking)
        method = make_method(name, max_new_tokens=n)
        result = method(session, WIDE, QUESTION)
        assert len(result.plain_answer.tokens) == n
        return sum(getattr(kept.value, 'nbytes', 0) for kept in session.kept.values())
    paired = name in ('carve:steps=last', 'paper')
    assert (kept(40) > kept(4)) == paired
