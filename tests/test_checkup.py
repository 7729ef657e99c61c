"`carve checkup` as a user starts it: through the shell, killed and taken up, with images of one's own, and on models of other families."
import json, shutil, time
from dataclasses import replace
from pathlib import Path
import pytest
from markupsafe import escape
from carve_nb.core.errors import CarveError, DataError
from carve_nb.data.scenes import samples
from carve_nb.runs.store import without
from carve_nb.studies import checkup
from carve_nb.studies.checkup import check_row, run_checkup
from processes import Carve, run

pytestmark = pytest.mark.filterwarnings('ignore::UserWarning')
TIMED = 'seconds', 'records', 'digest'      # of a row: what differs from run to run
STORED = Path(__file__).parents[1]/'nbs/results/models'


@pytest.fixture(autouse=True)
def apart(monkeypatch, tmp_path):
    "A checkup keeps the profile that it makes; no other test may find it"
    monkeypatch.setenv('CARVE_PROFILES', str(tmp_path/'profiles'))


@pytest.fixture
def few(monkeypatch):
    "A profile of three images, general maps of one: the mechanics alone"
    questions = checkup.scene_questions(3)
    monkeypatch.setattr(checkup, 'scene_questions', lambda: questions)
    monkeypatch.setattr(checkup, 'GENERAL', range(954_000, 954_001))


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
    while p.poll() is None and answered(tmp_path/'R') < 2: time.sleep(.02)
    p.kill()
    p.communicate()
    before = answered(tmp_path/'R')
    assert 2 <= before < 6, 'it was to be killed before the end'
    told = run(*words)
    assert told.returncode == 0 and f'{6 - before} questions in 8 ways: about' in told.stderr and ' questions took ' in told.stderr
    assert told.stdout.count('not asked. This model does not know the words') == 2 and 'written to ' in told.stdout
    assert 'binds color to shape: no; among twins the map points at the target in ' in told.stdout and 'n = 157 questions on 40 images' in told.stdout
    assert 'every figure comes from the records again' in check_row(tmp_path/'R'/'row.json')
    row = json.loads((tmp_path/'R'/'row.json').read_text())
    assert without(run_checkup(out=tmp_path/'whole', n=2, progress=False), TIMED) == without(row, TIMED)
    page = (tmp_path/'R'/'checkup.html').read_text()
    assert 'On your images' not in page and all(o not in (tmp_path/'R'/'row.json').read_text() for o in (str(tmp_path), '.png'))
    for boxes in True, False:
        shutil.copytree(tmp_path/'R', out := tmp_path/f'R{boxes}')
        told = run(*words[:-1], out, '--data', own_folder(tmp_path/f'F{boxes}', boxes))
        assert told.returncode == 0, told.stderr
        page = (out/'checkup.html').read_text()
        own = page[page.index('On your images, 3 questions'):page.index('The eyes themselves')]
        assert ('the true region, not that of lookup' in own) == ('points at the thing' in own) == boxes
        assert 'no sentence behind the question' in own and json.loads((out/'row.json').read_text()) == row


def answered(folder):
    "How many questions a run holds"
    return len({json.loads(l)['id'] for p in folder.glob('records.jsonl') for l in p.read_text().splitlines(keepends=True) if l.endswith('\n')})


def test_grows(tmp_path, few):
    "More questions are added to those that are there; a folder of another kind is refused before the work"
    how = dict(out=tmp_path/'R', kinds=('digit',), progress=False)
    run_checkup(n=2, **how)
    row = run_checkup(n=3, **how)
    assert row['kinds']['digit']['n'] == 3 and without(run_checkup(n=3, **how | dict(out=tmp_path/'S')), TIMED) == without(row, TIMED)
    (tmp_path/'empty').mkdir()
    with pytest.raises(CarveError): run_checkup(n=1, data=tmp_path/'empty', **how | dict(out=tmp_path/'T'))
    assert not (tmp_path/'T').exists()


@pytest.mark.parametrize('name', ['qwen2_5_vl', 'llava_next', 'mllama', 'instructblip'])
def test_families(name, load, tmp_path, few):
    "A tiny random model goes through it and cannot read; what it cannot do stands in its row as a sentence"
    vlm = load(name)
    row = run_checkup(vlm, tmp_path/'R', n=2, kinds=('digit', 'word'), progress=False)
    assert {f['verdict'] for f in row['kinds'].values()} <= {'not enough questions'}     # two do not show that it cannot read either
    assert 'every figure comes from the records again' in check_row(tmp_path/'R'/'row.json')
    eyes = row['eyes']
    assert 'beside the token sequence' in eyes['eager'] if vlm.family.cross else eyes['eager'] < 1e-4
    assert len(eyes['profile']['binding']['pointing']) == 3 and isinstance(eyes['profile']['mass'], str)


def test_a_look_that_fails(tmp_path, few, monkeypatch):
    "Its place has the reason, in the row and on the page, and the rest goes on"
    def fail(*args): raise DataError('the scene is lost')
    monkeypatch.setattr(checkup, 'look_widths', fail)
    row = run_checkup(out=tmp_path/'R', n=2, kinds=('exist',), progress=False)
    assert row['eyes']['bits'] == 'DataError: the scene is lost' and row['eyes']['square'][0] >= 5
    assert 'the scene is lost' in (tmp_path/'R'/'checkup.html').read_text()


def test_binding_and_mass(tmp_path, few, monkeypatch):
    "Three scenes carry no interval, and a model that lacks the words of the twins is not measured: row, page and terminal say why"
    asked = [replace(r, question='What letter is on the red circle?') for r in checkup.twin_records(2)]
    monkeypatch.setattr(checkup, 'twin_records', lambda n, split: asked)
    row = run_checkup(out=tmp_path/'R', n=2, kinds=('exist',), progress=False)
    why = [checkup.explain_binding(row['eyes']), checkup.explain_mass(row['eyes'])]
    assert why[0] == "not measured. This model does not know the words 'letter'." and why[1].endswith('effective images: no interval below 10.')
    assert all(str(escape(o)) in (tmp_path/'R'/'checkup.html').read_text() for o in why)
    older = json.loads((STORED/'carve-small-sink/row.json').read_bytes())     # its weights are not here
    assert checkup.explain_binding(older['eyes']) == checkup.explain_mass(older['eyes']) == f'not measured. {checkup.OLDER}'
    assert checkup.OLDER in checkup.checkup_page(older)


def test_sink(tmp_path, few, monkeypatch):
    "Where the profile finds a sink both crop sizes are asked, compared and taken up, also on images of one's own; elsewhere one"
    monkeypatch.setattr('carve_nb.studies.profile.sink_figure', lambda maps: [.5, .2])
    how = dict(out=tmp_path/'R', n=3, kinds=('digit',), progress=False, data=own_folder(tmp_path/'F', True))
    row = run_checkup(**how)
    found, page = row['kinds']['digit'], (tmp_path/'R'/'checkup.html').read_text()
    assert checkup.LARGE in found['gain'] and len(found['size']) == 3 and page.count('a large crop, not the small one') == 2
    assert 'every figure comes from the records again' in check_row(tmp_path/'R'/'row.json') and run_checkup(**how) == row
    monkeypatch.setattr('carve_nb.studies.profile.sink_figure', lambda maps: [.05, .2])
    row = run_checkup(**how | dict(out=tmp_path/'S', data=None))
    assert 'size' not in row['kinds']['digit'] and checkup.LARGE not in row['kinds']['digit']['gain']


def test_few_questions(tmp_path, few):
    "Sixteen questions see small things, and no gain among them is no proof that there is none"
    row = run_checkup('carve-small', tmp_path/'R', n=16, kinds=('color', 'exist'), progress=False)
    lines = (tmp_path/'R'/'records.jsonl').read_text().splitlines()
    assert len({json.loads(line)['id'].rsplit('-', 1)[1] for line in lines if json.loads(line)['id']}) >= 6
    assert 'nothing to gain' not in {f['verdict'] for f in row['kinds'].values()}


def test_best_arm(tmp_path):
    "The stored rows recommend the arm with the largest gain, or the baseline"
    for model in STORED.iterdir():
        for f in json.loads((model/'row.json').read_bytes())['kinds'].values():
            arms = {a: e[0] for a, e in f.get('gain', {}).items() if a not in ('random', 'oracle')}
            assert f['use'] in {None, 'none', max(arms, key=arms.get, default=None)}


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
