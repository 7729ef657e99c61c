"""Models and captures: wrong folders, wrong spans, layers, kernels and numbers, and saved maps that are
damaged. What may come, and what must happen:

28. Unknown model family => error that lists the supported families and links the "add a family" page
29. Repository with only pickle weights, or needing remote code => refused with the two options explained;
    nothing of the folder is run. Truncated, misfitting or not finite weights, a missing tokenizer,
    processor or shard, a broken configuration or template: each a sentence that says what and what to do
30. Image-token span not found, or two spans => error with the token ids seen; never a default span (the
    official code falls back to positions 1..2)
31. Grid does not multiply to the span length => error with both numbers; no cutting of the surplus (the
    official code cuts)
32. Requested layer does not exist (25 on a 24-layer model) => error; layers are not skipped silently; a
    fraction form (`0.7..0.9`) is offered
33. Backend gives `None` for attention => the row capture is used, or a clear error; never a crash deep
    inside
34. Sliding-window or linear-attention layers in the range => layers of linear attention are excluded by
    name with a notice, also in the notes of a result; layers with a sliding window are read, with weight
    0 for what lies behind the window
35. NaN or Inf in attention (fp16 overflow) => detected in looks, answers and saved maps; sample marked,
    hint "use bf16 or float32"
36. A_g is zero at a token, or lambda is 0 => lambda > 0 demanded; result finite for all inputs (property
    test)
37. All attention equal; all mass on one token => whole image / that patch; no division by zero, no empty
    mask
38. p = 0, p = 1, p < 0, p > 1, K = 0, K larger than regions => p = 1 gives the original image bit for
    bit; others refused or all regions kept
39. Ties at the threshold => documented tie rule; same result on CPU and GPU
40. Question pass and general pass generate different numbers of tokens => documented pairing rule (not a
    silent minimum): both counts are in the result and in the record, and a note tells of steps that found
    no partner
41. Model already carries user hooks, or is in training mode, or compiled => user hooks kept, mode of each
    module restored; a compiled model answers, and its attention is read and changed as before it was
    compiled
42. Exception or Ctrl-C inside the capture => hooks removed, attention setting, modes, gradients, locks
    and context restored, memory back to the level before (asserted), in every block of the package
43. Two threads use one model => they take turns by a lock: passes never overlap, and each thread gets
    what it would get alone"""

import json
import re
import runpy
import shutil
import warnings
from dataclasses import replace
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import QUESTION, User, image, refuse
from carve_nb.attention.edits import decoder_layers
from carve_nb.attention.rows import AttentionRows
from carve_nb.attention.session import Session
from carve_nb.attention.vlm import VLM
from carve_nb.core.errors import CaptureError, CarveError
from carve_nb.core.text import SHORT_ANSWER
from carve_nb.method.carve import Carve
from carve_nb.method.vicrop import grad_rows
from carve_nb.models.families import FAMILIES, find_family
from carve_nb.models.kernel import recording
from carve_nb.models.prompts import Ask
from .clean import count_passes

IMAGE = image(80, 64)
pytestmark = pytest.mark.usefixtures('quiet_models')


@pytest.fixture(scope='module')
def tiny(load):
    return load('carve-tiny')


# -- folders


@pytest.mark.case(28)
@pytest.mark.parametrize('kind', ['gpt2', 'never-heard-of'])
def test_unknown_family(kind, tmp_path):
    "Known to transformers or not: the families there are, and the page that tells how one is added"
    (tmp_path / 'config.json').write_text(json.dumps(dict(model_type=kind)))
    (tmp_path / 'model.safetensors').write_bytes(b'')
    with pytest.raises(CarveError, match=f"family '{kind}' is not|model type `{kind}` but"):
        VLM.from_pretrained(tmp_path)
    with pytest.raises(CarveError, match='tutorials/extend.ipynb') as e:
        find_family(kind)
    assert all(name in str(e.value) for name in FAMILIES)


def put(folder, name='config.json', **kw):
    "Change fields of a JSON file"
    d = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps(d | kw))


class Trap:
    "A pickle that leaves a mark when it is opened"

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), 'w'))


def pickled(d):
    (d / 'model.safetensors').unlink()
    torch.save(Trap(d / 'ran'), d / 'pytorch_model.bin')


def own_code(d, files=('config.json',), **where):
    (d / 'code.py').write_text(f'open({str(d / "ran")!r}, "w")\nclass C: pass\n')
    kinds = 'AutoConfig', 'AutoModelForImageTextToText', 'AutoProcessor', 'AutoImageProcessor'
    classes = dict.fromkeys(kinds, 'code.C') | dict(AutoTokenizer=['code.C', None])
    for name in files:
        put(d, name, auto_map=classes, **where)


TRAPS = dict(
    pickle=(pickled, lambda d: torch.load(d / 'pytorch_model.bin', weights_only=False)),
    code=(own_code, lambda d: runpy.run_path(d / 'code.py')),
)


def write(name, text):
    return lambda d: (d / name).write_text(text)


def lose(name):
    return lambda d: (d / name).unlink()


def weights(change):
    "Change the tensor of one layer"

    def spoil(d):
        tensors = load_file(d / 'model.safetensors')
        change(tensors, next(k for k in tensors if k.endswith('layers.1.self_attn.q_proj.weight')))
        save_file(tensors, d / 'model.safetensors', metadata=dict(format='pt'))

    return spoil


def shards(d):
    tensors = load_file(d / 'model.safetensors')
    (d / 'model.safetensors').unlink()
    where = {k: f'model-0000{i % 2 + 1}-of-00002.safetensors' for i, k in enumerate(sorted(tensors))}
    for name in {*where.values()}:
        save_file({k: tensors[k] for k in where if where[k] == name}, d / name, metadata=dict(format='pt'))
    (d / 'model.safetensors.index.json').write_text(json.dumps(dict(metadata={}, weight_map=where)))


def lost_shard(d):
    shards(d)
    (d / 'model-00002-of-00002.safetensors').unlink()


@pytest.mark.case(29)
@pytest.mark.parametrize('lay, spring', TRAPS.values(), ids=TRAPS)
def test_traps_are_armed(folders, tmp_path, lay, spring):
    "Whoever opens the pickle or runs the code of a folder leaves the mark whose absence the tests below assert"
    folder = shutil.copytree(folders('llava'), tmp_path / 'model')
    lay(folder)
    assert not (folder / 'ran').exists()
    spring(folder)
    assert (folder / 'ran').exists()


UNREAD = 'No usable configuration'
PROCESSOR = 'Tokenizer or image processor of .* cannot be loaded'
WRONG = {  # what is done to a folder, and the sentence
    'adapter alone': (
        lambda d: [(d / 'config.json').rename(d / 'adapter_config.json')],
        r'holds no config.json.*adapter load the model that it adapts, .*PeftModel.from_pretrained.*VLM\(model, processor\)',
    ),
    'pickle': (
        pickled,
        'no safetensors weights, and pickled ones can run code.*use a safetensors revision.*or, if you trust the file',
    ),
    'own classes': (
        lambda d: own_code(d, model_type='own'),
        'code of its own. .*stock release of the model.*trust_remote_code=True',
    ),
    'own processor': (
        lambda d: own_code(
            d, ['processor_config.json', 'tokenizer_config.json'], processor_class='C', tokenizer_class='C'
        ),
        'code of its own. .*stock release of the model',
    ),
    'no tokenizer': (lose('tokenizer.json'), PROCESSOR),
    'no template': (lose('chat_template.jinja'), 'template of .* is missing or broken'),
    'not JSON': (write('config.json', 'model: llava'), UNREAD),
    'lost shard': (lost_shard, 'No such file.*model-00002-of-00002.safetensors'),
    'lost tensor': (
        weights(lambda w, k: w.pop(k)),
        '1 tensors of .* are missing .*, such as .*layers.1.self_attn.q_proj.weight',
    ),
}


@pytest.mark.case(29)
@pytest.mark.parametrize('name', WRONG)
def test_wrong_folder(folders, tmp_path, name):
    "One sentence says what is wrong and what to do; no code of the folder runs"
    spoil, why = WRONG[name]
    folder = tmp_path / 'model'
    shutil.copytree(folders('llava'), folder)
    spoil(folder)
    with pytest.raises(CarveError) as e:
        VLM.from_pretrained(folder)
    assert re.search(why, str(e.value), re.S) and '\n' not in str(e.value), str(e.value)
    assert not (folder / 'ran').exists()


@pytest.mark.case(29)
def test_own_code_beside_a_stock_class(folders, tmp_path):
    "It is not run, and the model loads"
    folder = shutil.copytree(folders('llava'), tmp_path / 'own')
    own_code(folder)
    assert VLM.from_pretrained(folder).ask(IMAGE, QUESTION, max_new_tokens=1).tokens
    assert not (folder / 'ran').exists()


@pytest.fixture
def decoy(folders, tmp_path):
    "A folder whose weights have another name, beside a pickle"
    folder = shutil.copytree(folders('llava'), tmp_path / 'model')
    (folder / 'model.safetensors').rename(folder / 'decoy.safetensors')
    torch.save(Trap(folder / 'ran'), folder / 'pytorch_model.bin')
    return folder


@pytest.mark.case(29)
def test_pickle_is_not_opened(decoy):
    with pytest.raises(CarveError, match='safetensors'):
        VLM.from_pretrained(decoy)
    assert not (decoy / 'ran').exists()


UNSAFE = (
    dict(use_safetensors=False),
    dict(use_safetensors=None),
    dict(output_loading_info=False),
    dict(attn_implementation='eager'),
    dict(ignore_mismatched_sizes=False),
)


@pytest.mark.case(29)
@pytest.mark.parametrize('given', UNSAFE, ids=str)
def test_unsafe_setting(folders, decoy, given):
    "No keyword of the stock loader opens a pickle or turns a check off, in this folder or in a fine one"
    [(name, value)] = given.items()
    for folder in decoy, folders('llava'):
        with pytest.raises(CarveError, match=re.escape(f'{name}={value!r} is refused')):
            VLM.from_pretrained(folder, **given)
    assert not (decoy / 'ran').exists()


@pytest.mark.case(29)
def test_safe_settings_are_taken(folders):
    vlm = VLM.from_pretrained(folders('llava'), use_safetensors=True, attn_implementation='sdpa')
    assert vlm.model.config._attn_implementation == 'sdpa'


WRONG_SETTINGS = (
    dict(dtype='fp8'),
    dict(max_pixels=1003520),
    dict(load_in_4bit=True),
    dict(device_mapp='auto'),
    dict(abacus=1),
)


@pytest.mark.parametrize('given', WRONG_SETTINGS, ids=lambda given: [*given][0])
def test_wrong_setting(folders, given):
    "A setting that the stock loader does not know is refused by its name, and not left out"
    with pytest.raises(CarveError, match='|'.join([*given, 'fp8'])):
        VLM.from_pretrained(folders('llava'), **given)


@pytest.mark.parametrize(
    'given', [dict(torch_dtype='bfloat16'), dict(torch_dtype=torch.bfloat16), dict(dtype='bf16')]
)
def test_type_as_written(folders, given):
    "The type of numbers that was asked for, in each spelling; `torch_dtype` was swallowed and gave float32"
    assert VLM.from_pretrained(folders('llava'), **given).model.dtype == torch.bfloat16


# -- where the image is


@pytest.mark.case(30, 31)
@pytest.mark.parametrize('name', ['llava', 'qwen2_5_vl', 'internvl', 'idefics3', 'gemma3'])
def test_span_not_found(load, name):
    "Of other images than the inputs have, one fewer or one more: never a default span"
    user = User(load(name), [IMAGE, IMAGE])
    for images in [IMAGE], [IMAGE] * 3:
        refuse('image tokens, which these images do not fill', lambda: user.record(images=images))


# -- layers and kernels


@pytest.mark.case(32)
def test_layers_that_do_not_exist(load):
    """Refused before any pass, by whatever takes layers, with the depth and with parts of it as the other way
    to say it"""
    vlm, layers = load('llava'), [4, 25]
    with count_passes(vlm) as passes:
        for ask in (
            lambda: Carve(layers=layers)(vlm, IMAGE, QUESTION),
            lambda: vlm.capture(IMAGE, QUESTION, layers=layers),
            lambda: recording(vlm.model, layers).__enter__(),
            lambda: grad_rows(vlm, vlm.prompt(IMAGE, QUESTION), layers),
        ):
            with pytest.raises(
                (CarveError, CaptureError), match=r'\[25\] do not exist: the .* 6.* 0 to 5.*such as layers='
            ):
                ask()
    assert passes == []


# -- layers of linear attention: qwen3_5 computes attention to the images in layers 1, 3 and 5 alone


@pytest.fixture
def hybrid(load):
    return load('qwen3_5')


@pytest.mark.case(34)
def test_all_layers_are_those_that_attend(hybrid):
    "Without a word about the others"
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        rows = hybrid.capture(IMAGE, QUESTION)
        result = Carve(max_new_tokens=2)(hybrid, IMAGE, QUESTION)
    assert rows.layers == hybrid.layers == [1, 3, 5]
    assert not any('left out' in note for note in result.notes)


@pytest.mark.case(34)
def test_range_with_other_layers(hybrid):
    "They are left out by name: a warning of `capture`, a note of a result"
    with pytest.warns(
        UserWarning,
        match=r'No attention to the images in layers \[2, 4\] of qwen3_5: left out. Read are \[3, 5\]',
    ):
        assert hybrid.capture(IMAGE, QUESTION, layers=[2, 3, 4, 5]).layers == [3, 5]
    result = Carve(layers=(0.4, 0.9), max_new_tokens=2)(hybrid, IMAGE, QUESTION)
    assert 'no attention to read in layers [2, 4]: left out' in result.notes


@pytest.mark.case(34)
def test_other_layers_alone(hybrid):
    with pytest.raises(CarveError, match=r'compute no attention to the images; \[1, 3, 5\] do'):
        hybrid.capture(IMAGE, QUESTION, layers=[2, 4])


# -- numbers


def overflowing(folders):
    "A model that is fine in float32, and whose hidden states leave the range of float16"
    vlm = VLM.from_pretrained(folders('llava'))
    with torch.no_grad():
        layer = decoder_layers(vlm.model)[1]
        layer.mlp.down_proj.weight *= 1e5
    return vlm


HINT = 'load it in bfloat16 or float32'


@pytest.mark.case(35)
def test_overflow(folders):
    """float16 that overflows is found out by captures, answers and methods, with what to do; float32 and
    bfloat16 go on"""
    vlm = overflowing(folders)
    assert vlm.capture(IMAGE, QUESTION).attn.isfinite().all()
    assert np.isfinite(vlm.ask(IMAGE, QUESTION, max_new_tokens=2).logprob)
    half = VLM(vlm.model.half(), vlm.processor)
    for f in (
        lambda: half.capture(IMAGE, QUESTION),
        lambda: half.capture(IMAGE, QUESTION, steps='all', max_new_tokens=2),
        lambda: half.ask(IMAGE, QUESTION, max_new_tokens=2),
        lambda: Carve(max_new_tokens=2)(half, IMAGE, QUESTION),
    ):
        with pytest.raises((CaptureError, CarveError), match=f'torch.float16: {HINT}'):
            f()


HEADS = (
    'not JSON',
    '{}',
    '{"spans": [{"tokens": [1]}], "answer": null}',
    # of a file, which are none of ours
    '{"spans": [], "answer": null, "layers": [2, 3], "tokens": [], "surprise": 1}',
)


@pytest.mark.case(35)
def test_saved_rows_damaged(tiny, tmp_path):
    "Cut at any length, another file, other words in the header: an error that says so"
    path = tmp_path / 'rows.safetensors'
    rows = tiny.capture(image(448, 448), 'Is there a red circle?', layers=[2, 3])
    rows.save(path)
    raw = path.read_bytes()
    damaged = [raw[:n] for n in (0, 8, *np.random.default_rng(0).integers(10, len(raw), 5))]
    for metadata in (None, *(dict(carve_rows=head) for head in HEADS)):
        save_file(dict(attn=rows.attn), path, metadata)
        damaged.append(path.read_bytes())
    for data in (*damaged, raw + bytes(8), b'{"attn": []}'):
        path.write_bytes(data)
        with pytest.raises(CaptureError, match='is damaged, or holds no rows'):
            AttentionRows.load(path)


@pytest.mark.case(35)
def test_no_saved_rows(tmp_path):
    "No file, or a folder"
    with pytest.raises(FileNotFoundError):
        AttentionRows.load(tmp_path / 'none')
    with pytest.raises(CarveError, match='is damaged'):
        AttentionRows.load(tmp_path)


@pytest.mark.case(37)
@pytest.mark.parametrize('preset', [Carve(), Carve.paper(), Carve.official()], ids=lambda c: c.name)
def test_no_signal(tiny, preset):
    "Attention that is equal everywhere, or none: the whole image, with a note"
    scene, method = image(448, 448), replace(preset, layers=[2, 3])
    rows, _ = method.capture_both(Session(tiny), Ask((scene,), 'Is there a red circle?', SHORT_ANSWER))
    for level in 0, 0.01:
        flat = replace(
            rows, attn=torch.full_like(rows.attn, level), question=torch.full_like(rows.question, level)
        )
        look = method.contrast(scene, 'Is there a red circle?', flat, flat)
        assert method.choose_regions(look, tiny) == [] and look.notes[0].startswith('no signal')
        assert np.isfinite(look.saliency.values).all()


@pytest.mark.case(38)
def test_p_is_one(tiny):
    "p = 1 is the image bit for bit, and the baseline answer"
    scene = image(120, 90)
    r = Carve.official(p=1.0, layers=[2, 3], max_new_tokens=2)(tiny, scene, 'Is there a red circle?')
    assert r.crop.image is r.image
    assert r.image.tobytes() == scene.tobytes()
    assert not r.crop.masked
    assert r.answer.tokens == r.plain_answer.tokens and r.calls == 2
