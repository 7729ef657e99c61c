"A folder of others that looks like a run: nothing outside it is read or written"

from contextlib import suppress
import pytest
from carve_nb.core.errors import CarveError, RunError
from carve_nb.runs.pages import write_report
from carve_nb.runs.store import RunStore, read_run

PROTOCOL = dict(data=dict(name='a', n=4, rule='exact'), model=dict(name='m'), methods=dict(none={}, carve={}))
LINES = [
    dict(
        id=f'q{i}',
        at=i,
        method=m,
        status='ok',
        kind='digit',
        question='What?',
        answer=str(i),
        truth='1',
        score=float(i == 1),
        calls=1,
        notes=[],
    )
    for i in range(4)
    for m in PROTOCOL['methods']
]
SECRET = 'nobody reads or writes this\n'


@pytest.fixture
def folder(tmp_path):
    store = RunStore(tmp_path / 'R', PROTOCOL)
    store.add(LINES)
    store.close()
    write_report(tmp_path / 'R')
    (tmp_path / 'secret').write_text(SECRET)
    return tmp_path / 'R'


def link(path, secret):
    path.symlink_to(secret)


def dangling(path, secret):
    path.symlink_to(secret.with_name('new'))


NAMES = [
    'records.jsonl',
    'records.jsonl.gz',
    'protocol.json',
    'part-1-of-2',
    'run.lock',
    'table.md',
    'results.csv',
    'accuracy.png',
]


@pytest.mark.parametrize('name', NAMES)
@pytest.mark.parametrize('make', [link, dangling])
def test_a_run_folder_of_others(folder, make, name, tmp_path):
    "Each file of a run as a link, and as a link to nothing"
    path = folder / name
    if path.exists():
        path.unlink()
    make(path, tmp_path / 'secret')
    read = name in NAMES[:4]
    for call in (
        lambda: read_run(folder),
        lambda: write_report(folder),
        lambda: RunStore(folder, PROTOCOL).close(),
    ):
        with (
            pytest.raises(RunError, match='is a link; a run is not read through links')
            if read
            else suppress(CarveError, OSError)
        ):
            call()
    assert (tmp_path / 'secret').read_text() == SECRET and not (tmp_path / 'new').exists()
