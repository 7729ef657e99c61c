"Rows of a stock generation, one call on every family: those that `VLM.capture` reads, and nothing left behind."
import warnings
import pytest, torch, transformers
from carve_nb.attention.capture import VLM
from carve_nb.attention.stock_recording import record_attention
from carve_nb.core.errors import CarveError
from carve_nb.models.tiny_recipes import RECIPES
from test_families import QUESTION, TALL, WIDE, settings

pytestmark = pytest.mark.filterwarnings('ignore:__array__')
KW = dict(max_new_tokens=3, do_sample=False)


@pytest.fixture(scope='module', autouse=True)
def quiet():
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()


@pytest.mark.parametrize('name', list(RECIPES))
def test_every_family(name, load):
    vlm = load(name)
    images = [WIDE] if 'several pictures' in vlm.family.why_not else [WIDE, TALL]
    want, inputs = vlm.capture(images, QUESTION, steps='all', suffix=None, max_new_tokens=3), vlm.prompt(images, QUESTION).inputs
    plain, before = vlm.model.generate(**inputs, **KW), settings(vlm)
    with record_attention(vlm.model, vlm.processor, inputs, images, question=QUESTION) as rows: out = vlm.model.generate(**inputs, **KW)
    assert torch.equal(out, plain) and rows.tokens == want.tokens and rows.layers == want.layers
    for k in 'attn', 'mass', 'question': assert (getattr(rows, k) - getattr(want, k)).abs().max() < 1e-6, k
    assert [(s.grid, s.box, s.view) for s in rows.spans] == [(s.grid, s.box, s.view) for s in want.spans]
    assert rows.saliency(image=len(images) - 1).values.shape == tuple(next(s for s in rows.spans if s.image == len(images) - 1).grid)
    assert settings(vlm) == before and 'generate' not in vars(vlm.model)


@pytest.mark.parametrize('name', list(RECIPES))
def test_every_family_eager(name, load):
    "Beside the eager kernel of each family's own file"
    vlm = load(name)
    inputs = vlm.prompt(WIDE, QUESTION).inputs
    config, rows = vlm.model.config.get_text_config(), {}
    for kernel in 'sdpa', 'eager':
        config._attn_implementation = kernel
        try:
            with record_attention(vlm.model, vlm.processor, inputs, WIDE) as rows[kernel], torch.no_grad(): vlm.model(**inputs)
            assert config._attn_implementation == kernel
        finally: config._attn_implementation = 'sdpa'
    assert (rows['eager'].attn - rows['sdpa'].attn).abs().max() < 1e-5


def test_processor_is_the_callers(load):
    "A chat template that a family lacks is not written into the caller's processor"
    vlm = load('paligemma')
    processor = vlm.processor.__class__(vlm.processor.image_processor, vlm.processor.tokenizer)
    assert processor.chat_template is None
    assert VLM(vlm.model, processor).prompt(WIDE, QUESTION).text and processor.chat_template is None


def test_one_picture_too_few(load):
    vlm = load('llava')
    inputs = vlm.prompt([WIDE, TALL], QUESTION).inputs
    with pytest.raises(CarveError, match='do not fill'), record_attention(vlm.model, vlm.processor, inputs, [WIDE]): pass
