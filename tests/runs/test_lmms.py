"Stock lmms-eval, in an environment without this package, asks `carve serve`: `make test-lmms`"

import json
import os
import subprocess
import pytest
from processes import Forked, carve, until
from carve_nb.core.image import png_bytes
from carve_nb.data.scenes import samples
from carve_nb.method.registry import make_method

PYTHON = os.environ.get('CARVE_LMMS')
TASK = '''task: carve_scenes
dataset_path: parquet
dataset_kwargs:
  data_files:
    test: {folder}/test.parquet
test_split: test
output_type: generate_until
doc_to_visual: !function utils.visual
doc_to_text: "{{{{question}}}}"
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


@pytest.mark.skipif(not PYTHON, reason='`make test-lmms` runs it')
def test_stock_lmms_eval(tmp_path, load):
    "Its own model `openai` gets our answers under two methods"
    import datasets

    scenes = samples('digit', 12)
    rows = [
        dict(image=dict(bytes=png_bytes(s.image), path=None), question=s.question, answer=s.answer)
        for s in scenes
    ]
    kinds = dict(image=datasets.Image(), question=datasets.Value('string'), answer=datasets.Value('string'))
    datasets.Dataset.from_list(rows, features=datasets.Features(kinds)).to_parquet(tmp_path / 'test.parquet')
    (tmp_path / 'carve_scenes.yaml').write_text(TASK.format(folder=tmp_path))
    (tmp_path / 'utils.py').write_text("def visual(doc): return [doc['image'].convert('RGB')]\n")
    env = os.environ | dict(
        HF_HUB_OFFLINE='1',
        HF_DATASETS_OFFLINE='1',
        HF_HOME=str(tmp_path / 'hf'),
        OPENAI_API_KEY='none',
        OMP_NUM_THREADS='1',
    )
    server = Forked(carve, 'serve', '--model', 'carve-small', '--port', 0)
    try:
        assert until(lambda: '/v1' in server.files[0].read_text(), server), server.communicate()
        address = server.files[0].read_text().split()[-1]
        for spec in 'none', 'carve:K=2':
            run = subprocess.run(
                [
                    PYTHON,
                    '-m',
                    'lmms_eval',
                    '--model',
                    'openai',
                    '--model_args',
                    f'model_version={spec},base_url={address},timeout=120,num_concurrent=1',
                    '--tasks',
                    'carve_scenes',
                    '--include_path',
                    str(tmp_path),
                    '--log_samples',
                    '--output_path',
                    str(tmp_path / 'L'),
                ],
                env=env,
                cwd=tmp_path,
                capture_output=True,
                text=True,
                timeout=500,
            )
            assert run.returncode == 0, (run.stdout + run.stderr)[-3000:]
    finally:
        server.terminate()
        server.communicate()
    vlm = load('carve-small')
    paths = sorted((tmp_path / 'L').rglob('*_samples_*.jsonl'))
    assert len(paths) == 2, paths
    for path, spec in zip(paths, ('carve:K=2', 'none')):
        lines = sorted(map(json.loads, path.read_text().splitlines()), key=lambda line: line['doc_id'])
        method = make_method(spec, suffix=None, max_new_tokens=8)
        assert [line['filtered_resps'] for line in lines] == [
            str(method(vlm, s.image, s.question)) for s in scenes
        ]
        assert all(line['token_counts'][0]['input_tokens'] > 100 for line in lines)
