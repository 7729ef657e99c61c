"The wheel, as a user gets it: what it installs, and that it works away from the clone."
import os, shutil, subprocess, sys, zipfile
from pathlib import Path
import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope='module')
def wheel(tmp_path_factory):
    "Built from a copy, so that nothing is left behind in the clone"
    place = tmp_path_factory.mktemp('wheel')
    skip = shutil.ignore_patterns('.*', '_docs', '_proc', 'nbs', '*.egg-info', 'build', '__pycache__')
    shutil.copytree(ROOT, place/'src', ignore=skip)
    another = place/'src'/'carve_nb'/'checkpoints'/'carve-another'      # a packaged model is a folder there, no more
    another.mkdir()
    for name in 'config.json', 'model.safetensors': (another/name).write_text('{}')
    command = [sys.executable, '-m', 'pip', 'wheel', '-q', '--no-deps', '--no-build-isolation', '-w', place, place/'src']
    out = subprocess.run(command, capture_output=True, text=True)
    if 'No module named' in out.stderr or 'Cannot import' in out.stderr: pytest.skip('setuptools is not installed here')
    assert out.returncode == 0, out.stderr
    return next(place.glob('*.whl'))


def test_installs_one_command(wheel):
    "`carve`, and nothing that another package may own, such as nbdev_test of nbdev 2"
    with zipfile.ZipFile(wheel) as z:
        names = z.namelist()
        scripts = z.read(next(n for n in names if n.endswith('entry_points.txt'))).decode()
    assert not [n for n in names if '.data/' in n]
    assert scripts.count('=carve_nb.') + scripts.count('= carve_nb.') == 3 and 'carve = carve_nb.cli.main:main' in scripts.replace('carve=', 'carve = ')
    tops = {n.split('/')[0] for n in names}
    assert tops == {'carve_nb', next(t for t in tops if t.endswith('.dist-info'))}
    for model in 'carve-tiny', 'carve-another': assert f'carve_nb/checkpoints/{model}/model.safetensors' in names


def test_works_away_from_the_clone(wheel, tmp_path):
    "The command, a scene and an answer of the shipped model, from the wheel alone"
    subprocess.run([sys.executable, '-m', 'pip', 'install', '-q', '--no-deps', '--target', tmp_path/'site', wheel], check=True, capture_output=True)
    env = dict(os.environ, PYTHONPATH=str(tmp_path/'site'), HF_HUB_OFFLINE='1')
    def carve(*words):
        out = subprocess.run([sys.executable, '-m', 'carve_nb', *words], capture_output=True, text=True, env=env, cwd=tmp_path)
        assert out.returncode == 0, out.stderr
        return out.stdout
    where = subprocess.run([sys.executable, '-c', 'import carve_nb; print(carve_nb.__file__)'], capture_output=True, text=True, env=env, cwd=tmp_path).stdout
    assert Path(where.strip()).is_relative_to(tmp_path)
    question, answer = carve('scene', '--seed', '7', '--out', 's.png').strip().rsplit(' ', 1)
    assert carve('ask', 's.png', question, '--method', 'none').strip() and (tmp_path/'s.png').exists() and answer.isdigit()
