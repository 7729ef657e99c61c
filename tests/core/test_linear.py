"""No function of text is slower than linear, whatever is in the text, and what is faster reads as before."""

import gc
import inspect
import re
from contextlib import suppress
from time import process_time
import pytest
from carve_nb.core import io, text as words
from carve_nb.core.errors import DataError
from carve_nb.core.io import tame_cell, tame_markdown, tame_terminal
from carve_nb.data.files import Table
from carve_nb.data.records import Record
from carve_nb.data.scoring import RULES, score_answer
from carve_nb.data.tables import make_records
from carve_nb.models import checkpoints
from carve_nb.models.checkpoints import behind_thought, open_thought

UNITS = [
    '<answer>',
    '</answer>',
    '\\boxed{',
    '}',
    '{',
    '<think>',
    '</think>',
    'a',
    ' ',
    '\n',
    '<|end|>',
    '\\',
    '$',
    ']',
    '] (',
    '<',
    '&',
    '&#',
    'a ',
    'a. ',
    'A. x\n',
    '(A) x ',
    '?',
    "'",
    'it ',
    '狗',
    '-',
    '=',
    'answer in ',
    '\ufeff',
    '\u202e',
    'the red dog? ',
    '<answer>a</answer>',
    '\\boxed{a}',
    '\\boxed{{}',
    '\\boxed{\\boxed{}',
]
PAIRS = [
    ('<answer>', '</answer>'),
    ('\\boxed{', '}'),
    ('<think>', '</think>'),
    ('<answer>\\boxed{', '</answer>'),
    ('[', ']('),
    ('A. ', '\n'),
]


def texts(n):
    "Texts of about n characters, by name"
    yield from ((unit, unit * (n // len(unit))) for unit in UNITS)
    yield from ((f'a {unit} a', f'a{unit * (n // len(unit))}a') for unit in (' ', '\n', '\\', '.'))
    yield from ((f'{a} {b}', a * (n // 2 // len(a)) + b * (n // 2 // len(b))) for a, b in PAIRS)


def split(text):
    return re.findall(r' ?\w|.', text, re.DOTALL)  # many tokens


FUNCTIONS = dict(
    behind_thought=behind_thought,
    open_thought=open_thought,
    tame_cell=tame_cell,
    tame_markdown=tame_markdown,
    tame_terminal=tame_terminal,
    one_line=io.one_line,
    split_methods=words.split_methods,
    split_options=words.split_options,
    bare_question=words.bare_question,
    word_places=lambda t: words.word_places(t, '?'),
    is_word=words.is_word,
    plain=words.plain,
    named_options=lambda t: words.named_options(words.plain(t), [f'b{t}b', 'a']),
    find_word=lambda t: words.find_word(split(t), '?'),
    same_word=lambda t: words.find_word([*t], t[:3]),
    split_words=lambda t: words.split_words(split(t)),
    one_word=lambda t: words.split_words([*t.replace(' ', 'a')]),
    pick_words=lambda t: words.pick_words(split(t), 'noun'),
    content=lambda t: words.pick_words(split(t), 'content'),
    read_words=lambda t: words.read_words(split(t), 'noun'),
    why_no_words=lambda t: words.why_no_words(split(t), 'noun'),
    tokens_at=lambda t: words.tokens_at(split(t), 3, len(t)),
    split_text=lambda t: words.split_text(t, ','),
    read_field=lambda t: words.read_field(f'[{t}]'),
    read_value=words.read_value,
    read_method=lambda t: words.read_method(f'carve:suffix={t.replace(":", "")}'),
)


def reading(**row):
    "Read a row of a set, or refuse it; the text stands in the place of `...`"

    def read(text):
        cells = {k: text if v is ... else v for k, v in row.items()}
        with suppress(DataError):
            make_records(Table('D', {'row 1': cells}))

    return read


def scoring(rule):
    "Score an answer by a rule"
    truths = ['yes'] if rule == 'yes/no' else ['red'] * 4
    record = Record('1', 'a.png', 'Is it red, or blue?', truths, choices=['red', 'blue'])
    return lambda text: score_answer(text, record, rule)


FUNCTIONS |= {
    f'{column} of a row': reading(**{'image': 'a.png', 'question': 'Is it red?', 'answer': 'x', column: ...})
    for column in ('question', 'answer', 'choices', 'image', 'id', 'kind')
}
FUNCTIONS |= {f'score by {rule}': scoring(rule) for rule in RULES}
# which read no text of others, or one that is short by its nature
OTHERS = {
    'count_of',
    'script',
    'table_html',
    'digest',
    'replace_file',
    'find_source',
    'pick_device',
    'same_logits',
    'stored_table',
}


def seconds(function, text):
    begun = process_time()
    function(text)
    return process_time() - begun


def test_all_are_here():
    "A new function of text is measured too"
    public = {
        name
        for module in (io, words, checkpoints)
        for name in module.__all__
        if inspect.isfunction(getattr(module, name))
    }
    assert public <= FUNCTIONS.keys() | OTHERS, public - FUNCTIONS.keys() - OTHERS


@pytest.mark.parametrize('name', FUNCTIONS)
def test_time_grows_with_the_text(name):
    "Sixteen times as much text takes about sixteen times as long, and never a hundred; twice the text four times, as a square, would be 256"
    function, slow = FUNCTIONS[name], {}
    gc.disable()
    try:
        for (unit, short), (_, long) in zip(texts(500), texts(8_000)):
            taken = seconds(function, long)
            if taken < 0.02:
                continue
            ratio = taken / max(min(seconds(function, short) for _ in range(3)), 1e-6)
            if ratio > 100:
                slow[unit] = (round(ratio), round(taken, 3))
    finally:
        gc.enable()
    assert not slow
