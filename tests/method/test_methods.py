"""Conformance of all methods: over two families in full, over the others one call each, which answers or says
why it cannot."""

import re
from dataclasses import replace
import pytest
import torch
from huggingface_hub.utils import build_hf_headers
from PIL import Image, ImageOps
from processes import ROOT, run, script
from skimage import data
from transformers import DynamicCache
from carve_nb.attention.session import Session
from carve_nb.attention.vlm import VLM
from carve_nb.core.errors import UnsupportedError
from carve_nb.core.text import SHORT_ANSWER
from carve_nb.data.scenes import make_scene
from carve_nb.method.base import CropMethod, Guide
from carve_nb.method.registry import make_method, methods
from carve_nb.method.results import Result
from carve_nb.models.families import FAMILIES
from carve_nb.models.image_tokens import reported_grid
from carve_nb.models.kernel import CACHE
from carve_nb.testing import check_method, check_result
from recipes.tiny_models import HERE as FAMILY_NAMES

pytestmark = pytest.mark.filterwarnings('ignore:__array__')  # numpy on one of the processors
# the others are tested with tiny checkpoints of their own, in their chapter
NAMES = [n for n, m in methods().items() if 'model' not in m.needs]
FULL = 'llava', 'qwen2_5_vl'
# of those that a processor's grid alone places, without a note, one family stands for all
OTHERS = [
    n
    for n in FAMILY_NAMES
    if n not in FULL and not (FAMILIES[n].grid is reported_grid and not FAMILIES[n].notes)
]
QUESTION, BOX = 'What animal is this?', (20, 10, 70, 60)


@pytest.fixture(scope='session')
def photo():
    return Image.fromarray(data.chelsea()).resize((120, 90))


def short(name):
    return make_method(name, max_new_tokens=3)


def draw_nothing(monkeypatch):
    "A result is drawn alike whatever the family: on the first one alone, for it takes a fifth of the time"
    monkeypatch.setattr(Result, 'plot', lambda result, height: Image.new('RGB', (1, height + 1)))


@pytest.mark.parametrize('family', FULL)
@pytest.mark.parametrize('name', NAMES)
def test_conforms(load, photo, name, family, monkeypatch):
    """A whole result, the same twice, nothing left behind, also after failures. The images of the last question,
    asked about again, give the same answer; they are those of the result, no copies"""
    vlm, method = load(family), short(name)
    if family != FULL[0]:
        draw_nothing(monkeypatch)
    r = check_method(method, vlm, photo, QUESTION, BOX)
    assert all(o is r.image or o is r.crop.image for o in r.shown), r.shown
    if not hasattr(method, 'edit'):
        assert vlm.ask(r.shown or [r.image], QUESTION, SHORT_ANSWER, 3).tokens == r.answer.tokens


@pytest.mark.parametrize('family', FULL)
def test_the_question_last(load, photo, family):
    "The suffix before the question is none of its words, and stands before CARVE's instruction too"
    vlm = load(family)
    first, last = (
        make_method('carve', question_last=turned, max_new_tokens=2)(vlm, photo, QUESTION)
        for turned in (False, True)
    )
    assert last.question == QUESTION and last.rows.question_tokens == first.rows.question_tokens
    for rows in last.rows, last.instruction_rows:
        assert SHORT_ANSWER in rows.about['prompt'].split(rows.about['question'])[0]


@pytest.mark.parametrize('family', FULL)
def test_vcd_reads_the_noised_image(load, photo, family):
    "More noise gives another contrast: what is read a second time is not the stored beginning with the clean image"
    little, much = (
        make_method('vcd', step=step, max_new_tokens=1)(load(family), photo, QUESTION) for step in (0, 999)
    )
    assert little.answer.confidence != much.answer.confidence


@pytest.mark.parametrize(
    'name', [n for n in NAMES if hasattr(methods()[n], 'render') or n in ('random', 'center')]
)
def test_all_crops_obey(name, load, monkeypatch):
    """What is added to `CropMethod.render`, such as a frame, is in the crop of every method, of `random`,
    `center` and `hide` too"""

    def framed(self, *args):
        crop = render(self, *args)
        crop.image = ImageOps.expand(crop.image, 3, 'red')
        return crop

    render = CropMethod.render
    monkeypatch.setattr(CropMethod, 'render', framed)
    scene = make_scene(0)
    query = scene.question('digit')
    r = make_method(name)(load('carve-tiny'), scene.image, query.question, box=query.box)
    assert r.crop.image.getpixel((0, 0)) == (255, 0, 0) or r.whole and name in ('ask-box', 'uniform-map')


def pairs():
    "Each method with one more family, in turn; with all of them at night"
    for i, name in enumerate(NAMES):
        for j, family in enumerate(OTHERS):
            yield pytest.param(name, family, marks=() if i % len(OTHERS) == j else pytest.mark.soak)


TILED = 'llava_next', 'llava_onevision', 'internvl', 'idefics3', 'smolvlm', 'aya_vision'
REFUSES = {  # the method and the family -> the sentence that says why; all others answer
    **{('pure-grad', family): 'needs an image in one piece' for family in TILED},
    **{('dual', family): 'the tower reads several images or tiles' for family in TILED},
    ('dola', 'lfm3_vl'): 'no vocabulary head, or no final norm',
}


@pytest.mark.parametrize('name, family', [*pairs()])
def test_answers_or_gives_reason(load, photo, name, family, monkeypatch):
    "A result on families of another kind, or the reason why not where it is known"
    draw_nothing(monkeypatch)
    if (name, family) in REFUSES:
        with pytest.raises(UnsupportedError, match=REFUSES[name, family]):
            short(name)(load(family), photo, QUESTION, box=BOX)
    else:
        check_result(short(name)(load(family), photo, QUESTION, box=BOX), photo)


# with which each edit acts on a random Gemma; VAR has no sinks there
ACTING = dict(pai=dict(gamma=1.0, alpha=1.0), dual={}, gift={}, vrga=dict(p=60.0, gamma=5.0))


@pytest.mark.parametrize('name', ACTING)
def test_edits_behind_a_window(load, photo, name):
    """The prompt is longer than the window of two layers in three: a cache that drops the first keys gives
    the same logits at every step as one that keeps them"""
    vlm = load('gemma3')
    method = make_method(name, **ACTING[name])
    prompt = vlm.prompt(photo, QUESTION, method.suffix)
    assert vlm.text_config.sliding_window < len(prompt)

    def steps(cache, edited=True):
        session = Session(vlm)
        inputs, logits = vlm.to_device(prompt), []
        guide = method.edit(session, method.asked(vlm, photo, QUESTION), prompt) if edited else Guide()
        with guide.block, torch.no_grad():
            for token in 65, 66, 67, 68:
                logits.append(vlm.model(**inputs, **{CACHE: cache}, use_cache=True).logits[0, -1])
                inputs = dict(input_ids=torch.tensor([[token]]))
        return torch.stack(logits)

    short = steps(DynamicCache(config=vlm.text_config))
    assert (short - steps(DynamicCache())).abs().max() < 1e-4
    assert (short - steps(DynamicCache(), edited=False)).abs().max() > 1e-3


@pytest.mark.parametrize('name', ['clip', 'detector', 'sam'])
def test_models_of_their_own(name, load, photo, monkeypatch):
    "Methods that need a checkpoint say so; of the Hub none is asked for before `download=True`"
    asked = []

    def refuse_host(host, *args, **kw):
        asked.append(host)
        raise OSError('there is no network')

    monkeypatch.setattr('socket.getaddrinfo', refuse_host)
    monkeypatch.setattr('huggingface_hub.constants.HF_HUB_OFFLINE', False)
    build_hf_headers()  # once for a process the client asks for a list of its callers
    asked.clear()
    with pytest.raises(UnsupportedError, match='No model is given. Give model= a folder'):
        make_method(name)(load('llava'), photo, QUESTION)
    with pytest.raises(UnsupportedError, match='cannot be loaded'):
        make_method(name, model='nobody/nothing')(load('llava'), photo, QUESTION)
    assert not asked


@pytest.mark.parametrize('name', ['carve', 'zoom-eye'])
def test_one_image_at_a_time(name, load, photo, monkeypatch):
    "A family that takes one image is asked about the crop alone, and the result says so"
    vlm = load('llava')
    monkeypatch.setattr(
        vlm, 'family', replace(vlm.family, why_not={'several images': 'its template has one place'})
    )
    r = check_method(short(name), vlm, photo, QUESTION)
    assert r.whole or r.shown == [r.crop.image] and any('one image at a time' in note for note in r.notes)


def test_a_family_that_nobody_tested(photo, monkeypatch):
    "The hooks that transformers hangs when attention is first checked are not the method's"
    monkeypatch.setitem(FAMILIES, 'llava', replace(FAMILIES['llava'], tested=False))
    check_method(short('carve'), VLM.from_pretrained('carve-tiny'), photo, QUESTION)


@pytest.mark.parametrize('name', ['my_method', 'my_family'])
def test_templates(name):
    "The files to begin with run as they are, and pass"
    out = run(ROOT / f'nbs/tutorials/{name}.py', work=script)
    assert out.returncode == 0 and 'passed. What digit is on the' in out.stdout, out.stderr
    if name == 'my_method':
        assert re.search(r'\nnone .*\ncarve .*\nmy-method .*', out.stdout), out.stdout
