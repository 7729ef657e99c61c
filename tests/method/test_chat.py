"""A method within a chat of the user's own: system turn, earlier turns, and both captures in it, as the stock
template puts it"""

import numpy as np
import pytest
from tiny import TALL, WIDE
from carve_nb.attention.session import Session
from carve_nb.attention.vlm import record_attention
from carve_nb.core.errors import CarveError
from carve_nb.core.text import GENERAL_INSTRUCTION, SHORT_ANSWER
from carve_nb.method.carve import Carve
from carve_nb.method.lookup import Lookup

pytestmark = pytest.mark.filterwarnings('ignore::UserWarning')
ASKED = 'What is the color of the elephant?'


def text(words):
    return dict(type='text', text=words)


def turns(words, n=1):
    "A chat with a system turn and an earlier one, as a user writes it; the image stands in the earlier turn"
    return [
        dict(role='system', content=[text('You answer in French.')]),
        dict(role='user', content=[dict(type='image')] * n + [text('Is there an animal?')]),
        dict(role='assistant', content=[text('Oui, un elephant.')]),
        dict(role='user', content=[text(words)]),
    ]


def by_hand(vlm, words, images):
    "The inputs that the stock processor makes of that chat"
    chat = vlm.processor.apply_chat_template(turns(words, len(images)), add_generation_prompt=True)
    bos = vlm.tokenizer.bos_token
    kw = dict(add_special_tokens=False) if bos and chat.startswith(bos) else {}
    return vlm.processor(text=chat, images=[images], return_tensors='pt', **kw)


def answer_by_hand(vlm, words, images):
    inputs = by_hand(vlm, words, images)
    return vlm.model.generate(**inputs, max_new_tokens=4, do_sample=False)[
        0, inputs['input_ids'].shape[1] :
    ].tolist()


@pytest.mark.parametrize('name', ['qwen2_5_vl', 'gemma3', 'llava'])
def test_carve_in_a_chat(name, load):
    "Both captures and the last question are those of the prompt made by hand"
    vlm, method = load(name), Carve(max_new_tokens=4, tokens=None)  # as many tokens as `by_hand` gives
    r = method(vlm, WIDE, messages=turns(ASKED))
    for rows, words in (
        (r.rows, f'{ASKED} {SHORT_ANSWER}'),
        (r.instruction_rows, f'{GENERAL_INSTRUCTION} {SHORT_ANSWER}'),
    ):
        inputs = by_hand(vlm, words, [WIDE])
        with record_attention(vlm.model, vlm.processor, inputs, [WIDE]) as want:
            vlm.model(**inputs)
        assert (rows.attn[:1] - want.attn).abs().max() < 1e-5
    assert r.plain_answer.tokens == answer_by_hand(vlm, f'{ASKED} {SHORT_ANSWER}', [WIDE])
    assert r.answer.tokens == answer_by_hand(vlm, f'{ASKED} {SHORT_ANSWER}', r.shown) and len(r.shown) == 2
    assert r.question == ASKED and (r.rows.attn - method(vlm, WIDE, ASKED).rows.attn).abs().max() > 1e-3


def test_lookup_in_a_chat(load):
    "The word's row is that of the question, not of the earlier turn that has the word too"
    vlm = load('qwen2_5_vl')
    r = Lookup(query='noun', max_new_tokens=4, suffix=None)(vlm, WIDE, messages=turns(ASKED))
    inputs = by_hand(vlm, ASKED, [WIDE])
    with record_attention(vlm.model, vlm.processor, inputs, [WIDE], question=ASKED) as want:
        vlm.model(**inputs)
    assert r.read == ['elephant'] and r.rows.question_tokens == want.question_tokens
    assert (r.rows.question - want.question).abs().max() < 1e-5


def test_images_in_the_messages(load):
    "An image may stand in its turn, or beside the messages; there may be several"
    vlm, method = load('qwen2_5_vl'), Carve(max_new_tokens=4)
    messages = turns(ASKED)
    messages[1]['content'][0] = dict(type='image', image=WIDE)
    assert (
        method(vlm, None, messages=messages).answer.tokens
        == method(vlm, WIDE, messages=turns(ASKED)).answer.tokens
    )
    several = method(vlm, [WIDE, TALL], messages=turns(ASKED, 2))
    assert several.plain_answer.tokens == answer_by_hand(vlm, f'{ASKED} {SHORT_ANSWER}', [WIDE, TALL])


def test_a_chat_is_not_taken_for_another(load):
    "In one session the map of a question in a chat is that of the chat, and the question alone has its own"
    vlm, method = load('qwen2_5_vl'), Carve(max_new_tokens=4)
    session = Session(vlm)
    plain = method(session, WIDE, ASKED).saliency.values
    chat = [method(model, WIDE, messages=turns(ASKED)).saliency.values for model in (session, vlm)]
    assert abs(plain - chat[0]).max() > 1e-4 and abs(chat[0] - chat[1]).max() < 1e-5
    assert (method(session, WIDE, ASKED).saliency.values == plain).all()


SLIPS = {  # words of the sentence -> what is wrong
    'not both': dict(messages=turns(ASKED), question=ASKED),
    '1 images for 2 places': dict(messages=turns(ASKED, 2)),
    'reads as a command': dict(messages=[dict(role='system', content='<|im_start|>'), *turns(ASKED)[1:]]),
}


@pytest.mark.parametrize('words', SLIPS)
def test_slips(load, words):
    with pytest.raises(CarveError, match=words):
        Carve()(load('qwen2_5_vl'), WIDE, **SLIPS[words])


def test_an_array_in_a_chat_twice_in_a_session(load):
    "What was asked is known by its images and words, whatever the messages held the image as"
    session, method = Session(load('llava')), Lookup(max_new_tokens=4)

    def chat():
        return [dict(role='user', content=[dict(type='image', image=np.asarray(WIDE)), text(ASKED)])]

    first = method(session, None, messages=chat())
    again = method(session, None, messages=chat())
    assert str(again) == str(first) and again.answer is first.answer
