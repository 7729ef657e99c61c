"""Options of the test run (written with =: a file that is there would be taken for a test), and tiny models
that several files use"""

import gc
import json
import os
import platform
import shlex
import tempfile
import warnings
from functools import partial
from pathlib import Path
import hypothesis
import pytest
from filelock import FileLock
from processes import forked_kernels  # noqa: F401
from server import serve  # noqa: F401

pytest.register_assert_rewrite('tiny')

PROFILES = tempfile.TemporaryDirectory()
# what a test keeps of a model is found by no other run, and none of yours by a test
os.environ['CARVE_PROFILES'] = PROFILES.name
# a model behind an address is asked without a detour
for name in 'HTTP_PROXY', 'HTTPS_PROXY', 'ALL_PROXY':
    for spelling in name, name.lower():
        os.environ.pop(spelling, None)

# with seed 0 a gated norm divides by next to nothing: rounding shows, and the probe of prefix sharing fails
SEEDS = dict(minicpmv4_6=3)
ENDED, SECONDS, FIGURES = {}, {}, {}  # test -> how its variants ended, seconds; what it measured
EXAMPLES = dict(ci=100, soak=10_000)
PROFILE = os.environ.get('CARVE_PROFILE', 'ci')
hypothesis.settings.register_profile(
    'ci', max_examples=EXAMPLES['ci'], deadline=None, derandomize=True, database=None
)
hypothesis.settings.register_profile(
    'soak', max_examples=EXAMPLES['soak'], deadline=None, database=None, print_blob=True
)
hypothesis.settings.load_profile(PROFILE)


def pytest_addoption(parser):
    parser.addoption(
        '--families-json', default=None, help='write what tests/models/test_families.py measures to this file'
    )
    parser.addoption(
        '--soak-json', default=None, help='write what the long tests and the properties found to this file'
    )


def pytest_configure(config):
    if config.getoption('--families-json') and getattr(config.option, 'numprocesses', None):
        raise pytest.UsageError(
            '--families-json: one process has to measure all, -n 0; `make families` does it'
        )
    config.addinivalue_line(
        'markers', 'case(*numbers): the fault cases that a test holds, of the docstrings in tests/faults'
    )
    config.addinivalue_line('markers', 'soak: too long for each run; `make soak` runs it')
    config.addinivalue_line(
        'markers', 'law: what must hold for all input; `make soak` tries 10,000 cases of each'
    )


def plain(nodeid):
    return nodeid.split('[')[0]


def pytest_collection_modifyitems(config, items):
    "Leave the long ones out unless they are asked for with -m"
    for o in items:
        if o.path.parent.name == 'properties':
            o.add_marker(pytest.mark.law)
    if 'soak' in (config.getoption('-m') or ''):
        return
    for o in items:
        if o.get_closest_marker('soak'):
            o.add_marker(pytest.mark.skip(reason='long: `make soak` runs it'))


def pytest_collection_finish():
    "What is loaded by now stays; garbage collection need not walk over it again and again"
    gc.freeze()


def pytest_runtest_logreport(report):
    "How the variants of a test ended, and how long they took"
    name = plain(report.nodeid)
    if report.when == 'call':
        SECONDS[name] = SECONDS.get(name, 0) + report.duration
    if report.when == 'call' or not report.passed:
        ENDED.setdefault(name, set()).add(report.outcome)


def save(path, figures):
    Path(path).write_text(json.dumps(figures, indent=1, ensure_ascii=False) + '\n', encoding='utf-8')


def pytest_sessionfinish(session):
    soak = session.config.getoption('--soak-json')
    if soak is None:
        return
    tests = {
        k.removeprefix('tests/'): dict(result=', '.join(sorted(v)), seconds=round(SECONDS.get(k, 0), 1))
        for k, v in sorted(ENDED.items())
    }
    machine = f'{platform.system()} {platform.machine()}, {os.cpu_count()} cores'
    save(soak, dict(examples=EXAMPLES[PROFILE], machine=machine, tests=tests, figures=FIGURES))


@pytest.fixture
def figure():
    "`figure('name', value)` keeps what a test measured for `--soak-json`, and prints it"

    def keep(name, value):
        FIGURES[name] = value
        print(f'{name}: {value}')

    return keep


@pytest.fixture(scope='session', autouse=True)
def quiet():
    "One thread, and no progress bars"
    import torch
    import transformers

    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()


@pytest.fixture(scope='session')
def once(tmp_path_factory):
    """`once(name, make)`: a folder that `make(folder)` fills in the first process that wants it, for all
    processes of these tests"""
    root = tmp_path_factory.getbasetemp()
    if 'PYTEST_XDIST_WORKER' in os.environ:
        root = root.parent

    def get(name, make):
        with FileLock(root / f'{name}.lock'):
            if not (root / name).exists():
                make(new := root / f'{name}.new')
                new.rename(root / name)
        return root / name

    return get


@pytest.fixture(scope='session')
def folders(once):
    "Tiny model folders, each made when it is first asked for"
    from recipes.tiny_models import make_tiny_checkpoint

    return lambda name: once(name, partial(make_tiny_checkpoint, name, seed=SEEDS.get(name, 0)))


@pytest.fixture(scope='session')
def load(folders):
    "Tiny models and those of the package, each loaded once"
    from carve_nb.attention.vlm import VLM
    from carve_nb.models.checkpoints import PACKAGED

    models = {}

    def get(name):
        if name not in models:
            with warnings.catch_warnings():
                warnings.simplefilter('ignore')
                models[name] = VLM.from_pretrained(name if name in PACKAGED else folders(name))
        return models[name]

    return get


@pytest.fixture
def shell(tmp_path, monkeypatch, capsys):
    """`shell('ask a.png What?', *more)`: status and both outputs of `carve` in this process, which stands in
    the folder of the test"""
    from carve_nb.cli.main import main

    monkeypatch.chdir(tmp_path)

    def run(words, *more):
        status = main([*shlex.split(words), *map(str, more)])
        return status, *capsys.readouterr()

    return run


@pytest.fixture(scope='module')
def photos(tmp_path_factory):
    "Ten photographs with questions, several answers and boxes"
    import numpy as np
    from PIL import Image
    from skimage import data

    path = tmp_path_factory.mktemp('photos')
    names = 'astronaut brick camera chelsea coffee coins horse moon page rocket'.split()
    rows = []
    for i, name in enumerate(names):
        a = np.asarray(getattr(data, name)())
        Image.fromarray(a if a.dtype == np.uint8 else (255 * a).astype(np.uint8)).convert('RGB').resize(
            (240, 160)
        ).save(path / f'{name}.jpg')
        rows.append(
            dict(
                id=i,
                image=f'{name}.jpg',
                question=f'What is in picture {i}?',
                answers=[name, 'it', 'that'],
                **(dict(box=[20, 30, 120, 130]) if i % 2 else {}),
            )
        )
    (path / 'val.json').write_text(json.dumps(rows))
    return path
