"""What a user of transformers gives to a `VLM`: messages, generation settings, wrapped models, frames, names;
taken, or refused in a sentence."""
from functools import partial
import numpy as np
import pytest
from tiny import QUESTION, TALL, WIDE
from carve_nb import Carve, Lookup
from carve_nb.attention.vlm import VLM
from carve_nb.core.errors import CarveError, PromptError

pytestmark = pytest.mark.filterwarnings('ignore:__array__')


@pytest.fixture
def vlm(load): return load('llava')


def turn(*parts): return [dict(role='user', content=[*parts, dict(type='text', text=QUESTION)])]


def test_settings_of_the_checkpoint(folders):
    """What a `generation_config.json` sets is put back where it must be, or refused in a sentence; never a
    bare error"""
    vlm = VLM.from_pretrained(folders('llava'))
    own = vlm.model.generation_config
    methods = (Carve(max_new_tokens=3), Lookup(query='noun', max_new_tokens=3))
    want = vlm.ask(WIDE, QUESTION, max_new_tokens=3).tokens
    for name, value in (('guidance_scale', 2.), ('use_mtp', True)):
        setattr(own, name, value)
        assert vlm.ask(WIDE, QUESTION, max_new_tokens=3).tokens == want
        assert [m(vlm, WIDE, QUESTION).plain_answer.tokens for m in methods] == [want]*2
        setattr(own, name, None)
    for name, value in (('prefill_chunk_size', 16), ('stop_strings', ['a'])):
        setattr(own, name, value)
        for ask in (vlm.ask, vlm.capture, *(partial(m, vlm) for m in methods)):
            with pytest.raises(CarveError, match=f'{name}=.* Set `model.generation_config.{name} = None`'):
                ask(WIDE, QUESTION)
        setattr(own, name, None)


def test_messages(vlm, tmp_path):
    WIDE.save(tmp_path/'wide.png')
    want = vlm.generate(vlm.prompt(WIDE, QUESTION), 4)
    def ask(images, *parts): return vlm.generate(vlm.chat(images, turn(*parts)), 4)
    for image in WIDE, str(tmp_path/'wide.png'), np.asarray(WIDE):
        for key in 'image', 'url', 'path': assert ask(None, {'type': 'image', key: image}) == want
    assert ask(WIDE, dict(type='image')) == want
    for images, parts in ((TALL, [dict(type='image', image=WIDE)]),
            ([WIDE, TALL], [dict(type='image'), dict(type='image', image=WIDE)])):
        with pytest.raises(PromptError, match='Images are given, and others are in the messages'):
            ask(images, *parts)


@pytest.mark.parametrize('messages, why', [
    ('hello', 'list of dict'), ([], 'list of dict'), (['Why?'], 'list of dict'),
    (dict(role='user', content='Why?'), 'list of dict'), ([dict(content='Why?')], 'list of dict'),
    ([dict(role='user', content=5)], 'list of dict'), ([dict(role='user')], 'list of dict'),
    (turn(dict(type='video', video='a.mp4')), 'Videos .* `vlm.prompt'),
    (turn(dict(type='image')), 'has no image'),
    (turn(dict(type='image', url='https://example.org/a.png')), 'nothing is fetched'),
    (turn(dict(type='image_url', image_url=dict(url='data:image/png;base64,AA'))), 'list of dict')])
def test_messages_refused(vlm, messages, why):
    with pytest.raises(CarveError, match=why): vlm.chat(None, messages)


def test_limits_refused(vlm):
    for tokens, why in (
            (16, 'tokens=16: give one limit for each of 1'), (0, 'one limit'), ((16, 16), 'one limit'), ((0,), 'at least 1'),
            ((-4,), 'at least 1'),
            ((2.5,), 'at least 1'), (('16',), 'at least 1')):
        with pytest.raises(PromptError, match=why): vlm.prompt(WIDE, QUESTION, tokens=tokens)


def test_limit_of_a_model_refused(folders):
    vlm = VLM.from_pretrained(folders('qwen2_5_vl'))
    for most in 0, -5, 2.5:
        with pytest.raises(PromptError, match=f'{most} is no number of tokens.*at least 1'):
            VLM.from_pretrained(folders('qwen2_5_vl'), image_tokens=most)
        vlm.image_tokens = most
        with pytest.raises(PromptError, match='at least 1'): vlm.prompt(WIDE, QUESTION)
