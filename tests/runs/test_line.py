"""What a folder may hold: parts and copies of a run, another run, lines that are no JSON, a disk without locks; nothing merges in
silence, and each refusal is one sentence."""

import errno
import json
import shutil
import pytest
from carve_nb.core.errors import RunError
from carve_nb.data.datasets import load_benchmark
from carve_nb.runs.pages import load_run, markdown
from carve_nb.runs.runner import run_eval
from carve_nb.runs.store import RunStore, read_run

PROTOCOL = dict(
    data=dict(name='scenes', n=4, rule='exact'),
    model=dict(name='m', weights='w', dtype='float32', probe=[1.0, 2.0]),
    methods=dict(none={}, carve={}),
)


def line(at, method):
    return dict(
        id=f'q{at}',
        at=at,
        method=method,
        status='ok',
        kind='digit',
        question='What?',
        answer=str(at),
        truth='1',
        score=float(at % 2),
        calls=1,
        notes=[],
        key=f'k{at}',
    )


def write(folder, part=(0, 1), **settings):
    "A run of two methods, or a part of it"
    store = RunStore(folder, PROTOCOL | settings, part)
    store.add([line(at, method) for at in range(4)[part[0] :: part[1]] for method in ('none', 'carve')])
    store.close()
    return folder


def raw(folder):
    return (folder / 'records.jsonl').read_bytes()


@pytest.mark.parametrize('name', ['records.jsonl.bak', 'records copy.jsonl', 'records.jsonl.gz.part'])
def test_copies_are_not_of_the_run(tmp_path, name):
    "A backup, a copy of a file manager, a rest of a download: not read"
    whole = read_run(write(tmp_path / 'R'))
    (tmp_path / 'R' / name).write_bytes(raw(tmp_path / 'R').replace(b'"score": 0.0', b'"score": 1.0'))
    assert read_run(tmp_path / 'R') == whole


def test_parts_of_two_runs_do_not_merge(tmp_path):
    "Half of a run with another seed, put beside by `cp`: refused with what differs"
    write(tmp_path / 'A', (0, 2))
    write(tmp_path / 'B', (1, 2), seed=1)
    shutil.copytree(tmp_path / 'B' / 'part-2-of-2', tmp_path / 'A' / 'part-2-of-2')
    for call in lambda: read_run(tmp_path / 'A'), lambda: write(tmp_path / 'A', (0, 2)):
        with pytest.raises(RunError, match='part-2-of-2 holds another run: seed is None there, 1 now'):
            call()


def test_parts_of_one_run_merge(tmp_path, caplog):
    "The same settings on two machines, whose probes differ by rounding, and whose commits differ; a part that goes on says so"
    write(tmp_path / 'A', (0, 2), commits=['a'])
    write(tmp_path / 'B', (1, 2), commits=['b'], model=PROTOCOL['model'] | dict(probe=[1.0, 2.0 + 1e-7]))
    shutil.copytree(tmp_path / 'B' / 'part-2-of-2', tmp_path / 'A' / 'part-2-of-2')
    run = load_run(tmp_path / 'A')
    assert [record['at'] for record in run.select('none')] == [0, 1, 2, 3]
    assert run.protocol['commits'] == ['a', 'b']
    assert 'measured at 2 commits' in markdown(run)
    with caplog.at_level('INFO', 'carve_nb'):
        write(tmp_path / 'A', (0, 2), commits=['c'])
    assert f'{tmp_path}/A was begun at commit b, and goes on at c.' in caplog.text


def test_a_field_that_is_new(tmp_path, load):
    "A method is written with the fields that are not at their default, so that a new field makes no stored run another one"

    def go():
        return run_eval('scenes', load('llava'), 'carve', 2, tmp_path, max_new_tokens=2, progress=False)

    protocol = go().protocol
    assert protocol['methods'] == dict(carve=dict(max_new_tokens=2))
    protocol['methods']['carve']['pad'] = 0.3
    (tmp_path / 'protocol.json').write_text(json.dumps(protocol))
    with pytest.raises(RunError, match='methods.carve.pad is 0.3 there, None now'):
        go()


def test_a_line_that_is_no_json(tmp_path, shell):
    "An error with its number and its cure, from the report and from the run; without the line it is measured again"
    folder = write(tmp_path / 'R')
    lines = raw(folder).splitlines(keepends=True)
    (folder / 'records.jsonl').write_bytes(b''.join([*lines[:2], b'\xff\n', *lines[3:]]))
    status, _, err = shell('report', folder)
    assert status == 2, err
    assert err.count('\n') == 1, err
    assert 'Delete line 3; it is measured again.' in err, err
    with pytest.raises(RunError, match='line 3 is no JSON'):
        write(folder)
    (folder / 'records.jsonl').write_bytes(b''.join([*lines[:2], *lines[3:]]))
    store = RunStore(folder, PROTOCOL)
    assert [store.has('q1', method, 'k1') for method in ('none', 'carve')] == [False, True]
    store.close()


def test_fewer_questions(tmp_path, load):
    "`--n 2` in the folder of four: nothing is measured, nothing is lost, the table is that of two; another choice is refused"

    def go(n, spec='scenes'):
        return run_eval(spec, load('llava'), 'none', n, tmp_path, max_new_tokens=2, progress=False)

    four = go(4)
    before = raw(tmp_path)
    assert go(2).records == four.records[:2]
    assert raw(tmp_path) == before
    assert '2 other questions of the folder' in markdown(read_run(tmp_path))
    with pytest.raises(RunError, match='another choice of questions'):
        go(3, load_benchmark('scenes', 3, seed=0))
    assert len(read_run(tmp_path).records) == 2  # the refused command leaves the folder as it was


def test_a_disk_without_locks(tmp_path, monkeypatch):
    "A network disk: one warning, and the run goes on"
    import fcntl

    def fail(*given):
        raise OSError(errno.ENOLCK, 'no locks here')

    monkeypatch.setattr(fcntl, 'flock', fail)
    with pytest.warns(UserWarning, match='no locks here.*no other process') as warned:
        write(tmp_path / 'R')
    assert len(warned) == 1 and len(read_run(tmp_path / 'R').records) == 8
