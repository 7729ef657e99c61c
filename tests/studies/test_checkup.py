"`carve checkup` as a user starts it: through the shell, killed and taken up, with images of one's own, and on models of other families."
import json
import shutil
from dataclasses import replace
from types import SimpleNamespace
import pandas as pd
import pytest
from markupsafe import escape
from processes import ROOT, Carve, run, until
from scipy.stats import binomtest
from carve_nb.attention.vlm import VLM
from carve_nb.core.errors import CarveError, DataError
from carve_nb.core.io import PACKAGED
from carve_nb.data.eye_test import eye_question
from carve_nb.data.scenes import samples, twin_records
from carve_nb.method.profiles import find_profile, profile_path
from carve_nb.method.registry import make_method, methods
from carve_nb.runs.store import RunStore, read_run, without
from carve_nb.studies import checkup
from carve_nb.studies.checkup import check_row, run_checkup

pytestmark = pytest.mark.filterwarnings('ignore::UserWarning')
TIMED = 'seconds', 'records', 'digest'      # of a row: what differs from run to run
STORED = ROOT/'nbs/results/models'


@pytest.fixture(autouse=True)
def apart(monkeypatch, tmp_path):
    "A checkup keeps the profile that it makes; no other test may find it"
    monkeypatch.setenv('CARVE_PROFILES', str(tmp_path/'profiles'))


@pytest.fixture
def few(monkeypatch):
    "A profile of three images: the mechanics alone"
    whole = checkup.make_profile
    monkeypatch.setattr(checkup, 'make_profile', lambda vlm, images=None, over=iter: whole(vlm, 3, images, over))


def own_folder(path, boxes):
    "A folder of images and questions, with the true regions or without"
    path.mkdir()
    lines = []
    for s in samples('digit', 3, start=954_010):
        s.image.save(path/f'{s.id}.png')
        line = dict(image=f'{s.id}.png', question=s.question, answer=s.answer)
        lines.append(line | dict(box=list(s.box)) if boxes else line)
    (path/'questions.jsonl').write_text('\n'.join(map(json.dumps, lines)))
    return path


def test_shell(tmp_path):
    "Killed at the second question and taken up, it gives the row of a run that was not; then the same with images of one's own, with boxes and without"
    words = 'checkup', '--model', 'carve-tiny', '--n', '2', '--out', tmp_path/'R'
    p = Carve(*words)
    until(lambda: answered(tmp_path/'R') >= 2, p)
    p.kill()
    p.communicate()
    before = answered(tmp_path/'R')
    assert 2 <= before < 6, 'it was to be killed before the end'
    told = run(*words)
    assert told.returncode == 0 and 'At most 2 questions of each of 5 kinds in 6 arms' in told.stderr.splitlines()[0]     # before the model is loaded
    said = told.stdout.splitlines()
    assert said[:2] == ['On 6 questions no method gains significantly: ask without a crop.', '    vlm.ask(image, question)']
    assert said[2] == 'Gains in points by kind of question: small digits and color and existence: not enough questions to show a gain.'
    assert said[3].startswith('The attention points at the object that the question asks about') and 'does not bind color to shape' in said[3] and said[4].startswith('written to ')
    assert 'every figure comes from the records again' in check_row(tmp_path/'R'/'row.json')
    row = json.loads((tmp_path/'R'/'row.json').read_text())
    assert without(run_checkup('carve-tiny', tmp_path/'whole', n=2, progress=False), TIMED) == without(row, TIMED)
    page = (tmp_path/'R'/'checkup.html').read_text()
    places = [*(page.index(str(escape(words.strip()))) for words in said[:4]), page.index('<details>')]
    assert places == sorted(places)     # the answer first, the rest folded
    assert len(row['skipped']) == 2 and all(str(escape(why)) in page for why in row['skipped'].values())
    assert 'On your images' not in page and all(o not in (tmp_path/'R'/'row.json').read_text() for o in (str(tmp_path), '.png'))
    for boxes in True, False:
        shutil.copytree(tmp_path/'R', out := tmp_path/f'R{boxes}')
        told = run(*words[:-1], out, '--data', own_folder(tmp_path/f'F{boxes}', boxes))
        assert told.returncode == 0, told.stderr
        page = (out/'checkup.html').read_text()
        own = page[page.index('On your images, 3 questions'):page.index('<details>')]
        assert ('>oracle' in own) == ('points at the target' in own) == boxes
        assert '>carve:suffix=None' in own and json.loads((out/'row.json').read_text()) == row


def answered(folder):
    "How many questions a run holds"
    return len({json.loads(l)['id'] for p in folder.glob('records.jsonl') for l in p.read_text().splitlines(keepends=True) if l.endswith('\n')})


def test_grows(tmp_path, few):
    "More questions are added to those that are there; a folder of another kind is refused before the work"
    how = dict(model='carve-tiny', out=tmp_path/'R', kinds=('digit',), progress=False)
    run_checkup(n=2, **how)
    row = run_checkup(n=3, **how)
    assert row['kinds']['digit']['n'] == 3 and without(run_checkup(n=3, **how | dict(out=tmp_path/'S')), TIMED) == without(row, TIMED)
    (tmp_path/'empty').mkdir()
    with pytest.raises(CarveError): run_checkup(n=1, data=tmp_path/'empty', **how | dict(out=tmp_path/'T'))
    assert not (tmp_path/'T').exists()


def test_retry(tmp_path, few, monkeypatch):
    "A failed and a damaged line block nothing: the next run measures the damaged one again, and with retry the failed one, also of one's own data"
    how = dict(model='carve-tiny', n=4, kinds=('digit',), progress=False, data=own_folder(tmp_path/'F', True))
    whole = run_checkup(out=tmp_path/'S', **how)
    with monkeypatch.context() as m:
        m.setattr('carve_nb.method.lookup.Lookup.look', lambda *args, **kw: 1/0)
        failed = run_checkup(out=tmp_path/'R', **how)['kinds']['digit']['failed']     # three images may look like a sink
    assert failed.pop('lookup') == failed.pop(checkup.LAST) == 4 and failed in ({}, {checkup.LARGE: 4})
    assert 'lookup<td>4 answers' in (tmp_path/'R'/'checkup.html').read_text()
    lines = (path := tmp_path/'R'/'records.jsonl').read_text().splitlines()
    at = next(i for i, line in enumerate(lines) if '"carve"' in line)
    path.write_text('\n'.join([*lines[:at], lines[at].replace('"carve"', '"carvx"'), *lines[at + 1:], '']))
    with pytest.warns(UserWarning, match='1 damaged line'): row = run_checkup(out=tmp_path/'R', **how)
    assert row['kinds']['digit']['failed']['lookup'] == 4 and 'carve' not in row['kinds']['digit']['failed']
    with pytest.warns(UserWarning, match='1 damaged line'): row = run_checkup(out=tmp_path/'R', retry=True, **how)
    assert without(row, TIMED) == without(whole, TIMED)
    assert {line['status'] for line in read_run(tmp_path/'R'/'data').records} == {'ok'}


def test_retry_keeps_sizes(tmp_path):
    "A question that failed in all arms is asked again, not another one, also where earlier failures are mended before it"
    class Answers:
        "Right where the target is large, for the arms that look; an error for some questions"
        config, unfit, failing = SimpleNamespace(made={arm: None for arm in checkup.ARMS}), {}, ()
        def __call__(self, tasks):
            for t in tasks:
                name, _, step = t.record.id.rpartition('-')
                line = dict(id=t.record.id, at=t.at, kind='digit', question='')
                if name in self.failing: yield [line | dict(method=m, status='error', why='lost') for m in t.methods]
                else: yield [line | dict(method=m, status='ok', score=float(int(step) < (6 if m == 'none' else 9))) for m in t.methods]
    def ask(retry):
        store = RunStore(tmp_path/'R', dict(methods={arm: {} for arm in checkup.ARMS}), retry=retry)
        for lines in checkup.ask_questions(store, evaluator, ['digit'], 40): store.add(lines)
        store.close()
    evaluator = Answers()
    evaluator.failing = [f'eye-{checkup.SEEDS[i]}-digit' for i in (16, 17, 18, 19, 20, 21, 30)]
    ask(retry=False)
    before = answered(tmp_path/'R')
    evaluator.failing = ()
    ask(retry=True)
    assert before == answered(tmp_path/'R') == 40 and {l['status'] for l in read_run(tmp_path/'R').records} == {'ok'}


@pytest.mark.parametrize('name', ['qwen2_5_vl', 'llava_next'])
def test_families(name, load, tmp_path, few):
    "A tiny random model goes through it and cannot read; its map is not trusted"
    row = run_checkup(load(name), tmp_path/'R', n=2, kinds=('digit', 'word'), progress=False)
    assert {f['verdict'] for f in row['kinds'].values()} <= {'not enough questions'}     # two do not show that it cannot read either
    assert 'every figure comes from the records again' in check_row(tmp_path/'R'/'row.json')
    assert checkup.explain_map(row).startswith('The attention map is not to be trusted: 3 images') and len(row['profile']['twins']) == 3


def test_a_stage_that_fails(tmp_path, monkeypatch):
    "The reason replaces the profile, in the row and on the page, and the rest goes on"
    def fail(*args, **kw): raise DataError('the scene is lost')
    monkeypatch.setattr(checkup, 'make_profile', fail)
    row = run_checkup(out=tmp_path/'R', n=2, kinds=('exist',), progress=False)
    assert checkup.explain_map(row) == 'The attention map was not measured: DataError: the scene is lost'
    assert (tmp_path/'R'/'checkup.html').read_text().count('the scene is lost') == 2


def test_profile_stage(tmp_path, few, monkeypatch):
    "The profile is kept and not measured again; on photographs it has no boxes; where it differs from the layers that lookup reads, the answer says so"
    how = dict(model='carve-tiny', n=2, kinds=('exist',), progress=False)
    photos = own_folder(tmp_path/'F', False)
    (photos/'questions.jsonl').unlink()
    row = run_checkup(out=tmp_path/'R', images=photos, **how)
    assert (row['profile']['source'], row['profile']['pointing']) == ('F', None) and 'photographs have no boxes' in (tmp_path/'R'/'checkup.html').read_text()
    path = profile_path(vlm := VLM.from_pretrained('carve-tiny'))
    wrong = replace(find_profile(vlm), layers=[1])
    wrong.save(path)
    bounds = [.51, .9], [.1, .49], [.4, .6]
    assert [replace(wrong, twins=[.5, *ends]).binds for ends in bounds] == ['yes', 'no', 'not sure']
    made = replace(wrong, layers=[1, 2, 3], sinks=[.03, .02])
    monkeypatch.setattr(checkup, 'make_profile', lambda *args, **kw: made)
    row = run_checkup(out=tmp_path/'S', **how)
    assert row['reads']['layers'] == [1] and "finds 'last' in layers [1, 2, 3]" in checkup.explain_map(row)
    monkeypatch.delattr(checkup, 'make_profile')     # the folder has it
    assert run_checkup(out=tmp_path/'S', **how) == row and find_profile(vlm) == wrong


def test_words_of_twins(tmp_path, few, monkeypatch):
    "A model that lacks the words of the twins is not measured on them: the page says why"
    asked = [replace(r, question='What letter is on the red circle?') for r in twin_records(2)]
    monkeypatch.setattr('carve_nb.studies.profile.twin_records', lambda n, split: asked)
    row = run_checkup(out=tmp_path/'R', n=2, kinds=('exist',), progress=False)
    assert row['profile']['binds'] == 'not measured' and 'does not know the words of these questions' in (tmp_path/'R'/'checkup.html').read_text()


def test_sink(tmp_path, few, monkeypatch):
    "Where the profile finds a sink both crop sizes are asked and taken up, also on images of one's own; elsewhere one"
    monkeypatch.setattr('carve_nb.studies.profile.sink_figure', lambda maps: [.5, .2])
    how = dict(model='carve-tiny', out=tmp_path/'R', n=3, kinds=('digit',), progress=False, data=own_folder(tmp_path/'F', True))
    row = run_checkup(**how)
    found, page = row['kinds']['digit'], (tmp_path/'R'/'checkup.html').read_text()
    assert checkup.LARGE in found['gain'] and page.count(f'<td>{checkup.LARGE}') == 3 and 'That is a sink' in page
    assert 'every figure comes from the records again' in check_row(tmp_path/'R'/'row.json') and run_checkup(**how) == row
    monkeypatch.setattr('carve_nb.studies.profile.sink_figure', lambda maps: [.05, .2])
    row = run_checkup(**how | dict(out=tmp_path/'S', data=None))
    assert checkup.LARGE not in row['kinds']['digit']['gain'] and 'That is no sink' in (tmp_path/'S'/'checkup.html').read_text()


def test_few_questions(tmp_path, few):
    "Sixteen questions see small things, and no gain among them is no proof that there is none"
    row = run_checkup('carve-tiny', tmp_path/'R', n=16, kinds=('color', 'exist'), progress=False)
    lines = (tmp_path/'R'/'records.jsonl').read_text().splitlines()
    assert len({json.loads(line)['id'].rsplit('-', 1)[1] for line in lines if json.loads(line)['id']}) >= 6
    assert 'nothing to gain' not in {f['verdict'] for f in row['kinds'].values()}


@pytest.mark.parametrize('model', PACKAGED)
def test_each_line_of_code_gives_the_answers_of_its_arm(model, monkeypatch):
    "Whichever arm a checkup recommends, none among them: the printed line answers as the record of the arm says"
    monkeypatch.delenv('CARVE_PROFILES')
    row, lines = json.loads((STORED/model/'row.json').read_text()), read_run(STORED/model).records
    names = dict(vlm=VLM.from_pretrained(model), Carve=methods()['carve'], Lookup=methods()['lookup'], make_method=make_method)
    usable = [arm for arm in row['calls'] if arm not in ('random', 'oracle', checkup.LAST) and ':query=' not in arm]
    for arm in usable:
        told = row | dict(any=row['any'] | dict(use=arm, gain=row['any']['gain'] | {arm: [0, 0, 0]}))
        code = checkup.explain_use(told)[1]
        for line in [line for line in lines if line['method'] == arm and line['kind'] in ('digit', 'color')][::20]:
            seed, kind, step = line['id'].removeprefix('eye-').split('-')
            asked = eye_question(int(seed), kind, int(step)).opened()
            assert str(eval(code, names | dict(image=asked.image, question=asked.question))) == line['answer'], (arm, line['id'])


def test_best_arm(tmp_path):
    "The stored rows recommend, of the arms that McNemar's exact test does not tell from the best significant one, the one with the fewest calls"
    for model in STORED.iterdir():
        row, lines = json.loads((model/'row.json').read_bytes()), [l for l in read_run(model).records if l['id']]
        read = [kind for kind, f in row['kinds'].items() if f['use']]
        for found, kinds in [(row['any'], read), *((row['kinds'][kind], [kind]) for kind in read)]:
            right = pd.DataFrame([l for l in lines if l['kind'] in kinds]).pivot(index='id', columns='method', values='score')
            gain = (right.sub(right.none, axis=0)).mean()
            helps = [a for a in found['p'] if found['p'][a] < .05 and gain[a] > 0]
            best = max(helps, key=gain.get, default=None)
            def equal(a):
                won, lost = (right[best] > right[a]).sum(), (right[best] < right[a]).sum()
                return not won + lost or binomtest(int(won), int(won + lost)).pvalue >= .05
            good = [a for a in helps if equal(a)]
            assert found['use'] == min(good, key=lambda a: (row['calls'][a], -gain[a]), default='none')
            assert {found['use'], *found['as_good']} == {*good} | ({'none'} if not good else set())


def test_damaged_row(tmp_path):
    "Each damaged byte of a row ends in a sentence that names the file"
    whole, path = (STORED/'carve-tiny/row.json').read_bytes(), tmp_path/'row.json'
    for at in range(0, len(whole), 97):
        for byte in b'"', b'}', bytes([255]), b'':
            path.write_bytes(damaged := whole[:at] + byte + whole[at + 1:])
            if damaged == whole: continue
            try: same = json.loads(damaged) == json.loads(whole)     # a space
            except ValueError: same = False
            if same: continue
            with pytest.raises(DataError, match='row.json is refused'): check_row(path)
