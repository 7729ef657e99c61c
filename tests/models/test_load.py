"Where a model is put, with and without the package that spreads it over devices."

import json
import re
import shutil
import warnings
from importlib.util import find_spec
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from carve_nb.attention.vlm import VLM
from carve_nb.cli.commands import ModelOptions
from carve_nb.core.errors import CarveError
from carve_nb.models import checkpoints
from recipes.tiny_models import make_tiny_checkpoint

IMAGE = Image.linear_gradient('L').convert('RGB')
QUESTION = 'What animal is this?'


@pytest.fixture(scope='module')
def folder(folders):
    return folders('llava')


def load(folder, **kw):
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        return VLM.from_pretrained(folder, **kw)


@pytest.mark.skipif(
    find_spec('accelerate') is not None, reason='`make test-lowest` runs it, which has no accelerate'
)
def test_map_needs_package(folder):
    with pytest.raises(CarveError, match='accelerate'):
        load(folder, device_map='auto')


@pytest.mark.parametrize('where', ['auto', 'cpu'])
def test_map(folder, where):
    "A model that transformers put in place answers and attends like one that was moved"
    pytest.importorskip('accelerate', reason='`make pytest` runs it, which has accelerate')
    plain = load(folder, device='cpu')
    vlm = load(folder, device_map=where)
    a, b = (v.capture(IMAGE, QUESTION, steps='all', max_new_tokens=3) for v in (plain, vlm))
    assert vlm.device == torch.device('cpu')
    assert a.tokens == b.tokens
    assert (a.attn - b.attn).abs().max() < 1e-6


def copied(folder, to, **config):
    "A copy of a folder with further fields in its config.json"
    to = shutil.copytree(folder, to)
    path = to / 'config.json'
    path.write_text(json.dumps(json.loads(path.read_text()) | config))
    return to


@pytest.mark.parametrize('kernel', ['eager', 'kernels-community/flash-attn2'])
def test_kernel_is_not_the_folders_choice(folder, kernel, tmp_path):
    "A config.json that names a kernel: it is neither taken nor fetched"
    model = load(copied(folder, tmp_path / 'm', _attn_implementation=kernel)).model
    assert {m.config._attn_implementation for m in model.modules() if hasattr(m, 'config')} == {'sdpa'}


def test_shards_in_the_folder_alone(folder, tmp_path):
    "An index of shards is read where all lie in the folder, and refused where it names a file outside"
    outside = shutil.copytree(folder, tmp_path / 'outside')
    inside = copied(folder, tmp_path / 'm')
    names = [*safe_open(folder / 'model.safetensors', 'pt').keys()]

    def index(shard):
        (inside / 'model.safetensors.index.json').write_text(
            json.dumps(dict(metadata={}, weight_map=dict.fromkeys(names, shard)))
        )

    (inside / 'model.safetensors').rename(inside / 'w.safetensors')
    index('w.safetensors')
    assert load(inside).ask(IMAGE, QUESTION, max_new_tokens=1).tokens
    for shard in (
        '../outside/model.safetensors',
        'a/../../outside/model.safetensors',
        str(outside / 'model.safetensors'),
    ):
        index(shard)
        with pytest.raises(CarveError, match=f'names .{re.escape(shard)}., a file outside its folder'):
            load(inside)
    (inside / 'model.safetensors.index.json').write_text('{')
    with pytest.raises(CarveError, match='cannot be loaded'):
        load(inside)


def test_packaged_model(tmp_path, monkeypatch):
    "A packaged model is a folder among the checkpoints: loaded under its name, on the CPU"
    monkeypatch.setattr(checkpoints, 'CHECKPOINTS', tmp_path)
    for named in (VLM.from_pretrained, ModelOptions):
        with pytest.raises(CarveError, match='carve-small holds no config.json'):
            named('carve-small')
    make_tiny_checkpoint('llava', tmp_path / 'carve-small')
    vlm = VLM.from_pretrained('carve-small')
    assert (vlm.name, vlm.device.type) == ('carve-small', 'cpu')
    assert ModelOptions('carve-small').loading() == {}  # --model of `carve demo` and the others
