"""Runs that are killed, taken up with other settings, damaged, crowded, or given half of what they need.
What may come, and what must happen:

48. Killed (`kill -9`) in the middle, 20 random points => resume gives byte-identical final table; at most
    the last second or two is repeated
49. The last write cut in half => what was cut is dropped and measured again; others kept
50. Resume with another model, method, hyperparameter or package version => refused, with the differing
    keys shown, and nothing is changed; an option that is new and not set ends no run; records without
    their protocol are no empty folder
51. Two processes write the same record => lock; the second stops with a message
52. Duplicate sample ids; missing answers; missing image of one sample => refused before the start
    (duplicates) / counted as missing and not as wrong / marked, run goes on; a set in which all rows lack
    one is refused
53. Same run twice, same machine, greedy, batch 1 => identical answers and maps (hash compared in CI on
    the tiny model)
54. A batch of prompts around one's own model => refused in a sentence: a block records one prompt
55. Seeds => set locally, the caller's random state is unchanged afterwards"""

import json
import random
import shutil
from dataclasses import replace
from functools import lru_cache
import numpy as np
import pytest
import torch
from PIL import Image
from tiny import contents
from carve_nb.attention.vlm import VLM
from carve_nb.cli.main import main
from carve_nb.core.errors import DataError, IncompleteError, RunError
from carve_nb.data.datasets import load_benchmark
from carve_nb.runs.pages import markdown, write_report
from carve_nb.runs.report import report
from carve_nb.runs.runner import local_engine, run_eval
from carve_nb.runs.store import read_run

plain = lambda lines: [{k: v for k, v in l.items() if k != 'seconds'} for l in lines]


@pytest.fixture(scope='module')
def vlm(load):
    return load('llava')


@lru_cache
def scenes(n, side=112):
    "The first scenes, small"
    data = load_benchmark('scenes', n)
    smaller = lambda r: replace(
        r, image=r.open().resize((side, side)), boxes=[tuple(v * side / 448 for v in b) for b in r.boxes]
    )
    return replace(data, records=[smaller(r) for r in data])


def go(out, vlm, methods='none,carve', n=4, spec=None, progress=False, **kw):
    "A small run; its lines"
    run_eval(
        spec or scenes(n), vlm, methods, None, out, progress=progress, **dict(dict(max_new_tokens=2), **kw)
    )
    return read_run(out)[1]


@pytest.fixture(scope='module')
def whole(vlm, tmp_path_factory):
    "A run in one piece, with its tables"
    out = tmp_path_factory.mktemp('whole') / 'R'
    go(out, vlm)
    write_report(out)
    return out


@pytest.fixture
def copy(whole, tmp_path):
    "The same, to be damaged"
    return shutil.copytree(whole, tmp_path / 'R')


@pytest.mark.case(50)
def test_other_run(vlm, load, copy, monkeypatch):
    """Another model, method, hyperparameter, decoding or package version is refused with what differs, and
    nothing of the run is changed; without a change it goes on"""
    before = contents(copy)
    for change, words in (
        (dict(vlm=load('qwen2_5_vl')), "model.name is 'llava' there, 'qwen2_5_vl' now"),
        (dict(max_new_tokens=3), 'decoding.max_new_tokens is 2 there, 3 now'),
        (dict(seed=1), 'seed is 0 there, 1 now'),
    ):
        with pytest.raises(RunError, match=f'holds another run: .*{words}'):
            go(copy, **dict(vlm=vlm) | change)
    with (
        monkeypatch.context() as m,
        pytest.raises(RunError, match=r"versions.torch is '.*' there, '9.9.9' now"),
    ):
        m.setattr(torch, '__version__', '9.9.9')
        go(copy, vlm)
    assert len(go(copy, vlm)) == 8 and contents(copy) == before  # the same run goes on


@pytest.fixture
def folder(tmp_path):
    "Five questions in a folder; each row as a dict, to be changed and written"
    rows = [
        dict(id=f'q{i}', image=f'{i}.png', question=f'What is in picture {i}?', answer='cup')
        for i in range(5)
    ]
    (tmp_path / 'D').mkdir()
    for i in range(5):
        Image.effect_noise((60 + i, 50), 60).convert('RGB').save(tmp_path / 'D' / f'{i}.png')

    def write(**change):
        text = ''.join(json.dumps(r | change.get(r['id'], {})) + '\n' for r in rows)
        (tmp_path / 'D' / 'rows.jsonl').write_text(text)
        return str(tmp_path / 'D')

    return write


@pytest.mark.case(50)
def test_other_boxes_or_images(vlm, folder, tmp_path):
    "Boxes or images that changed between two runs are refused; a copy elsewhere is the same set"
    path = folder(q1=dict(box=[5, 5, 30, 30]))

    def again(spec=path):
        return go(tmp_path / 'R', vlm, 'none,oracle', spec=str(spec))

    first = again()
    folder(q1=dict(box=[20, 20, 50, 50]))
    with pytest.raises(
        RunError, match="another question: 'q1' has another question, answer, true region, rule or image now"
    ):
        again()
    folder(q1=dict(box=[5, 5, 30, 30]))
    assert again(shutil.copytree(path, tmp_path / 'elsewhere' / 'D')) == first
    Image.effect_noise((60, 50), 60).convert('RGB').save(tmp_path / 'D' / '0.png')
    before = contents(tmp_path / 'R')
    with pytest.raises(RunError, match="'q0' has another question"):
        again()
    assert contents(tmp_path / 'R') == before


@pytest.mark.case(52)
def test_ids_that_stand_twice(folder, tmp_path, monkeypatch, capsys):
    "Refused before the start: no model is loaded, nothing is written"
    monkeypatch.setattr(VLM, 'from_pretrained', lambda *args, **kw: pytest.fail('a model was loaded'))
    path = folder(q3=dict(id='q1'))
    assert main(['eval', path, '--out', str(tmp_path / 'R')]) == 2
    assert "'q1' is in several rows" in capsys.readouterr().err
    assert not (tmp_path / 'R').exists() or not [*(tmp_path / 'R').iterdir()]


@pytest.mark.case(52)
def test_missing_answers_and_images(vlm, folder, tmp_path):
    """The question without a true answer is not scored, the one without its image is marked, all others are
    as they would be, and the same call measures it when the image is back"""

    def run(out, **rows):
        return plain(go(tmp_path / out, vlm, spec=folder(**rows)))

    full = run('full')
    half = run('R', q1=dict(answer=''), q3=dict(image='gone.png'))
    assert [line for line in half if line['id'] in ('q0', 'q2', 'q4')] == [
        line for line in full if line['id'] in ('q0', 'q2', 'q4')
    ]
    assert {(line['id'], line['status'], line['why']) for line in half if line['status'] != 'ok'} == {
        ('q1', 'skipped', 'the set gives no answer to score by'),
        ('q3', 'error', half[6]['why']),
    }
    assert "'gone.png' is not in the folder" in half[6]['why']
    table = report(half)
    assert (table.n['none'], table.failed['none']) == (3, 1)
    assert 'no answer to score by' in markdown(read_run(tmp_path / 'R'))
    assert run('R') == full
    with pytest.raises(DataError, match='no row has an answer to score by'):
        run('N', **{f'q{i}': dict(answer='') for i in range(5)})


def chance():
    "The caller's random state"
    return (
        random.getstate(),
        [o.tolist() if hasattr(o, 'tolist') else o for o in np.random.get_state()],
        torch.random.get_rng_state().tolist(),
    )


@pytest.mark.case(55)
def test_random_state(vlm, tmp_path):
    """A set that is drawn, methods that draw, and the sign flips of a report have generators of their own: the caller's are as
    they were, and do not decide what comes out"""
    runs = []
    for seed in 0, 1:
        random.seed(seed), np.random.seed(seed), torch.manual_seed(seed)
        before = chance()
        lines = go(
            tmp_path / f'{seed}', vlm, 'none,random,vcd', spec=load_benchmark('scenes', 3, seed=4), seed=5
        )
        runs.append((plain(lines), markdown(read_run(tmp_path / f'{seed}'))))
        assert chance() == before
    assert runs[0] == runs[1]


def test_records_vanish_under_way(vlm, tmp_path, whole):
    "Somebody moves the file while it is written to: the run stops and says so, and the same command begins anew"
    path = tmp_path / 'R' / 'records.jsonl'

    def vanish(evaluator, groups):
        for i, lines in enumerate(local_engine(evaluator, groups)):
            if i == 2:
                path.rename(tmp_path / 'elsewhere')
            yield lines

    with pytest.raises(IncompleteError, match='cannot be written: .*No such file.*put the file back'):
        go(tmp_path / 'R', vlm, engine=vanish)
    assert plain(go(tmp_path / 'R', vlm)) == plain(read_run(whole)[1])
