"""Several workers: a killed one, a sample that kills, a dead driver, one model that goes on alone; the tables
stay the same bytes. The notebook of `runs.distributed` has a run in which nobody dies."""

import os
import subprocess
import sys
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
import psutil
import pytest
from processes import until
from tiny import files
from carve_nb.cli.main import main
from carve_nb.data.datasets import load_benchmark
from carve_nb.runs.distributed import RayEngine, connected
from carve_nb.runs.pages import write_report
from carve_nb.runs.runner import run_eval
from carve_nb.runs.store import read_run

pytestmark = pytest.mark.skipif(
    not find_spec('ray'), reason='`make pytest` runs it where Ray has a wheel: with Python 3.13 or older'
)
ENV = dict(os.environ, HF_HUB_OFFLINE='1', OMP_NUM_THREADS='1')


def lines(out):
    return sum(p.read_bytes().count(b'\n') for p in out.glob('records.jsonl'))


def actors(pid):
    "The processes below another one that hold a model"
    return [p for p in psutil.Process(pid).children(recursive=True) if 'ModelWorker' in ''.join(p.cmdline())]


def alive(process):
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False  # it has ended since


def words(out, *more):
    "`carve eval` with the reference VLM"
    return [
        'eval',
        'scenes',
        '--model',
        'carve-tiny',
        '--methods',
        'none,carve,random',
        '--n',
        '6',
        '--out',
        str(out),
        *more,
    ]


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    "A run by one model in this process"
    out = tmp_path_factory.mktemp('whole') / 'R'
    assert main(words(out)) == 0
    return out


@pytest.fixture(scope='module')
def cluster():
    "Ray, started once for the tests in this process"
    with connected(cpus=2):
        yield


class Killing(RayEngine):
    "Kills one of the workers when the second sample is there"

    def __call__(self, job, units):
        for i, result in enumerate(super().__call__(job, units)):
            if i == 1:
                self.models = actors(os.getpid())
                self.models[0].kill()
            yield result


@pytest.mark.soak
def test_killed_worker(whole, cluster, tmp_path):
    "One of two workers is killed: nothing lost, nothing doubled, the same tables"
    engine = Killing(2)
    run_eval(
        'scenes', 'carve-tiny', 'none,carve,random', n=6, out=tmp_path / 'R', progress=False, engine=engine
    )
    write_report(tmp_path / 'R')
    records = read_run(tmp_path / 'R').records
    assert len(engine.models) == 2
    assert len(records) == len({(l['id'], l['method']) for l in records}) == 18
    assert {l['status'] for l in records} == {'ok'}
    assert files(tmp_path / 'R') == files(whole)


@pytest.mark.soak
def test_poison(cluster, folders, tmp_path):
    "A sample that kills every process that opens it has no answer; all others have"
    data = load_benchmark('scenes', 6)
    poison = partial(exec, 'import os; os.kill(os.getpid(), 9)')
    poison.recipe = 'poison'  # its name, so that this process need not open it
    poisoned = [replace(r, image=poison) if i == 2 else r for i, r in enumerate(data)]
    run_eval(
        replace(data, records=poisoned),
        str(folders('llava')),
        'none,random',
        out=tmp_path / 'R',
        max_new_tokens=2,
        progress=False,
        engine=RayEngine(2),
    )
    records = read_run(tmp_path / 'R').records
    assert [(l['at'], l['status']) for l in records] == [
        (i, 'error' if i == 2 else 'ok') for i in range(6) for _ in 'ab'
    ]
    assert 'died twice' in records[4]['why']


@pytest.mark.soak
def test_killed_driver(whole, tmp_path):
    "kill -9 of the process that writes: its workers end as well, and one model takes the run up"
    p = subprocess.Popen(
        [sys.executable, '-m', 'carve_nb.cli.main', *words(tmp_path / 'R', '--workers', '2')],
        env=ENV,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert until(lambda: lines(tmp_path / 'R') >= 3, p) and 3 <= lines(tmp_path / 'R') < 18
    models = actors(p.pid)
    p.kill()
    p.wait()
    assert models and until(lambda: not any(map(alive, models))), models
    assert main(words(tmp_path / 'R')) == 0
    assert files(tmp_path / 'R') == files(whole)
