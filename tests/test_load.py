"Where a model is put, with and without the package that spreads it over devices."
import warnings
from importlib.util import find_spec
import pytest, torch
from PIL import Image
from carve_nb.cli.commands import parse_model
from carve_nb.core import io
from carve_nb.core.errors import CarveError
from recipes.tiny_models import make_tiny_checkpoint
from carve_nb.attention.capture import VLM
from carve_nb.studies.runner import study_folder

IMAGE, QUESTION = Image.linear_gradient('L').convert('RGB'), 'What animal is this?'


@pytest.fixture(scope='module', params=['llava', 'qwen2_5_vl'])
def folder(request, tmp_path_factory): return make_tiny_checkpoint(request.param, tmp_path_factory.mktemp('load')/request.param)


def load(folder, **kw):
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        return VLM.from_pretrained(folder, **kw)


@pytest.mark.skipif(find_spec('accelerate') is not None, reason='the package is here')
def test_map_needs_package(folder):
    with pytest.raises(CarveError, match='accelerate'): load(folder, device_map='auto')


def test_device_or_map(folder):
    with pytest.raises(CarveError, match='not both'): load(folder, device='cpu', device_map='auto')


@pytest.mark.parametrize('where', ['auto', 'cpu', 'disk'])
def test_map(folder, where, tmp_path):
    "A model that transformers put in place, some of it on the disk, answers and attends like one that was moved"
    pytest.importorskip('accelerate')
    plain, kw = load(folder, device='cpu'), {}
    if where == 'disk':
        here, layers = dict(plain.model.named_modules()), 'model.language_model.layers'
        parts = [n for n in here if n and n.count('.') == (2 if n.startswith('model.language') else 1 if n.startswith('model.') else 0) and n not in ('model', layers)]
        where, kw = {n: 'cpu' for n in parts} | {f'{layers}.{i}': 'disk' if i > 2 else 'cpu' for i in range(6)}, dict(offload_folder=tmp_path)
    vlm = load(folder, device_map=where, **kw)
    a, b = (v.capture(IMAGE, QUESTION, steps='all', max_new_tokens=3) for v in (plain, vlm))
    assert vlm.device == torch.device('cpu') and a.tokens == b.tokens and (a.attn-b.attn).abs().max() < 1e-6


def test_further_settings_pass(folder):
    "What the stock loader takes can be given"
    assert load(folder, low_cpu_mem_usage=True).model.dtype == torch.float32


def test_packaged_model(tmp_path, monkeypatch):
    "A packaged model is a folder among the checkpoints: loaded under its name, on the CPU; refused while it is not there"
    monkeypatch.setattr(io, 'CHECKPOINTS', tmp_path)
    for named in (VLM.from_pretrained, parse_model):
        with pytest.raises(CarveError, match="'carve-small' is not in this installation"): named('carve-small')
    make_tiny_checkpoint('llava', tmp_path/'carve-small')
    vlm = VLM.from_pretrained('carve-small')
    assert (vlm.name, vlm.device.type) == ('carve-small', 'cpu')
    assert parse_model('carve-small') == 'carve-small'              # --model of `carve demo`, `carve study` and the others
    assert study_folder('entropy', 'carve-small', tmp_path) == tmp_path/'entropy-carve-small'
