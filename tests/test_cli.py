"The command `carve`, as a shell sees it."
import json, os, subprocess, sys
import numpy as np
import pytest
from PIL import Image
from carve_nb.cli import main


def run(*words, **kw):
    "Run `carve` in a process of its own"
    command = [sys.executable, '-m', 'carve_nb.cli', *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, env=dict(os.environ, HF_HUB_OFFLINE='1'), **kw)


@pytest.fixture(scope='module')
def photo(tmp_path_factory):
    from skimage import data
    path = tmp_path_factory.mktemp('photo')/'astronaut.jpg'
    Image.fromarray(data.astronaut()[:300]).save(path)  # 512 x 300
    return path


@pytest.fixture(scope='module')
def models(tmp_path_factory):
    from carve_nb.vlm import tiny_folder
    path = tmp_path_factory.mktemp('models')
    return {family: tiny_folder(family, path/family) for family in ('llava', 'qwen2_5_vl')}


def test_help_is_light():
    code = 'import sys; from carve_nb.cli import main; main(["--help"]); print(sorted({"torch", "numpy", "PIL"} & set(sys.modules)))'
    out = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert out.returncode == 0 and out.stdout.startswith('usage: carve') and out.stdout.splitlines()[-1] == '[]'


def test_version():
    from carve_nb import __version__
    assert run('--version').stdout == f'carve {__version__}\n'


def test_bad_input_is_status_2(photo, tmp_path):
    (tmp_path/'bad.png').write_bytes(b'GIF89a')
    for words in ([], ['ask', tmp_path/'none.jpg', 'What?'], ['ask', tmp_path/'bad.png', 'What?'], ['ask', photo, ''],
                  ['ask', photo, 'What?', '--method', 'best'], ['map', photo, 'What?', '--save', tmp_path/'no'/'S.npy']):
        out = run(*words)
        assert (out.returncode, out.stdout, out.stderr.count('\n')) == (2, '', 1), (words, out.stderr)


def test_unknown_model(photo, tmp_path, capsys):
    for name in ('nothing', tmp_path):
        assert main(['ask', str(photo), 'What?', '--model', str(name)]) == 2
        assert capsys.readouterr().err.startswith('carve: error: ')


@pytest.mark.parametrize('family, method', [('llava', 'official'), ('qwen2_5_vl', 'carve')])
def test_ask_a_photograph(models, photo, tmp_path, family, method):
    "Answer on the standard output; strip, view and JSON where they were asked for"
    out = run('ask', photo, 'Who is this?', '--model', models[family], '--method', method, '--out', tmp_path/'o', '--json', tmp_path/'r.json')
    assert out.returncode == 0 and 'Traceback' not in out.stderr, out.stderr
    told = json.loads((tmp_path/'r.json').read_text())
    assert out.stdout == told['answer'] + '\n' and told['question'] == 'Who is this?'
    x0, y0, x1, y1 = told['view']['box']
    assert 0 <= x0 < x1 <= 512 and 0 <= y0 < y1 <= 300
    assert {p.name for p in (tmp_path/'o').iterdir()} == {'result.png', 'view.png', 'result.json'}


def test_map_has_the_size_of_the_picture(models, photo, tmp_path, capsys):
    words = ['map', str(photo), 'Who is this?', '--model', str(models['qwen2_5_vl']), '--preset', 'official', '--save', str(tmp_path/'S.npy')]
    assert main([*words, '--layers', '3,4']) == 0
    S = np.load(tmp_path/'S.npy')
    assert S.shape == (300, 512) and S.dtype == np.float32 and np.isfinite(S).all()
    assert main([*words, '--layers', '99']) == 2 and 'layers' in capsys.readouterr().err


def test_scene(tmp_path):
    out = run('scene', '--seed', 7, '--out', tmp_path/'s.png', '--json', tmp_path/'s.json')
    truth = json.loads((tmp_path/'s.json').read_text())
    assert out.returncode == 0 and out.stdout == f'{truth["question"]} {truth["answer"]}\n'
    assert Image.open(tmp_path/'s.png').size == (448, 448) and len(truth['box']) == 4 and truth['kind'] == 'digit'


def test_failure_is_status_1(models, photo, monkeypatch, capsys):
    from carve_nb.vlm import VLM
    def fail(*args, **kw): raise RuntimeError('out of memory')
    monkeypatch.setattr(VLM, 'reply', fail)
    assert main(['ask', str(photo), 'Who?', '--model', str(models['llava']), '--method', 'none']) == 1
    assert 'RuntimeError: out of memory' in capsys.readouterr().err


def test_demo_alone_and_shared_out(models, tmp_path):
    "Two processes find what one finds"
    found = []
    for workers in (1, 2):
        d = tmp_path/str(workers)
        out = run('demo', '--n', 2, '--other', 1, '--kinds', 'digit,describe', '--model', models['llava'], '--out', d,
                  '--json', tmp_path/f'{workers}.json', '--workers', workers, '--quiet')
        assert out.returncode == 0, out.stderr
        assert out.stdout.splitlines()[-1].startswith('On 2 held-out digit questions')
        kinds = json.loads((tmp_path/f'{workers}.json').read_text())['kinds']
        assert set(kinds['digit']['default']) == {'acc', 'lo', 'hi', 'n', 'p', 'hit', 'iou', 's'}
        assert len(kinds['digit']) == 9 and kinds['digit']['oracle']['n'] == 2 and 'oracle' not in kinds['describe']
        records = [json.loads(l) for l in (d/'records.jsonl').read_text().splitlines()]
        found.append([{k: v for k, v in r.items() if k != 'seconds'} for r in records])
        assert len(list(d.glob('failure_*.png'))) + len(list(d.glob('success_*.png'))) >= 1
    assert found[0] == found[1]
