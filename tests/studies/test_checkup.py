"""`carve checkup` as a user starts it: through the shell, killed and taken up, with images of one's own, and
on models of other families."""
import json
import re
import shutil
from dataclasses import replace
from unittest.mock import patch
import pytest
from browsers import chromium, missing, need_browser, open_page
from processes import ROOT, Carve, run, until
from carve_nb.attention.vlm import VLM
from carve_nb.core.errors import CarveError, DataError, Reader
from carve_nb.core.io import CHECKPOINTS, SMALL, TINY
from carve_nb.data.eye_test import eye_question
from carve_nb.data.scenes import samples, twin_records
from carve_nb.method.profiles import find_profile, profile_path
from carve_nb.method.registry import make_method, methods
from carve_nb.runs.store import read_run
from carve_nb.studies import checkup
from carve_nb.studies.checkup import ALL, CONTROLS, checkup_result, explain, line_of, run_checkup

pytestmark = pytest.mark.filterwarnings('ignore::UserWarning')
STORED = ROOT/'nbs/results/models'


@pytest.fixture(autouse=True)
def apart(monkeypatch, tmp_path):
    "A checkup keeps the profile that it makes; no other test may find it"
    monkeypatch.setenv('CARVE_PROFILES', str(tmp_path/'profiles'))


@pytest.fixture
def few(monkeypatch):
    "A profile of three images: the mechanics alone"
    whole = checkup.make_profile
    monkeypatch.setattr(checkup, 'make_profile',
        lambda vlm, n, images=None, progress=False: whole(vlm, 3, images, progress))


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


def untimed(found):
    "Every figure of a checkup but its seconds"
    row = checkup_result(found)
    for arms in row['figures'].values():
        for figures in arms.values(): del figures['seconds']
    return row


def answered(folder):
    "How many questions a run holds"
    return len({json.loads(l)['id'] for p in folder.glob('records.jsonl')
        for l in p.read_text().splitlines(keepends=True) if l.endswith('\n')})


def test_shell(tmp_path, shell):
    """Killed at the second question and taken up, it says what a run that was not says; then the same with
    images of one's own. The profile is the one that ships, made on forty images: it is not made again"""
    for out in 'R', 'whole':
        (tmp_path/out).mkdir()
        shutil.copy(CHECKPOINTS/'carve-tiny'/'profile.json', tmp_path/out)
    words = 'checkup', '--model', 'carve-tiny', '--n', '2', '--out', tmp_path/'R'
    p = Carve(*words)
    until(lambda: answered(tmp_path/'R') >= 2, p)
    p.kill()
    p.communicate()
    there = answered(tmp_path/'R')
    assert 2 <= there < 6, 'it was to be killed before the end'
    told = run(*words)
    assert told.returncode == 0
    assert [re.split(' by | are ', line)[0] for line in told.stderr.splitlines()[:3]] == [
        '2 questions of each of 3 kinds', *('small letters', 'small words')]
    assert f'{there} of the 6 questions of this package are answered already.' in told.stderr    # why the price is of fewer
    price = next(line for line in told.stderr.splitlines() if line.startswith('about '))
    left = 6 - there
    assert f' for {left} question{"s"*(left > 1)} by 6 methods' in price and 'profile' not in price      # what was left
    whole = run_checkup('carve-tiny', tmp_path/'whole', n=2, progress=False)
    said = told.stdout.splitlines()
    first, *more = explain(whole)
    with patch.object(Reader, 'in_shell', True): shown = repr(whole).splitlines()
    assert said[:-1] == shown and said[-1].startswith('written to ')
    assert first.startswith('Not decided: ')
    assert 'Fewer than ten questions show no difference' in first and 'vlm, image' not in told.stdout    # a line would be copied
    assert 'In 40 scenes' in more[-1] and 'in 20 % [10, 35]: it takes' in more[-1]    # not of the six questions
    page = (tmp_path/'R'/'checkup.html').read_text()
    row = (tmp_path/'R'/'result.json').read_text()
    places = [page.index(word) for word in ('Not decided', '<table', 'the true region, enlarged', '<img', '<details>')]
    assert places == sorted(places) and '<pre>' not in page     # the answer and its table first, remarks folded
    assert 'small letters are not asked' in page
    assert 'On your images' not in page
    assert str(tmp_path) not in row
    assert '.png' not in row
    for boxes in True, False:
        shutil.copytree(tmp_path/'R', out := tmp_path/f'R{boxes}')
        data = own_folder(tmp_path/f'F{boxes}', boxes)
        assert shell('checkup --model carve-tiny --n 2 --data', data, '--out', out)[0] == 0
        own = (page := (out/'checkup.html').read_text())[page.rindex('On your images'):]
        assert ('>oracle' in own) == boxes
        assert '>carve:suffix=None' in own
        assert (out/'result.json').read_text() == row


def test_grows_and_retries(tmp_path, few, monkeypatch):
    """More questions are added to those that are there; a failed line is measured again; a folder without a table is
    refused before the work"""
    how = dict(model='carve-tiny', out=tmp_path/'R', kinds=('digit',), progress=False)
    with monkeypatch.context() as m:
        m.setattr('carve_nb.method.lookup.Lookup.locate', lambda *args, **kw: 1/0)
        found = run_checkup(n=2, **how)
        assert found.advice.of('lookup').failed == 2
        assert 'ZeroDivisionError' in (tmp_path/'R'/'checkup.html').read_text()
    found = run_checkup(n=3, retry=True, **how)
    whole = run_checkup(n=3, **how | dict(out=tmp_path/'S'))
    assert found.advice.of('lookup').n == 3 and untimed(found) == untimed(whole)
    (tmp_path/'empty').mkdir()
    with pytest.raises(CarveError): run_checkup(n=1, data=tmp_path/'empty', **how | dict(out=tmp_path/'T'))
    assert not (tmp_path/'T').exists()


@pytest.mark.parametrize('name', ['qwen2_5_vl', 'llava_next'])
def test_families(name, load, tmp_path, few, caplog, monkeypatch):
    "A tiny random model goes through it; nothing is recommended, and its map is not trusted; the price has both stages, and of a long checkup that of a shorter one"
    monkeypatch.setattr(checkup, 'LONG', 0)
    monkeypatch.setattr(checkup, 'FEW', 1)
    caplog.set_level('INFO', checkup.log.name)
    found = run_checkup(load(name), tmp_path/'R', n=2, kinds=('digit', 'word'), progress=False)
    assert (found.advice.use, found.advice.verdict) == ('none', 'not decided')
    assert explain(found)[-1].startswith('The attention map is not to be trusted: 3 images')
    assert '<table' in found._repr_html_()
    assert re.search(r'about .* on this machine: .* for the profile \(\d+ passes of the model\) and .* for 4 questions by 6 methods; n=1: about \d+ (s|minutes)\n', caplog.text)


def test_page_in_a_browser():
    "On a desk every table has room, also the words right and wrong; on a phone the page is no wider, and a cut table says so by a shadow"
    need_browser(missing())
    run = read_run(STORED/SMALL)
    run.protocol['data'] = dict(name='eye', key=None, n=336, rule='exact')     # which a run did not name then
    found = checkup.Checkup(checkup.recommend(run.records), run)
    text = checkup.checkup_page(found, checkup.load_benchmark('eye', 3))
    seen = """() => ({page: document.documentElement.scrollWidth - innerWidth, tables: [...document.querySelectorAll('table')]
        .filter(t => t.scrollWidth > t.clientWidth).map(t => getComputedStyle(t).backgroundImage)})"""
    with chromium() as browser:
        for width in 1280, 390:
            page = open_page(browser, width)
            page.set_content(text)
            said = page.evaluate(seen)
            assert said['page'] <= 0 and bool(said['tables']) == (width == 390)
            assert all('gradient' in shadow for shadow in said['tables'])


def test_a_stage_that_fails(tmp_path, monkeypatch):
    "The reason replaces the profile on the page, and the rest goes on"
    def fail(*args, **kw): raise DataError('the scene is lost')
    monkeypatch.setattr(checkup, 'make_profile', fail)
    found = run_checkup(out=tmp_path/'R', n=2, kinds=('exist',), progress=False)
    assert found.notes == ['The attention map was not measured: DataError: the scene is lost']
    assert found.profile is None
    assert 'the scene is lost' in (tmp_path/'R'/'checkup.html').read_text()


def test_profile_stage(tmp_path, few, monkeypatch):
    """The profile is kept and not measured again; another that is sure stays; a model without the words of
    the twins is not asked them"""
    how = dict(model='carve-tiny', n=2, kinds=('exist',), progress=False)
    photos = own_folder(tmp_path/'F', False)
    (photos/'questions.jsonl').unlink()
    found = run_checkup(out=tmp_path/'R', images=photos, **how)
    assert (found.profile.source, found.profile.pointing) == ('F', None)
    path = profile_path(vlm := VLM.from_pretrained('carve-tiny'))
    wrong = replace(find_profile(vlm), layers=[1])
    wrong.save(path)
    bounds = [.51, .9], [.1, .49], [.4, .6]
    assert [replace(wrong, twins=[.5, *ends]).binds for ends in bounds] == ['yes', 'no', 'not sure']
    asked = [replace(r, question='What letter is on the red circle?') for r in twin_records(2)]
    monkeypatch.setattr('carve_nb.studies.profile.twin_records', lambda n, split: asked)
    found = run_checkup(out=tmp_path/'S', **how)
    assert found.profile.binds == 'not measured'
    assert line_of('lookup', found.run.protocol).startswith("Lookup(query='last', layers=[1])")
    monkeypatch.delattr(checkup, 'make_profile')     # the folder has it
    assert untimed(run_checkup(out=tmp_path/'S', **how)) == untimed(found) and find_profile(vlm) == wrong


def test_sink(tmp_path, few, monkeypatch):
    "Where the profile finds a sink both crop sizes are asked, also on images of one's own; elsewhere one"
    for share, folder in ((.5, 'R'), (.05, 'S')):
        monkeypatch.setattr('carve_nb.studies.profile.sink_figure', lambda maps: [share, .2])
        found = run_checkup('carve-tiny', tmp_path/folder, own_folder(tmp_path/f'{folder}F', True), 2,
            kinds=('digit',), progress=False)
        assert [checkup.LARGE in advice.figures.loc[ALL].index
            for advice in (found.advice, found.own)] == [share == .5]*2


@pytest.mark.parametrize('model', [SMALL, TINY])
def test_each_line_of_code_gives_the_answers_of_its_arm(model, monkeypatch):
    """Whichever arm a checkup recommends, none among them: the printed line answers as the record of the arm
    says"""
    monkeypatch.delenv('CARVE_PROFILES')
    stored = read_run(STORED/model)
    names = dict(vlm=VLM.from_pretrained(model), Carve=methods()['carve'], Lookup=methods()['lookup'],
        make_method=make_method)
    arms = ['none', *(arm for arm in stored.protocol['methods'] if arm not in CONTROLS
        and ':query=' not in arm)]
    for arm in arms:
        for line in [line for line in stored.select(arm) if line['kind'] in ('digit', 'color')][::56]:
            seed, kind, step = line['id'].removeprefix('eye-').split('-')
            asked = eye_question(int(seed), kind, int(step)).opened()
            code = line_of(arm, stored.protocol)
            assert str(eval(code, names | dict(image=asked.image,
                question=asked.question))) == line['answer'], (arm, line['id'])
