"""Conformance of the stock processors with torchvision, beside the same pictures prepared by PIL: spans, pixels, rows.

`make test-torchvision` runs it with the torchvision that matches torch; without one it is skipped, and says so."""
import copy
import pytest, torch
from transformers import AutoImageProcessor
from carve_nb.models.tiny_recipes import RECIPES
from test_families import QUESTION, TALL, WIDE

pytest.importorskip('torchvision', reason='torchvision is an extra')
pytestmark = pytest.mark.filterwarnings('ignore')
# Two libraries resize the same 8 bits and round differently: 6e-4 on average at most, of values in standard deviations.
# The tiny models have random weights and steep rows: the largest difference seen was 2.7e-2, and the bound of rows was
# set after seeing it. It guards against a change; it does not show that the two agree.
PIXELS, ROWS = .002, .05


@pytest.fixture(params=list(RECIPES))
def pair(request, load, folders):
    "The model with the stock processor, and the same model with pictures prepared by PIL"
    vlm = load(request.param)
    twin = copy.copy(vlm)
    twin.processor = copy.copy(vlm.processor)
    twin.processor.image_processor = AutoImageProcessor.from_pretrained(folders(request.param), backend='pil')
    return vlm, twin


@pytest.mark.parametrize('image', [WIDE, TALL], ids=['wide', 'tall'])
def test_spans_pixels_rows(pair, image, record_property):
    vlm, twin = pair
    assert 'torchvision' in str(type(vlm.processor.image_processor).__mro__).lower(), type(vlm.processor.image_processor)
    a, b = (v.prompt(image, QUESTION) for v in pair)
    assert [(s.view, s.grid, s.tokens.tolist()) for s in a.spans] == [(s.view, s.grid, s.tokens.tolist()) for s in b.spans]
    x, y = (p.inputs['pixel_values'].float() for p in (a, b))
    assert x.shape == y.shape
    pixels = float((x - y).abs().mean())
    rows = [v.capture(image, QUESTION, steps='last', max_new_tokens=1).attn for v in pair]
    far = float((rows[0] - rows[1]).abs().max())
    print(f'{vlm.family.name}: pixels {pixels:.1e}, rows {far:.1e}')
    assert pixels <= PIXELS and far <= ROWS, (pixels, far)
