"""Answers that were cut or begin with a thought, templates and models of one's own, results from a folder: as
a user starts"""

import copy
import pytest
from tiny import QUESTION, WIDE
from carve_nb.attention.vlm import VLM
from carve_nb.method.carve import Carve
from carve_nb.method.registry import make_method
from carve_nb.runs.runner import run_eval

pytestmark = pytest.mark.filterwarnings('ignore::UserWarning')


def with_template(vlm, change):
    "The model with a chat template of one's own"
    processor = copy.copy(vlm.processor)
    processor.chat_template = change(processor.chat_template)
    return VLM(vlm.model, processor)


def test_cut_answers(load, tmp_path):
    "The note of a cut answer stands last in a result, also of several images, and in the lines of a run"
    vlm = load('llava')
    note = 'the answer was cut at 4 tokens: max_new_tokens gives it more'
    r = Carve(max_new_tokens=4)(vlm, WIDE, QUESTION)
    assert r.notes[-1] == note == make_method('none', max_new_tokens=4)(vlm, [WIDE, WIDE], QUESTION).notes[-1]
    lines = run_eval('scenes', vlm, ('none', 'carve'), 1, tmp_path / 'R', max_new_tokens=4, progress=False)[1]
    assert [line['notes'].count(note) for line in lines] == [1, 1]


def test_a_model_that_thinks(load, tmp_path):
    """The thought has room beside the answer; a run keeps what was said, scores what stands behind the
    thought, and tells"""
    vlm = with_template(load('llava'), lambda t: t + '<think>\n')
    vlm.thought = 5
    answer = vlm.ask(WIDE, QUESTION, max_new_tokens=2)
    assert (len(answer.tokens), answer.text[:7]) == (7, '<think>')
    assert [len(vlm.ask(WIDE, q, max_new_tokens=2).tokens) for q in (QUESTION, 'Why?')] == [7, 7]
    protocol, lines, *_ = run_eval(
        'scenes', vlm, ('none', 'lookup:query=last'), 2, tmp_path / 'R', max_new_tokens=2, progress=False
    )
    assert protocol['decoding'] == dict(how='greedy', max_new_tokens=2, thought=5)
    for line in lines:
        assert line['score'] == 0 and line['answer'].startswith('<think>')
        assert (
            'the answer was cut at 7 tokens, inside its thought: max_new_tokens gives it more'
            in line['notes']
        )
    calm = with_template(load('llava'), lambda t: t + '<think>\n\n</think>\n\n')  # thinking switched off
    assert calm.ask(WIDE, QUESTION, None, 2).text == calm.generate(calm.prompt(WIDE, QUESTION), 2).text
    assert not calm.thinks


class Halver:
    "Another answerer, whose text ends in half a character, as a server's JSON can"

    def ask(self, images, question):
        return 'red\ud800'


def test_half_a_character(load):
    "Whoever gave it, an answer is text that a file can hold"
    r = Carve(max_new_tokens=2)(load('llava'), WIDE, QUESTION, by=Halver())
    assert r.answer.text == 'red?'
