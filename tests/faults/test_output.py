"""What goes out: pages, Markdown, tables, file names, widgets, stored notebooks. What may come, and what
must happen:

56. Answer or question with `<script>`, `<img onerror=...>`, `</textarea>` in widget, `_repr_html_`, saved
    HTML => shown as text everywhere (test on the produced HTML)
57. Answer begins with `=`, `+`, `-`, `@` in a CSV => an apostrophe before it in `results.csv`, numbers
    apart; raw text kept in JSON-lines
58. File name from a sample id such as `../../x` or `a/b:c` => an id is never part of a file name: files
    have our names; nothing is written outside the output folder
59. Explorer used for long => no leak: figures closed, observers and hooks as after the first click (counts asserted)
60. Notebook saved with outputs, opened untrusted => everything readable without JavaScript (static image
    fallback)"""

import ast
import dataclasses
import html
import json
import re
from html.parser import HTMLParser
import ipywidgets as w
import numpy as np
import pytest
import torch
from PIL import Image
from processes import ROOT
import carve_nb
from carve_nb.attention.rows import AttentionRows
from carve_nb.core.image import png_bytes
from carve_nb.core.saliency import Saliency
from carve_nb.data.datasets import DataSet
from carve_nb.data.records import Record
from carve_nb.data.scenes import make_scene
from carve_nb.explorer.app import Explorer
from carve_nb.method.crop import Crop
from carve_nb.method.profiles import ModelProfile
from carve_nb.method.results import Result
from carve_nb.runs.pages import write_report
from carve_nb.runs.runner import run_eval
from carve_nb.runs.store import Run, RunStore
from carve_nb.studies.checkup import Checkup, recommend

# Every way out of text that we know: of HTML, of Markdown, and of formulas.
BAD = ' '.join(
    (
        '<script>alert(1)</script><img src=x onerror=alert(2)></textarea></style></div>"\'><svg onload=alert(3)>',
        '![a](http://host.test/a.png)',
        r'![d\\](http://host.test/d.png)',
        '[b](javascript:alert(4))',
        r'$\href{javascript:alert(5)}{c}$',
    )
)
# The tags that our pages have.
OURS = {
    *'div figure figcaption sub br strong b em p h1 h2 ul li code pre a style img'.split(),
    *'table thead tbody tr td th'.split(),
}
# Where an address may lead: an image is fetched at once, a link waits for a click.
ADDRESSES = dict(img='data:image/', a=('data:image/', 'http://', 'https://'))


class Foreign(HTMLParser):
    "Collects tags that are not ours, code in attributes, and addresses that are fetched"

    def __init__(self):
        super().__init__()
        self.parts = []

    def handle_starttag(self, tag, attributes):
        if tag not in OURS or any(name.startswith('on') for name, _ in attributes):
            self.parts.append((tag, attributes))
        for name, value in attributes:
            if name in ('src', 'href', 'action') and not value.startswith(ADDRESSES.get(tag, 'data:image/')):
                self.parts.append((tag, name, value[:60]))


def foreign(page):
    "Return what HTML holds beside text, our own tags and images within"
    parser = Foreign()
    parser.feed(page)
    parser.close()
    return parser.parts


def a_report():
    "A run of two methods with hostile words in each field, and one line that failed"
    lines = [
        dict(
            id=f'{i}{BAD}',
            at=i,
            method=method,
            status='ok',
            kind=BAD,
            answer=BAD,
            truth=BAD,
            score=float(i % 2),
            confidence=0.5,
            plain_answer=BAD,
            hit=None,
            pointing=None,
            iou=None,
            box=[0, 0, 4, 4],
            calls=1,
            seconds=0.5,
            notes=[BAD],
            key='k',
        )
        for method in ('none', 'b')
        for i in range(4)
    ]
    failed = dict(id=f'4{BAD}', at=4, method='b', status='oom', kind=BAD, why=BAD)
    protocol = dict(
        data=dict(name=BAD, key=BAD, n=5, rule='exact', about={BAD: BAD}, kinds={BAD: 5}),
        model=dict(name=BAD, weights=BAD, dtype=BAD, device=BAD, kernel=BAD),
        methods=dict(none={}, b={}),
        prompt=dict(suffix=BAD),
        pixels=dict(limit=None, tokens=BAD),
        seed=0,
        versions={BAD: BAD},
        decoding=dict(max_new_tokens=32),
        answer_by={BAD: BAD},
    )
    return Run(protocol, [*lines, failed])


def a_checkup():
    "A checkup with hostile words as answers, kinds and names of methods"
    run = a_report()
    lines = [line | dict(id=f'eye-945000-digit-{i}') for i, line in enumerate(run.records[:4])]
    lines += [line | dict(method=BAD, score=1.0) for line in lines]
    return recommend(Run(run.protocol, lines))


def a_result():
    "The result of a method with hostile words as question, answers, notes and names of maps"
    from carve_nb.models.model import Answer

    image = Image.effect_noise((64, 64), 60).convert('RGB')
    S = Saliency(np.eye(4, dtype=np.float32), image.size, (0, 0, *image.size), image)
    return Result(
        answer=Answer(BAD, [1], 0.0),
        plain_answer=Answer(BAD, [1], 0.0),
        saliency=S,
        maps={BAD: S},
        crop=Crop(image, (0, 0, 64, 64), 1.0, False),
        notes=[BAD],
        method=BAD,
        image=image,
        question=BAD,
    )


def an_explorer(vlm):
    "The explorer with hostile words wherever words come from"
    ex = Explorer(vlm)
    ex.show_image(Image.effect_noise((96, 96), 60).convert('RGB'), BAD, repr(BAD))
    ex.question.value = 'What digit is it?'
    ex.ask()
    ex.question.value, ex.words.options = BAD, [(BAD, [BAD])]
    answer = dataclasses.replace(ex.result.answer, text=BAD)
    ex.show(dataclasses.replace(ex.result, question=BAD, notes=[BAD], answer=answer, plain_answer=answer))
    return ex


@pytest.fixture(scope='module')
def vlm(load):
    return load('carve-tiny')


def some_rows():
    "Attention with hostile words as answer, over an image"
    from carve_nb.models.image_tokens import ImageSpan
    from carve_nb.models.model import Answer

    spans = [ImageSpan(torch.arange(1, 17), (4, 4), (0.0, 0.0, 64.0, 64.0))]
    return AttentionRows(
        torch.rand(1, 12, 2, 16) / 16,
        [*range(12)],
        [1],
        spans,
        answer=Answer(BAD, [1], 0.0),
        n_layers=12,
        sizes=[(64, 64)],
        images=[Image.effect_noise((64, 64), 60).convert('RGB')],
    )


MAKERS = {
    AttentionRows: lambda vlm: some_rows(),
    Explorer: an_explorer,
    Run: lambda vlm: a_report(),
    Checkup: lambda vlm: a_checkup(),
    Result: lambda vlm: a_result(),
    ModelProfile: lambda vlm: ModelProfile(BAD, BAD, 5, 'noun', dict(last=0.1, noun=0.4), 0.9, BAD),
}


@pytest.mark.case(56)
@pytest.mark.parametrize('kind', MAKERS, ids=lambda c: c.__name__)
def test_hostile_text_is_text(kind, vlm):
    "The HTML of each object that shows words of others"
    displayed = MAKERS[kind](vlm)
    page = displayed.still_bundle()['text/html'] if kind is Explorer else displayed._repr_html_()
    assert foreign(page) == []
    assert 'alert(1)' in page, 'the words are not there at all'


@pytest.mark.case(56)
def test_objects_in_a_notebook(vlm):
    "Images with words for those who do not see them, a caption, and little weight"
    scene = make_scene(7)
    result = carve_nb.Carve()(vlm, scene.image, scene.question('digit').question)
    for shown in (scene, result.rows, result, result.saliency, result.crop):
        page = shown._repr_html_()
        descriptions = re.findall(r'<img alt="([^"]*)"', page)
        assert descriptions
        assert min(map(len, descriptions)) > 8
        assert '<figcaption>' in page
        assert len(page) < 60_000


@pytest.fixture(scope='module')
def hostile_explorer(vlm):
    explorer = an_explorer(vlm)
    explorer.tell(BAD)
    return explorer


@pytest.mark.case(56)
def test_hostile_text_in_each_text_of_the_explorer(hostile_explorer):
    pages = [child.value for child in hostile_explorer.box.children if isinstance(child, w.HTML)]
    assert sum('&lt;script&gt;' in page for page in pages) >= 3
    assert [part for page in pages for part in foreign(page)] == []


@pytest.mark.case(56)
def test_no_widget_reads_markup_in_a_description(hostile_explorer):
    children = hostile_explorer.box.children
    assert [child for child in children if isinstance(child, w.HTMLMath)] == []
    assert [child for child in children if getattr(child, 'description_allow_html', False)] == []


@pytest.mark.case(56)
def test_hostile_text_in_the_code_of_the_explorer_is_strings(hostile_explorer):
    shown = re.search('<pre>(.*?)</pre>', hostile_explorer.code.value, re.S)[1]
    strings = [
        node.value
        for node in ast.walk(ast.parse(html.unescape(shown)))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    assert sum(string.count('alert(1)') for string in strings) == 3


@pytest.mark.case(56)
def test_saved_report_is_text(tmp_path):
    "What a run writes about itself, rendered"
    report = a_report()
    store = RunStore(tmp_path, report.protocol)
    store.add(report.records)
    store.close()
    for name in write_report(tmp_path).files:
        if name.endswith('.md'):
            assert foreign(rendered((tmp_path / name).read_text())) == [], name


IDS = '../../x', 'a/b:c', '..\\..\\y', '/etc/z', 'CON', '.hidden', 'a\tb', '<b>'


@pytest.mark.case(58)
def test_ids_are_no_paths(vlm, tmp_path):
    "Files of a run have our names; nothing is written outside of its folder"
    out = tmp_path / 'one' / 'two' / 'run'
    image = png_bytes(Image.new('RGB', (64, 64), 'red'))
    data = DataSet('../../name', [Record(i, image, 'What color is it?', ['red']) for i in IDS])
    run_eval(data, vlm, methods='none', out=out, progress=False)
    files = {p for p in tmp_path.rglob('*') if p.is_file()}
    assert all(p.parent == out for p in files), files
    assert {p.name for p in files} == {'protocol.json', 'records.jsonl', 'run.lock'}, files
    assert [json.loads(l)['id'] for l in (out / 'records.jsonl').read_text().splitlines()] == [*IDS]


def rendered(markdown):
    "HTML of Markdown, tags let through"
    import mistune

    return mistune.create_markdown(escape=False, plugins=['table', 'strikethrough', 'url'])(markdown)


def unreadable(output):
    "Tell whether a reader without JavaScript sees nothing of an output"
    data = {
        kind: ''.join(value) for kind, value in output.get('data', {}).items() if not kind.endswith('json')
    }
    markup = data.get('text/html', '') + rendered(data.get('text/markdown', ''))
    script = any('javascript' in kind for kind in data) or re.search(
        r'<(?:script|iframe|object|embed)\b', markup, re.I
    )
    widget = any('widget' in kind for kind in output.get('data', ())) and 'image/png' not in data
    return script or widget or 'data' in output and not any(data.values())


@pytest.mark.case(60)
def test_stored_notebooks_need_no_script():
    paths = [
        path
        for path in (ROOT / 'nbs').rglob('*.ipynb')
        if not any(part[0] in '._' for part in path.relative_to(ROOT).parts)
    ]
    wrong = [
        (path.name, output)
        for path in paths
        for cell in json.loads(path.read_text(encoding='utf-8'))['cells']
        for output in cell.get('outputs', ())
        if unreadable(output)
    ]
    assert len(paths) > 60 and wrong == []
