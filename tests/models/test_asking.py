"""What a user of transformers gives to a `VLM`: messages, generation settings, wrapped models, frames, names;
taken, or refused in a sentence."""

import numpy as np
import pytest
from tiny import QUESTION, TALL, WIDE
from transformers import GenerationConfig
from carve_nb import Carve, Lookup
from carve_nb.attention.vlm import VLM
from carve_nb.core.errors import CarveError, PromptError
from carve_nb.core.text import SHORT_ANSWER
from carve_nb.method.controls import DirectAnswer
from carve_nb.method.edits.contrast import DoLa

pytestmark = pytest.mark.filterwarnings('ignore:__array__')


@pytest.fixture
def vlm(load):
    return load('llava')


def turn(*parts):
    return [dict(role='user', content=[*parts, dict(type='text', text=QUESTION)])]


# settings of a `generation_config.json` that steer or end an answer, need what is not there, or change the passes
STEERING = dict(
    sequence_bias=[[[6], 99.0]],
    suppress_tokens=[*range(3, 40)],
    begin_suppress_tokens=[*range(3, 40)],
    bad_words_ids=[[i] for i in range(3, 40)],
    repetition_penalty=5.0,
    encoder_repetition_penalty=5.0,
    no_repeat_ngram_size=1,
    encoder_no_repeat_ngram_size=1,
    forced_bos_token_id=6,
    forced_eos_token_id=6,
    exponential_decay_length_penalty=[1, 9.0],
    min_new_tokens=9,
    min_length=400,
    guidance_scale=2.0,
    use_mtp=True,
    num_beams=3,
    num_return_sequences=2,
    do_sample=True,
    temperature=9.0,
    top_k=2,
    penalty_alpha=0.9,
    dola_layers='high',
    max_time=0.0,
    stop_strings=['a'],
    prefill_chunk_size=16,
    prompt_lookup_num_tokens=4,
    assistant_early_exit=1,
    renormalize_logits=True,
    remove_invalid_values=True,
    token_healing=True,
    output_attentions=True,
    our_own='word',
    watermarking_config=dict(greenlist_ratio=0.5, bias=9.0),
)


def test_settings_of_the_checkpoint(load):
    "Nothing of a `generation_config.json` but start, end and padding changes an answer or its score"
    vlm = load('qwen2_5_vl')
    ways = (
        lambda: vlm.ask(WIDE, QUESTION, max_new_tokens=3),
        lambda: vlm.capture(WIDE, QUESTION, steps='all', suffix=SHORT_ANSWER, max_new_tokens=3).answer,
        *(lambda m=m: m(max_new_tokens=3)(vlm, WIDE, QUESTION).plain_answer for m in (Carve, Lookup, DoLa)),
    )
    want = [(a.tokens, round(a.logprob, 4)) for a in (way() for way in ways)]
    config = vlm.model.generation_config
    ends = 'bos_token_id', 'eos_token_id', 'pad_token_id', 'decoder_start_token_id'
    vlm.model.generation_config = GenerationConfig(**{name: getattr(config, name) for name in ends})
    for name, value in STEERING.items():
        setattr(vlm.model.generation_config, name, value)
    try:
        assert [(a.tokens, round(a.logprob, 4)) for a in (way() for way in ways)] == want
    finally:
        vlm.model.generation_config = config


def test_messages(vlm, tmp_path):
    WIDE.save(tmp_path / 'wide.png')
    want = vlm.generate(vlm.prompt(WIDE, QUESTION), 4)

    def ask(images, *parts):
        return DirectAnswer(suffix=None, max_new_tokens=4)(vlm, images, messages=turn(*parts)).answer

    for image in WIDE, str(tmp_path / 'wide.png'), np.asarray(WIDE):
        for key in 'image', 'url', 'path':
            assert ask(None, {'type': 'image', key: image}) == want
    assert ask(WIDE, dict(type='image')) == want
    assert ask(WIDE, dict(type='image', text=None, url=None)) == want  # a data set fills its columns
    for images, parts in (
        (TALL, [dict(type='image', image=WIDE)]),
        ([WIDE, TALL], [dict(type='image'), dict(type='image', image=WIDE)]),
    ):
        with pytest.raises(PromptError, match='Images are given, and others are in the messages'):
            ask(images, *parts)


@pytest.mark.parametrize(
    'messages, why',
    [
        ([], 'list of dict'),
        (['Why?'], 'list of dict'),
        (dict(role='user', content='Why?'), 'list of dict'),
        ([dict(role='user', content=5)], 'list of dict'),
        ([dict(role='user')], 'list of dict'),
        (turn(dict(type='image')), '0 images for 1 places'),
        (turn(dict(type='image', image=WIDE, max_pixels=1024)), 'max_pixels= .* no effect.*vlm.image_tokens'),
        (turn(dict(type='image', image=WIDE, resized_height=28)), 'resized_height= .* no effect'),
        (turn(dict(type='image', base64='iVBORw0KGgo=')), 'base64= .* no effect.*b64decode'),
        (turn(dict(type='image', url='data:image/png;base64,iVBORw0KGgo=')), 'b64decode'),
        (turn(dict(type='image', url='file:///home/me/a.png')), 'without file://'),
        ([dict(role='user', content='Why?', name='me')], 'name= of a message has no effect'),
        (
            [dict(role='system', content=[dict(type='image', image=WIDE)]), *turn()],
            'image is in a turn of the system',
        ),
        (turn(dict(type='image', url='https://example.org/a.png')), 'nothing is fetched'),
        (turn(dict(type='image_url', image_url=dict(url='data:image/png;base64,AA'))), 'list of dict'),
    ],
)
def test_messages_refused(vlm, messages, why):
    with pytest.raises(CarveError, match=why):
        DirectAnswer()(vlm, None, messages=messages)


def test_limits_refused(vlm):
    for tokens, why in (
        (16, 'tokens=16: give one limit for each of 1'),
        ((16, 16), 'one limit'),
        ((0,), 'at least 1'),
    ):
        with pytest.raises(PromptError, match=why):
            vlm.prompt(WIDE, QUESTION, tokens=tokens)


def test_limit_of_a_model_refused(folders):
    with pytest.raises(PromptError, match='0 is no number of tokens.*at least 1'):
        VLM.from_pretrained(folders('qwen2_5_vl'), image_tokens=0)
