"Rows of a stock generation, one call on every family: those of a `VLM`, and nothing left behind."

import pytest
import torch
from tiny import QUESTION, TALL, WIDE, note
from carve_nb.attention.vlm import VLM, record_attention
from carve_nb.testing import traces
from recipes.tiny_models import HERE as NAMES

pytestmark = pytest.mark.filterwarnings('ignore:__array__')
KW = dict(max_new_tokens=3, do_sample=False)


@pytest.mark.parametrize('name', NAMES)
def test_every_family(name, load):
    vlm = load(name)
    images = [WIDE, TALL]
    want = vlm.capture(images, QUESTION, steps='all', max_new_tokens=3)
    inputs = vlm.to_device(vlm.prompt(images, QUESTION))
    plain = vlm.model.generate(**inputs, **KW)
    before = traces(vlm)
    with record_attention(vlm.model, vlm.processor, inputs, images, question=QUESTION) as rows:
        out = vlm.model.generate(**inputs, **KW)
    assert torch.equal(out, plain) and rows.layers == want.layers
    far = {k: (getattr(rows, k) - getattr(want, k)).abs().max().item() for k in ('attn', 'mass', 'question')}
    note(vlm, stock=max(far.values()))
    assert max(far.values()) < 1e-6, far
    assert [(s.grid, s.box, s.view) for s in rows.spans] == [(s.grid, s.box, s.view) for s in want.spans]
    assert rows.saliency(image=len(images) - 1).values.shape == tuple(rows.raster(len(images) - 1).grid)
    assert traces(vlm) == before and 'generate' not in vars(vlm.model)


def test_processor_is_the_callers(load):
    "A chat template that a family lacks is not written into the caller's processor"
    vlm = load('paligemma')
    processor = vlm.processor.__class__(vlm.processor.image_processor, vlm.processor.tokenizer)
    assert processor.chat_template is None
    assert VLM(vlm.model, processor).prompt(WIDE, QUESTION).text and processor.chat_template is None
