"Answers that were cut or begin with a thought, templates and models of one's own, results from a folder: as a user starts"
import copy
import pytest
import torch
from tiny import QUESTION, WIDE
from carve_nb.attention.vlm import VLM, record_attention
from carve_nb.core.errors import CarveError
from carve_nb.core.io import behind_thought
from carve_nb.data.scenes import make_scene, to_sample
from carve_nb.data.scoring import score_answer
from carve_nb.method.carve import Carve
from carve_nb.method.lookup import Lookup
from carve_nb.method.registry import make_method
from carve_nb.runs.runner import run_eval

pytestmark = pytest.mark.filterwarnings('ignore::UserWarning')


def with_template(vlm, change):
    "The model with a chat template of one's own"
    processor = copy.copy(vlm.processor)
    processor.chat_template = change(processor.chat_template)
    return VLM(vlm.model, processor)


def test_cut_answers(load, tmp_path):
    vlm = load('llava')
    long = vlm.generate(vlm.prompt(WIDE, QUESTION), 12)
    assert not long.finished and repr(long).endswith('12 tokens, cut)')
    r = Carve(max_new_tokens=4)(vlm, WIDE, QUESTION)
    assert r.notes[-1] == 'the answer was cut at 4 tokens: max_new_tokens gives it more' and r.notes[-1] in repr(r)
    assert make_method('none', max_new_tokens=4)(vlm, [WIDE, WIDE], QUESTION).notes[-1] == r.notes[-1]
    lines = run_eval('scenes', vlm, ('none', 'carve'), 1, tmp_path/'R', max_new_tokens=4, progress=False)[1]
    assert [sum('cut at' in note for note in line['notes']) for line in lines] == [1, 1]
    assert Carve()(VLM.from_pretrained('carve-tiny'), make_scene(16).image,
        'What color is the triangle?').answer.finished


def test_a_model_that_thinks(load, tmp_path):
    "The thought has room beside the answer; a run keeps what was said, scores what stands behind the thought, and tells"
    with pytest.warns(UserWarning, match='opens a thought with <think>: it gets 2,048 tokens'):
        vlm = with_template(load('llava'), lambda t: t + '<think>\n')
    vlm.thought = 5
    answer = vlm.ask(WIDE, QUESTION, max_new_tokens=2)
    assert (len(answer.tokens), answer.text[:7], behind_thought(answer.text)) == (7, '<think>', None)
    assert [len(vlm.ask(WIDE, q, max_new_tokens=2).tokens) for q in (QUESTION, 'Why?')] == [7, 7]
    protocol, lines, _ = run_eval('scenes', vlm, ('none', 'lookup:query=last'), 2, tmp_path/'R',
        max_new_tokens=2, progress=False)
    assert protocol['decoding'] == dict(how='greedy', max_new_tokens=2, thought=5)
    for line in lines:
        assert line['score'] == 0 and line['answer'].startswith('<think>')
        assert 'the answer was cut at 7 tokens, inside its thought: max_new_tokens gives it more' in line['notes']
    scene = to_sample(make_scene(16), 'digit')
    for said, score in ((f'<think>{scene.answer}', 0), (f'<think>9 or 8?</think>\n\n{scene.answer}.', 1),
            (f'<think>{scene.answer}</think> none', 0)):
        assert score_answer(said, scene) == score
    calm = with_template(load('llava'), lambda t: t + '<think>\n\n</think>\n\n')    # thinking switched off
    assert calm.ask(WIDE, QUESTION, None, 2).text == calm.generate(calm.prompt(WIDE, QUESTION), 2).text
    assert not calm.thinks


@pytest.mark.parametrize('name', ['llava', 'qwen2_5_vl', 'internvl'])
@pytest.mark.parametrize('filters', ['| e', "| replace('\\n', ' ')"])
def test_template_that_changes_the_words(name, filters, load):
    vlm = with_template(load(name), lambda t: t.replace("c['text']", f"(c['text'] {filters})"))
    asked = 'Is "A" red, or\nis it the elephant?' if 'replace' in filters else 'Is "A" red, or is it the elephant?'
    with pytest.raises(CarveError, match='template changes .* Ask without signs that it changes'): Lookup(query='noun')(vlm, WIDE, asked)
    assert vlm.ask(WIDE, QUESTION, max_new_tokens=2).tokens


def test_template_without_a_place_for_images(load):
    for name in 'llava', 'qwen2_5_vl', 'internvl':
        vlm = load(name)
        with pytest.raises(CarveError, match='leaves out the question or the image.*Get the complete release'):
            with_template(vlm,
                lambda t: "{% for m in messages %}{{ m['role'] }}: {{ m['content'][-1]['text'] }}{% endfor %}")


def test_wrapper_without_config(load):
    "A wrapper of one's own, which generates and is no model of transformers"
    class Like(torch.nn.Module):
        def __init__(self, model):
            super().__init__()
            self.model = model
        def generate(self, *args, **kw): return self.model.generate(*args, **kw)
    vlm = load('llava')
    for call in (lambda m: VLM(m, vlm.processor), lambda m: record_attention(m, vlm.processor,
            vlm.prompt(WIDE, QUESTION).inputs, [WIDE]).__enter__()):
        with pytest.raises(CarveError, match='The model is a Like: give the model of transformers'):
            call(Like(vlm.model))


def test_one_head(load):
    vlm = load('llava')
    inputs = vlm.prompt(WIDE, QUESTION).inputs
    with record_attention(vlm.model, vlm.processor, inputs, [WIDE]) as rows: vlm.model(**inputs)
    assert (rows.saliency(heads=0).values == rows.saliency(heads=[0]).values).all()
    assert rows.saliency(layers=3, heads=1).values.shape
