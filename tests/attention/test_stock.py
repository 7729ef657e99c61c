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


@pytest.mark.parametrize('name', NAMES)
def test_every_family_eager(name, load):
    "Beside the eager kernel of each family's own file"
    vlm = load(name)
    inputs = vlm.to_device(vlm.prompt(WIDE, QUESTION))
    config, rows = vlm.model.config.get_text_config(), {}
    for kernel in 'sdpa', 'eager':
        config._attn_implementation = kernel
        try:
            with record_attention(vlm.model, vlm.processor, inputs, WIDE) as rows[kernel], torch.no_grad():
                vlm.model(**inputs)
            assert config._attn_implementation == kernel
        finally: config._attn_implementation = 'sdpa'
    assert (rows['eager'].attn - rows['sdpa'].attn).abs().max() < 1e-5


def test_processor_is_the_callers(load):
    "A chat template that a family lacks is not written into the caller's processor"
    vlm = load('paligemma')
    processor = vlm.processor.__class__(vlm.processor.image_processor, vlm.processor.tokenizer)
    assert processor.chat_template is None
    assert VLM(vlm.model, processor).prompt(WIDE, QUESTION).text and processor.chat_template is None


def test_steps(load):
    "The first, the last and all rows of an answer of several tokens"
    vlm = load('llava')
    first, last, every = (vlm.capture(WIDE, QUESTION, steps=steps, max_new_tokens=4).attn
        for steps in ('first', 'last', 'all'))
    assert len(every) >= 3 and torch.equal(first, every[:1]) and torch.equal(last, every[-1:])

