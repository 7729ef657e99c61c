"Whatever is written in a question: images stay where they are, nobody else speaks, or it is refused; and saved rows are what was saved, or refused."
import tempfile
from pathlib import Path
import numpy as np
import pytest, torch
from hypothesis import HealthCheck, given, settings, strategies as st
from PIL import Image
from carve_nb.core.errors import CaptureError, PromptError
from carve_nb.attention.rows import AttentionRows
from carve_nb.models.prompts import BREAK, escape_text
from carve_nb.models.model import Answer
from carve_nb.models.image_tokens import ImageSpan
from faults.clean import special_and_image

IMAGE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))
WORDS = ('<image>', '<|image_pad|>', '<|vision_start|>', '<|vision_end|>', '<|im_start|>', '<|im_end|>', '<|endoftext|>', '</s>', '<pad>',
         '<|video_pad|>', 'USER:', 'ASSISTANT:', 'user', 'assistant', '<', '>', '|', '<|', '|>', ':', '\n', ' ', BREAK, 'image', 'USE', 'R:', '<ima', 'ge>')
texts = st.lists(st.sampled_from(WORDS) | st.text(max_size=6), min_size=1, max_size=8).map(''.join)
calm = settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
quick = settings(calm, max_examples=settings().max_examples//4)


@pytest.fixture(scope='module', params=['llava', 'qwen2_5_vl'])
def model(request, load):
    vlm = load(request.param)
    plain = special_and_image(vlm, vlm.prompt(IMAGE, 'Why?'))
    yield vlm, plain
    vlm.escape = False


@quick
@given(texts)
def test_images_stay(model, text):
    "Refused, or every image token and every special token is where it is in a plain question"
    vlm, plain = model
    vlm.escape = False
    try: p = vlm.prompt(IMAGE, text)
    except PromptError: return
    assert special_and_image(vlm, p) == plain and p.asked == text.strip()


@quick
@given(texts)
def test_defused(model, text):
    "With `escape` only what is empty or cannot be encoded is refused; what is asked differs by zero-width spaces alone"
    vlm, plain = model
    vlm.escape = True
    try: p = vlm.prompt(IMAGE, text)
    except PromptError as e:
        assert 'is empty' in str(e) or 'UTF-8' in str(e), (text, e)
        return
    assert special_and_image(vlm, p) == plain and p.asked.replace(BREAK, '') == text.strip().replace(BREAK, '')
    assert escape_text(vlm.processor, p.asked) == p.asked


def made(T, L, H, w, h, seed):
    "Rows that never were attention"
    g = torch.Generator().manual_seed(seed)
    attn, asked = torch.rand(T, L, H, w*h, generator=g), torch.rand(2, L, H, w*h, generator=g)
    span = ImageSpan(torch.arange(3, 3+w*h), (h, w), (0., 0., 9.5, 9.))
    return AttentionRows(attn, [*range(L)], [1]*T, [span], asked, ['what', ' is'], Answer('red', [1]*T, -.5), dict(question='w?', sizes=[[9, 9]]))


@quick
@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.integers(1, 4), st.integers(1, 4), st.integers(0, 9), st.data())
def test_saved_rows(T, L, H, w, h, seed, data):
    "Read again as they were; a file that was cut anywhere is refused"
    rows = made(T, L, H, w, h, seed)
    with tempfile.TemporaryDirectory() as d:
        path = Path(d)/'r.safetensors'
        rows.save(path)
        back = AttentionRows.load(path)
        assert torch.equal(back.attn, rows.attn) and torch.equal(back.question, rows.question) and repr(back) == repr(rows) and repr(back.spans) == repr(rows.spans)
        raw = path.read_bytes()
        path.write_bytes(raw[:data.draw(st.integers(0, len(raw) - 1))])
        with pytest.raises(CaptureError): AttentionRows.load(path)
