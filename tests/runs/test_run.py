"Runs that are killed, stopped, torn, crowded or starved end as if nothing had happened, or say what is wrong."

import json
import os
import random
import signal
import time
import warnings
from dataclasses import dataclass
from types import SimpleNamespace
import numpy as np
import pytest
from processes import start_carve, until
from tiny import files
from carve_nb.attention.vlm import VLM
from carve_nb.cli.main import main
from carve_nb.core.errors import CarveError, RunError
from carve_nb.core.text import SHORT_ANSWER
from carve_nb.data.datasets import load_benchmark
from carve_nb.method.controls import DirectAnswer
from carve_nb.method.registry import METHODS, methods, split_specs
from carve_nb.runs.pages import markdown, results_page, write_report
from carve_nb.runs.report import measure_table, report
from carve_nb.runs.runner import RunConfig, local_engine, make_evaluator, run_eval, tasks_by_image
from carve_nb.runs.store import read_run
from recipes.tiny_models import make_tiny_checkpoint

KILLS, SAMPLES = (int(os.environ.get(k, v)) for k, v in (('CARVE_KILLS', 3), ('CARVE_KILL_SAMPLES', 8)))


def words(out):
    return [
        *f'eval scenes --model carve-tiny --methods none,carve,random --n {SAMPLES} --out'.split(),
        str(out),
    ]


def start(out, *more):
    return start_carve(*words(out), *more)


def lines(out):
    "How many whole lines a run has, as another process sees it"
    return sum(p.read_bytes().count(b'\n') for p in out.rglob('records.jsonl'))


def kept_lines(out):
    "All lines of a run, with their seconds"
    return {json.dumps(l, sort_keys=True) for l in read_run(out).records} if lines(out) else set()


def plain(out):
    "The valid lines as they were written, without their seconds, sorted by sample and method"
    records = [json.loads(l) for p in out.rglob('records.jsonl') for l in p.read_text().splitlines()]
    return sorted(
        ([(k, v) for k, v in l.items() if k != 'seconds'] for l in records),
        key=lambda l: [str(dict(l)[k]) for k in ('id', 'method')],
    )


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    "A run in one piece"
    out = tmp_path_factory.mktemp('whole') / 'R'
    p = start(out)
    outputs = p.communicate()
    assert p.returncode == 0, outputs[1]
    assert 'accuracy' in outputs[0]
    return out


@pytest.mark.case(48)
def test_kill_at_random_points(whole, tmp_path):
    "kill -9 at random points, also before and between lines: the same bytes as in one piece, and what is written once stays"
    kill_and_go_on(whole, tmp_path / 'R')


@pytest.mark.case(48)
@pytest.mark.soak
def test_kill_many_times(whole, tmp_path, figure):
    "The same with as many kills and samples as CARVE_KILLS and CARVE_KILL_SAMPLES say"
    cut = kill_and_go_on(whole, tmp_path / 'R')
    figure(
        'kills',
        f'{KILLS} of a run of {SAMPLES} samples, {cut} of them between its first line and its last: the same tables',
    )


def kill_and_go_on(whole, out):
    "A run that is killed and taken up; how many kills fell between its first line and its last"
    chance, total, measured, cut = random.Random(0), 3 * SAMPLES, set(), 0
    for i in range(KILLS):
        p, at = start(out), total * (i + chance.random()) / (KILLS + 1)
        if i % 4 == 3:
            time.sleep(4 * chance.random())
        else:
            until(lambda: lines(out) >= at, p)
        time.sleep(0.1 * chance.random())
        p.kill()
        p.communicate()
        now = kept_lines(out)
        assert measured <= now
        measured, cut = now, cut + (0 < len(now) < total)
    p = start(out)
    err = p.communicate()[1]
    assert p.returncode == 0, err
    assert cut and 'no JSON' not in err, err
    assert files(out) == files(whole) and plain(out) == plain(whole)
    assert measured <= kept_lines(out)  # with its seconds: not measured again
    return cut


@pytest.mark.case(51)
def test_two_writers(whole, tmp_path, capsys):
    "The second one is refused in one sentence; the first one, held for that long, ends well"
    p = start(tmp_path / 'R')
    until(lambda: lines(tmp_path / 'R'), p)
    p.send_signal(signal.SIGSTOP)
    status, outputs = main(words(tmp_path / 'R')), capsys.readouterr()
    p.send_signal(signal.SIGCONT)
    assert (status, outputs.out) == (2, ''), outputs
    assert f'{tmp_path}/R is being written by another process; let it end' in ' '.join(outputs.err.split()), (
        outputs
    )
    err = p.communicate()[1]
    assert p.returncode == 0, err
    assert files(tmp_path / 'R') == files(whole)


def test_stopped_by_hand(whole, tmp_path):
    "Ctrl-C: status 130, what to do, and a folder that goes on"
    p = start(tmp_path / 'R')
    until(lambda: lines(tmp_path / 'R') > 3, p)
    p.send_signal(signal.SIGINT)
    outputs = p.communicate()
    assert p.returncode == 130, outputs
    assert 'the same command goes on from there' in outputs[1], outputs
    assert 'Traceback' not in outputs[1], outputs
    report = start_carve('report', tmp_path / 'R')
    assert 'unfinished: ' in report.communicate()[0] and report.returncode == 0
    start(tmp_path / 'R').communicate()
    assert files(tmp_path / 'R') == files(whole)


@pytest.mark.case(50)
def test_methods_come_and_go(tmp_path, shell):
    "`--methods none,random` where none,carve are: measured beside them, and the table shows all three; a page names each image"
    (tmp_path / 'D').mkdir()
    load_benchmark('scenes', 2)[0].open().resize((224, 224)).save('D/a.png')
    questions = [
        dict(id=i, image='a.png', question=f'What digit is on the {i} star?', answer='6')
        for i in ('red', 'blue')
    ]
    (tmp_path / 'D' / 'q.json').write_text(json.dumps(questions))

    def measure(methods):
        return shell(f'eval D --model carve-tiny --methods {methods} --out R --max-new-tokens 2')

    def rows(text):
        return [
            line.split()[0]
            for line in text.split('accuracy, %')[1].split('\n\n')[0].splitlines()[1:]
            if line[:1].isalpha()
        ]

    assert measure('none,carve')[0] == 0
    first = kept_lines(tmp_path / 'R')
    status, out, err = measure('none,random')
    assert (status, err) == (0, '') and rows(out) == ['none', 'carve', 'random'], out
    assert first < kept_lines(tmp_path / 'R')  # with its seconds: not measured again
    page = (tmp_path / 'R' / 'answers.html').read_text()
    assert page.count('<section') == 2
    assert page.count('<figcaption>where carve looked') == 2
    assert page.count('>a.png<') == 2
    assert 'no true region; give it in a column `box`' in measure('oracle')[1]


@pytest.fixture(scope='module')
def tiny(load):
    return load('llava')  # which knows nothing: the mechanics alone


def run(out, tiny, methods='none,carve,random', n=4, **kw):
    "A small run in this process: its lines without seconds"
    run_eval('scenes', tiny, methods, n, out, max_new_tokens=2, progress=False, **kw)
    return [{k: v for k, v in r.items() if k != 'seconds'} for r in read_run(out).records]


def test_protocol_holds_what_a_profile_chose():
    "Also of the method whose crop a control moves: under another profile it is another run"
    protocol = make_evaluator(
        VLM.from_pretrained('carve-tiny'), RunConfig(['lookup', 'random:of=lookup'])
    ).protocol
    lookup, moved = protocol['methods'].values()
    assert lookup['query'] == moved['of']['query'] == 'last'


@pytest.mark.case(49)
def test_torn_file(tiny, tmp_path):
    "Cut anywhere, as by a kill or a power cut: what is whole stays, byte by byte, and only the rest is measured again, without a word about damage"
    complete = run(tmp_path, tiny)
    path = tmp_path / 'records.jsonl'
    raw = path.read_bytes()
    for cut in (0, 3, len(raw) // 2, len(raw) - 1):
        path.write_bytes(raw[:cut])
        with warnings.catch_warnings():
            warnings.simplefilter('error')
            assert run(tmp_path, tiny) == complete
        assert path.read_bytes().startswith(raw[: raw[:cut].rfind(b'\n') + 1])
        assert lines(tmp_path) == len(complete)


def test_growing(tiny, tmp_path):
    "More samples and more methods: what is there is used again, and the lines are those of one run; fewer samples are reported alone"
    first, then = dict(n=2, methods='none'), dict(n=5, methods='none,random')
    run(tmp_path / 'R', tiny, **first)
    before = kept_lines(tmp_path / 'R')
    grown = run(tmp_path / 'R', tiny, **then)
    assert before < kept_lines(tmp_path / 'R')  # with their seconds: not measured again
    assert grown == run(tmp_path / 'whole', tiny, **then)
    assert (tmp_path / 'R' / 'protocol.json').read_bytes() == (
        tmp_path / 'whole' / 'protocol.json'
    ).read_bytes()
    whole = (tmp_path / 'R' / 'records.jsonl').read_bytes()
    assert run(tmp_path / 'R', tiny, **first) == grown[:4]  # both methods on the first two
    assert (tmp_path / 'R' / 'records.jsonl').read_bytes() == whole


def test_growing_by_questions_of_another_rule(tiny, tmp_path):
    "Each question has a rule of its own; the one that most have may change"
    rows = [
        dict(image=np.full((40, 40, 3), value, np.uint8), question='What is it?', answer='red')
        | (dict(choices=['red', 'blue']) if value < 2 else {})
        for value in range(5)
    ]
    for n in 3, 5:
        grown = run_eval(rows, tiny, 'none', n=n, out=tmp_path, progress=False).records
    assert [line['rule'] for line in grown] == ['choice'] * 2 + ['exact'] * 3


def test_another_profile(tiny, tmp_path, monkeypatch):
    "A profile that was made between two sessions is another configuration"
    first = run(tmp_path, tiny, 'lookup', 2)
    profile = SimpleNamespace(fields=lambda name: dict(query='noun'), weights='', dtype=None, sure=True)
    monkeypatch.setattr('carve_nb.method.lookup.find_profile', lambda vlm: profile)
    with pytest.raises(RunError, match="methods.lookup.query is 'last' there, 'noun' now"):
        run(tmp_path, tiny, 'lookup', 4)
    monkeypatch.undo()
    assert run(tmp_path, tiny, 'lookup', 4)[:2] == first


@dataclass
class Moody(DirectAnswer):
    "Fails on some samples"

    def answer(self, session, ask, by=None):
        if 'red' in ask.text:
            raise ZeroDivisionError('no red, please')
        return super().answer(session, ask, by)


def test_method_that_raises(tiny, tmp_path, monkeypatch):
    "Failures are statuses and counted; the other methods and questions are as they are without it"
    monkeypatch.setattr(Moody, 'name', 'moody')
    monkeypatch.setitem(METHODS, 'moody', Moody)
    records = run(tmp_path / 'a', tiny, 'none,moody,carve', 12)
    alone = run(tmp_path / 'b', tiny, 'none,carve', 12)
    bad = [r for r in records if r['status'] != 'ok']
    assert bad
    assert {(r['method'], r['status']) for r in bad} == {('moody', 'error')}
    assert 'answer' not in bad[0]
    assert [r for r in records if r['method'] != 'moody'] == alone
    table = report(records)
    assert (table.n['moody'], table.failed['moody']) == (12 - len(bad), len(bad))
    assert f'`moody`, {len(bad)} without an answer; the first, error: ZeroDivisionError: no red' in markdown(
        read_run(tmp_path / 'a')
    )


def test_another_model_answers(tiny, tmp_path):
    "The crop is found here and answered there; who answered belongs to the configuration"
    other = make_tiny_checkpoint('llava', tmp_path / 'other', seed=1)
    unaided, answered = run(tmp_path / 'a', tiny, n=3), run(tmp_path / 'b', tiny, n=3, answer_by=str(other))
    assert [r['box'] for r in unaided] == [r['box'] for r in answered]
    baselines = [r['answer'] for r in answered if r['method'] == 'none']
    assert (
        baselines
        == [r['answer'] for r in run(tmp_path / 'c', VLM.from_pretrained(other), 'none', 3)]
        != [r['answer'] for r in unaided[::3]]
    )
    assert read_run(tmp_path / 'b').protocol['answer_by']['model'] == 'other'
    with pytest.raises(RunError, match='answer_by'):
        run(tmp_path / 'b', tiny, n=3)


def test_a_second_model_is_given(tiny, tmp_path):
    "Another field than `model` gives none: the run is refused before it begins"
    with pytest.raises(RunError, match='sam needs a second model'):
        run_eval('scenes', tiny, 'none,sam:min_side=30', 1, tmp_path / 'R', progress=False)
    assert not (tmp_path / 'R').exists()


def test_sharing_changes_nothing(tiny):
    "Beside all other methods, which share captures, answers and prefixes with it, a method answers as it does alone"
    names = [
        'zoom-eye:smallest=224' if name == 'zoom-eye' else name
        for name, m in methods().items()
        if 'model' not in m.needs
    ]
    check_shared(tiny, ','.join(names), 2)


@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('family', ['qwen2_5_vl', 'internvl'])
def test_sharing_in_other_families(family, load):
    "The same where images have another shape in the prompt, over several images of different sizes"
    check_shared(load(family), 'none,carve,official,rel-att,vcd,instruction-only', 3)


def check_shared(vlm, names, n):
    config = RunConfig(split_specs(names), SHORT_ANSWER, 2)
    evaluator = make_evaluator(vlm, config)
    records = list(load_benchmark('scenes', n, kinds=('digit', 'color')))
    for i, r in enumerate(records):
        r.image = r.open().resize((448 + 56 * (i // 2), 448 - 28 * (i // 2)))
    for r in records:
        r.boxes = r.boxes and [tuple(v * 0.8 for v in b) for b in r.boxes]
    shared = {
        (line['id'], line['method']): line
        for tasks in tasks_by_image(records)
        for lines in evaluator(tasks)
        for line in lines
    }
    for name in config.by_spec.keys() - evaluator.unfit.keys():
        for r in records:
            alone, line = config.by_spec[name](vlm, r.open(), r.question, box=r.box), shared[r.id, name]
            assert line['status'] == 'ok', line
            assert line['answer'] == str(alone), line
            assert tuple(line['box']) == tuple(alone.crop.box), line
            assert line['calls'] == alone.calls, line


def test_parts(tiny, tmp_path):
    "Parts run at once, each in a folder of its own; the same part does not run twice, and the table is that of one run"
    complete = run(tmp_path / 'whole', tiny)

    def beside(evaluator, groups):
        run(tmp_path / 'R', tiny, part=(1, 2))  # while the first part is being written
        with pytest.raises(RunError, match='is being written by another process'):
            run(tmp_path / 'R', tiny, part=(0, 2))
        yield from local_engine(evaluator, groups)

    run(tmp_path / 'R', tiny, part=(0, 2), engine=beside)
    for out in 'whole', 'R':
        write_report(tmp_path / out)
    tables = {name: text for name, text in files(tmp_path / 'whole').items() if name != 'protocol.json'}
    assert files(tmp_path / 'R') == tables and run(tmp_path / 'R', tiny) == complete


def test_a_kind_named_as_the_total_has_rows_of_its_own():
    lines = [
        dict(id=f'{i}', method=method, status='ok', score=float(i % 2), kind=kind, image_key=f'{i}')
        for i, kind in enumerate(['all questions', 'b'] * 4)
        for method in ('none', 'carve')
    ]
    table = measure_table(lines)
    assert len(table.total) == 2 and 'all questions (kind)' in table.numbers.index.get_level_values(0)


def test_the_baseline_is_one_row():
    "Another `none` is compared with it, and shows no crop either"
    methods = 'none', 'none:suffix=Now.', 'carve'
    lines = [
        dict(id=f'{i}', method=method, status='ok', score=float(i % 2), kind=kind, image_key=f'{i}', iou=0.1)
        for i, kind in enumerate('ab' * 4)
        for method in methods
    ]
    rows = measure_table(lines).words(kinds=False)
    assert [*rows.method] == ['none (baseline)', *methods[1:]]
    assert [*rows['IoU']] == ['-', '-', '0.10'] and [*rows['against baseline, points']][1] == '+0.0'


def test_a_result_given_twice_is_said(tmp_path):
    with pytest.raises(CarveError, match='given twice'):
        results_page([tmp_path, tmp_path])
