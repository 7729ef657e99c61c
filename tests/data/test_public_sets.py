"""Public sets in the forms in which they are published, three questions each: read by their names with their own score, and refused
without it, with a line that reads them.

`public_sets.jsonl` has the rows: the columns are those of the sets, the images and questions scenes of ours."""

import base64
import contextlib
import csv
import io
import json
import logging
import socket
from functools import partial
from pathlib import Path
import pytest
from carve_nb import CarveError, load_benchmark
from carve_nb.data.scenes import scene_records

datasets = pytest.importorskip('datasets')
ROWS = [(r.open(), r.question, r.answer) for r in scene_records(3, ['digit'])]


def png(image) -> bytes:
    out = io.BytesIO()
    image.save(out, 'PNG')
    return out.getvalue()


def ten(a):
    return [a] * 8 + ['unanswerable'] * 2


# set -> its three rows, with IMAGE in the column of the image
SNAPSHOTS = {}
for line in (Path(__file__).parent / 'public_sets.jsonl').read_text(encoding='utf-8').splitlines():
    SNAPSHOTS.setdefault(json.loads(line)['set'], []).append(json.loads(line))


@pytest.fixture(scope='module', autouse=True)
def offline():
    with pytest.MonkeyPatch.context() as m:
        m.setattr(datasets.config, 'HF_HUB_OFFLINE', True)
        yield


def snapshot(folder: Path, name: str) -> Path:
    "Write a copy of a set as the Hub has it"
    (folder / 'data').mkdir(parents=True)
    rows = [
        {column: image if value == 'IMAGE' else value for column, value in row['columns'].items()}
        for row, (image, _, _) in zip(SNAPSHOTS[name], ROWS)
    ]
    file = f'{SNAPSHOTS[name][0]["split"]}-00000-of-00001.parquet'
    datasets.Dataset.from_list(rows).to_parquet(str(folder / 'data' / file))
    return folder


def check(name: str, data, rule=None):
    "All three questions with their images, the truth that is meant, and the rule of the set"
    rule = rule or SNAPSHOTS[name][0]['rule']
    assert [r.open().size for r in data] == [(448, 448)] * 3
    assert [r.rule for r in data] == [rule] * 3
    assert data.rule == rule
    want = ['yes', 'no', 'no'] if name in ('pope', 'mme') else [a for _, _, a in ROWS]
    assert [r.answer.lower() for r in data] == want
    assert all('<image' not in r.question for r in data)
    assert len({r.id for r in data}) == 3
    if rule == 'choice':
        assert all(len(r.choices) >= 3 and r.short_question.startswith('What digit') for r in data)


def follow(spec):
    "Read a set by the line of its refusal"
    with pytest.raises(CarveError, match='Say what is meant: ') as e:
        load_benchmark(spec)
    return load_benchmark(spec, **eval(f"dict({str(e.value).partition('Say what is meant: ')[2]})"))


@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('name', SNAPSHOTS)
def test_a_snapshot_folder(name, tmp_path):
    "By its name, and as somebody's folder or file: with the rule of the set, but for two that have no column of their own"
    folder = snapshot(tmp_path / 'copy', name)
    check(name, load_benchmark(name, root=folder))
    if name == 'aokvqa':
        check(name, load_benchmark(folder))
        assert {
            (r.rule, len(r.answers), r.choices) for r in load_benchmark('aokvqa-direct', root=folder)
        } == {('vqa-simple', 10, None)}
    else:
        check(name, follow(folder), dict(pope='yes/no').get(name))
    if name == 'textvqa-boxes':
        assert load_benchmark(name, root=folder)[0].boxes == [(10, 20, 40, 60)]


FRONT_MATTER = """---
configs:
- config_name: default
  data_files:
  - split: test
    path: {}
---
"""


@pytest.mark.parametrize('path', ['../outside/secret.parquet', '{}', 'hf://datasets/evil/beacon/a.parquet'])
@pytest.mark.parametrize('named', [False, True])
def test_a_folder_reads_nothing_outside_it(path, named, tmp_path, monkeypatch):
    "Whatever its README.md says: another folder, an absolute path, the Hub"
    asked = []
    monkeypatch.setattr(datasets.config, 'HF_HUB_OFFLINE', False)
    monkeypatch.setattr(socket, 'getaddrinfo', lambda *place, **more: asked.append(place) or 1 / 0)
    monkeypatch.setattr(socket.socket, 'connect', lambda this, place: asked.append(place) or 1 / 0)
    row = dict(image=dict(bytes=png(ROWS[0][0]), path=None), question_id='1', category='k')
    row |= dict(answer='yes') if named else dict(answer='red')
    for file, question in ('set/data/test-00000-of-00001', 'Inside?'), ('outside/secret', 'Secret?'):
        (tmp_path / file).parent.mkdir(parents=True)
        table = datasets.Dataset.from_list([row | dict(question=question)])
        table.to_parquet(tmp_path / f'{file}.parquet')
    front = FRONT_MATTER.format(path.format(tmp_path / 'outside' / 'secret.parquet'))
    (tmp_path / 'set' / 'README.md').write_text(front)
    with pytest.warns(UserWarning) if not named else contextlib.nullcontext():
        data = load_benchmark('pope', root=tmp_path / 'set') if named else load_benchmark(tmp_path / 'set')
    assert [record.question for record in data] == ['Inside?']
    assert not asked


def test_splits_and_configurations_of_a_folder(tmp_path):
    "They are the names of its folders and files; of several one is chosen, and a file that links out is refused"
    rows = [dict(image=png(ROWS[0][0]), question='What?', answer='red')]
    for file in 'A/test-00000-of-00001', 'A/dev-00000-of-00001', 'B/test/0000':
        (tmp_path / 'set' / file).parent.mkdir(parents=True, exist_ok=True)
        datasets.Dataset.from_list([rows[0] | dict(id=file)]).to_parquet(tmp_path / 'set' / f'{file}.parquet')
    load = partial(load_benchmark, tmp_path / 'set')
    assert [record.id for record in load(config='A', split='dev')] == ['A/dev-00000-of-00001']
    assert [record.id for record in load(config='B')] == ['B/test/0000']
    with pytest.raises(CarveError, match='it has the configs A, B; choose one: config='):
        load()
    with pytest.raises(CarveError, match='it has the splits dev, test; choose one: split='):
        load(config='A')
    (tmp_path / 'set' / 'B' / 'test' / '0001.parquet').symlink_to(tmp_path / 'secret.parquet')
    with pytest.raises(CarveError, match='leads out of the folder'):
        load(config='B')


def run_lines(name: str, folder: Path, capsys) -> None:
    "Run on a folder the lines that the refusal of a set says how to print"
    with pytest.raises(CarveError, match='has a form of its own') as e:
        load_benchmark(name)
    exec(str(e.value).partition('to print them: ')[2])
    exec(capsys.readouterr().out.replace('FOLDER', str(folder)).replace('lmms-lab/GQA', str(folder)), {})


def test_lines_for_gqa(tmp_path, capsys):
    questions = [
        dict(id=f'2026{i}', imageId=f'n{i}', question=q, answer=a, fullAnswer=f'It is {a}.')
        for i, (_, q, a) in enumerate(ROWS)
    ]
    images = [dict(id=f'n{i}', image=im) for i, (im, _, _) in enumerate(ROWS)][::-1]
    heads = 'configs:\n'
    for config, rows in dict(testdev_balanced_instructions=questions, testdev_balanced_images=images).items():
        (tmp_path / config).mkdir()
        datasets.Dataset.from_list(rows).to_parquet(str(tmp_path / config / 'testdev-00000-of-00001.parquet'))
        heads += f'- config_name: {config}\n  data_files:\n  - split: testdev\n    path: {config}/testdev-*\n'
    (tmp_path / 'README.md').write_text(f'---\n{heads}---\n')
    run_lines('gqa', tmp_path, capsys)
    with pytest.warns(UserWarning, match='not fullAnswer'):
        data = load_benchmark(tmp_path, columns='image=imageId', images='{}.png')
    check('gqa', data, 'exact')
    assert [r.open().tobytes() for r in data] == [im.tobytes() for im, _, _ in ROWS]


@pytest.mark.filterwarnings('ignore')
def test_tsv_with_images_of_any_size(tmp_path):
    "Base64 in the cells, one of 200,000 characters; VLMEvalKit's later rows name the row that has their image"
    first, second = (base64.b64encode(png(im)).decode() for im, _, _ in ROWS[:2])
    cells = [
        dict(
            index=i,
            question=q,
            answer='B',
            A='x',
            B=a,
            C='y',
            D='z',
            category='single',
            cycle_category='cycle_0',
            image=image,
            other='x' * 200_000,
        )
        for i, ((_, q, a), image) in enumerate(zip(ROWS, (first, second, '0')))
    ]
    with open(tmp_path / 'q.tsv', 'w', newline='') as f:
        table = csv.DictWriter(f, cells[0], delimiter='\t')
        table.writeheader()
        table.writerows(cells)
    data = follow(tmp_path / 'q.tsv')
    check('hrbench', data)
    assert data[2].open().tobytes() == data[0].open().tobytes() != data[1].open().tobytes()


@pytest.mark.filterwarnings('ignore')
def test_files_of_the_authors(tmp_path):
    "TextVQA's {'data': […]}, whose images lie in a folder below"
    (tmp_path / 'train_images').mkdir()
    for i, (im, _, _) in enumerate(ROWS):
        im.save(tmp_path / 'train_images' / f'im{i}.jpg')
    rows = [
        dict(question=q, image_id=f'im{i}', answers=ten(a), question_id=i) for i, (_, q, a) in enumerate(ROWS)
    ]
    (tmp_path / 'val.json').write_text(json.dumps(dict(dataset_type='val', data=rows)))
    with pytest.raises(CarveError, match='read without the name of a set'):
        load_benchmark('textvqa', root=tmp_path)
    check('textvqa', follow(tmp_path), 'vqa')


@pytest.mark.filterwarnings('ignore')
def test_lines_for_vstar_with_its_boxes(tmp_path, capsys):
    "A JSON beside each image: true regions, and the right option at no fixed place, the same each time"
    (tmp_path / 'attributes').mkdir()
    for i, (im, q, a) in enumerate(ROWS * 2):
        im.save(tmp_path / 'attributes' / f'{i}.jpg')
        row = dict(
            target_object=['cross'],
            bbox=[[10, 20, 30, 40]],
            question=q,
            options=[f'It is {a}.', 'It is x.', 'It is y.'],
        )
        (tmp_path / 'attributes' / f'{i}.json').write_text(json.dumps(row))
    run_lines('vstar-boxes', tmp_path, capsys)
    data = load_benchmark(tmp_path / 'questions.jsonl')
    assert [(r.kind, r.boxes, r.rule, r.answer) for r in data] == [
        ('attributes', [(10, 20, 40, 60)], 'choice', f'It is {a}.') for _, _, a in ROWS * 2
    ]
    assert len({r.choices.index(r.answer) for r in data}) > 1 and data[0].open().size == (448, 448)


def test_another_rule_than_the_own_is_told(tmp_path, caplog):
    folder = snapshot(tmp_path / 'copy', 'docvqa')
    with caplog.at_level(logging.WARNING):
        data = load_benchmark('docvqa', root=folder, rule='exact')
    assert data.rule == 'exact'
    assert 'is scored by exact' in caplog.text
    assert "its own score is anls (DocVQA's evaluator" in caplog.text
