"What a long answer holds of attention: the steps that are read, on the host."

import weakref
import pytest
from tiny import QUESTION, WIDE
from carve_nb.attention.session import Session
from carve_nb.method.registry import make_method
from carve_nb.models import kernel

LONG = 200


@pytest.fixture
def talking(load):
    "A tiny model that ends no answer before `LONG` tokens"
    vlm = load('llava')
    config = vlm.model.generation_config
    was, config.eos_token_id = config.eos_token_id, None
    yield vlm
    config.eos_token_id = was


def test_a_pass_leaves_the_device(talking, monkeypatch):
    "All rows of a thought of 2,048 tokens stayed on the device until its end, 26 GB on a 7B"
    layers, alive, stack = [], [], kernel.stack_layers

    def stacked(weights):
        alive.append(sum(layer() is not None for layer in layers))
        layers.extend(map(weakref.ref, weights))
        return stack(weights)

    monkeypatch.setattr(kernel, 'stack_layers', stacked)
    rows = talking.capture(WIDE, QUESTION, steps='last', max_new_tokens=LONG)
    assert alive == [0] * LONG and len(rows.attn) == 1


@pytest.mark.parametrize(
    'name', ['carve', 'lookup', 'rel-att', 'fusion-crop', 'question-only', 'carve:steps=last', 'paper']
)
def test_methods_keep_what_they_read(talking, name):
    "A method whose answer is long keeps no more than under a short one, unless it pairs the steps"

    def kept_bytes(n):
        session = Session(talking)
        method = make_method(name, max_new_tokens=n)
        result = method(session, WIDE, QUESTION)
        assert len(result.plain_answer.tokens) == n
        return sum(getattr(reading.value, 'nbytes', 0) for reading in session.kept.values())

    paired = name in ('carve:steps=last', 'paper')
    assert (kept_bytes(40) > kept_bytes(4)) == paired
