"""Conformance of the stock processors with torchvision, beside the same images prepared by PIL: spans,
pixels, rows.

`make test-torchvision` runs it with the torchvision that matches torch."""

import copy
import pytest
from tiny import QUESTION, TALL, WIDE, check_stock_ids
from transformers import AutoImageProcessor
from carve_nb.core.text import SHORT_ANSWER
from recipes.tiny_models import HERE, NEED_TORCHVISION

pytest.importorskip('torchvision', reason='`make test-torchvision` runs it')
pytestmark = pytest.mark.filterwarnings('ignore::UserWarning')
# Two libraries resize the same 8 bits and round differently: 6e-4 on average at most, of values in standard
# deviations.
# The tiny models have random weights and steep rows: the largest difference seen was 2.7e-2, and the bound of
# rows was
# set after seeing it, for this prompt (6.0e-2 was seen with nothing behind the question). It guards against a
# change; it
# does not show that the two agree.
PIXELS, QUERIES = 0.002, 0.05


@pytest.fixture(params=[n for n in HERE if n not in NEED_TORCHVISION])  # the others: see the Makefile
def pair(request, load, folders):
    "The model with the stock processor, and the same model with images prepared by PIL"
    vlm = load(request.param)
    twin = copy.copy(vlm)
    twin.processor = copy.copy(vlm.processor)
    twin.processor.image_processor = AutoImageProcessor.from_pretrained(folders(request.param), backend='pil')
    return vlm, twin


@pytest.mark.parametrize('image', [WIDE, TALL], ids=['wide', 'tall'])
def test_spans_pixels_rows(pair, image, record_property):
    vlm, twin = pair
    assert 'torchvision' in str(type(vlm.processor.image_processor).__mro__).lower(), type(
        vlm.processor.image_processor
    )
    a, b = (v.prompt(image, QUESTION) for v in pair)
    assert [(s.view, s.grid, s.tokens.tolist()) for s in a.spans] == [
        (s.view, s.grid, s.tokens.tolist()) for s in b.spans
    ]
    x, y = (p.inputs['pixel_values'].float() for p in (a, b))
    assert x.shape == y.shape
    pixels = float((x - y).abs().mean())
    rows = [
        v.capture(image, QUESTION, steps='last', suffix=SHORT_ANSWER, max_new_tokens=1).attn for v in pair
    ]
    far = float((rows[0] - rows[1]).abs().max())
    print(f'{vlm.family.name}: pixels {pixels:.1e}, rows {far:.1e}')
    assert pixels <= PIXELS and far <= QUERIES, (pixels, far)


def test_stock_ids(pair):
    check_stock_ids(pair[0], pair[0].processor)
