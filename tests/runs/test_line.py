"""What a folder may hold: parts and copies of a run, another run, lines that are no JSON, a disk without locks; nothing merges in
silence, and each refusal is one sentence."""
import errno
import json
import shutil
import pytest
from carve_nb.core.errors import IncompleteError, RunError
from carve_nb.runs.report import load_run, markdown
from carve_nb.runs.runner import run_eval
from carve_nb.runs.store import RunStore, read_run

SETTINGS = dict(seed=0)


def protocol(n=4, methods=('none', 'carve'), model='m', **more):
    return dict(data=dict(name='scenes', n=n, rule='exact'), model=dict(name=model, weights=f'w{model}'),
        methods={method: dict(SETTINGS) for method in methods}, **more)


def line(at, method='none', **more):
    return dict(id=f'q{at}', at=at, method=method, status='ok', kind='digit', question='What?', answer=str(at),
        truth='1', score=float(at % 2), calls=1, notes=[], key=f'k{at}') | more


def write(folder, part=(0, 1), lines=None, **settings):
    "A run of two methods, or a part of it"
    store = RunStore(folder, protocol(**settings), part)
    if lines is None: lines = [line(at, method) for at in range(4)[part[0]::part[1]] for method in ('none', 'carve')]
    store.add(lines)
    store.close()
    return folder


def first(folder): return markdown(load_run(folder)).splitlines()[0]


def raw(folder): return (folder/'records.jsonl').read_bytes()


FILES = 'records.jsonl.bak', 'records copy.jsonl', 'old-records.jsonl', 'records.jsonl.gz.part'


@pytest.mark.parametrize('name', FILES)
def test_copies_are_not_of_the_run(tmp_path, name):
    "A backup, a copy of a file manager, a rest of a download: not read"
    whole = read_run(write(tmp_path/'R'))
    (tmp_path/'R'/name).write_bytes(raw(tmp_path/'R').replace(b'"score": 0.0', b'"score": 1.0'))
    assert read_run(tmp_path/'R') == whole


def another_model(folder): write(folder, (1, 2), model='other')
def another_setting(folder): write(folder, (1, 2), seed=1)
def another_method(folder):
    SETTINGS['seed'] = 9
    try: write(folder, (1, 2))
    finally: SETTINGS['seed'] = 0


@pytest.mark.parametrize('make, why', [(another_model, "model.name is 'm' there, 'other' now"), (another_setting, 'seed is None there, 1 now'),
    (another_method, 'methods.none.seed is 0 there, 9 now')])
def test_parts_of_two_runs_do_not_merge(tmp_path, make, why):
    "Half of another model, of other settings, of a method with other fields, put beside by `cp`: refused with what differs"
    write(tmp_path/'A', (0, 2)), make(tmp_path/'B')
    shutil.copytree(tmp_path/'B'/'part-2-of-2', tmp_path/'A'/'part-2-of-2')
    for call in lambda: read_run(tmp_path/'A'), lambda: write(tmp_path/'A', (0, 2)):
        with pytest.raises(RunError, match=f'part-2-of-2 holds another run: .*{why}'): call()


def test_parts_of_one_run_merge(tmp_path):
    "The same settings on two machines, whose probes differ by rounding, and whose commits differ"
    for folder, k, end in ((tmp_path/'A', 0, 0.), (tmp_path/'B', 1, 1e-7)):
        model = dict(name='m', weights='w', dtype='float32', probe=[1., 2. + end])
        store = RunStore(folder, protocol() | dict(model=model, commits=[folder.name]), (k, 2))
        store.add([line(at, method) for at in range(4)[k::2] for method in ('none', 'carve')])
        store.close()
    shutil.copytree(tmp_path/'B'/'part-2-of-2', tmp_path/'A'/'part-2-of-2')
    run = read_run(tmp_path/'A')
    assert [record['at'] for record in run.select('none')] == [0, 1, 2, 3] and run.protocol['commits'] == ['A', 'B']
    assert 'measured at 2 commits' in markdown(run)


def test_another_commit_is_told(tmp_path, caplog):
    "A run goes on at another commit, and says so; its table counts them"
    write(tmp_path/'R', commits=['a'])
    with caplog.at_level('INFO', 'carve_nb'): write(tmp_path/'R', n=5, lines=[line(4), line(4, 'carve')], commits=['b'])
    assert f'{tmp_path}/R was begun at commit a, and goes on at b.' in caplog.text
    assert 'measured at 2 commits' in markdown(load_run(tmp_path/'R')) and len(read_run(tmp_path/'R').records) == 10


def test_an_older_run_is_read_and_cannot_grow(tmp_path):
    "Lines and a protocol with sums, as before"
    folder = write(tmp_path/'R')
    (folder/'protocol.json').write_text(json.dumps(protocol() | dict(sum='abc', run=dict(none='d'))))
    (folder/'records.jsonl').write_bytes(raw(folder).replace(b'}\n', b', "sum": "12345678"}\n'))
    before = raw(folder)
    assert len(read_run(folder).records) == 8
    with pytest.raises(RunError, match='older version, which can be read, and cannot grow'): write(folder, n=6)
    assert raw(folder) == before


def test_a_field_that_is_new(tmp_path, load, monkeypatch):
    "A field that all crops get makes no stored run another one; the same field with another value does"
    from carve_nb.method.carve import Carve
    go = lambda method: run_eval('scenes', load('llava'), method, 2, tmp_path/'R', max_new_tokens=2, progress=False).records
    before = go('carve')
    assert read_run(tmp_path/'R').protocol['methods']['carve'].keys() == {'max_new_tokens'}
    stored = json.loads((tmp_path/'R'/'protocol.json').read_text())
    assert go('carve') == before
    stored['methods']['carve']['pad'] = .3
    (tmp_path/'R'/'protocol.json').write_text(json.dumps(stored))
    with pytest.raises(RunError, match='methods.carve.pad is 0.3 there, None now'): go('carve')
    assert Carve().pad != .3


@pytest.mark.parametrize('bad', [b'{"id": \n', b'\xff\n', b'records\n'])
def test_a_line_that_is_no_json(tmp_path, bad, shell):
    "An error with its number and its cure, from the report and from the run; without the line the run goes on"
    folder = write(tmp_path/'R')
    lines = raw(folder).splitlines(keepends=True)
    (folder/'records.jsonl').write_bytes(b''.join([*lines[:2], bad, *lines[3:]]))
    status, _, err = shell('report', folder)
    assert status == 2 and err.count('\n') == 1 and 'line 3 is no JSON' in err and 'Delete line 3; it is measured again.' in err, err
    with pytest.raises(RunError, match='line 3 is no JSON'): write(folder)
    (folder/'records.jsonl').write_bytes(b''.join([*lines[:2], *lines[3:]]))
    store = RunStore(folder, protocol())
    assert [store.has(f'q{at}', m, f'k{at}') for at in range(4) for m in ('none', 'carve')] == [True, True, False] + [True]*5
    store.close()


@pytest.mark.parametrize('name', ['records.jsonl', 'protocol.json', 'part-2-of-2', 'part-1-of-2/records.jsonl'])
def test_a_run_is_not_read_through_links(tmp_path, name):
    "What lies outside its folder is neither read nor written"
    write(tmp_path/'R', (0, 2)), write(tmp_path/'R')
    other = write(tmp_path/'other', (1, 2), model='other')
    target = other/'part-2-of-2'/name.rpartition('/')[2] if 'part-2' not in name else other/'part-2-of-2'
    (tmp_path/'R'/name).unlink(missing_ok=True)
    (tmp_path/'R'/name).symlink_to(target)
    before = (other/'part-2-of-2'/'records.jsonl').read_bytes()
    for call in lambda: read_run(tmp_path/'R'), lambda: write(tmp_path/'R'):
        with pytest.raises(RunError, match='is a link; a run is not read through links'): call()
    assert (other/'part-2-of-2'/'records.jsonl').read_bytes() == before


def test_a_renamed_folder_is_the_same_set(tmp_path, load):
    from tiny import write_set
    asked = write_set(tmp_path/'set', [dict(id=i, question=f'What is {i}?', answer='5') for i in 'ab'])
    go = lambda spec, **more: run_eval(spec, load('llava'), 'none', out=tmp_path/'R', max_new_tokens=2,
        progress=False, **more)
    before = go(asked).records
    asked.rename(tmp_path/'set2')
    assert go(tmp_path/'set2').records == before


def test_fewer_questions(tmp_path, load):
    "`--n 2` in the folder of four: nothing is measured, nothing is lost, the table is that of four; another choice is refused"
    go = lambda n, methods='none', **more: run_eval('scenes', load('llava'), methods, n, tmp_path/'R',
        max_new_tokens=2, progress=False, **more)
    before = go(4).records
    size = (tmp_path/'R'/'records.jsonl').stat().st_size
    assert go(2).records == before and (tmp_path/'R'/'records.jsonl').stat().st_size == size
    assert read_run(tmp_path/'R').protocol['data']['n'] == 4
    records = go(2, 'none,center').records
    assert [r for r in records if r['method'] == 'none'] == before and len(records) == 6
    with pytest.raises(RunError, match='another choice of questions'): go(3, shuffle=True)


def test_a_disk_without_locks(tmp_path, monkeypatch):
    "A network disk: one warning, and the run goes on"
    import fcntl
    def fail(*given): raise OSError(errno.ENOLCK, 'no locks here')
    monkeypatch.setattr(fcntl, 'flock', fail)
    with pytest.warns(UserWarning, match='no locks here.*no other process') as warned: write(tmp_path/'R')
    assert len(warned) == 1 and len(read_run(tmp_path/'R').records) == 8


@pytest.mark.parametrize('number', [errno.EROFS, errno.EIO])
def test_a_disk_that_cannot_be_written(tmp_path, monkeypatch, number):
    "Its own cause, and not another process"
    import fcntl
    def fail(*given): raise OSError(number, 'a cause')
    monkeypatch.setattr(fcntl, 'flock', fail)
    with pytest.raises(IncompleteError, match='a cause') as e: write(tmp_path/'R')
    assert 'another process' not in str(e.value)
