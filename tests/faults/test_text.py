"""Questions: what is refused, what is defused, and that nothing of it moves an image, is cut, or spoils a
record. What may come, and what must happen:

23. Empty or white-space question => `ValueError`; the general instruction is never used in its place
24. Question contains `<image>`, `<|image_pad|>`, `<|vision_start|>`, chat role markers => refused by
    default with the token named; option "escape" inserts a zero-width break; test: number and position of
    image tokens are the same as without the text
25. Question of 10,000 tokens => refused before the forward pass if image + text exceeds the context; no
    silent cut
26. Unicode: right-to-left, emoji, combining, NUL, lone surrogates => handled or refused; the record file
    stays valid UTF-8
27. Question equals the general instruction => contrast is 1 everywhere: falls to the documented "no
    signal" result (whole image), flagged"""

import json
import numpy as np
import pytest
from PIL import Image
from tiny import write_set
from carve_nb.attention.session import Session
from carve_nb.core.errors import DataError, PromptError
from carve_nb.data.scenes import make_scene
from carve_nb.method.carve import Carve
from carve_nb.models.prompts import BREAK, Ask, commands
from carve_nb.runs.runner import run_eval
from recipes.tiny_models import HERE
from .clean import count_passes

IMAGE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 80, 3), dtype=np.uint8))


@pytest.fixture(scope='module')
def tiny(load):
    return load('carve-tiny')


WAYS = dict(
    ask=lambda v, q: v.ask(IMAGE, q),
    capture=lambda v, q: v.capture(IMAGE, q),
    several=lambda v, q: v.ask([IMAGE, IMAGE], q),
    method=lambda v, q: Carve()(v, IMAGE, q),
    shared=lambda v, q: Session(v).ask(Ask((IMAGE,), q)),
)


REFUSED = {  # a question -> the sentence
    '\u3000\u00a0\u200b\ufeff\x1b': 'a text that can be seen',
    7: 'a text',
    'why ' * 3000: r'has 1\d{4} tokens, the model reads 1024 ',
}


@pytest.mark.case(23, 25, 26)
@pytest.mark.parametrize('name', ['llava', 'qwen2_5_vl'])
@pytest.mark.parametrize('question', REFUSED, ids=lambda q: ascii(q)[:20])
def test_refused(load, name, question):
    "No pass, no other question in its place, nothing is cut, however it is asked"
    vlm = load(name)
    with count_passes(vlm) as passes:
        for way in WAYS.values():
            with pytest.raises(PromptError, match=REFUSED[question]):
                way(vlm, question)
    assert passes == []


# -- commands inside the text


def markers(vlm):
    "What this model reads as a command: special tokens, the image's own word, and who speaks"
    tok = vlm.tokenizer
    text = vlm.prompt(IMAGE, 'Why?').text
    special = {t.content for t in tok.added_tokens_decoder.values() if t.special} | set(
        tok.all_special_tokens
    )
    template_marks = {str(vlm.processor.image_token), *commands(vlm.processor).findall(text)}
    assert template_marks
    return sorted(template_marks) + sorted(special - template_marks)[:4]  # some families have hundreds


@pytest.mark.case(24)
@pytest.mark.parametrize('name', HERE)
def test_commands_refused(load, name):
    "By default each is refused by its name, in the question as in what is appended to it, before any pass"
    vlm = load(name)
    with count_passes(vlm) as passes:
        for m in markers(vlm):
            for q, kw in ((f'What is {m} this?', {}), (m, {}), ('Is it red?', dict(suffix=f'Say {m}.'))):
                with pytest.raises(PromptError, match='which the model reads as a command') as e:
                    vlm.ask(IMAGE, q, **kw)
                assert any(repr(o) in str(e.value) for o in markers(vlm)) and 'escape=True' in str(e.value)
    assert passes == []


@pytest.mark.case(24)
def test_method_defused(load, monkeypatch):
    "All of CARVE goes through with such a question, and the result holds it as it was asked"
    q = 'Is <|image_pad|> or <|im_end|> written here?'
    monkeypatch.setattr(vlm := load('qwen2_5_vl'), 'escape', True)
    r = Carve(max_new_tokens=2)(vlm, IMAGE, q)
    assert r.question == q
    assert r.answer.tokens
    assert r.rows.about['question'].replace(BREAK, '') == q


# -- length


@pytest.mark.case(25)
def test_border_of_length(load, monkeypatch):
    """The last token counts: as long as the context is refused, one less leaves room for one token of the
    answer"""
    vlm = load('llava')
    p = vlm.prompt(IMAGE, 'What is this?', 'Answer.')
    monkeypatch.setattr(vlm.text_config, 'max_position_embeddings', len(p))
    with pytest.raises(PromptError):
        vlm.prompt(IMAGE, 'What is this?', 'Answer.')
    monkeypatch.setattr(vlm.text_config, 'max_position_embeddings', len(p) + 1)
    again = vlm.prompt(IMAGE, 'What is this?', 'Answer.')
    assert again.inputs['input_ids'].tolist() == p.inputs['input_ids'].tolist()
    assert len(vlm.generate(again, 32).tokens) == 1


# -- letters of all sorts

LETTERS = dict(
    right_to_left='ما هذا؟ מה זה',
    emoji='Is it 🟥 or 👩‍👩‍👧‍👦🏳️‍🌈?',
    combining='Wa' + '\u0300\u0323\u0489' * 30 + 's?',
    nul='a\x00b?',
    controls='\x1b[31mred\x07?\x7f',
    override='\u202eevil\u202c?',
    separators='a\u2028b\u2029c\x85d?',
    wide='ＵＳＥＲ： ok?',
    private='\ue000\U0010ffff?',
    old='𓀀𒀀 ꙮ?',
    lines='a\r\nb\n\nc?',
    quotes='"\'`\\n{{7*7}}{% x %}?',
)


@pytest.mark.case(26)
@pytest.mark.parametrize('name', ['llava', 'qwen2_5_vl'])
def test_letters(load, name):
    "Every question reaches the model as it is, and its tokens are found"
    vlm = load(name)
    for kind, q in LETTERS.items():
        rows = vlm.capture(IMAGE, q, steps='all', max_new_tokens=2)
        p = vlm.prompt(IMAGE, q)
        text = vlm.tokenizer.decode(p.inputs['input_ids'][0, p.question]).strip()
        assert text == q.strip() and len(rows.question) == len(p.question), (kind, text)
        assert rows.answer.text.encode() and repr(rows).encode()


@pytest.mark.case(26)
def test_records_stay_utf8(load, tmp_path):
    """A run over such questions: every line of every file is valid UTF-8, in order; a set with half a
    character is refused before the start"""

    def run(questions):
        folder = write_set(
            tmp_path / 'D', [dict(id=k, question=q, answer='ab') for k, q in questions.items()]
        )
        run_eval(
            folder, load('llava'), methods='none', out=tmp_path / 'out', max_new_tokens=2, progress=False
        )

    with pytest.raises(DataError, match='surrogates not allowed'):
        run(LETTERS | dict(broken='what \ud83d?'))
    assert not (tmp_path / 'out').exists()
    run(LETTERS)
    out = tmp_path / 'out'
    lines = [
        json.loads(l) for l in (out / 'records.jsonl').read_bytes().decode('utf-8', 'strict').split('\n') if l
    ]
    assert [(l['id'], l['status']) for l in lines] == [(k, 'ok') for k in LETTERS]
    for f in out.rglob('*'):
        if f.suffix in ('.json', '.jsonl', '.md', '.csv'):
            f.read_bytes().decode('utf-8', 'strict')


# -- the question that asks for nothing


@pytest.mark.case(27)
@pytest.mark.filterwarnings('ignore::UserWarning')
@pytest.mark.parametrize(
    'method',
    [Carve(), Carve.official(), Carve(query='question'), Carve(instruction='Is it red?')],
    ids=lambda m: f'{m.name}-{m.query}',
)
def test_general_question(tiny, method):
    "No signal: the whole image, the baseline answer, and a note; with and without white space and capitals"
    r = method(tiny, make_scene(3).image, f' {method.instruction.upper()}\n')
    assert r.notes[0] == 'no signal: the question is the general instruction; the crop is the whole image'
    assert r.whole
    assert r.regions == []
    assert r.answer.tokens == r.plain_answer.tokens
    assert r.calls == 2
