"""Tables as people bring them: read, or refused in one sentence whose line, pasted once in Python or in a shell, reads them."""

import base64
import io
import json
import re
import shlex
import unicodedata
import warnings
from datetime import datetime
from functools import partial
from unittest.mock import patch
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from carve_nb import CarveError, load_benchmark
from carve_nb.cli.main import main
from carve_nb.core.errors import Reader
from carve_nb.data.datasets import is_snapshot
from carve_nb.data.records import Record
from carve_nb.data.scenes import make_scene
from carve_nb.data.scoring import score_answer
from carve_nb.data.tables import read_columns
from carve_nb.runs.store import read_run

ROW = dict(image='a.png', question='What is it?', answer='red')
PNG = io.BytesIO()
Image.new('RGB', (64, 64), 'red').save(PNG, 'PNG')


@pytest.fixture
def load(tmp_path):
    "load(rows or text, name, ...) -> records and all that was told, warnings or the refusal"
    for name in 'a.png', 'deep/7.png':
        (tmp_path / name).parent.mkdir(exist_ok=True), (tmp_path / name).write_bytes(PNG.getvalue())

    def read(rows, name='q.json', **kw):
        for old in tmp_path.glob('q.*'):
            old.unlink()
        raw = (
            rows
            if isinstance(rows, bytes)
            else (rows if isinstance(rows, str) else json.dumps(rows)).encode()
        )
        (tmp_path / name).write_bytes(raw)
        with warnings.catch_warnings(record=True) as notes:
            warnings.simplefilter('always')
            try:
                records = load_benchmark(tmp_path, **kw).records
            except CarveError as e:
                return None, str(e)
        for r in records:
            r.open()
        return records, ' '.join(str(w.message) for w in notes)

    read.folder = tmp_path
    return read


def lines_of(load, rows, name):
    "What Python is to be given, and what a shell is, by the refusal of a table"
    _, in_python = load(rows, name)
    with patch.object(Reader, 'in_shell', True):
        _, in_shell = load(rows, name)
    python, shell = (text.partition('Say what is meant: ')[2] for text in (in_python, in_shell))
    assert python, in_python
    return eval(f'dict({python})'), shlex.split(shell)


TURNS = [{'from': 'human', 'value': '<image>\nWhat?'}, {'from': 'gpt', 'value': 'red'}]
PARTS = [
    dict(role='user', content=[dict(type='image'), dict(type='text', text='What?')]),
    dict(role='assistant', content='red'),
]
ASK = dict(image='a.png', question='Which color?')
IS_IT = [dict(image='a.png', question='Is it red?'), dict(image='a.png', question='Is it blue?')]
BOX = [1.0, 2.0, 9.0, 9.0]
DECLARED = {  # a table that declares nothing -> what the line of its refusal reads of its first row
    'other names': (
        [dict(imgname='a.png', query='What?', label='red')],
        dict(question='What?', answers=['red']),
    ),
    'LLaVA': ([dict(id=1, image='a.png', conversations=TURNS)], dict(question='What?', answers=['red'])),
    'messages': ([dict(images=['a.png'], messages=PARTS)], dict(question='What?', answers=['red'])),
    'verl': (
        [dict(prompt=PARTS[:1], images=['a.png'], reward_model=dict(style='rule', ground_truth='red'))],
        dict(question='What?', answers=['red']),
    ),
    'columns A, B': (
        [ASK | dict(A='red', B='blue', answer='B')],
        dict(choices=['red', 'blue'], answers=['blue'], rule='choice'),
    ),
    'option_a': (
        [ASK | dict(option_a='red', option_b='blue', answer='b')],
        dict(choices=['red', 'blue'], answers=['blue']),
    ),
    'options': (
        [ASK | dict(options=['red', 'blue'], answer='B')],
        dict(choices=['red', 'blue'], answers=['blue']),
    ),
    'options, and the text of one': (
        [ROW | dict(options=['red', 'blue'])],
        dict(choices=['red', 'blue'], rule='choice'),
    ),
    'boxes': ([ROW | dict(boxes=[BOX])], dict(boxes=[tuple(BOX)])),
    'options in the question': (
        [ASK | dict(question='Which?\n(A) red\n(B) blue\nAnswer with the letter.', answer='B')],
        dict(
            choices=['red', 'blue'],
            answers=['blue'],
            question='Which?\n(A) red\n(B) blue',
            short_question='Which?',
        ),
    ),
    'letters that are texts': ([ASK | dict(answer='K')], dict(answers=['K'], rule='exact')),
    'the number of an option': ([ASK | dict(choices=['red', 'blue'], answer=1)], dict(answers=['blue'])),
    'a list as an answer': (
        [ROW | dict(answer=['red', 'crimson'])],
        dict(answers=['red', 'crimson'], rule='exact'),
    ),
    'ten people': ([ASK | dict(answers=['red'] * 9 + ['blue'])], dict(rule='vqa')),
    'two truths': ([ASK | dict(answer='red', answers=['red', 'crimson'])], dict(answers=['red'])),
    'yes and no': (
        [row | dict(answer=a) for row, a in zip(IS_IT, ('Yes', 'no'))],
        dict(answers=['Yes'], rule='yes/no'),
    ),
    'rows in an object': (dict(version=1, data=[ROW]), dict(answers=['red'])),
    'an object of rows': ({'7': ROW, '8': ROW}, dict(answers=['red'])),
    'the same id': ([ROW | dict(id=1), ROW | dict(id=1)], dict(id='a-1')),
    'an image without its ending': ([ROW | dict(image='7')], dict(id='7-1')),
    'base64': (
        [ROW | dict(image=base64.b64encode(PNG.getvalue() + bytes(300)).decode())],
        dict(answers=['red']),
    ),
    'everything': (
        dict(data=[dict(img=7, problem='Is it?', gold='yes'), dict(img=7, problem='Is it so?', gold='no')]),
        dict(answers=['yes'], id='7-1'),
    ),
}


@pytest.mark.parametrize('what', DECLARED)
def test_one_line_declares_a_table(what, load):
    "In Python and in a shell, which say the same"
    rows, want = DECLARED[what]
    python, shell = lines_of(load, rows, 'q.json')
    assert python == {flag.removeprefix('--'): value for flag, value in zip(shell[::2], shell[1::2])}
    records, notes = load(rows, **python)
    assert records, notes
    assert {name: getattr(records[0], name) for name in want} == want


def test_the_line_of_a_shell_runs(load, capsys):
    rows, _ = DECLARED['everything']
    _, shell = lines_of(load, rows, 'q.json')
    words = ['--methods', 'none', '--model', 'carve-tiny', '--out', str(load.folder / 'out')]
    assert main(['eval', str(load.folder), *words]) == 2
    assert ' '.join(shell) in capsys.readouterr().err.replace("'", '')
    assert main(['eval', str(load.folder), *shell, *words]) == 0
    assert {line['rule'] for line in read_run(load.folder / 'out').records} == {'yes/no'}


READ = {  # read at once -> what is read, what is told
    'names in other cases': (
        [{'Image': 'a.png', 'QUESTION ': 'What?', 'Answer': 'red', 'Correct choice idx': ''}],
        dict(question='What?', answers=['red']),
        '',
    ),
    'texts stay': (
        'image,question,answers\na.png, What? ,007|2.0| NA\n',
        dict(question='What?', answers=['007', '2.0', 'NA']),
        '',
    ),
    'a truth in marks': ([ROW | dict(answer='<answer> red </answer>')], dict(answers=['red']), ''),
    'lists': (
        [dict(image=['a.png'], question='What?', answers="['red', 'crimson']")],
        dict(answers=['red', 'crimson']),
        '',
    ),
    'an object of options': (
        [ASK | dict(choices=dict(A='red', B='blue'), answer='B')],
        dict(choices=['red', 'blue'], answers=['blue']),
        '',
    ),
    'choices': (
        [ROW | dict(choices='red|blue', answer='(b) blue')],
        dict(choices=['red', 'blue'], answers=['blue'], rule='choice'),
        '',
    ),
    'the right number': (
        [ASK | dict(choices=['red', 'blue'], correct_choice_idx=1)],
        dict(answers=['blue']),
        '',
    ),
    'a box': ([ROW | dict(bbox=[1, 2, 8, 7])], dict(boxes=[tuple(BOX)]), ''),
    'columns that are not read': ([ROW | dict(bbox_2d=BOX)], dict(boxes=None), 'not bbox_2d.'),
}


@pytest.mark.parametrize('what', READ)
def test_read_at_once(what, load):
    rows, want, words = READ[what]
    records, notes = load(rows, 'q.csv' if isinstance(rows, str) else 'q.json')
    assert records, notes
    assert {name: getattr(records[0], name) for name in want} == want
    assert words in notes if words else notes == ''


def test_options_that_are_not_meant(load):
    "A column of another name for options is left out where that is said, and not without a word"
    rows = [ROW | dict(options='red|blue')]
    assert "choices= leaves it out. Say what is meant: columns='choices=options'" in load(rows)[1]
    assert load(rows, columns='choices=')[0][0].choices is None
    numbers = [ROW | dict(answer=i, options=['red', 'blue']) for i in (0, 1)]  # once scored against 0 and 1
    assert load(numbers)[0] is None
    records, _ = load(numbers, columns='choices=options,correct_choice_idx=answer,id=')
    assert [r.answers for r in records] == [['red'], ['blue']]


MAPPED = {  # columns -> what is read of a row with parts
    'objects.bbox': (dict(bbox='objects.bbox'), dict(boxes=[tuple(BOX), (0, 0, 4, 4)])),
    'four columns': (dict(box=['x0', 'y0', 'x1', 'y1']), dict(boxes=[tuple(BOX)])),
    'several columns': (dict(choices=['answer', 'other']), dict(choices=['red', 'blue'], answers=['red'])),
    'a part': (dict(kind='about.kind', id='about.ids.1'), dict(kind='color', id='q7')),
}


@pytest.mark.parametrize('what', MAPPED)
def test_columns_of_parts(what, load):
    columns, want = MAPPED[what]
    row = ROW | dict(
        objects=[dict(bbox=[1, 2, 8, 7]), dict(bbox=[0, 0, 4, 4])],
        x0=1,
        y0=2,
        x1=9,
        y1=9,
        other='blue',
        about=dict(kind='color', ids=[1, 'q7']),
    )
    records, _ = load([row], columns=columns)
    assert {name: getattr(records[0], name) for name in want} == want


HEAD = 'image,question,answer\n'
REFUSED = {  # a table that an editor has to change -> what is said
    'a gap between options': (
        [ROW | dict(choices=['red', None, 'blue'])],
        'write a list of 2 to 26 texts without gaps',
    ),
    'an unknown option': (
        [ROW | dict(answer='gray', choices=['red', 'blue'])],
        "row 1: answer 'gray': 'gray' is none of the 2 choices",
    ),
    'one of several': ([ROW | dict(answer='A', choices=['B', 'A'])], 'could be several'),
    'a list of NumPy': (
        [ASK | dict(answers="['red' 'blue']")],
        'is a printed list that cannot be read; write JSON',
    ),
    'two images': ([ROW | dict(image=['a.png', 'a.png'])], 'write one image in each row'),
    'two images in the question': (
        [ROW | dict(question='<image 1> or <image 2>?')],
        'is one of several, and one is shown',
    ),
    'objects as answers': (
        [ASK | dict(answers=[dict(answer='red', answer_id=1)] * 10)],
        'name its part, answers.PART',
    ),
    'no question': ([ROW, ROW | dict(question=' ')], 'row 2: there is no question'),
    'corners that are sizes': ([ROW | dict(box=[40, 40, 9, 9])], '"bbox" is x, y, width, height'),
    'one name in two cases': (
        [{'image': 'a.png', 'Question': 'What?', 'QUESTION': 'Who?', 'answer': 'red'}],
        'have one name; rename one',
    ),
    'another encoding': ((HEAD + 'a.png,Größe?,rot\n').encode('cp1252'), 'in Excel as CSV UTF-8'),
    "Excel's first line": ('sep=;\nimage;question;answer\n', 'save it in Excel as CSV UTF-8'),
    'a comma in a cell': (
        HEAD + '\na.png,"A\nB",red\na.png,red, or blue?,red\n',
        'line 5 does not have 3 cells',
    ),
    'an open quotation mark': (HEAD + '\na.png,?,red\na.png,"Where?,red\n', 'the row after line 3'),
    'a name twice': ('image,question,answer,answer\na.png,q?,1,2\n', 'two columns have one name'),
    'lines in a .json': ('{"image": "a.png"}\n{"image": "a.png"}\n', 'name it .jsonl'),
    'half a character': ([ROW | dict(question='what \ud83d?')], 'row 1: '),
    'no rows': ('[1]', 'one on a line in .jsonl'),
}


@pytest.mark.parametrize('what', REFUSED)
def test_what_an_editor_has_to_change(what, load):
    rows, words = REFUSED[what]
    is_csv = isinstance(rows, bytes) or isinstance(rows, str) and rows[0] not in '[{'
    records, message = load(rows, 'q.csv' if is_csv else 'q.json')
    assert records is None and words in message, message


def test_a_column_that_is_not_there(load):
    records, message = load([ROW], columns='question=promt')
    assert records is None and "it has no column 'promt', but image, question, answer" in message, message


def test_folders_in_other_forms(tmp_path):
    "Of save_to_disk, with splits and without; of a workbook; of a name that is a known set's, which decides nothing"
    datasets = pytest.importorskip('datasets')
    one = datasets.Dataset.from_list([ROW | dict(image=dict(bytes=PNG.getvalue(), path=None))])
    one = one.cast_column('image', datasets.Image())
    one.save_to_disk(tmp_path / 'saved')
    datasets.DatasetDict(a=one, b=one).save_to_disk(tmp_path / 'splits')
    for folder, given in ('saved', {}), ('splits', dict(split='b')):
        (record,) = load_benchmark(tmp_path / folder, **given)
        assert (record.answers, record.open().size) == (['red'], (64, 64))
    for folder, given, words in (
        ('splits', {}, 'it has the splits a, b; choose one: split='),
        ('splits', dict(config='x'), 'config is not used'),
    ):
        with pytest.raises(CarveError, match=words):
            load_benchmark(tmp_path / folder, **given)
    state = tmp_path / 'saved' / 'state.json'
    arrow = next((tmp_path / 'splits' / 'a').glob('*.arrow'))
    state.write_text(
        json.dumps(
            json.loads(state.read_text()) | dict(_data_files=[dict(filename=f'../splits/a/{arrow.name}')])
        )
    )
    with pytest.raises(CarveError, match='leads out of the folder of the set'):
        load_benchmark(tmp_path / 'saved')
    (tmp_path / 'textvqa').mkdir()
    (tmp_path / 'textvqa' / 'q.xlsx').write_bytes(b'PK')
    with pytest.raises(CarveError, match='holds no table.*save a workbook as CSV UTF-8'):
        load_benchmark(tmp_path / 'textvqa')
    (tmp_path / 'textvqa' / 'a.png').write_bytes(PNG.getvalue())
    (tmp_path / 'textvqa' / 'questions.jsonl').write_text(json.dumps(ROW))
    assert load_benchmark(tmp_path / 'textvqa').rule == 'exact'


def test_the_same_rows_in_any_form(tmp_path, monkeypatch):
    "Rows in hand are read as those of a file: one key, whatever the form; a path in a program is one from here"
    pd = pytest.importorskip('pandas')
    datasets = pytest.importorskip('datasets')
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'a.png').write_bytes(PNG.getvalue())
    rows = [
        dict(image='a.png', question=f'Which {i}?', answer='B', choices='red|blue', id=i) for i in range(3)
    ]
    frame = pd.DataFrame(rows)
    frame.to_parquet('q.parquet')
    (tmp_path / 'csv').mkdir()
    (tmp_path / 'csv' / 'a.png').write_bytes(PNG.getvalue())
    frame.to_csv('csv/q.csv', index=False)
    paths = datasets.Dataset.from_list(rows).cast_column('image', datasets.Image())
    keys = []
    for form in rows, frame, paths, 'q.parquet', 'csv':
        data = load_benchmark(form, 2)
        assert [(r.id, r.answers, r.open().size) for r in data] == [
            ('0', ['blue'], (64, 64)),
            ('1', ['blue'], (64, 64)),
        ], form
        keys.append(data.key())
    assert len({*keys}) == 1, keys
    assert load_benchmark([row | dict(answer='A') for row in rows], 2).key() not in keys


def test_rows_in_hand_are_refused_as_those_of_a_file(tmp_path):
    for spec, words in (
        ([ROW, ROW | dict(question='')], 'rows: row 2: there is no question'),
        ([dict(img='a.png', query='What?', label='red')], "columns='image=img,question=query,answer=label'"),
        ([ROW], "no row has its image: the image 'a.png'"),
        ([], 'rows are dicts'),
        (7, '7 is no set; give a name, a folder, a file, a list of dicts'),
    ):
        with pytest.raises(CarveError, match=re.escape(words)):
            load_benchmark(spec)
    with pytest.raises(CarveError, match='split, kinds is not used for rows in hand'):
        load_benchmark([ROW], split='test', kinds='digit')
    with pytest.raises(TypeError, match='colums'):
        load_benchmark([ROW], colums={})


def test_types_of_a_dataset_in_hand(tmp_path):
    "In hand and in a Parquet file: a class is its name, a float what was written, an image is opened when it is asked for"
    datasets = pytest.importorskip('datasets')
    classes = datasets.ClassLabel(names=['3', 'eight', '5'])
    features = datasets.Features(
        image=datasets.Image(),
        question=datasets.Value('string'),
        answers=datasets.List(classes),
        kind=classes,
        id=datasets.Value('float32'),
    )
    rows = [
        dict(image=PNG.getvalue(), question=f'What {i}?', answers=[i, 2], kind=i, id=3.1 + i)
        for i in range(2)
    ]
    data = datasets.Dataset.from_list(rows, features=features)
    data.to_parquet(tmp_path / 'q.parquet')
    for spec in data, tmp_path / 'q.parquet':
        assert [(r.answers, r.kind, r.id, r.open().size) for r in load_benchmark(spec)] == [
            (['3', '5'], '3', '3.1', (64, 64)),
            (['eight', '5'], 'eight', '4.1', (64, 64)),
        ]
    for other, words in (
        (data.with_transform(dict), 'map(transform, batched=True)'),
        (data.to_iterable_dataset(), 'list(data.take(100))'),
    ):
        with pytest.raises(CarveError, match=re.escape(words)):
            load_benchmark(other)
    days = datasets.Dataset.from_list([ROW | dict(answer=datetime(2020, 3, 12))])
    days.to_parquet(tmp_path / 'days.parquet')
    (tmp_path / 'a.png').write_bytes(PNG.getvalue())
    assert load_benchmark(tmp_path / 'days.parquet')[0].answers == ['2020-03-12']
    Image.new('RGB', (9, 9)).save(tmp_path / 'b.png')
    paths = datasets.Dataset.from_list([ROW | dict(image=str(tmp_path / 'b.png'))]).cast_column(
        'image', datasets.Image()
    )
    assert load_benchmark(paths)[0].open().size == (9, 9)
    lists = datasets.Dataset.from_list(
        [dict(images=[dict(bytes=PNG.getvalue(), path=None)] * k, question='?', answer='red') for k in (1, 2)]
    )
    one, two = load_benchmark(lists, columns='image=images')
    assert one.open().size == (64, 64)
    with pytest.raises(CarveError, match='write one image in each row'):
        two.open()


def test_images_in_another_folder(load, tmp_path_factory, capsys, monkeypatch):
    "images= and --images find them; one that is not there is an error of its line"
    other = tmp_path_factory.mktemp('pictures')
    (other / 'b.png').write_bytes(PNG.getvalue())
    rows = [ROW | dict(image='b.png')]
    assert "the image 'b.png' is not in the folder of the set" in load(rows)[1]
    assert [r.open().size for r in load(rows, images=other)[0]] == [(64, 64)]
    assert 'is no folder' in load(rows, images=other / 'none')[1]
    (load.folder / 'q.json').write_text(json.dumps(rows + [ROW]))
    monkeypatch.setenv('COLUMNS', '300')
    assert (
        main(
            [
                'eval',
                str(load.folder),
                '--methods',
                'none,center',
                '--model',
                'carve-tiny',
                '--images',
                str(other),
                '--out',
                str(other / 'half'),
            ]
        )
        == 1
    )
    out, err = capsys.readouterr()
    assert "row 2: the image 'a.png' is not in the folder" in out
    assert (other / 'half' / 'answers.html').read_text().count(
        'a.png'
    ) == 1  # the reason once, in words that wrap
    assert err.splitlines()[-1].startswith(
        'carve: error: 2 of 4 answers could not be measured; the first says: '
    )


@pytest.mark.parametrize('rule', ['vqa', 'choice', 'yes/no'])
def test_a_rule_says_what_it_needs(rule, load):
    assert f"row 1: the rule '{rule}' needs" in load([ROW], rule=rule)[1]
    with pytest.raises(CarveError, match='give another rule, one of exact'):
        score_answer('red', Record('1', None, 'What?', ['red']), rule)


def test_a_function_is_a_rule(load):
    def first_letter(answer, record):
        return float(answer[0] == record.answer[0])

    records, _ = load([ROW], rule=first_letter)
    assert (score_answer('rot', records[0]), score_answer('blau', records[0])) == (1, 0)
    assert (
        'has the name of a rule'
        in load([ROW], rule=type('f', (), dict(__call__=lambda *o: 1, __name__='exact'))())[1]
    )


def test_two_functions_of_one_name_are_two_rules():
    def share(of):
        return lambda answer, record: of

    data = [load_benchmark('scenes', n=1, rule=share(of)) for of in (0.25, 0.75)]
    assert [score_answer('red', one[0]) for one in data] == [0.25, 0.75]


def test_a_file_outside(load, tmp_path_factory):
    "By its path, and by one that goes up"
    outside = tmp_path_factory.mktemp('outside') / 'b.png'
    outside.write_bytes(PNG.getvalue())
    for name in str(outside), f'../{outside.parent.name}/b.png':
        assert 'leads out of the folder of the set' in load([ROW | dict(image=name)])[1]


def test_a_truth_that_its_own_score_cannot_read(load):
    "A row is refused by its number where its own answer would not be right, such as one of two options that are one"
    rows = [
        ROW | dict(choices=['red', 'blue']),
        ROW | dict(question='How many?', answer='B', choices=['1', 'one', '2']),
    ]
    told = load(rows)[1]
    assert "row 2: the rule 'choice' does not read the accepted answer" in told and 'correct the row' in told
    rows[1] |= dict(choices=['1', '3', '2'])
    assert [r.answers for r in load(rows)[0]] == [['red'], ['3']]
    assert load([ROW | dict(answer='Please wait')])[0][0].answers == ['Please wait']


def test_names_of_images_in_two_forms_of_unicode(load):
    "A table from macOS writes é as two characters, its images may have one, and the other way round"
    for number, stored in enumerate(('caf\u00e9.png', 'cafe\u0301s.png')):
        (load.folder / stored).write_bytes(PNG.getvalue())
        for kind in 'NFC', 'NFD':
            records, _ = load([ROW | dict(image=unicodedata.normalize(kind, stored))])
            assert records[0].open().size == (64, 64), (number, kind)


def test_rows_in_hand_hold_an_image_as_an_array():
    pixels = np.zeros((40, 60, 3), np.uint8)
    data = load_benchmark([dict(image=pixels, question='What is it?', answer='red', kind=pd.NA)])
    assert data[0].open().size == (60, 40) and data[0].kind == ''


def test_a_folder_with_a_table_in_capitals_is_no_copy_of_the_hub(tmp_path):
    (tmp_path / 'data').mkdir()
    (tmp_path / 'data' / 'test.parquet').touch()
    (tmp_path / 'Q.CSV').touch()
    assert not is_snapshot(tmp_path)


@pytest.mark.parametrize('columns', ['question=text,answer', 'question=a,question=b'])
def test_columns_are_named_once_each_with_a_sign(columns):
    with pytest.raises(CarveError, match='write each name once'):
        read_columns(columns)


def test_a_rule_without_a_name_is_refused():
    with pytest.raises(CarveError, match='has no name'):
        load_benchmark('scenes', n=1, rule=partial(lambda score, answer, record: score, 1.0))


@pytest.mark.parametrize('n', [0, '3', 1.5, True])
def test_a_number_of_questions_that_is_none_is_refused(n):
    for data in 'scenes', [dict(ROW, image=np.zeros((9, 9, 3), np.uint8))]:
        with pytest.raises(CarveError, match='give a whole number of questions'):
            load_benchmark(data, n)


def test_a_scene_without_objects_is_refused():
    with pytest.raises(CarveError, match='at least 1 object'):
        make_scene(1, n=0)
