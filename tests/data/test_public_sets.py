"""Public sets in the forms in which they are published, three questions each: read by their names with their own score, and refused
without it, with a line that reads them.

The columns are those of the sets; images and questions are scenes of ours."""

import base64
import csv
import io
import json
import logging
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


# set -> split, the row of number, image, question and answer
SNAPSHOTS = {
    'textvqa': (
        'validation',
        lambda i, im, q, a: dict(
            image_id=f'im{i}',
            question_id=34602 + i,
            question=q,
            image=im,
            answers=ten(a),
            question_tokens=['x'],
            flickr_300k_url='',
        ),
    ),
    'vstar': (
        'test',
        lambda i, im, q, a: dict(
            image=im,
            category='direct_attributes',
            label='A',
            question_id=str(i),
            text=f"{q}\n(A) {a}\n(B) x\n(C) y\n(D) z\nAnswer with the option's letter from the given choices directly.",
        ),
    ),
    'pope': (
        'test',
        lambda i, im, q, a: dict(
            id='1',
            question_id=str(i),
            question='Is there a dog?',
            answer=['yes', 'no', 'no'][i],
            image=im,
            category='random',
        ),
    ),
    'aokvqa': (
        'validation',
        lambda i, im, q, a: dict(
            image=im,
            question_id=f'22jb{i}',
            question=q,
            choices=[a, 'ship', 'car', 'tree'],
            correct_choice_idx=0,
            direct_answers=str(ten(a)),
            difficult_direct_answer=False,
        ),
    ),
    'vqav2': (
        'validation',
        lambda i, im, q, a: dict(
            multiple_choice_answer=a,
            answers=[dict(answer=t, answer_id=k) for k, t in enumerate(ten(a))],
            question_id=i,
            question=q,
            image=im,
        ),
    ),
    'docvqa': (
        'validation',
        lambda i, im, q, a: dict(
            questionId=str(49153 + i), question=q, image=im, ucsf_document_id='pybv0228', answers=[a, f'{a}.']
        ),
    ),
    'hrbench': (
        'hrbench_4k',
        lambda i, im, q, a: dict(
            index=i,
            question=q,
            answer='B',
            category='single',
            A='x',
            B=a,
            C='y',
            D='z',
            cycle_category='cycle_0',
            image=im,
        ),
    ),
    'okvqa': (
        'val2014',
        lambda i, im, q, a: dict(question_id=str(i), image=im, question=q, answers=[a] * 10),
    ),
    'vizwiz': (
        'val',
        lambda i, im, q, a: dict(
            question_id=f'VizWiz_val_{i}.jpg', image=im, question=q, answers=ten(a), category='other'
        ),
    ),
    'mmstar': (
        'val',
        lambda i, im, q, a: dict(
            index=i,
            question=f'{q}\nOptions: A: x, B: {a}, C: y, D: z',
            image=im,
            answer='B',
            category='c',
            l2_category='x',
            meta_info=dict(split='val'),
        ),
    ),
    'mme': (
        'test',
        lambda i, im, q, a: dict(
            question_id=f'code/{i}.png',
            image=im,
            question='Is there a dog? Please answer yes or no.',
            answer=['Yes', 'No', 'No'][i],
            category='existence',
        ),
    ),
    'chartqa': ('test', lambda i, im, q, a: dict(type='human_test', question=q, answer=a, image=im)),
    'ocrbench': (
        'test',
        lambda i, im, q, a: dict(
            dataset='IIIT5K', question=q, question_type='Regular Text Recognition', answer=[a], image=im
        ),
    ),
    'scienceqa': (
        'test',
        lambda i, im, q, a: dict(
            image=im, question=q, choices=[a, 'x', 'y'], answer=0, hint='', lecture='', solution=''
        ),
    ),
    'mmmu': (
        'validation',
        lambda i, im, q, a: dict(
            id=f'v_{i}',
            question=f'<image 1> {q}',
            options=str([a, 'x', 'y']),
            image_1=im,
            answer='A',
            topic_difficulty='Easy',
        ),
    ),
    'realworldqa': (
        'test',
        lambda i, im, q, a: dict(
            image=im, question=f'{q}\nA. x\nB. {a}\nC. y\nPlease answer directly.', answer='B'
        ),
    ),
    'textvqa-boxes': (
        'train',
        lambda i, im, q, a: dict(
            image=im, question=q, answer=ten(a), bbox=[10, 20, 30, 40], dataset_id=str(34602 + i)
        ),
    ),
}
RULES = dict(
    textvqa='vqa-text',
    vstar='choice',
    pope='pope',
    aokvqa='choice',
    vqav2='vqa',
    docvqa='anls',
    hrbench='choice',
    okvqa='vqa',
    vizwiz='vqa',
    mmstar='choice',
    mme='yes/no',
    chartqa='relaxed',
    ocrbench='contained',
    scienceqa='choice',
    mmmu='choice',
    realworldqa='choice',
    gqa='exact',
) | {'textvqa-boxes': 'vqa-text'}


@pytest.fixture(scope='module', autouse=True)
def offline():
    with pytest.MonkeyPatch.context() as m:
        m.setattr(datasets.config, 'HF_HUB_OFFLINE', True)
        yield


def snapshot(folder: Path, split: str, row) -> Path:
    "A copy of a set as the Hub has it"
    (folder / 'data').mkdir(parents=True)
    rows = [row(i, *r) for i, r in enumerate(ROWS)]
    datasets.Dataset.from_list(rows).to_parquet(str(folder / 'data' / f'{split}-00000-of-00001.parquet'))
    return folder


def check(name: str, data, rule=None):
    "All three questions with their images, the truth that is meant, and the rule of the set"
    rule = rule or RULES[name]
    assert [r.open().size for r in data] == [(448, 448)] * 3
    assert [r.rule for r in data] == [rule] * 3 and data.rule == rule
    want = ['yes', 'no', 'no'] if name in ('pope', 'mme') else [a for _, _, a in ROWS]
    assert [r.answer.lower() for r in data] == want
    assert all('<image' not in r.question for r in data) and len({r.id for r in data}) == 3
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
    split, row = SNAPSHOTS[name]
    folder = snapshot(tmp_path / 'copy', split, row)
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
    check('gqa', data)
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
    folder = snapshot(tmp_path / 'copy', *SNAPSHOTS['docvqa'])
    with caplog.at_level(logging.WARNING):
        data = load_benchmark('docvqa', root=folder, rule='exact')
    assert data.rule == 'exact'
    assert 'is scored by exact' in caplog.text
    assert "its own score is anls (DocVQA's evaluator" in caplog.text
