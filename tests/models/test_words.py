"""The words that are read, from where the user starts: whole words on the stock Llama tokenizer, what asks
and what does not, English and not."""

import pytest
from tiny import WIDE
from carve_nb.attention.vlm import VLM, record_attention
from carve_nb.explorer.app import Explorer
from carve_nb.method.carve import Carve
from carve_nb.method.lookup import Lookup
from recipes.tiny_models import llama_tokenizer, make_tiny_checkpoint

pytestmark = pytest.mark.filterwarnings('ignore::UserWarning')
SHORT = dict(max_new_tokens=2)


@pytest.fixture(scope='module')
def llama(tmp_path_factory):
    "A LLaVA saved with the stock Llama tokenizer, which cuts words and decodes a token without its space"
    vlm = VLM.from_pretrained(
        make_tiny_checkpoint('llava', tmp_path_factory.mktemp('llama'), tokenizer=llama_tokenizer)
    )
    assert vlm.tokenizer.convert_ids_to_tokens(the := vlm.tokenizer(' the').input_ids)[-1] == '▁the'
    assert vlm.tokenizer.decode(the[-1:]) == 'the'
    return vlm


def record(vlm, text, **kw):
    "The rows of a user's own prompt around a stock `generate`"
    chat = vlm.prompt(WIDE, text).text
    inputs = vlm.processor(images=[WIDE], text=[chat], return_tensors='pt')
    with record_attention(vlm.model, vlm.processor, inputs, [WIDE], **kw) as rows:
        vlm.model.generate(**inputs, max_new_tokens=2, do_sample=False)
    return rows


@pytest.mark.parametrize('word', ['elephant', 'Müller', '犬'])
def test_a_word_of_several_tokens_is_one(llama, word):
    assert len(llama.tokenizer.tokenize(f' {word}')) > 1
    text = f'What is the color of the {word}?'
    read = Lookup(query='noun', **SHORT)(llama, WIDE, text)
    if word[0].isascii() or word == 'Müller':
        assert read.read == [word.lower()] and read.asked == f'What is the color of the [{word}]?'
        assert not any('word' in note for note in read.notes)
        assert Lookup(query='content', **SHORT)(llama, WIDE, text).read == ['color', word.lower()]
    else:
        assert read.read == [] and 'does not read as English' in read.notes[0]
    assert Carve(query=[word], **SHORT)(llama, WIDE, text).read == [word.lower()]
    assert record(llama, text, question=text).read(query=word).shape == (6, 64)


def test_shown_words_are_readable(llama):
    page = Explorer(llama)
    page.show_image(WIDE, 'image', 'image')
    page.question.value = 'What is the grün 犬 eating?'
    page.ask()
    text = ' '.join(word for word, _ in page.words.options)
    assert '犬' in text
    assert 'ü' in text
    assert not {*'▁Ġ\ufffd'} & {*text}


@pytest.mark.parametrize('text', ['狗是什么颜色？', 'Was ist auf dem Bild zu sehen?', 'ما لون الكلب؟'])
def test_what_is_not_english_has_no_noun(llama, text):
    for row in 'noun', 'content':
        note = f'no word of the question is taken as its {row!r} (it does not read as English): '
        assert f'{note}all its words were read' in Carve(query=row, **SHORT)(llama, WIDE, text).notes
        assert Lookup(query=row, **SHORT)(llama, WIDE, text).notes[0] == f'{note}the last position was read'
    assert Lookup(query='?', **SHORT)(llama, WIDE, text).read[0] in '?？؟'
