"""Conformance of all model families, on tiny random models: where tokens are, what they see, and that what is
read is attention."""

import contextlib
import copy
import json
import re
import warnings
from dataclasses import replace
from functools import partial
from pathlib import Path
from unittest.mock import patch
import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from tiny import QUESTION, TALL, WIDE, check_stock_ids, image, measured, note, stock
from transformers import AutoProcessor, GemmaTokenizer
from carve_nb.attention.family_check import SHAPES, check_family, eager_rows, plant_squares, smooth_image
from carve_nb.attention.session import Session
from carve_nb.attention.vlm import VLM
from carve_nb.core.errors import CarveError
from carve_nb.core.image import box_size, common_box
from carve_nb.core.saliency import patch_cover
from carve_nb.core.text import SHORT_ANSWER, read_words
from carve_nb.method.asking import AskBox
from carve_nb.method.carve import Carve
from carve_nb.models.families import FAMILIES, MEASURED
from carve_nb.models.image_tokens import canvas_tiles
from carve_nb.models.model import Answer
from carve_nb.models.prompts import Ask
from recipes.tiny_models import HERE as NAMES, RECIPES, byte_tokenizer, llama_tokenizer, make_tiny_checkpoint

pytestmark = pytest.mark.filterwarnings('ignore:__array__')  # numpy on one of the processors
# whose processors cut an image into as many patches as it has, as Qwen's
AS_QWEN = {
    'qwen2_vl',
    'qwen2_5_vl',
    'qwen3_vl',
    'qwen3_vl_moe',
    'qwen3_5',
    'qwen3_5_moe',
    'glm4v',
    'glm4v_moe',
    'glm46v',
    'ernie4_5_vl_moe',
}
# whose images can take fewer tokens
FEWER = AS_QWEN | {'lfm3_vl', 'mistral3', 'lfm2_vl', 'minicpmv4_6', 'minicpmv4_7'}
# the kind of tokenizer that a family's releases have, where it is not byte-level
LLAMA = ('as Llama', llama_tokenizer)
GEMMA = ('as Gemma', partial(llama_tokenizer, make=GemmaTokenizer))
NOT_SHARED = {'paligemma', 'minicpmv4_7'}  # the beginning of a prompt depends on what follows it
# whose stock processor needs torchvision or num2words; that of each other family has to load
NEEDS_MORE = AS_QWEN | {'llava_onevision', 'internvl', 'smolvlm', 'lfm3_vl', 'gemma4'}
JOINT = {'llava_onevision'}  # an image is processed otherwise beside another
TOKENIZERS = dict(llava=LLAMA, llava_next=LLAMA, gemma3=GEMMA, gemma3n=GEMMA, paligemma=GEMMA)


@pytest.fixture(scope='session', autouse=True)
def written(request):
    "At the end the results are written where they are asked for"
    yield
    path = request.config.getoption('--families-json', None)
    if not path:
        return
    # what another run measured, such as one with torchvision
    before = json.loads(MEASURED.read_text())['families']
    versions = f'transformers {transformers.__version__}, torch {torch.__version__.partition("+")[0]}'
    now = {name: entry | dict(versions=versions) for name, entry in measured.items()}
    families = {name: now.get(name) or before[name] for name in before | now if name in FAMILIES}
    Path(path).write_text(
        json.dumps(dict(families=families, table=table(families)), indent=1, sort_keys=True)
    )


def family_row(f, figures):
    "One line of the table of families, column -> text, with what was measured of it"

    def able(what):
        return (
            'no' if what in f.why_not else {None: 'yes', False: 'FAILS'}.get(figures.get(what), 'yes, tested')
        )

    several = able('several images')
    return {
        'family': f.name,
        'grid': rule_words(f.grid),
        'tiles': rule_words(f.tiles) if f.tiles else 'no',
        'tiles on the map': on_the_map(figures['on the map']),
        'sharing': able('sharing'),
        'several images': several,
        'around a stock generate': f"rows within {figures['stock']:.0e}"
        if figures.get('stock')
        else 'the same rows',
        'rows against eager': f"{figures['float32']:.0e}, bfloat16 {figures['bfloat16']:.0e}",
        'words on its own tokenizer': f"whole, {figures['words']}",
        'a view of at most 16 tokens': 'as many as an image'
        if figures['view'][0] == figures['view'][1]
        else 'has {1} and not {0}'.format(*figures['view']),
        'measured with': figures['versions'],
        'notes': '; '.join(
            [f.notes] * bool(f.notes) + [f'no {what}: {why}' for what, why in f.why_not.items()]
        ),
    }


def rule_words(rule):
    return rule.__doc__.partition(' ')[2]  # without its verb


def on_the_map(n):
    return 'one view' if n == 1 else f'{n} views added up'


def table(families):
    "What `carve families` shows without loading torch"
    rows = [family_row(f, families[name]) for name, f in FAMILIES.items() if name in families]
    return [[*rows[0]], *([*row.values()] for row in rows)]


@pytest.fixture(params=NAMES)
def vlm(request, load):
    return load(request.param)


def calm(folder):
    "The model in bfloat16 with smaller products of queries and keys"
    model = stock(folder, 'sdpa', 'bfloat16')
    with torch.no_grad():
        for n, p in model.named_parameters():
            if 'q_proj' in n or 'q_norm' in n:
                p *= 0.1
    return model


# -- positions


@pytest.mark.parametrize(
    'image',
    [WIDE, TALL, image(64, 64), image(33, 31), image(500, 90)],
    ids=lambda im: f'{im.width}x{im.height}',
)
def test_spans(vlm, image):
    """As many cells as image tokens, each token once; every pixel is covered, but for what a processor cuts
    off"""
    p = vlm.prompt(image, QUESTION)
    cols = p.columns
    assert len(set(cols.tolist())) == len(cols) == sum(h * w for h, w in (s.grid for s in p.spans))
    assert p.spans[0].view == 'base' and {s.image for s in p.spans} == {0}
    ids = p.inputs['input_ids'][0]
    here = ids == vlm.model.config.image_token_id
    assert here[cols].all()
    dropped = set(here.nonzero()[:, 0].tolist()) - set(cols.tolist())  # new-line tokens
    lined = vlm.family.tiles is canvas_tiles
    assert len(dropped) == sum(s.grid[0] for s in p.spans if s.view == 'tiles' and lined)
    assert not any(read.note for read in p.images_read)
    assert question_text(vlm, p) == QUESTION


def question_text(vlm, p):
    return vlm.tokenizer.decode(p.inputs['input_ids'][0, p.question]).strip()


def meet(a, b):
    return min(box_size(common_box(a, b))) > 0


@contextlib.contextmanager
def turned_down(model, factor=0.1):
    "The tower with little attention between patches: what is tested is where a token's own pixels are"
    weights = {
        p: p.data.clone()
        for n, p in model.named_parameters()
        if re.search(r'vis(ion|ual).*(out_proj|attn.proj|projection|o_proj)\.weight', n)
    }
    assert weights
    try:
        for p in weights:
            p.data *= factor
        yield
    finally:
        for p, w in weights.items():
            p.data = w


@pytest.mark.parametrize('image', [WIDE, TALL, smooth_image(SHAPES[-1])], ids=['wide', 'tall', 'large'])
def test_pixels_by_perturbation(vlm, image):
    "The feature that changes most in a view is that of a token that claims the changed square"
    with turned_down(vlm.model):
        assert all(map(all, plant_squares(vlm, image)))


# -- rows


@pytest.mark.parametrize('images', [[WIDE], [WIDE, TALL]], ids=len)
def test_rows_float32(vlm, images):
    p = vlm.prompt(images, QUESTION)
    rows, cols = vlm.forward(p), p.columns
    want = eager_rows(vlm, p, rows.layers)[..., cols]
    last_gap = rows.attn[0] - want[:, :, -1]
    question_gap = rows.question.movedim(0, 2) - want[:, :, p.question]
    worst = max(last_gap.abs().max().item(), question_gap.abs().max().item())
    assert rows.layers == vlm.layers and worst <= 1e-5
    assert rows.attn.std() > 1e-4, 'uniform attention proves nothing'
    if len(images) == 1:
        note(vlm, float32=worst, layers=len(rows.layers), tokens=len(cols), views=len(p.spans))


def test_rows_bfloat16(vlm, folders):
    "With products as large as trained models have them; the tiny ones' are larger, and rounding them shows"
    half = VLM(calm(folders(vlm.family.name)), vlm.processor)
    p = half.prompt(WIDE, QUESTION)
    rows = half.forward(p)
    want = eager_rows(half, p, rows.layers)
    worst = (rows.attn[0] - want[:, :, -1][..., p.columns]).abs().max().item()
    assert worst <= 1e-2
    note(vlm, bfloat16=worst)


# -- sharing, several images

ASKED = [
    (WIDE, QUESTION),
    (WIDE, 'Describe this image in detail.'),
    ([WIDE, TALL], QUESTION),
    ([WIDE, WIDE], QUESTION),
]


def test_sharing(vlm):
    alone = [vlm.capture(*o, steps='last', max_new_tokens=2) for o in ASKED]
    session = Session(vlm)
    quick = [
        session.capture(Ask((o,) if o is WIDE else tuple(o), q, vlm.suffix, 2), 'last') for o, q in ASKED
    ]
    shared = session.prefixes
    if vlm.family.name in NOT_SHARED:
        assert not shared.misses and vlm.fingerprint.why_not_shared
    else:
        shares = (1, 1) if vlm.family.name in JOINT else (1, 3)
        assert (shared.misses, shared.hits) == shares, vlm.fingerprint.why_not_shared
    for a, b in zip(alone, quick):
        assert a.tokens == b.tokens and abs(a.answer.logprob - b.answer.logprob) < 1e-3
        assert (a.attn - b.attn).abs().max() <= 1e-5
        assert (a.question is None and b.question is None) or (a.question - b.question).abs().max() <= 1e-5
    note(vlm, sharing=vlm.family.shares)


def test_several_images(vlm):
    p = vlm.prompt([WIDE, TALL], QUESTION)
    assert [s.image for s in p.spans] == sorted(s.image for s in p.spans)
    assert {s.image for s in p.spans} == {0, 1}
    spans = [(s.grid, s.box, s.view) for s in p.spans]
    if 'batch_num_images' in p.inputs:  # OneVision shows each of several images once, in a square
        assert spans == [((4, 4), (0, -40, 260, 220), 'base'), ((4, 4), (-77, 0, 173, 250), 'base')]
    else:  # boxes and grids are those of each image alone
        assert spans == [
            (s.grid, s.box, s.view) for im in (WIDE, TALL) for s in vlm.prompt(im, QUESTION).spans
        ]
    note(vlm, **{'several images': True})


LAID_BY = [('qwen2_vl', 'grid', 1), ('llava_next', 'tiles', 2), ('internvl', 'tiles', 2)]


@pytest.mark.parametrize(
    'is_wrong',
    [lambda made: True, lambda made: made.size[1] > made.size[0], lambda made: max(made.size) > 512],
    ids=['always', 'tall', 'above a tile'],
)
@pytest.mark.parametrize('name, rule, views', LAID_BY)
def test_record_that_is_turned(load, name, rule, views, is_wrong):
    "A record that takes rows for columns is refused, also where it does so for one shape alone"
    vlm = copy.copy(load(name))

    def turned(processed, *args):
        laid = getattr(load(name).family, rule)(processed, *args)
        if not is_wrong(processed):
            return laid
        return laid[::-1] if rule == 'grid' else replace(laid, grid=laid.grid[::-1])

    vlm.family = replace(vlm.family, **{rule: turned})
    assert 'The place of its tokens is not known: only' in check_family(vlm).why


@patch.dict(FAMILIES)
def test_a_square_of_its_tokens_is_one_view(tmp_path):
    """A family without a record is read by the square of its tokens where they are one view: three tiles and
    a thumbnail have as many tokens as a square"""
    del FAMILIES['internvl']
    vlm = VLM.from_pretrained(make_tiny_checkpoint('internvl', tmp_path, layers=3, max_patches=3))
    assert vlm.prompt(image(64, 64), QUESTION).spans[0].grid == (4, 4)
    with pytest.raises(CarveError, match='64 image tokens'):
        vlm.prompt(image(300, 100), QUESTION)
    assert 'tells no grid' in check_family(vlm).why


def test_tokens_of_a_view(vlm):
    "A limit for the second image changes its tokens alone; it is read as it is read alone"
    several = 'several images' not in vlm.family.why_not
    images, limits = ([WIDE, TALL], (None, 16)) if several else ([TALL], (16,))
    usual = vlm.prompt(images, QUESTION)
    few = vlm.prompt(images, QUESTION, tokens=limits)

    def count(prompt, i):
        return sum(len(s) for s in prompt.spans if s.image == i)

    n = [count(p, len(images) - 1) for p in (usual, few)]
    note(vlm, view=n)
    changed = vlm.family.name in FEWER
    assert n[1] < n[0] if changed else n[1] == n[0]
    assert not several or count(usual, 0) == count(few, 0)
    assert ('fewer tokens' in vlm.why_not) == (not changed)
    assert Session(vlm).ask(Ask(tuple(images), QUESTION, '', 3, limits)).tokens == vlm.generate(few, 3).tokens


def test_stock_ids(vlm, folders):
    try:
        processor = AutoProcessor.from_pretrained(folders(vlm.family.name))
    except (ImportError, ValueError) as e:
        assert re.search('torchvision|num2words', str(e).lower())
        assert vlm.family.name in NEEDS_MORE, e
        processor = vlm.processor  # the stock class without its video processor
    check_stock_ids(vlm, processor)


# -- words


def test_words_on_its_own_tokenizer(vlm, tmp_path):
    "Words that a tokenizer of the releases' kind cuts are whole again, with the options parted off"
    kind, tokenizer = TOKENIZERS.get(vlm.family.name, ('byte-level', byte_tokenizer))
    retokenized = VLM.from_pretrained(
        make_tiny_checkpoint(vlm.family.name, tmp_path, layers=4, tokenizer=tokenizer)
    )
    rows = retokenized.capture(
        WIDE, 'Is the elephant under a grün umbrella?\nA. yes\nB. no', steps='first', max_new_tokens=1
    )
    assert len(rows.question_tokens) > 12
    assert ''.join(rows.question_tokens).strip() == 'Is the elephant under a grün umbrella?'
    assert read_words(rows.question_tokens, 'content') == ['elephant', 'grün', 'umbrella']
    assert torch.isfinite(rows.read(query='noun')).all()
    note(vlm, words=kind)


# -- nothing is left behind, nothing gets in


# -- settings of processors that a released checkpoint may have

PAN = dict(
    do_pan_and_scan=True,
    pan_and_scan_min_crop_size=16,
    pan_and_scan_max_num_crops=4,
    pan_and_scan_min_ratio_to_activate=1.2,
)
SETTINGS = [
    ('llava', dict(size=dict(height=64, width=64), do_center_crop=False), {'base'}),
    ('llava', dict(size=dict(shortest_edge=72)), {'base'}),
    ('llava_next', dict(image_grid_pinpoints=[[64, 64], [128, 64]]), {'base', 'tiles'}),
    # so many tiles that they are shrunk
    ('llava_onevision', dict(image_grid_pinpoints=[[160, 160]]), {'base', 'tiles'}),
    ('internvl', dict(crop_to_patches=False), {'base'}),
    ('idefics3', dict(do_image_splitting=False), {'base'}),
    ('idefics3', dict(size=dict(longest_edge=128)), {'base', 'tiles'}),
    ('gemma3', PAN, {'base', 'tiles'}),
]


@pytest.mark.parametrize('name,kw,views', SETTINGS, ids=[f'{n}-{next(iter(kw))}' for n, kw, _ in SETTINGS])
def test_other_settings(name, kw, views, tmp_path):
    "Boxes hold for other settings of the processor too"
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        vlm = VLM.from_pretrained(make_tiny_checkpoint(name, tmp_path, layers=3, **kw))
    settings = getattr(
        vlm.processor, 'images_kwargs', {}
    )  # goes before what the image processor was saved with
    vlm.processor.images_kwargs = {k: kw.get(k, v) for k, v in settings.items()}
    p = vlm.prompt(WIDE, QUESTION)
    assert views == {s.view for s in p.spans}
    with turned_down(vlm.model):
        for image in WIDE, TALL:
            assert all(map(all, plant_squares(vlm, image)))


# -- tiles on the map


def test_tiles_that_are_not_told(load, monkeypatch):
    """Where nothing says how tiles lie, the map shows the thumbnail, and a note stands with the rows and the
    answer"""
    vlm = load('smolvlm')
    monkeypatch.setattr(vlm, 'family', replace(vlm.family, tiles=lambda *made: None))
    r = Carve()(vlm, WIDE, QUESTION)
    assert [s.view for s in r.rows.spans] == ['base'] and r.saliency.values.shape == r.rows.spans[0].grid
    assert 'only the thumbnail of an image is on the map' in r.notes[0] and r.notes[0] in repr(r.rows)


@pytest.mark.parametrize('image', [WIDE, TALL], ids=['wide', 'tall'])
def test_tiles_on_the_map(vlm, image, monkeypatch):
    "Attention on a square, on tokens of all views or of the tiles alone, is on it in the map, and none is lost"
    if vlm.family.name == 'gemma3':
        monkeypatch.setattr(
            vlm.processor, 'images_kwargs', dict(vlm.processor.images_kwargs, **PAN), raising=False
        )
    rows = vlm.capture(image, QUESTION, steps='all', suffix=SHORT_ANSWER, max_new_tokens=2)
    n, (W, H) = len(rows.spans), image.size
    assert (n > 1) == (vlm.family.tiles is not None)
    assert (rows.lay(rows.attn).sum(-1) - rows.mass).abs().max() <= 1e-6
    if image is WIDE:
        note(vlm, **{'on the map': n})
    if n == 1:
        return torch.testing.assert_close(rows.lay(rows.attn), rows.attn, rtol=0, atol=0)
    even = replace(rows, attn=torch.ones_like(rows.attn) / rows.attn.shape[-1])
    for x, y in (0.35, 0.7), (0.8, 0.3):
        box = tuple(round(v) for v in (x * W - W / 12, y * H - H / 12, x * W + W / 12, y * H + H / 12))
        for views in range(1, n), range(n):
            cover = np.concatenate(
                [patch_cover(span, box) * (i in views) for i, span in enumerate(rows.spans)]
            )
            weights = torch.tensor(cover / cover.sum() / 2, dtype=torch.float32)
            drawn = replace(
                rows, attn=weights.expand_as(rows.attn), question=weights.expand_as(rows.question)
            )
            look = Carve().contrast(image, QUESTION, drawn, even)
            crop = Carve().show(image, Carve().select(look.saliency, vlm))
            assert abs(drawn.saliency().values.sum() - 0.5) <= 1e-6
            assert look.saliency.points_at(box)
            assert meet(crop.box, box)
            assert not look.notes


def test_table_shipped():
    "The shipped table is of these families and of this test"
    stored = json.loads(MEASURED.read_text())
    families = stored['families']
    assert stored['table'] == table(families)
    assert set(families) == set(RECIPES) == set(FAMILIES)
    assert all(v['float32'] <= 1e-5 and v['bfloat16'] <= 1e-2 for v in families.values())
    assert all(v['stock'] <= 1e-6 for v in families.values())


# -- boxes that a model writes


def thousandths(x0, y0, x1, y1):
    return [round(1000 * v) for v in (x0, y0, x1, y1)]


def bins(x0, y0, x1, y1):
    return ''.join(f'<loc{round(1024 * v):04d}>' for v in (y0, x0, y1, x1))


WRITTEN = dict(  # what each family would say of a box in shares of what it sees; pixels of the resized image
    llava=lambda b, px: str([round(v, 3) for v in b]),
    llava_next=lambda b, px: str([round(v, 3) for v in b]),
    llava_onevision=lambda b, px: str([round(v, 3) for v in b]),
    qwen2_vl=lambda b, px: 'the thing({},{}),({},{})'.format(*thousandths(*b)),
    qwen2_5_vl=lambda b, px: json.dumps(
        [
            dict(
                bbox_2d=[round(b[0] * px[0]), round(b[1] * px[1]), round(b[2] * px[0]), round(b[3] * px[1])],
                label='thing',
            )
        ]
    ),
    qwen3_vl=lambda b, px: json.dumps(dict(bbox_2d=thousandths(*b), label='thing')),
    qwen3_5=lambda b, px: json.dumps([dict(bbox_2d=thousandths(*b), label='thing')]),
    internvl=lambda b, px: f'<ref>thing</ref><box>[{thousandths(*b)}]</box>',
    paligemma=lambda b, px: bins(*b) + ' thing',
)


def resized(inputs):
    "(W, H) of an image behind a processor that gives a grid of patches: 3 colors, 2 frames a patch"
    if 'image_grid_thw' not in inputs:
        return None
    _, gh, gw = inputs['image_grid_thw'][0].tolist()
    side = round((inputs['pixel_values'].shape[-1] / 6) ** 0.5)
    return side * gw, side * gh


@pytest.mark.parametrize('name', WRITTEN)
@pytest.mark.parametrize(
    'size, thing', [((260, 180), (110, 40, 160, 130)), ((96, 250), (20, 90, 70, 150))], ids=['wide', 'tall']
)
def test_written_box_lands(name, load, size, thing, monkeypatch):
    "The box that a family writes is the crop, to the pixel or two that its numbers can tell"
    vlm = load(name)
    scene, questions = Image.new('RGB', size, 'black'), []
    scene.paste('red', thing)
    prompt = vlm.prompt(scene, QUESTION)
    x, y, right, below = prompt.spans[0].box
    shares = (
        (thing[0] - x) / (right - x),
        (thing[1] - y) / (below - y),
        (thing[2] - x) / (right - x),
        (thing[3] - y) / (below - y),
    )
    assert set(WRITTEN) == {name for name, family in FAMILIES.items() if family.box_form}
    written = WRITTEN[name](shares, resized(prompt.inputs))

    def answer(self, prompt, *args, **kw):
        questions.append(prompt.asked)
        return Answer(written, [1], -1.0)

    monkeypatch.setattr(VLM, 'generate', answer)
    r = AskBox(min_side=1).look(Session(vlm), Ask((scene,), QUESTION))
    assert len(questions) == 1 and 'animal' in questions[0]
    assert max(abs(a - b) for a, b in zip(r.crop.box, thing)) <= 2, written
    assert (np.asarray(r.crop.image) == (255, 0, 0)).all(-1).mean() > 0.85


def test_a_box_of_no_form(load):
    "A family that has no form of a box says so, and is not asked"
    r = AskBox().look(Session(load('gemma4')), Ask((WIDE,), QUESTION))
    assert r.whole and 'is not known' in r.notes[0]


def test_a_processor_that_reads_images_otherwise():
    "A type without a record whose processor takes no nested images: a sentence, and no error of Python"
    from recipes.all_families import make_type

    vlm = VLM(*make_type('got_ocr2'))
    with pytest.raises(CarveError, match="does not read 'got_ocr2': its processor says"):
        vlm.prompt(WIDE, QUESTION)
