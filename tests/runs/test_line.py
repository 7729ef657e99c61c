"""A line knows what answered it: what is of another run, another model, another state of the code or another
form is left out and counted, or told on the first line of the table; nothing merges in silence."""
import errno
import json
import shutil
import subprocess
import sys
import threading
import pytest
from processes import ROOT
from carve_nb.core.errors import CarveError, IncompleteError, RunError
from carve_nb.core.io import save_with_digest
from carve_nb.runs import store as store_module
from carve_nb.runs.report import load_run, markdown
from carve_nb.runs.runner import run_eval
from carve_nb.runs.store import RunStore, read_run, to_line

SETTINGS = dict(seed=0)


def protocol(n=4, methods=('none', 'carve'), model='m', **more):
    return dict(data=dict(name='scenes', n=n, rule='exact'), model=dict(name=model, weights=f'w{model}'),
        methods={method: dict(SETTINGS) for method in methods}, **more)


def line(at, method='none', **more):
    return dict(id=f'q{at}', at=at, method=method, status='ok', kind='digit', question='What?', answer=str(at),
        truth='1', score=float(at % 2), calls=1, notes=[]) | more


def write(folder, part=(0, 1), lines=None, **settings):
    "A run of two methods, or a part of it"
    made = protocol(**settings)
    store = RunStore(folder, made, part=part, may_change=['data.n'])
    if lines is None: lines = [line(at, method) for at in range(4)[part[0]::part[1]] for method in made['methods']]
    store.add(lines)
    store.close()
    return folder


def first(folder): return markdown(load_run(folder)).splitlines()[0]


def remarks(folder): return markdown(load_run(folder))


def raw(folder): return (folder/'records.jsonl').read_bytes()


def copied(folder, name):
    (folder/name).write_bytes(raw(folder).replace(b'"score": 0.0', b'"score": 1.0'))


def forged(folder, name):
    "A copy in which every line is right, with a sum that belongs to it"
    (folder/name).write_bytes(b''.join(to_line(line) for line in
        ({k: v for k, v in json.loads(text).items() if k != 'sum'} | dict(score=1.)
            for text in raw(folder).splitlines())))


FILES = ['records.jsonl.bak', 'records.jsonl~', 'records copy.jsonl', 'records (1).jsonl', 'records-x.jsonl',
    'old-records.jsonl', 'records.jsonl.orig', 'records.jsonl.gz.part']


@pytest.mark.parametrize('name', FILES)
def test_copies_are_not_of_the_run(tmp_path, name):
    "A backup, a copy of a file manager, a rest of a download: the table is as it was, and names it"
    whole = read_run(write(tmp_path/'R')).records
    forged(tmp_path/'R', name)
    found = read_run(tmp_path/'R')
    assert found.records == whole
    assert name in remarks(tmp_path/'R') and 'not of this run' in remarks(tmp_path/'R')


def another_model(a, b): write(b, (1, 2), model='other')
def another_setting(a, b): write(b, (1, 2), seed=1)
def another_method(a, b):
    SETTINGS['seed'] = 9
    try: write(b, (1, 2))
    finally: SETTINGS['seed'] = 0


@pytest.mark.parametrize('make', [another_model, another_setting, another_method])
def test_parts_of_two_runs_do_not_merge(tmp_path, make):
    "Half of another model, of other settings, of a method with other fields, put beside by `cp`: counted, not read"
    a, b = tmp_path/'A', tmp_path/'B'
    write(a, (0, 2)), make(a, b)
    shutil.copy(b/'records-2.jsonl', a)
    assert {record['id'] for record in read_run(a).records} == {'q0', 'q2'}
    assert '4 lines of another run' in remarks(a) and 'unfinished' in first(a)
    write(a, (1, 2))      # measured again, in the same file
    assert [record['at'] for record in read_run(a).select('none')] == [0, 1, 2, 3]


def test_parts_of_one_run_merge(tmp_path):
    "The same settings on two machines, whose probes differ by rounding"
    probe = dict(model=dict(name='m', weights='w', dtype='float32', probe=[1., 2.]))
    other = dict(model=dict(name='m', weights='w', dtype='float32', probe=[1., 2.0000001]))
    for folder, k, model in ((tmp_path/'A', 0, probe), (tmp_path/'B', 1, other)):
        store = RunStore(folder, protocol() | model, part=(k, 2))
        store.add([line(at, method) for at in range(4)[k::2] for method in ('none', 'carve')])
        store.close()
    shutil.copy(tmp_path/'B'/'records-2.jsonl', tmp_path/'A')
    assert len(read_run(tmp_path/'A').records) == 8 and 'another run' not in remarks(tmp_path/'A')


def test_two_runs_cannot_begin_in_one_folder(tmp_path, monkeypatch):
    "Two parts of two models at once, the second while the first has read that there is nothing: one is refused"
    inside, go_on = threading.Event(), threading.Event()
    keep = store_module.save_with_digest
    def slow(*given):
        inside.set()
        go_on.wait(5)
        keep(*given)
    monkeypatch.setattr(store_module, 'save_with_digest', slow)
    one = threading.Thread(target=lambda: RunStore(tmp_path/'R', protocol(), part=(0, 2)).close())
    one.start()
    inside.wait(5)
    ended = []
    def second():
        try: RunStore(tmp_path/'R', protocol(model='other'), part=(1, 2)).close()
        except RunError as e: ended.append(str(e))
    two = threading.Thread(target=second)
    two.start()
    two.join(.3)
    go_on.set()
    one.join(), two.join()
    assert ended and 'holds another run' in ended[0]
    assert read_run(tmp_path/'R').protocol['model']['name'] == 'm'


def test_an_older_run_is_read_and_cannot_grow(tmp_path):
    "Lines without a digest, as before: the table says so first; nothing is added to them"
    folder = tmp_path/'R'
    folder.mkdir()
    save_with_digest(folder/'protocol.json', protocol())
    (folder/'records.jsonl').write_bytes(b''.join(to_line(line(at, m)) for at in range(4) for m in ('none', 'carve')))
    assert len(read_run(folder).records) == 8 and 'of an older version' in first(folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix != '.lock'}
    with pytest.raises(RunError, match='older version.*can be read, and cannot grow'): write(folder, n=6)
    assert before == {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix != '.lock'}


# what a crafted line may hold, with the sum and the run that belong to it
ODD = [dict(score=7.), dict(score='1'), dict(score=True), dict(score=-.1), dict(status='OK'),
    dict(status=None), dict(at='0'), dict(at=None), dict(at=1.5), dict(id=3), dict(id=None), dict(method=None),
    dict(method=['none']), dict(kind=3), dict(kind=None), dict(kind=['a']), dict(notes='x'), dict(notes=[1]),
    dict(notes=None), dict(notes={}), dict(box='x'), dict(box=[1, 2, 3]), dict(box=[1, 2, 3, '4']), dict(box=None),
    dict(calls='1'), dict(calls=[1]), dict(pointing='x'), dict(pointing=[True]), dict(auroc='x'), dict(iou=[]),
    dict(answer=3), dict(answer=None), dict(question=3), dict(image_key=3), dict(unread=3), dict(code=3),
    dict(code={'carve_nb': 3}), dict(status='error'), dict(status='error', why=3), dict(status='skipped'),
    dict(details=3), dict(seconds='1'), dict(plain_answer=4), dict(confidence='x')]
LACKS = ['id', 'at', 'method', 'status', 'kind', 'score', 'answer']


@pytest.mark.parametrize('change', [*ODD, *LACKS], ids=str)
def test_a_line_of_another_form_is_damaged(tmp_path, change):
    "Never an error of Python: the report says which line, and the rest is as it was"
    folder = write(tmp_path/'R')
    lines = raw(folder).splitlines(keepends=True)
    record = {k: v for k, v in json.loads(lines[2]).items() if k != 'sum'}
    if isinstance(change, str): del record[change]
    else: record |= change
    (folder/'records.jsonl').write_bytes(b''.join([*lines[:2], to_line(record), *lines[3:]]))
    text = remarks(folder)
    assert 'damaged' in text and 'line 3 of records.jsonl' in text, text
    assert len(read_run(folder).records) == 7
    assert 'unfinished: 7 of 8' in first(folder)
    with pytest.warns(UserWarning, match='1 damaged line'): write(folder)     # measured again
    assert len(read_run(folder).records) == 8


PROTOCOLS = [{}, dict(data=3), dict(data={}), dict(data=[]), dict(methods=[]), dict(methods={'none': 3}),
    dict(model='x'), dict(model={'name': 3}), dict(data=dict(name=3, n=4, rule='exact')),
    dict(data=dict(name='a', n='4', rule='exact')), dict(run=3), dict(run={'none': 3}), dict(run=[]),
    dict(data=dict(name='a', n=4)), dict(data=None), dict(methods=None)]


@pytest.mark.parametrize('change', PROTOCOLS, ids=str)
def test_a_protocol_of_another_form(tmp_path, change, shell):
    "With the sum that belongs to it: a sentence from each command"
    folder = write(tmp_path/'R')
    there = {k: v for k, v in json.loads((folder/'protocol.json').read_text()).items() if k != 'sum'}
    save_with_digest(folder/'protocol.json', there | change if change else {})
    status, _, said = shell('report', folder)
    assert status == 2 and 'Traceback' not in said and ('damaged' in said or 'names no data' in said), said
    with pytest.raises(CarveError): write(folder)


TEXTS = dict(bom=lambda raw: b'\xef\xbb\xbf' + raw, blanks=lambda raw: raw + b'\n\n  \n',
    between=lambda raw: raw.replace(b'}\n', b'}\n\n', 2), windows=lambda raw: raw.replace(b'\n', b'\r\n'),
    trailing=lambda raw: raw.replace(b'}\n', b'}  \n'))


@pytest.mark.parametrize('how', TEXTS)
def test_what_an_editor_leaves(tmp_path, how, recwarn):
    "A byte-order mark, blank lines, other line ends: the same run"
    folder = write(tmp_path/'R')
    whole, table = read_run(folder), remarks(folder)
    (folder/'records.jsonl').write_bytes(TEXTS[how](raw(folder)))
    assert read_run(folder) == whole and remarks(folder) == table
    write(folder)
    assert read_run(folder) == whole and not [w for w in recwarn if 'damaged' in str(w.message)]


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
    found = go(2, 'none,center').records
    assert [r for r in found if r['method'] == 'none'] == before and len(found) == 6
    with pytest.raises(RunError, match='another choice of questions'): go(3, shuffle=True)


@pytest.mark.parametrize('change', [dict(kind='count'), dict(truth='2')])
def test_kind_and_truth_belong_to_the_question(tmp_path, change, load):
    go = lambda: run_eval('scenes', load('llava'), 'none', 3, tmp_path/'R', max_new_tokens=2, progress=False)
    go()
    lines = raw(tmp_path/'R').splitlines(keepends=True)
    record = {k: v for k, v in json.loads(lines[1]).items() if k != 'sum'} | change
    (tmp_path/'R'/'records.jsonl').write_bytes(b''.join([lines[0], to_line(record), lines[2]]))
    with pytest.raises(RunError, match='answer to another question'): go()


METHOD = '''
from dataclasses import dataclass
from helper import BASE, shift
from carve_nb.method.controls import DirectAnswer

LIMIT = 3

class Mine(BASE):
    name = 'mine'
    about = 'mine'
    def prepare(self, session, result): return super().prepare(session, result)

'''
HELPER = '''
from carve_nb.method.controls import DirectAnswer

class BASE(DirectAnswer):
    step = 1

def shift(x): return x + 1
'''
EDITS = dict(own=('mine.py', "about = 'mine'", "about = 'mine!'"), constant=('mine.py', 'LIMIT = 3', 'LIMIT = 4'),
    base=('helper.py', 'step = 1', 'step = 2'), function=('helper.py', 'x + 1', 'x + 2'))
DRIVER = '''
import sys; sys.path.insert(0, {place!r})
import mine
from carve_nb.runs.store import RunStore, code_of
from carve_nb.runs.report import load_run, markdown
import test_line
for n in {sizes}:
    store = RunStore({out!r}, test_line.protocol(n=n, methods=('none', 'mine')), may_change=['data.n'], code=dict(mine=code_of(mine.Mine)))
    store.add([test_line.line(at, m) for at in range(n) for m in ('none', 'mine')])
    store.close()
print(markdown(load_run({out!r})).splitlines()[0])
'''


def measured(place, out, *sizes):
    "The first line of the table of a run that another process has made longer"
    code = DRIVER.format(place=str(place), out=str(out), sizes=list(sizes))
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True,
        env=dict(PATH='/usr/bin:/bin', PYTHONPATH=f'{ROOT}:{ROOT}/tests:{ROOT}/tests/runs', HF_HUB_OFFLINE='1'))
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(scope='module')
def half_run(tmp_path_factory):
    "A run of a method in a file of its own, half measured, with the modules beside it"
    place = tmp_path_factory.mktemp('half')
    (place/'mine.py').write_text(METHOD), (place/'helper.py').write_text(HELPER)
    assert 'states of the code' not in measured(place, place/'R', 2, 3)
    return place


@pytest.mark.parametrize('edit', EDITS)
def test_code_is_told(half_run, tmp_path, edit):
    "A class, its base, a constant, a helper, edited between two halves: the run goes on, and the table says so first"
    place, (name, old, new) = shutil.copytree(half_run, tmp_path/'half'), EDITS[edit]
    (place/name).write_text((place/name).read_text().replace(old, new))
    assert 'measured with 2 states of the code' in measured(place, place/'R', 4)


def test_the_package_is_told(tmp_path, monkeypatch):
    "The files of the package, such as its scores"
    write(tmp_path/'R', n=4)
    assert 'states of the code' not in first(tmp_path/'R')
    monkeypatch.setattr(store_module, 'package_code', lambda: 'another')
    write(tmp_path/'R', n=5, lines=[line(4)])
    assert 'measured with 2 states of the code' in first(tmp_path/'R')


NO_LOCKS = [errno.ENOLCK, errno.ENOTSUP, errno.EINVAL]


@pytest.mark.parametrize('number', NO_LOCKS)
def test_a_disk_without_locks(tmp_path, monkeypatch, number):
    "A network disk: told, and the run goes on"
    import fcntl
    def fail(*given): raise OSError(number, 'no locks here')
    monkeypatch.setattr(fcntl, 'flock', fail)
    with pytest.warns(UserWarning, match='no locks here.*no other process'): write(tmp_path/'R')
    assert len(read_run(tmp_path/'R').records) == 8


@pytest.mark.parametrize('number', [errno.EROFS, errno.EIO])
def test_a_disk_that_cannot_be_written(tmp_path, monkeypatch, number):
    "Its own cause, and not another process"
    import fcntl
    def fail(*given): raise OSError(number, 'a cause')
    monkeypatch.setattr(fcntl, 'flock', fail)
    with pytest.raises(IncompleteError, match='a cause') as e: write(tmp_path/'R')
    assert 'another process' not in str(e.value)
