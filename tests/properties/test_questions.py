"Whatever is written in a question: images stay where they are, nobody else speaks, or it is refused."

import numpy as np
import pytest
from faults.clean import special_and_image
from hypothesis import HealthCheck, given, settings, strategies as st
from PIL import Image
from carve_nb.core.errors import PromptError
from carve_nb.models.prompts import BREAK, check_text

IMAGE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))
WORDS = (
    '<image> <|image_pad|> <|vision_start|> <|vision_end|> <|im_start|> <|im_end|> <|endoftext|> </s> <pad> '
    '<|video_pad|> <IMG_CONTEXT> <img> </img> <start_of_image> <image_soft_token> <end_of_turn> <start_of_turn> '
    '<fake_token_around_image> <row_1_col_1> <global-img> <end_of_utterance> USER: ASSISTANT: User: Assistant: user '
    'assistant < > | <| |> : image USE R: <ima ge> <|placeholder|> ＜image＞'
).split() + ['\n', ' ', BREAK]
texts = st.lists(st.sampled_from(WORDS) | st.text(max_size=6), min_size=1, max_size=8).map(''.join)
calm = settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
quick = settings(calm, max_examples=settings().max_examples // 4)


@pytest.fixture(scope='module', params=['llava', 'qwen2_5_vl', 'qwen3_5', 'internvl', 'idefics3', 'gemma3'])
def model(request, load):
    vlm = load(request.param)
    plain = special_and_image(vlm, vlm.prompt(IMAGE, 'Why?'))
    yield vlm, plain
    vlm.escape = False


@pytest.mark.case(24)
@quick
@given(texts)
def test_images_stay(model, text):
    "Refused, or every image token and every special token is where it is in a plain question"
    vlm, plain = model
    vlm.escape = False
    try:
        p = vlm.prompt(IMAGE, text)
    except PromptError:
        return
    assert special_and_image(vlm, p) == plain and p.asked == text.strip()


@pytest.mark.case(24)
@quick
@given(texts)
def test_defused(model, text):
    """With `escape` only what is empty is refused; what is asked differs by zero-width
    spaces alone"""
    vlm, plain = model
    vlm.escape = True
    try:
        p, appended = vlm.prompt(IMAGE, text), vlm.prompt(IMAGE, 'Why?', f'Say {text}.')
    except PromptError as e:
        assert 'a text that can be seen' in str(e), (text, e)
        return
    assert special_and_image(vlm, p) == special_and_image(vlm, appended) == plain
    assert p.asked.replace(BREAK, '') == text.strip().replace(BREAK, '')
    assert check_text(vlm.processor, p.asked, escape=True) == p.asked
