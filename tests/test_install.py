"""The wheel, as a user gets it: what it holds, and that the examples of README and `carve --help` run on it
and its base requirements alone, outside the clone. `make pytest` names the Python of such an environment
in CARVE_PLAIN, `make colab` that of one with Colab's versions in CARVE_COLAB."""

import ast
import functools
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
import pytest
from processes import ROOT

PLAIN = os.environ.get('CARVE_PLAIN')
plain = pytest.mark.skipif(not PLAIN, reason='`make pytest` runs it, in an environment of its own')


def run_process(*words, **kw):
    "What a process printed; its errors where it fails"
    out = subprocess.run([str(o) for o in words], capture_output=True, text=True, **kw)
    assert out.returncode == 0, f'{shlex.join(map(str, words))}\n{out.stdout[-2000:]}{out.stderr[-4000:]}'
    return out.stdout


@pytest.fixture(scope='module')
def dists(once):
    """Two folders with wheel and source, built from copies of other dates, so that nothing is left behind in
    the clone"""

    def make(root):
        skip = shutil.ignore_patterns(
            '.*', '_docs', '_proc', 'nbs', 'recipes', '*.egg-info', 'build', '__pycache__'
        )
        for name, date in ('one', 1_700_000_000), ('two', 1_750_000_000):
            src, dist = root / 'src' / 'carve_nb', root / name
            shutil.copytree(ROOT, src, ignore=skip)
            for p in src.rglob('*'):
                os.utime(p, (date, date))
            env = dict(os.environ, SOURCE_DATE_EPOCH='1760000000')
            run_process(
                sys.executable,
                'setup.py',
                '--quiet',
                'sdist',
                '-d',
                dist,
                'bdist_wheel',
                '-d',
                dist,
                cwd=src,
                env=env,
            )
            run_process(sys.executable, ROOT / 'tools' / 'repack.py', dist, env=env)
            shutil.rmtree(src)

    root = once('dists', make)
    return root / 'one', root / 'two'


@pytest.fixture(scope='module')
def wheel(dists):
    return next(dists[0].glob('*.whl'))


def test_holds_what_users_need(wheel):
    """One command, both models, the records of the tutorials; no training logs, and nothing that another
    package may own"""
    with zipfile.ZipFile(wheel) as z:
        names = z.namelist()
        scripts = z.read(next(n for n in names if n.endswith('entry_points.txt'))).decode()
    assert re.findall(r'^(\w+) ?= ?carve_nb\.cli', scripts, re.M) == ['carve']
    assert not [n for n in names if '.data/' in n]
    tops = {n.split('/')[0] for n in names}
    assert tops == {'carve_nb', next(t for t in tops if t.endswith('.dist-info'))}
    for model in 'carve-tiny', 'carve-small':
        assert f'carve_nb/checkpoints/{model}/model.safetensors' in names
    for model in 'carve-smol', 'carve-photo':
        assert f'carve_nb/checkpoints/{model}/adapter.safetensors' in names
    assert {'carve_nb/py.typed', 'carve_nb/__init__.pyi', 'carve_nb/method/__init__.pyi'} < {
        *names
    }  # which the fronts read
    assert {f'carve_nb/records/{r}/records.jsonl.gz' for r in ('demo', 'demo-carve-small')} < {*names}
    assert not [n for n in names if n.endswith('.jsonl')]


def test_two_builds_are_equal(dists, wheel):
    "The same bytes; the wheel has at most 35 MB, 9 of them connectors and LoRA of carve-smol and carve-photo"
    one, two = ({p.name: p.read_bytes() for p in d.iterdir()} for d in dists)
    assert len(one) == 2
    assert one == two
    assert wheel.stat().st_size <= 35_000_000


@pytest.fixture(scope='module')
def python(wheel, tmp_path_factory):
    """`python(*words)` in the plain environment, with the wheel installed, in an empty folder; the folder is
    `python.home`"""
    run_process(PLAIN, '-m', 'pip', 'install', '-q', '--no-deps', '--force-reinstall', wheel)
    home = tmp_path_factory.mktemp('home')
    env = {k: v for k, v in os.environ.items() if k != 'PYTHONPATH'}
    env |= dict(HF_HUB_OFFLINE='1', COLUMNS='300', NO_COLOR='1', CARVE_PROFILES='profiles', MPLBACKEND='agg')
    run = lambda *words: run_process(PLAIN, *words, cwd=home, env=env)
    run.home, run.env = home, env
    photo = (
        "from PIL import Image; from skimage import data; Image.fromarray(data.coffee()).save('photo.jpg')"
    )
    row = json.dumps(dict(image='photo.jpg', question='What is it?', answer='coffee'))
    run('-c', f"{photo}; import carve_nb; assert 'site-packages' in carve_nb.__file__")
    (home / 'FOLDER').mkdir()
    shutil.copy(home / 'photo.jpg', home / 'FOLDER')
    (home / 'FOLDER' / 'questions.jsonl').write_text(f'{row}\n{row.replace("it", "that")}\n')
    return run


# What stands in the examples for the user's own, and what a test can afford.
MINE = [
    (r'^(eval IMAGES.*) --out R', r'\1 --out R3'),
    (r'IMAGES', 'FOLDER'),
    (r'--model \S+', '--model carve-tiny'),
    (r'--n \d+', '--n 2'),
    (r'^checkup', 'checkup --n 2'),
]
# One process imports what the package imports, forgets the package, and is forked for each command, which
# imports the package anew.
FORKS = """
import gc, json, os, runpy, sys
import carve_nb.cli.main, carve_nb.runs.report, carve_nb.runs.runner, carve_nb.attention.vlm
for k in [k for k in sys.modules if k.partition('.')[0] == 'carve_nb']: del sys.modules[k]
gc.freeze()
for line in sys.stdin:
    if not (child := os.fork()):
        for fd, name in ((1, 'said'), (2, 'complained')): os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), fd)
        sys.argv = ['carve', *json.loads(line)]
        import carve_nb.studies.checkup
        carve_nb.studies.checkup.PROFILED = 4    # images, of 40
        try: runpy.run_module('carve_nb', run_name='__main__', alter_sys=True)
        except SystemExit as e: status = e.code
        sys.stdout.flush()
        os._exit(status)     # nothing is taken apart
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@plain
def test_examples_of_the_help(python):
    """Each example runs, on carve-tiny in place of a model that would be downloaded, and on few samples; one
    as a shell starts it"""
    examples = re.findall(
        r'^ *carve (\w.*?) *$', python('-m', 'carve_nb', '--help').partition('xamples')[2], re.M
    )
    assert len(examples) > 3 and 'demo' in examples
    words = [functools.reduce(lambda w, mine: re.sub(*mine, w), MINE, o) for o in examples]
    with (
        subprocess.Popen(
            [PLAIN, '-c', FORKS],
            cwd=python.home,
            env=python.env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as server,
        ThreadPoolExecutor(1) as beside,
    ):
        shell = beside.submit(
            python, '-m', 'carve_nb', *shlex.split(next(o for o in words if o.startswith('ask')))
        )
        for o in map(shlex.split, [o for o in words if not o.startswith('ask')]):
            print(json.dumps(o), file=server.stdin, flush=True)
            status = server.stdout.readline().strip()
            assert status == '0', ''.join(
                (python.home / name).read_text() for name in ('said', 'complained')
            )[-6000:]
        shell.result()


@plain
def test_blocks_of_the_readme(python):
    """Its Python runs as it stands and prints its answers and nothing else; its commands for the shell are
    commands"""
    blocks = re.findall(
        r'^```(python|sh)\n(.*?)^```', (ROOT / 'README.md').read_text(encoding='utf-8'), re.M | re.S
    )
    code = [b for kind, b in blocks if kind == 'python']
    assert code
    (python.home / 'readme.py').write_text('\n'.join(code))
    process = subprocess.run(
        [PLAIN, 'readme.py'], cwd=python.home, env=python.env, capture_output=True, text=True
    )
    assert process.returncode == 0
    assert process.stdout == '8 2\n'
    assert process.stderr == ''
    for kind, b in blocks:
        run_process('bash', '-n', '-c', b) if kind == 'sh' else ast.parse(b)


COLAB = os.environ.get('CARVE_COLAB')
KEPT = (
    'torch',
    'numpy',
    'scipy',
    'pandas',
    'pillow',
    'matplotlib',
    'scikit-image',
    'ipython',
    'ipykernel',
    'ipywidgets',
    'traitlets',
)


@pytest.mark.skipif(
    not COLAB, reason='`make colab` runs it, in an environment with the versions of tests/colab.txt'
)
@pytest.mark.parametrize('name', ['quickstart', 'tutorials/gallery'])
def test_colab(wheel, tmp_path, name):
    """Opened in Colab, the first cell of a notebook installs the package and leaves alone what may be loaded
    already; then the rest runs"""
    from colab import with_install
    from fastcore.nbio import nb2str, read_nb

    listed = lambda: {
        o['name']: o['version']
        for o in json.loads(
            run_process(COLAB, '-m', 'pip', 'list', '--format', 'json', '--disable-pip-version-check')
        )
    }
    run_process(COLAB, '-m', 'pip', 'uninstall', '-q', '-y', 'carve_nb')
    before = listed()
    env = {k: v for k, v in os.environ.items() if k not in ('PYTHONPATH', 'MPLBACKEND')}
    nb = with_install(read_nb(ROOT / f'nbs/{name}.ipynb'), 'HERE')
    nb['cells'] = [
        c for c in nb['cells'] if c.id == 'c01ab000' or not c.source.startswith(('#| hide', '#| echo: false'))
    ]
    (tmp_path / 'in.ipynb').write_text(nb2str(nb).replace('git+HERE', wheel.as_uri()))
    run_process(
        COLAB,
        '-m',
        'nbconvert',
        '--to',
        'notebook',
        '--execute',
        'in.ipynb',
        '--output',
        'out',
        cwd=tmp_path,
        env=env,
    )
    after = listed()
    assert 'carve_nb' in after and {k: after[k] for k in KEPT} == {k: before[k] for k in KEPT}
    print({k: (before.get(k), v) for k, v in after.items() if v != before.get(k)})
