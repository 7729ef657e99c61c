"""`carve checkup` as a user starts it: through the shell, killed and taken up, on questions of one's own, and on models of
other families."""

import json
import os
import shutil
from unittest.mock import patch
import pytest
from processes import run
from carve_nb.attention.vlm import VLM
from carve_nb.core.text import SHORT_ANSWER
from carve_nb.data.eye_test import eye_question
from carve_nb.data.scenes import samples
from carve_nb.method.profiles import ModelProfile, find_profile
from carve_nb.method.registry import methods
from carve_nb.models.checkpoints import SMALL, TINY
from carve_nb.runs.runner import RunConfig, Task, make_evaluator
from carve_nb.runs.store import Run, read_run
from carve_nb.studies import checkup
from carve_nb.studies.checkup import ARMS, CONTROLS, LARGE, Checkup, recommend, run_checkup

pytestmark = pytest.mark.filterwarnings('ignore::UserWarning')


@pytest.fixture(autouse=True)
def apart(monkeypatch, tmp_path):
    "A checkup keeps the profile that it makes; no other test may find it"
    monkeypatch.setenv('CARVE_PROFILES', str(tmp_path / 'profiles'))


@pytest.fixture
def few(monkeypatch):
    "A profile of three images: the mechanics alone"
    monkeypatch.setattr(checkup, 'PROFILED', 3)


def own_folder(path):
    "A folder of images and questions with true regions"
    path.mkdir()
    lines = []
    for s in samples('digit', 3, start=954_010):
        s.image.save(path / f'{s.id}.png')
        lines.append(dict(image=f'{s.id}.png', question=s.question, answer=s.answer, box=list(s.box)))
    (path / 'questions.jsonl').write_text('\n'.join(map(json.dumps, lines)))
    return path


def test_shell(tmp_path):
    "It ends with the verdict and the table; no line of code, which would be copied, from six questions"
    process = run('checkup', '--model', TINY, '--n', '2', '--out', tmp_path / 'R')
    assert process.returncode == 0, process.stderr
    assert 'letter is not asked: ' in process.stderr  # its words are none of the model's
    whole = recommend(read_run(tmp_path / 'R'), find_profile(VLM.from_pretrained(TINY)))
    verdict, command, profile, *_ = process.stdout.splitlines()
    assert verdict.startswith('not decided: no line to use yet')
    assert command == f'carve checkup --model {TINY} --out {tmp_path / "R"} --n 104'
    assert profile.startswith('profile of carve-tiny: 40 images')
    assert '(vlm, image' not in process.stdout
    table = process.stdout[process.stdout.index('\nmethod ') + 1 :].split('\n\n')[0].splitlines()
    assert [line.split()[0] for line in table[1:]] == list(ARMS)
    assert max(map(len, table)) <= 100
    assert (tmp_path / 'R' / 'table.md').read_text().startswith(f'**{verdict}**\n`{command}`\n')
    assert f'<strong>{verdict}</strong>' in (tmp_path / 'R' / 'answers.html').read_text().split('<h1>')[0]
    assert run('report', tmp_path / 'R').stdout.splitlines()[:2] == [verdict, command]
    assert 'result.json' in process.stdout.splitlines()[-1]
    assert set(whole.table.total.n) == {6}


def test_own_questions(tmp_path, few, caplog):
    "The arms on questions of one's own; a folder without a table is refused before the work; the price comes first"
    caplog.set_level('INFO', checkup.log.name)
    outcome = run_checkup(TINY, tmp_path / 'R', own_folder(tmp_path / 'F'), progress=False)
    assert outcome.table.total.n.to_dict() == dict.fromkeys(ARMS, 3)
    assert caplog.messages[0].startswith('The price: 3 questions by 6 methods')
    assert 'after a profile of 3 images' in caplog.messages[0]
    (tmp_path / 'empty').mkdir()
    with pytest.raises(Exception, match='empty'):
        run_checkup(TINY, tmp_path / 'T', tmp_path / 'empty', progress=False)
    assert not (tmp_path / 'T').exists()


def test_photographs_and_another_profile(tmp_path, few):
    "A checkup measures the profile anew, on images of one's own where they are given"
    photos = own_folder(tmp_path / 'F')
    (photos / 'questions.jsonl').unlink()
    with patch.object(ModelProfile, 'doubts', lambda profile: []):  # few images, and yet sure
        outcome = run_checkup(TINY, tmp_path / 'R', n=1, images=photos, progress=False)
        assert (outcome.profile.source, outcome.profile.pointing) == ('F', None)
        assert find_profile(VLM.from_pretrained(TINY)) == outcome.profile


def test_sink(tmp_path, few):
    "Where the profile finds a sink both crop sizes are asked, elsewhere one"
    for share in 0.5, 0.05:
        with (
            patch('carve_nb.studies.profile.sink_figure', lambda maps: [share, 0.2]),
            patch('carve_nb.method.profiles.IMAGES', 1),
        ):
            shutil.rmtree(os.environ['CARVE_PROFILES'], ignore_errors=True)
            outcome = run_checkup(TINY, tmp_path / f'{share}', n=1, progress=False)
        assert (LARGE in outcome.table.total.index) == (share == 0.5)


@pytest.mark.parametrize('model', [SMALL, TINY])
def test_each_line_of_code_gives_the_answers_of_its_arm(model, monkeypatch):
    "Whichever arm a checkup recommends, none among them: the printed line answers as the run did"
    monkeypatch.delenv('CARVE_PROFILES')
    vlm = VLM.from_pretrained(model)
    names = dict(vlm=vlm, **{method.__name__: method for method in methods().values()})
    arms = [arm for arm in (*ARMS, LARGE) if arm == 'none' or arm not in CONTROLS]
    evaluate = make_evaluator(vlm, RunConfig(arms, SHORT_ANSWER))
    question = eye_question(945_000, 'digit', 3).opened()
    [lines] = evaluate([Task(0, question)])
    for line in lines:
        code = Checkup(Run(evaluate.protocol, []), None, use=line['method'], verdict='a gain').code
        answer = eval(code, names | dict(image=question.image, question=question.question))
        assert str(answer) == line['answer'], line['method']
