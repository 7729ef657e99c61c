"Measurements over somebody's model and questions, as a script starts them."

import math
from dataclasses import replace
import pytest
from processes import Forked, afresh, until
from carve_nb import measure_entropy, measure_layers, measure_masking
from carve_nb.core.errors import DataError, RunError
from carve_nb.data.datasets import load_benchmark
from carve_nb.data.scenes import samples
from carve_nb.runs.runner import run_eval
from carve_nb.runs.store import read_records
from carve_nb.studies.measure import run_study
from recipes.records import run_trial


def test_a_trial_goes_on_behind_its_last_whole_line(tmp_path):
    "A line that was cut in the middle is dropped, and its item measured again"
    path, asked = tmp_path / 'trial-carve-tiny.jsonl', []

    def go_on():
        run_trial('trial-{model}', 'carve-tiny', tmp_path, [0, 1, 2], lambda vlm, i: asked.append(i) or i)
        return path.read_text()

    assert go_on() == '0\n1\n2\n' and go_on() == '0\n1\n2\n' and asked == [0, 1, 2]
    for cut, again in ('0\n1', [1, 2]), ('0', [0, 1, 2]), ('', [0, 1, 2]), ('0\n1\n', [2]):
        asked.clear()
        path.write_text(cut)
        assert go_on() == '0\n1\n2\n' and asked == again, cut


SCRIPT = """import carve_nb
from carve_nb.data.datasets import load_benchmark
carve_nb.{}(carve_nb.VLM.from_pretrained({!r}), load_benchmark({!r}).records, {!r})"""


@pytest.mark.parametrize(
    'measure, family, layers',
    [(measure_entropy, 'qwen2_5_vl', [0, 1, 2, 3, 4, 5]), (measure_layers, 'qwen3_5', [1, 3, 5])],
)
def test_killed_and_resumed(folders, load, photos, tmp_path, measure, family, layers):
    """A checkpoint folder and a data folder: killed in the middle, taken up again, the frame of a run in one
    piece; no other model goes on"""
    lines = lambda: (
        (tmp_path / 'records.jsonl').read_text().splitlines() if (tmp_path / 'records.jsonl').exists() else []
    )
    questions, vlm = load_benchmark(photos).records, load(family)
    whole = measure(vlm, questions, progress=False)
    p = Forked(afresh, SCRIPT.format(measure.__name__, *map(str, (folders(family), photos, tmp_path))))
    until(lambda: len(lines()) >= 2, p)
    p.kill()
    p.communicate()
    stored = lines()
    assert whole.id.nunique() == 10
    assert [*whole.layer.unique()] == layers
    assert len(stored) >= 2
    assert measure(vlm, questions, tmp_path, progress=False).equals(whole)
    assert set(stored) <= set(lines())  # not measured again
    with pytest.raises(RunError, match='holds another run'):
        measure(load('llava'), questions, tmp_path, progress=False)
    assert len(lines()) == 10


@pytest.mark.parametrize(
    'measure, scores',
    [(measure_entropy, ['correct']), (measure_masking, ['plain', 'none', 'onward', 'only'])],
)
def test_no_truth_is_not_wrong(load, measure, scores):
    "A question without a known answer has no score: NaN beside scored ones, no column where none is scored"
    a, b = samples('digit', 2)
    t = measure(load('llava'), [replace(a, answers=[]), b], progress=False)
    for k in scores:
        assert t[t.id == a.id][k].isna().all() and t[t.id == b.id][k].isin([0, 1]).all()
    assert not {*scores} & {*measure(load('llava'), [replace(a, answers=[])], progress=False)}


def test_stopped_without_a_folder(load, caplog, tmp_path):
    "Ctrl-C says that nothing is kept; with a folder that all is, and the same call goes on"

    def stop(vlm, question):
        if question.id.startswith('heldout-1-'):
            raise KeyboardInterrupt
        return dict(x=1)

    for out, words in (
        (None, 'stopped after 1 question, none kept'),
        (tmp_path / 'o', f'all kept in {tmp_path / "o"}'),
    ):
        caplog.clear()
        with pytest.raises(KeyboardInterrupt):
            run_study(stop, load('llava'), samples('digit', 2), out, progress=False)
        assert words in caplog.text and (out is None) != ('goes on from there' in caplog.text)


def test_values_that_json_lacks(load, tmp_path):
    "NaN is missing; what no file can keep is a failure of its question alone"
    a, b = samples('digit', 2)
    values_of = lambda vlm, q: dict(x=[1.0, math.nan], y=math.inf) if q.id == a.id else dict(x={1, 2})
    with pytest.warns(UserWarning, match=f'1 of 2 questions have no record: {b.id}: TypeError: .*set'):
        records = run_study(values_of, load('llava'), [a, b], tmp_path, progress=False)
    assert [(r['x'], r['y']) for r in records] == [([1, None], None)]
    assert run_study(values_of, load('llava'), [a], tmp_path, progress=False) == records


def test_a_measure_without_values(load):
    "A question of which nothing was measured has no record"
    a, b = samples('digit', 2)
    with pytest.warns(UserWarning, match=f'1 of 2 questions have no record: {b.id}: .*no value'):
        records = run_study(
            lambda vlm, q: {'x': 1} if q.id == a.id else {}, load('llava'), [a, b], progress=False
        )
    assert [r['id'] for r in records] == [a.id]


def test_records_of_a_run(load, tmp_path):
    "A run of methods is no study: its records would lose their method"
    run_eval('scenes', load('llava'), ('none', 'center'), 1, tmp_path, progress=False)
    with pytest.raises(DataError, match='holds a run of several methods; `read_run`'):
        read_records(tmp_path)
