"The words that are read, from where the user starts: whole words on the stock Llama tokenizer, what asks and what does not, English and not."
import json
import re
from types import SimpleNamespace
import pytest
import torch
from tiny import TALL, WIDE, read_asked
from tokenizers import Tokenizer, models as token_models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast
from carve_nb.attention.vlm import VLM, record_attention
from carve_nb.core.errors import CarveError
from carve_nb.core.text import read_words
from carve_nb.explorer.widgets import SettingsPanel
from carve_nb.method.carve import Carve
from carve_nb.method.lookup import Lookup
from carve_nb.models.families import find_family
from carve_nb.models.loading import load_processor
from carve_nb.models.prompts import find_words, token_names
from recipes.tiny_models import HERE, RECIPES, SENTENCES, byte_tokenizer, llama_tokenizer, make_tiny_checkpoint

pytestmark = pytest.mark.filterwarnings('ignore::UserWarning')
SHORT = dict(max_new_tokens=2)
CAR = 'What is the colour of the car?'


@pytest.fixture(scope='module')
def llama(tmp_path_factory):
    "A LLaVA saved with the stock Llama tokenizer, which cuts words and decodes a token without its space"
    vlm = VLM.from_pretrained(make_tiny_checkpoint('llava', tmp_path_factory.mktemp('llama'),
        tokenizer=llama_tokenizer))
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


def spelled(vlm, prompt): return vlm.tokenizer.decode(prompt.inputs['input_ids'][0, prompt.question]).strip()


@pytest.mark.parametrize('word', ['elephant', 'umbrella', 'snowboards', 'Müller', '犬', 'कुत्ता'])
def test_a_word_of_several_tokens_is_one(llama, word):
    assert len(llama.tokenizer.tokenize(f' {word}')) > 1
    text = f'What is the color of the {word}?'
    read = Lookup(query='noun', **SHORT)(llama, WIDE, text)
    if word[0].isascii() or word == 'Müller':
        assert read.read == [word.lower()] and read.asked == f'What is the color of the [{word}]?'
        assert not any('word' in note for note in read.notes)
        assert Lookup(query='content', **SHORT)(llama, WIDE, text).read == ['color', word.lower()]
    else: assert read.read == [] and 'does not read as English' in read.notes[0]
    assert Carve(query=[word], **SHORT)(llama, WIDE, text).read == [word.lower()]
    assert record(llama, text, question=text).read(query=word).shape == (6, 64)


def test_the_noun_of_questions_as_people_ask_them():
    "Two hundred, written with their words before the rule; the odd half was opened once, at the end: 94 of 100"
    assert sum(read_words(tokens, 'noun') in [[word] for word in words] for tokens, words in read_asked()) >= 196


def test_rows_of_a_word_are_those_of_its_tokens(llama):
    rows = record(llama, 'Is the elephant under the umbrella?', question='Is the elephant under the umbrella?')
    assert ''.join(rows.question_tokens).strip() == 'Is the elephant under the umbrella?'
    assert torch.equal(rows.read(query='noun'), rows.read(query='elephant'))
    names = rows.question_tokens
    last = max(i for i, name in enumerate(names) if name[:1] == ' ')
    at = [i for i in range(last, len(names) - 1) if names[i].strip()]
    assert len(at) > 1 and torch.equal(rows.read(query='umbrella'), rows.read(query=at))


def test_shown_words_are_readable(llama):
    panel = SettingsPanel(llama, lambda: None)
    panel.show_words(llama.capture(WIDE, 'What is the grün 犬 eating?').question_tokens)
    text = ' '.join(word for word, _ in panel.words.options)
    assert '犬' in text and 'ü' in text and not {*'▁Ġ\ufffd'} & {*text}


def test_a_text_is_found_as_whole_words(llama):
    assert ''.join(record(llama, 'What is this?', question='is').question_tokens).strip() == 'is'
    assert record(llama, 'What is this?', question='What is').question_tokens[0].strip()[0] == 'W'
    with pytest.raises(CarveError, match="does not hold the question 'his'"):
        record(llama, 'What is this?', question='his')


BEHIND = ['\nA. red\nB. blue', '\nOptions:\n(A) red\n(B) blue\nAnswer with the letter.',
    "\nAnswer with the option's letter from the given choices directly.",
          ' Answer the question using a single word or phrase.']


@pytest.mark.parametrize('behind', BEHIND, ids=range(len(BEHIND)))
@pytest.mark.parametrize('name', ['llama', 'carve-tiny'])
def test_options_and_instructions_are_no_words(request, name, behind):
    "They stand in the prompt, and the words that are read are those of the question"
    vlm = request.getfixturevalue('llama') if name == 'llama' else VLM.from_pretrained(name)
    prompt = vlm.prompt(WIDE, CAR + behind)
    assert spelled(vlm, prompt).lower() in (CAR.lower(), CAR.lower().replace('colour', '<unk>').replace('car', '<unk>'))
    assert CAR + behind in prompt.text
    assert len(prompt) > len(vlm.prompt(WIDE, CAR))
    if name != 'llama': return
    for method in Lookup(query='noun', **SHORT), Carve(query='noun', **SHORT):
        assert method(vlm, WIDE, CAR + behind).read == ['car']
    assert record(vlm, CAR + behind, question=CAR + behind).read(query='noun').shape


@pytest.mark.parametrize('text', ['狗是什么颜色？', 'कुत्ते का रंग क्या है?', 'Was ist auf dem Bild zu sehen?',
    'Où est le chat?', 'ما لون الكلب؟'])
def test_what_is_not_english_has_no_noun(llama, text):
    for row in 'noun', 'content':
        r = Lookup(query=row, **SHORT)(llama, WIDE, text)
        assert r.notes[0] == f'no word of the question is taken as its {row!r} (it does not read as English): the last position was read'
        assert r.read == []
        r = Carve(query=row, **SHORT)(llama, WIDE, text)
        assert f'no word of the question is taken as its {row!r} (it does not read as English): all its words were read' in r.notes
    marked = Lookup(query='?', **SHORT)(llama, WIDE, text)
    assert marked.read and marked.read[0] in '?？؟'


def test_a_missing_word_is_named(llama):
    text = 'Is the red car left of the umbrella?'
    assert Carve(query=['red', 'Umbrella'], **SHORT)(llama, WIDE, text).read == ['red', 'umbrella']
    for method in Carve(query=['red', 'moon'], **SHORT), Carve(query=['moon'], **SHORT):
        with pytest.raises(CarveError,
                match="no such word as 'moon', it has: is, the, red, car, left, of, the, umbrella"):
            method(llama, WIDE, text)
    with pytest.raises(CarveError, match=r"No rows of \['moon'\]"):
        record(llama, text, question=text).saliency(query=['red', 'moon'])


def test_the_same_words_again(llama):
    "A question whose words stand again behind it, in its options or in the template"
    for text in 'T', 'Is it red?\nA. Is it red?\nB. no':
        assert spelled(llama, llama.prompt([TALL], text)) == text.split('\n')[0]


def word_tokenizer(special, template, **named):
    "A tokenizer of whole words, as carve-tiny's: small letters, what it does not know is one token"
    known = dict.fromkeys([*special, '<unk>', *re.findall(r'\w+|[^\w\s]',
        ' '.join(SENTENCES).lower() + ' user assistant model :')])
    tok = Tokenizer(token_models.WordLevel({w: i for i, w in enumerate(known)}, unk_token='<unk>'))
    tok.normalizer, tok.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.Whitespace()
    others = [t for t in special[2:] if t not in named.values()]
    fast = PreTrainedTokenizerFast(tokenizer_object=tok, eos_token=special[0], pad_token=special[1], unk_token='<unk>',
        additional_special_tokens=others, **named)
    fast.chat_template = template
    return fast


# Qwen3.5's class gives a tokenizer a pre-tokenizer of its own, which no tokenizer but its own is made for: offsets are a character off
OTHERS = [(name, make) for name in ('qwen3_5', 'qwen3_5_moe') for make in (llama_tokenizer, word_tokenizer)]


@pytest.mark.parametrize('make', [byte_tokenizer, llama_tokenizer, word_tokenizer])
@pytest.mark.parametrize('name', HERE)
def test_words_by_offsets(name, make, tmp_path):
    "The question's tokens by offsets are those that decoding finds, and their names are what was written"
    config, parts, further = RECIPES[name](2, make)
    for o in (config, *parts): o.save_pretrained(tmp_path)
    for file, settings in further.items(): (tmp_path/file).write_text(json.dumps(settings))
    processor = load_processor(str(tmp_path), find_family(name))
    processor.chat_template = processor.chat_template or find_family(name).chat
    vlm = VLM.of_stock(SimpleNamespace(config=config), processor)
    for text in ('What is the color?', 'Which Color is larger,  the naïve café or the 火 sign? 🟥',
            'Is it red?\nA. Is it red?\nB. no', 'T'):
        prompt = vlm.prompt(TALL, text)
        ids, asked = prompt.inputs['input_ids'][0], text.split('\n')[0]
        assert text in ''.join(prompt.tokens)
        if (name, make) in OTHERS: continue
        assert ''.join(prompt.tokens[i] for i in prompt.question).strip() == asked
        if text == 'T': continue    # which templates hold too
        names = token_names(vlm.tokenizer, ids.tolist())
        assert find_words(vlm.tokenizer, ids.tolist(), names, text) == prompt.question or 'A. ' in text
        if make is not word_tokenizer: assert ''.join(names[i] for i in prompt.question).strip() == asked
