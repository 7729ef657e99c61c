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
    (duplicates) / said before the start, counted as missing and not as wrong / said before the start,
    marked, run goes on; a set in which all rows lack it is refused
53. Same run twice, same machine, greedy, batch 1 => identical answers and maps (hash compared in CI on
    the tiny model)
54. A batch of prompts around one's own model => refused in a sentence: a block records one prompt
55. Seeds => set locally, the caller's random state is unchanged afterwards"""
import json
import random
import shutil
import warnings
from dataclasses import replace
from functools import lru_cache
from itertools import count
import numpy as np
import pytest
import torch
from PIL import Image
from carve_nb.attention.vlm import VLM
from carve_nb.cli.main import main
from carve_nb.core.errors import DataError, IncompleteError, RunError
from carve_nb.data.datasets import load_benchmark
from carve_nb.data.scenes import make_scene, samples
from carve_nb.method.registry import methods, split_specs
from carve_nb.runs import runner
from carve_nb.runs.report import markdown, write_report
from carve_nb.runs.runner import local_engine, run_eval
from carve_nb.runs.store import read_run

plain = lambda lines: [{k: v for k, v in l.items() if k != 'seconds'} for l in lines]


@pytest.fixture(scope='module')
def vlm(load): return load('llava')


@lru_cache
def scenes(n, side=112):
    "The first scenes, small"
    data = load_benchmark('scenes', n)
    smaller = lambda r: replace(r, image=r.open().resize((side, side)),
        boxes=[tuple(v*side/448 for v in b) for b in r.boxes])
    return replace(data, records=[smaller(r) for r in data])


def go(out, vlm, methods='none,carve', n=4, spec=None, progress=False, **kw):
    "A small run; its lines"
    run_eval(spec or scenes(n), vlm, methods, None, out, progress=progress,
        **dict(dict(max_new_tokens=2), **kw))
    return read_run(out)[1]


@pytest.fixture(scope='module')
def whole(vlm, tmp_path_factory):
    "A run in one piece, with its tables"
    out = tmp_path_factory.mktemp('whole')/'R'
    go(out, vlm)
    write_report(out)
    return out


@pytest.fixture
def copy(whole, tmp_path):
    "The same, to be damaged"
    return shutil.copytree(whole, tmp_path/'R')


@pytest.mark.case(50)
def test_other_run(vlm, load, copy, monkeypatch):
    """Another model, method, hyperparameter, decoding or package version is refused with what differs, and
    nothing of the run is changed; without a change it goes on"""
    before = {p.name: p.read_bytes() for p in copy.iterdir()}
    other = load('qwen2_5_vl')
    for kw, said in ((dict(vlm=other), "model.name is 'llava' there, 'qwen2_5_vl' now"),
                     (dict(max_new_tokens=3), 'decoding.max_new_tokens is 2 there, 3 now'),
                     (dict(seed=1), 'seed is 0 there, 1 now')):
        with pytest.raises(RunError, match=f'holds another run: .*{said}'):
            go(copy, **dict(dict(vlm=vlm), **kw))
    for package in 'torch', 'carve_nb':
        with monkeypatch.context() as m:
            m.setattr(*((torch, '__version__') if package == 'torch' else (runner, '__version__')), '9.9.9')
            with pytest.raises(RunError, match=rf"versions.{package} is '.*' there, '9.9.9' now"):
                go(copy, vlm)
    assert {p.name: p.read_bytes() for p in copy.iterdir()} == before
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert len(go(copy, vlm)) == 8        # the same run goes on
    assert {p.name: p.read_bytes() for p in copy.iterdir()} == before


@pytest.fixture
def folder(tmp_path):
    "Five questions in a folder; each row as a dict, to be changed and written"
    rows = [dict(id=f'q{i}', image=f'{i}.png', question=f'What is in picture {i}?', answer='cup')
        for i in range(5)]
    (tmp_path/'D').mkdir()
    for i in range(5): Image.effect_noise((60 + i, 50), 60).convert('RGB').save(tmp_path/'D'/f'{i}.png')
    def write(**change):
        text = ''.join(json.dumps(r | change.get(r['id'], {})) + '\n' for r in rows)
        (tmp_path/'D'/'rows.jsonl').write_text(text)
        return str(tmp_path/'D')
    return write


@pytest.mark.case(50)
def test_other_boxes_or_images(vlm, folder, tmp_path):
    """Boxes or images that changed between two runs are refused; a broken image may be mended; a copy
    elsewhere is the same set"""
    path, first = (folder(q1=dict(box=[5, 5, 30, 30]), q3=dict(image='gone.png')),
        lambda **kw: go(tmp_path/'R', vlm, 'none,oracle', spec=path, **kw))
    with pytest.warns(UserWarning, match='have no image'): found = first()
    folder(q1=dict(box=[20, 20, 50, 50]), q3=dict(image='gone.png'))
    with pytest.raises(RunError,
            match=r"answer to another question: 'q1' has another question, answer, true region, rule or image now"), pytest.warns(UserWarning):
        first()
    folder(q1=dict(box=[5, 5, 30, 30]))
    again = first(retry=True)
    kept = lambda lines: [l for l in plain(lines) if l['id'] != 'q3']
    assert kept(again) == kept(found)
    assert {l['status'] for l in again if l['id'] == 'q3' and l['method'] == 'none'} == {'ok'}
    shutil.copytree(path, tmp_path/'elsewhere'/'D')
    assert go(tmp_path/'R', vlm, 'none,oracle', spec=str(tmp_path/'elsewhere'/'D')) == again
    Image.effect_noise((60, 50), 60).convert('RGB').save(tmp_path/'D'/'0.png')
    before = (tmp_path/'R'/'records.jsonl').read_bytes()
    with pytest.raises(RunError, match=r"'q0' has another question, answer, true region, rule or image now"):
        first()
    assert (tmp_path/'R'/'records.jsonl').read_bytes() == before
    write_report(tmp_path/'R')


@pytest.mark.case(52)
def test_ids_that_stand_twice(folder, tmp_path, monkeypatch, capsys):
    "Refused before the start: no model is loaded, nothing is written"
    monkeypatch.setattr(VLM, 'from_pretrained', lambda *args, **kw: pytest.fail('a model was loaded'))
    path = folder(q3=dict(id='q1'))
    assert main(['eval', path, '--out', str(tmp_path/'R')]) == 2
    assert "'q1' is in several rows" in capsys.readouterr().err
    assert not (tmp_path/'R').exists() or not [*(tmp_path/'R').iterdir()]


@pytest.mark.case(52)
def test_missing_answers_and_images(vlm, folder, tmp_path):
    """Said before the start; the sample without a true answer is not scored, the one without its image is
    marked, all others are as they would be"""
    run = lambda out, path, **kw: go(tmp_path/out, vlm, 'none,carve', spec=path, **kw)
    full = run('full', folder())
    with pytest.warns(UserWarning, match='1 of 5 rows have no') as said:
        found = run('R', folder(q1=dict(answer=''), q3=dict(image='gone.png')))
    assert {str(w.message).split(' rows have ')[1].split(':')[0] for w in said} == {"no answer to score by",
        "no image"}
    by = lambda lines, *ids: [{k: v for k, v in l.items() if k != 'key'}
        for l in plain(lines) if l['id'] in ids]
    assert by(found, 'q0', 'q2', 'q4') == by(full, 'q0', 'q2', 'q4')
    assert {(l['status'], l['why'], 'score' in l) for l in by(found, 'q1')} == {('skipped',
        'the set gives no answer to score by', False)}
    assert {l['status'] for l in by(found, 'q3')} == {'error'}
    assert all("'gone.png' is not in the folder" in l['why'] for l in by(found, 'q3'))
    text = markdown(write_report(tmp_path/'R')[0])
    row = next(l for l in text.splitlines() if l.startswith('| none')).split('|')
    assert row[3].strip() == '3' and row[-4].strip() == '1' and 'no answer to score by' in text
    with pytest.raises(DataError, match='no row has an answer to score by'):
        run('N', folder(**{f'q{i}': dict(answer='') for i in range(5)}))


def chance():
    "The caller's random state"
    return (random.getstate(), [o.tolist() if hasattr(o, 'tolist') else o for o in np.random.get_state()],
        torch.random.get_rng_state().tolist())


def by_chance(vlm, tmp_path):
    """All that draws by chance: name → call; that no method at all touches the state is a part of
    `check_method`"""
    from carve_nb.core.stats import mean_interval, paired_test
    s = next(iter(samples('digit', 1)))
    x = np.linspace(0, 1, 30)
    small, number = s.image.resize((120, 90)), count()
    method = lambda e: e()(vlm, small, s.question, box=(10, 10, 40, 40)).answer.tokens
    return dict(scene=lambda: make_scene(3).image.tobytes(),
        samples=lambda: [o.question for o in samples('exist', 3)],
        sets=lambda: [r.id for r in load_benchmark('scenes', 5, seed=4)],
        statistics=lambda: (mean_interval(x), paired_test(x, x[::-1])),
        run=lambda: plain(go(tmp_path/f'{next(number)}', vlm, 'none,random,vcd', 2, seed=5)),
        report=lambda: markdown(write_report(go(tmp_path/'R', vlm, 'none,random', 6) and tmp_path/'R')[0]),
        **{k: lambda k=k: method(methods()[k]) for k in split_specs('carve,random,vcd')})


@pytest.mark.case(55)
def test_random_state(vlm, tmp_path):
    """Whatever draws by chance has a generator of its own: the caller's are as they were, and do not decide
    what comes out"""
    for name, do in by_chance(vlm, tmp_path).items():
        found = []
        for seed in 0, 1:
            random.seed(seed), np.random.seed(seed), torch.manual_seed(seed)
            before = chance()
            with warnings.catch_warnings():
                warnings.simplefilter('ignore')
                found.append(do())
            assert chance() == before, f'{name} leaves its mark'
        assert repr(found[0]) == repr(found[1]), f'{name} depends on the state of the caller'


@pytest.mark.parametrize('how', ['moved', 'cut'])
def test_records_vanish_under_way(vlm, tmp_path, whole, how):
    """Somebody moves or cuts the file while it is written to: the run stops and says so, and goes on with
    what is there"""
    out = tmp_path/'R'
    def vanish(evaluator, units):
        for i, lines in enumerate(local_engine(evaluator, units)):
            if i == 2:
                raw = (out/'records.jsonl').read_bytes()
                (out/'records.jsonl').rename(tmp_path/'elsewhere')
                if how == 'cut': (out/'records.jsonl').write_bytes(raw[:-9])
            yield lines
    with pytest.raises(IncompleteError,
            match='records.jsonl cannot be written: .*(No such file|somebody else has cut it).*put the file back'):
        go(out, vlm, engine=vanish)
    if how == 'cut':
        kept = plain(read_run(out)[1])   # what was on the disk by then depends on the clock
        assert kept == plain(read_run(whole)[1])[:len(kept)]
    assert plain(go(out, vlm)) == plain(read_run(whole)[1])
