"""The figure whose models answer in the browser: Chromium against PyTorch, and what a reader does with it.

Skipped without a browser; with CARVE_BROWSER=required a missing browser is a failure."""

import json
import re
import shutil
import pytest
from browsers import missing, need_browser
from processes import ROOT
from tiny import read_query_words
from carve_nb.core.text import read_words
from carve_nb.data.questions import KINDS
from carve_nb.data.scenes import make_scene
from recipes.living_figure import MODELS, browse, compare, write_site

MODULES = ROOT / 'docs/_static/living'


@pytest.fixture(scope='module')
def folder(once):
    "The figure as the site has it"
    need_browser(missing())

    def make(root):
        shutil.copytree(MODULES, root)
        write_site(root / 'data')

    return once('living', make)


@pytest.fixture(scope='module')
def page(folder):
    with browse(folder) as page:
        page.wrong, page.fetched = [], []
        page.on('pageerror', lambda e: page.wrong.append(str(e)))
        page.context.on('request', lambda r: page.fetched.append(r.url))
        yield page
        assert page.wrong == []


# an answer may take less time than a test needs to look twice, so the page itself watches
WATCH = '''() => {
    const figure = document.querySelector('[data-living]')
    window.answered = false
    new MutationObserver(() => window.answered ||= figure.dataset.busy === '')
        .observe(figure, {attributeFilter: ['data-busy']})
}'''


def start(page, width=1280, scheme='light'):
    page.set_viewport_size(dict(width=width, height=900))
    page.emulate_media(color_scheme=scheme)
    page.reload()
    page.wait_for_selector('[data-ready]', timeout=300_000)


def status(page):
    return page.locator('[role=status]').text_content()


def answered(page, act):
    "Do something, wait for the model, and return what is said"
    page.evaluate(WATCH)
    act()
    page.wait_for_function('window.answered', timeout=300_000)
    return status(page)


@pytest.mark.parametrize(
    'seeds', [range(145, 148), pytest.param(range(148, 166), marks=pytest.mark.soak)], ids=len
)
@pytest.mark.parametrize('name', MODELS)
def test_same_model(page, name, seeds, load):
    "The same pixels and answers; scores and attention as near as float32 is to float64"
    vlm = load(name)
    for seed in seeds:
        gaps = compare(page, vlm, seed)
        assert gaps['pixels'] == 0, gaps
        assert gaps['answer'], gaps
        assert gaps['confidence'] < 1e-4, gaps
        assert gaps['logits'] < 1e-4 or gaps['logits_exact'] <= gaps['logits_torch'], gaps
        assert gaps['rows'] < 1e-4 or gaps['rows_exact'] <= gaps['torch_exact'], gaps


def test_first_state(page):
    """Stored: the answer 8, the word at the heart, the crop, the answer 2; no model is fetched for it, nor
    for its words"""
    page.fetched.clear()
    start(page)
    assert page.locator('.first b').text_content() == '8' and page.locator('.second b').text_content() == '2'
    assert '“heart” looks at the orange heart' in status(page)
    page.locator('summary').click()
    page.get_by_role('button', name='last token').hover()
    assert '“last token” looks at the green square' in status(page)
    page.get_by_label('short-answer instruction').uncheck()
    page.get_by_role('button', name='last token').focus()
    assert '“last token” looks at the orange heart' in status(page)
    assert not any('safetensors' in url for url in page.fetched)


def test_reader(page):
    "Twins, another question, an object moved by keys, a new scene, the crop; the weights come once"
    start(page)
    text = answered(page, page.get_by_role('button', name='Twins').click)
    assert '“last token” looks at the purple heart' in text and 'carve-tiny' in text
    text = answered(page, page.get_by_role('button', name='Crop and ask again').click)
    assert 'with the crop “9”' in text
    question_box = page.get_by_label('Question')
    question_box.fill('What digit is on the yel')
    assert 'What digit is on the yellow' in page.locator('datalist option').evaluate_all(
        'all => all.map(o => o.value)'
    )
    question_box.fill('What color is the zebra?')
    text = answered(page, lambda: question_box.press('Enter'))
    assert text.startswith('carve-tiny does not know: zebra. ')
    assert 'cannot tell whether the answer is right' in text
    page.fetched.clear()
    question_box.fill('')
    question_box.press('Enter')
    assert not question_box.evaluate('box => box.checkValidity()')
    assert status(page) == text  # nothing was asked
    page.get_by_role('button', name='zebra').hover()
    assert 'The unknown word “zebra” looks at' in page.locator('.said').text_content()
    question_box.fill('What digit is on the purple heart?')
    place = page.evaluate('document.querySelector("[data-living]").figure.objects[0].x')
    page.locator('.object').first.focus()
    answered(page, lambda: page.keyboard.press('ArrowLeft'))
    assert page.evaluate('document.querySelector("[data-living]").figure.objects[0].x') == place - 8
    answered(page, page.get_by_role('button', name='New scene').click)
    assert re.fullmatch(r'What digit is on the \w+ \w+\?', question_box.input_value())
    assert not any('safetensors' in url for url in page.fetched)


def test_the_noun_is_that_of_the_library(page):
    "Words as the page has them, each a token"
    questions = [tokens for tokens, _ in read_query_words()]
    nouns = page.evaluate(
        """async asked => {
        const {findNoun} = await import('./noun.js'), {grammar} = await (await fetch('data/living.json')).json()
        return asked.map(tokens => tokens[findNoun(tokens, grammar)] ?? null)
    }""",
        questions,
    )
    for tokens, word in zip(questions, nouns):
        assert [word.strip().lower()] == read_words(tokens, 'noun'), tokens


def test_true_answers(page):
    """The page knows the answers of `make_scene` where a question names an object, and says where it knows
    none"""
    questions = [
        (scene, scene.question(kind))
        for scene in map(make_scene, range(145, 153))
        for kind in KINDS
        if scene.question(kind)
    ]
    plain = [
        [q.question, [dict(color=o.color, shape=o.shape, digit=o.digit) for o in scene.objects]]
        for scene, q in questions
    ]
    truths = page.evaluate(
        """async all => {
        const {readQuestion} = await import('./truth.js')
        return all.map(([question, objects]) => readQuestion(question, objects).truth ?? null)
    }""",
        plain,
    )
    for (_, question), truth in zip(questions, truths):
        answerable = question.kind in ('digit', 'color', 'shape', 'exist', 'count')
        assert truth == (question.answer if answerable else None), question


@pytest.mark.parametrize('width, scheme', [(1280, 'light'), (390, 'dark')])
def test_fits_and_can_be_read(page, width, scheme):
    start(page, width, scheme)
    assert page.evaluate('document.documentElement.scrollWidth - document.documentElement.clientWidth') <= 1
    page.evaluate((ROOT / 'tests/vendor/axe.min.js').read_text(encoding='utf-8'))
    violations = page.evaluate('axe.run("[data-living]")')['violations']
    assert violations == [], json.dumps(
        [(v['id'], [n['html'] for n in v['nodes']]) for v in violations], indent=1
    )


def test_drag(page):
    "An object follows the mouse"
    start(page)
    box = page.locator('canvas.scene').bounding_box()
    x, y = (box[k] + at * box['width'] / 448 for k, at in (('x', 76), ('y', 208)))
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 100, y + 60, steps=4)
    text = answered(page, page.mouse.up)
    assert 'carve-small answers' in text and 'looks at the orange heart' in text
