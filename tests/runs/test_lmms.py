"""The plug-in for lmms-eval: harmless without it, found by it, and what it answers.

The stand-in below has what the plug-in touches of lmms-eval 0.7.3 (`lmms_eval/api/model.py`, `lmms_eval/models/registry_v2.py`).
`make test-lmms` runs lmms-eval's own command on six scenes."""
import json
import os
import subprocess
import sys
from importlib.util import find_spec
from types import SimpleNamespace
import pytest
from carve_nb.attention.vlm import VLM
from carve_nb.core.image import png_bytes
from carve_nb.data.scenes import samples
from carve_nb.method.carve import Carve
from carve_nb.method.controls import DirectAnswer
from carve_nb.models.prompts import SHORT_ANSWER
from carve_nb.runs import lmms_eval

REAL = find_spec('lmms_eval') is not None
SCENES = samples('digit', 6)

MODEL = '''
import abc
class CacheHook:
    def __init__(self, cachinglm=None): pass
    def add_partial(self, attr, req, res): pass
class lmms(abc.ABC):
    is_simple = True
    def __init__(self):
        self._rank, self._world_size, self.cache_hook, self.task_dict = 0, 1, CacheHook(None), {}
    @abc.abstractmethod
    def loglikelihood(self, requests): pass
    @abc.abstractmethod
    def generate_until(self, requests): pass
    @abc.abstractmethod
    def generate_until_multi_round(self, requests): pass
    @classmethod
    def create_from_arg_string(cls, args, additional_config=None):
        return cls(**args, **{k: v for k, v in (additional_config or {}).items() if v is not None})
'''
REGISTRY = '''
import importlib
from dataclasses import dataclass
@dataclass(frozen=True)
class ModelManifest:
    model_id: str
    simple_class_path: str | None = None
    chat_class_path: str | None = None
    aliases: tuple = ()
def get_model_class(manifest):
    module, name = manifest.simple_class_path.rsplit('.', 1)
    cls = getattr(importlib.import_module(module), name)
    from lmms_eval.api.model import lmms
    if not (isinstance(cls, type) and issubclass(cls, lmms)): raise TypeError(cls)
    if not cls.is_simple: raise TypeError(cls)
    return cls
'''


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    "A package lmms_eval with the two modules that count"
    for name, text in {'__init__': '', 'api/__init__': '', 'api/model': MODEL, 'models/__init__': '',
            'models/registry_v2': REGISTRY}.items():
        path = tmp_path/'lmms_eval'/f'{name}.py'
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for k in [k for k in sys.modules if k.split('.')[0] == 'lmms_eval']: del sys.modules[k]


def requests(model, found=SCENES):
    model.task_dict['scenes'] = dict(test=found)
    return [SimpleNamespace(args=(f'{s.question}\n{SHORT_ANSWER}', dict(max_new_tokens=8, until=['\n\n']),
        lambda row: [row.image], i, 'scenes', 'test'))
            for i, s in enumerate(found)]


@pytest.mark.skipif(REAL, reason='`make pytest` runs it, which has no lmms-eval')
def test_harmless_without_it():
    assert lmms_eval.__all__    # imported above
    for use in (lmms_eval.manifests, lambda: lmms_eval.CarveLmms, lmms_eval.make_class):
        with pytest.raises(lmms_eval.CarveError, match='pip install lmms_eval'): use()
    with pytest.raises(AttributeError): lmms_eval.nonsense  # noqa: B018


def test_found_and_made(stand_in, load):
    from lmms_eval.models.registry_v2 import get_model_class
    [manifest] = lmms_eval.manifests()
    assert manifest.model_id == 'carve'
    cls = get_model_class(manifest)
    model = cls.create_from_arg_string(dict(pretrained='carve-tiny', method='carve', split=True, p=.1),
                                       dict(batch_size='1', max_batch_size=None, device='cpu'))
    assert model.method == Carve(p=.1) and model.batch_size == 1
    vlm = load('carve-tiny')
    assert [text for text, _ in model.generate_until(requests(model)[:2])] == [
        str(Carve(p=.1, max_new_tokens=8)(vlm, s.image, s.question)) for s in SCENES[:2]]


def test_one_process_only(stand_in, monkeypatch):
    monkeypatch.setenv('WORLD_SIZE', '2')
    with pytest.raises(lmms_eval.CarveError, match='one process'): lmms_eval.CarveLmms()


TASK = '''task: carve_scenes
dataset_path: parquet
dataset_kwargs:
  data_files:
    test: {folder}/test.parquet
test_split: test
output_type: generate_until
doc_to_visual: !function utils.visual
doc_to_text: !function utils.text
doc_to_target: answer
generation_kwargs:
  max_new_tokens: 8
  temperature: 0
  do_sample: false
metric_list:
  - metric: exact_match
    aggregation: mean
    higher_is_better: true
'''
UTILS = f'''
def visual(doc): return [doc['image'].convert('RGB')]
def text(doc, lmms_eval_specific_kwargs=None): return doc['question'] + '\\n{SHORT_ANSWER}'
'''


@pytest.mark.skipif(not REAL, reason='`make test-lmms` runs it')
@pytest.mark.parametrize('args, method', [('method=none', DirectAnswer(suffix=None, max_new_tokens=8)),
    ('method=carve,split=true,K=2', Carve(K=2, max_new_tokens=8))])
def test_the_real_one(tmp_path, args, method):
    "lmms-eval's own command on a task of six scenes gives our answers"
    import datasets
    rows = [dict(image=dict(bytes=png_bytes(s.image), path=None), question=s.question, answer=s.answer) for s in SCENES]
    kinds = datasets.Features(dict(image=datasets.Image(), question=datasets.Value('string'),
        answer=datasets.Value('string')))
    datasets.Dataset.from_list(rows, features=kinds).to_parquet(tmp_path/'test.parquet')
    (tmp_path/'carve_scenes.yaml').write_text(TASK.format(folder=tmp_path))
    (tmp_path/'utils.py').write_text(UTILS)
    env = os.environ | dict(HF_HUB_OFFLINE='1', HF_DATASETS_OFFLINE='1', HF_HOME=str(tmp_path/'hf'),
        CUDA_VISIBLE_DEVICES='', OMP_NUM_THREADS='1')
    run = subprocess.run([sys.executable, '-m', 'lmms_eval', '--model', 'carve', '--model_args',
        f'pretrained=carve-tiny,{args}', '--tasks', 'carve_scenes',
        '--include_path', str(tmp_path), '--batch_size', '1', '--log_samples', '--output_path', str(tmp_path/'out')],
        env=env, cwd=tmp_path, capture_output=True, text=True, timeout=500)
    paths = [*(tmp_path/'out').rglob('*samples*.jsonl')]    # on an error lmms-eval exits with 0 and writes none
    assert run.returncode == 0 and len(paths) == 1, (run.stdout + run.stderr)[-3000:]
    lines = [json.loads(line) for line in paths[0].read_text().splitlines()]
    told = {r['doc_id']: r['filtered_resps'][0] for r in lines}
    assert all(r['token_counts'][0]['input_tokens'] > 100 for r in lines), lines[0]['token_counts']
    vlm = VLM.from_pretrained('carve-tiny')
    words = [f'{s.question}\n{SHORT_ANSWER}' if method.suffix is None else s.question for s in SCENES]
    assert [told[i] for i in range(6)] == [str(method(vlm, s.image, w)) for s, w in zip(SCENES, words)]
