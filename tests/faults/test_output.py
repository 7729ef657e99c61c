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
import base64
import dataclasses
import html
import importlib
import inspect
import io
import json
import pkgutil
import re
import threading
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
from carve_nb.data.scenes import Scene, make_scene
from carve_nb.explorer.app import Explorer
from carve_nb.method.crop import Crop
from carve_nb.method.profiles import ModelProfile
from carve_nb.method.registry import MethodTable
from carve_nb.method.results import Result
from carve_nb.runs.report import write_report
from carve_nb.runs.runner import run_eval
from carve_nb.runs.store import Run, RunStore
from carve_nb.studies.checkup import Checkup, recommend

BAD = '<script>alert(1)</script><img src=x onerror=alert(2)></textarea></style></div>"\'><svg onload=alert(3)> ![a](http://host.test/a.png) ![d\\\\](http://host.test/d.png) [b](javascript:alert(4)) $\\href{javascript:alert(5)}{c}$'
SAFE = {'div', 'figure', 'figcaption', 'sub', 'br', 'strong', 'b', 'img', 'table', 'tr', 'td', 'th', 'p',
    'style', 'a',
    'thead', 'tbody', 'h1', 'h2', 'ul', 'li', 'code', 'em', 'pre'}


class Found(HTMLParser):
    "Tags and attributes that HTML really has"
    def __init__(self):
        super().__init__()
        self.wrong = []
    def handle_starttag(self, tag, attrs):
        if tag not in SAFE or any(k.startswith('on') for k, _ in attrs): self.wrong.append((tag, attrs))
        for k, v in attrs:
            fine = (('data:image/', *(['http://', 'https://'] if tag == 'a'
                else [])))   # a link waits for a click; an image is fetched at once
            if k in ('src', 'href', 'action') and not v.startswith(fine): self.wrong.append((tag, k, v[:60]))


def wrong_in(page):
    "What HTML holds beside text, our own tags and images within"
    f = Found()
    f.feed(page)
    f.close()
    return f.wrong


def test_the_check_sees_faults():
    for bad in ('<script>x</script>', '<img src=x>', '<img src="data:image/png;base64,AA" onerror=x>',
            '<b onclick=x>',
            '<a href="javascript:x">', '<svg onload=x>'):
        assert wrong_in(bad), bad
    assert not wrong_in('<b>&lt;script&gt;</b><img alt="&lt;b&gt;" src="data:image/png;base64,AA">')


def package_modules():
    "Every module of the package; importing it must be possible here"
    names = [m.name for m in pkgutil.walk_packages(carve_nb.__path__, 'carve_nb.')
        if not m.name.rpartition('.')[2].startswith('_')]
    return [*map(importlib.import_module, names)]


TEXTS = ('_repr_html_', '_repr_markdown_', '_repr_mimebundle_', '_repr_svg_', '_repr_javascript_',
    '_repr_latex_',
    '_repr_json_', '_ipython_display_')


def showing_classes():
    "Classes of the package that say themselves how they are shown, other than by an image"
    classes = {c for m in package_modules() for _, c in inspect.getmembers(m, inspect.isclass)
        if c.__module__.startswith('carve_nb')}
    return {c for c in classes if any(t in vars(c) for t in TEXTS) and not issubclass(c, w.Widget)}


def a_report():
    "A run of two methods with hostile words in each field, and one line that failed"
    lines = [dict(id=f'{i}{BAD}', at=i, method=method, status='ok', kind=BAD, answer=BAD, truth=BAD,
        score=float(i % 2),
                  confidence=.5, plain_answer=BAD, hit=None, pointing=None, iou=None, box=[0, 0, 4, 4],
                  calls=1,
                  seconds=.5, notes=[BAD], key='k') for method in ('none', 'b') for i in range(4)]
    failed = dict(id=f'4{BAD}', at=4, method='b', status='oom', kind=BAD, why=BAD)
    protocol = dict(
        data=dict(name=BAD, key=BAD, n=5, rule='exact', about={BAD: BAD}, kinds={BAD: 5}),
        model=dict(name=BAD, weights=BAD, dtype=BAD, device=BAD, kernel=BAD), methods=dict(none={}, b={}),
        prompt=dict(suffix=BAD), pixels=dict(limit=None, tokens=BAD), seed=0, versions={BAD: BAD},
        decoding=dict(max_new_tokens=32), answer_by={BAD: BAD})
    return Run(protocol, [*lines, failed])


def a_checkup():
    "A checkup with hostile words as answers, kinds and names of methods"
    run = a_report()
    lines = [line | dict(id=f'eye-945000-digit-{i}') for i, line in enumerate(run.records[:4])]
    lines += [line | dict(method=BAD, score=1.) for line in lines]
    return recommend(Run(run.protocol, lines))


def a_result():
    "The result of a method with hostile words as question, answers, notes and names of maps"
    from carve_nb.models.model import Answer
    image = Image.effect_noise((64, 64), 60).convert('RGB')
    S = Saliency(np.eye(4, dtype=np.float32), image.size, (0, 0, *image.size), image)
    return Result(answer=Answer(BAD, [1], 0.), plain_answer=Answer(BAD, [1], 0.), saliency=S, maps={BAD: S},
        crop=Crop(image, (0, 0, 64, 64), 1., False), notes=[BAD], method=BAD, image=image, question=BAD)


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
def vlm(load): return load('carve-tiny')


def some_rows():
    "Attention with hostile words as answer, over an image"
    from carve_nb.models.image_tokens import ImageSpan
    from carve_nb.models.model import Answer
    spans = [ImageSpan(torch.arange(1, 17), (4, 4), (0., 0., 64., 64.))]
    return AttentionRows(torch.rand(1, 12, 2, 16)/16, [*range(12)], [1], spans, answer=Answer(BAD, [1], 0.),
        n_layers=12, sizes=[(64, 64)], images=[Image.effect_noise((64, 64), 60).convert('RGB')])


def a_scene():
    "A scene whose objects bear hostile names"
    scene = make_scene(7)
    return dataclasses.replace(scene, objects=[dataclasses.replace(o, color=BAD) for o in scene.objects])


def a_table():
    "Methods with hostile words about them"
    return MethodTable({BAD: type('Bad', (), dict(__doc__=BAD, category=BAD, source=BAD, needs=(BAD,)))})


WORDLESS = Saliency, Crop      # what they show is all numbers
MAKERS = {
    AttentionRows: lambda vlm: some_rows(), Scene: lambda vlm: a_scene(),
    MethodTable: lambda vlm: a_table(), Explorer: an_explorer, Run: lambda vlm: a_report(),
    Checkup: lambda vlm: a_checkup(),
    Saliency: lambda vlm: a_result().saliency, Crop: lambda vlm: a_result().crop,
    Result: lambda vlm: a_result(),
    ModelProfile: lambda vlm: ModelProfile(
        BAD, BAD, 5, 'noun', dict(last=.1, noun=.4), .9, BAD)}


@pytest.mark.case(56)
def test_all_that_show_themselves_are_tested():
    "A class with a new representation must be put into MAKERS, and pass"
    assert {c.__name__ for c in showing_classes()} == {c.__name__ for c in MAKERS}


@pytest.mark.case(56)
@pytest.mark.parametrize('kind', MAKERS, ids=lambda c: c.__name__)
def test_hostile_text_is_text(kind, vlm):
    "HTML of each representation, Markdown rendered with tags let through"
    o, pages = MAKERS[kind](vlm), []
    if hasattr(o, '_repr_html_'): pages.append(o._repr_html_())
    if hasattr(o, '_repr_markdown_'): pages.append(rendered(o._repr_markdown_()))
    if kind is Explorer: pages.append(o.still_bundle()['text/html'])
    assert pages
    for page in pages:
        assert wrong_in(page) == []
        if kind not in WORDLESS: assert 'alert(1)' in page, 'the words are not there at all'


@pytest.mark.case(56)
def test_objects_in_a_notebook(vlm):
    "Images with words for those who do not see them, a caption, little weight, and a short plain text"
    scene = make_scene(7)
    question = scene.question('digit').question
    r = carve_nb.Carve()(vlm, scene.image, question)
    captions = {}
    for o in (scene, r.rows, r, r.saliency, r.crop):
        page = o._repr_html_()
        alts = re.findall(r'<img alt="([^"]*)"', page)
        assert alts and all(len(a) > 8 for a in alts) and len(page) < 60_000 and len(repr(o)) < 400
        captions[type(o)] = html.unescape(re.search('<figcaption>(.*?)</figcaption>', page, re.S)[1])
    for kind, words in ((Result, question), (Result, 'baseline: '), (Saliency, 'peak at'),
            (Crop, str(r.crop.box))):
        assert words in captions[kind]


@pytest.mark.case(56)
def test_hostile_text_in_widgets(vlm):
    "Every text and message of the explorer; no widget reads markup in a description"
    ex = an_explorer(vlm)
    ex.tell(BAD)
    ex.guard(lambda: (_ for _ in ()).throw(ValueError(BAD)))
    found = ex.box.children
    pages = [x.value for x in found if isinstance(x, w.HTML)]
    assert sum('&lt;script&gt;' in p for p in pages) >= 3 and [x for p in pages for x in wrong_in(p)] == []
    assert not [x for x in found if isinstance(x, w.HTMLMath)]
    assert not [x for x in found if getattr(x, 'description_allow_html', False)]
    scripts = [o['data'] for x in found if isinstance(x, w.Output) for o in x.outputs]
    assert 'alert(' not in json.dumps(scripts) and ex.question.value == BAD
    assert ast.unparse(ast.parse(html.unescape(re.search('<pre>(.*?)</pre>', ex.code.value,
        re.S)[1]))).count('alert(1)') == 3   # word, image, question: inside of Python's strings


@pytest.mark.case(56)
def test_saved_report_is_text(tmp_path):
    "What a run writes about itself, rendered"
    report = a_report()
    store = RunStore(tmp_path, report.protocol)
    store.add(report.records)
    store.close()
    for name in write_report(tmp_path)[1]:
        if name.endswith('.md'): assert wrong_in(rendered((tmp_path/name).read_text())) == [], name


IDS = '../../x', 'a/b:c', '..\\..\\y', '/etc/z', 'CON', '.hidden', 'a\tb', '<b>'


@pytest.mark.case(58)
def test_ids_are_no_paths(vlm, tmp_path):
    "Files of a run have our names; nothing is written outside of its folder"
    out = tmp_path/'one'/'two'/'run'
    image = png_bytes(Image.new('RGB', (64, 64), 'red'))
    data = DataSet('../../name', [Record(i, image, 'What color is it?', ['red']) for i in IDS])
    run_eval(data, vlm, methods='none', out=out, progress=False)
    files = {p for p in tmp_path.rglob('*') if p.is_file()}
    assert (all(p.parent == out for p in files)
        and {p.name for p in files} == {'protocol.json', 'records.jsonl', 'run.lock'}), files
    assert [json.loads(l)['id'] for l in (out/'records.jsonl').read_text().splitlines()] == [*IDS]


@pytest.mark.case(59)
def test_explored_again_and_again(vlm):
    "Words clicked, shares moved, asked: observers, hooks, threads and figures as after the first time"
    from matplotlib import pyplot
    ex = Explorer(vlm)
    ex.show_image(make_scene(7).image, 'scene', 'scene')
    ex.question.value = make_scene(7).question('digit').question
    def counts():
        ex.ask()
        for word, p in (('last', .1), ('question', .2), (['digit'], .04)): ex.words.value, ex.p.value = word, p
        observers = [f for x in ex.box.children for kinds in x._trait_notifiers.values() for f in kinds.values()]
        hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in vlm.model.modules()]
        return [len(w.widget._instances), sum(map(len, observers)), sum(hooks), threading.active_count(), len(pyplot.get_fignums())]
    first = counts()
    for _ in range(3): again = counts()
    assert again == first


def rendered(markdown):
    "HTML of Markdown, tags let through"
    import mistune
    return mistune.create_markdown(escape=False, plugins=['table', 'strikethrough', 'url'])(markdown)


def stored_outputs(nb):
    return [o for c in nb['cells'] if c['cell_type'] == 'code' for o in c.get('outputs', [])]


def unreadable(output):
    "Why an output says nothing to a reader without JavaScript, or ''"
    data = output.get('data')
    if data is None: return '' if output['output_type'] in ('stream', 'error') else 'no data'
    joined = {k: ''.join(v) if isinstance(v, list) else v for k, v in data.items()}
    if any('widget' in k for k in data) and 'image/png' not in data: return 'a widget without an image'
    if any('javascript' in k for k in data): return 'a script'
    if re.search(r'<(?:script|iframe|object|embed)\b', joined.get('text/html', '')
            + rendered(joined.get('text/markdown', '')), re.I):
        return 'HTML with a script'
    if 'image/png' in data:
        return ('' if np.asarray(Image.open(io.BytesIO(base64.b64decode(joined['image/png'])))).size
            else 'an empty image')
    return '' if any(joined.get(k, '').strip() for k in ('text/plain', 'text/markdown', 'text/html',
        'image/svg+xml')) else 'nothing to read'


@pytest.mark.case(60)
def test_stored_notebooks_need_no_script():
    paths = sorted(p for p in (ROOT/'nbs').rglob('*.ipynb')
        if not any(o[0] in '._' for o in p.relative_to(ROOT).parts))
    found = {p.name: [u for o in stored_outputs(json.loads(p.read_text(encoding='utf-8')))
        if (u := unreadable(o))]
        for p in paths}
    assert len(paths) > 60 and {k: v for k, v in found.items() if v} == {}
    assert unreadable(dict(output_type='display_data', data={'application/vnd.jupyter.widget-view+json': {},
        'text/plain': 'x'}))
    assert unreadable(dict(output_type='display_data', data={'text/html': '<script>1</script>'}))
