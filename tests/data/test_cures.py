"Each refusal of a table says what to do. The cure is taken out of the message, done, and the table is read."
import json
import re
import warnings
from unittest.mock import patch
import pytest
from PIL import Image
from carve_nb import CarveError, load_benchmark
from carve_nb.cli.main import main
from carve_nb.core.errors import Reader
from carve_nb.data.records import Record, make_records
from carve_nb.data.scoring import score_answer
from carve_nb.runs.store import read_run
from carve_nb.studies.checkup import run_checkup

ROW = dict(image='a.png', question='What is it?', answer='red')
CODE, WORDS = r'names=(dict\(.*?\))', r'--set (names\.\S*)'


def cures_of(load, rows):
    "The cures of a refusal: what Python is told, and what a shell is told, one for one"
    _, said = load(rows)
    with patch.object(Reader, 'in_shell', True): _, told = load(rows)
    assert '--' not in said and 'dict(' not in told
    codes, words = re.findall(CODE, said), re.findall(WORDS, told)
    assert len(codes) == len(words)
    return [(code, word.rstrip('.')) for code, word in zip(codes, words)]


@pytest.fixture
def load(tmp_path):
    "load(rows or text, name, ...) -> records and all that was told, a warning or the refusal"
    Image.new('RGB', (64, 64), 'red').save(tmp_path/'a.png')

    def read(rows, name='q.json', **kw):
        for old in tmp_path.glob('q.*'): old.unlink()
        raw = rows if isinstance(rows, bytes) else (rows if isinstance(rows, str) else json.dumps(rows)).encode()
        (tmp_path/name).write_bytes(raw)
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter('always')
            try: records = load_benchmark(tmp_path, **kw).records
            except CarveError as e: return None, str(e)
        for r in records: r.open()
        return records, ' '.join(str(w.message) for w in found)
    read.folder = tmp_path
    return read


OTHER_NAMES = {    # rows -> the name of the column that is meant, what is read with it
    'question': ([dict(image='a.png', prompt='What?', answer='red')], 'prompt', 'What?'),
    'answer': ([dict(image='a.png', question='What?', gold='red')], 'gold', ['red']),
    'image': ([dict(picture='a.png', question='What?', answer='red')], 'picture', 'a.png'),
    'answers': ([ROW | dict(answer='["red", "blue"]')], 'answer', ['red', 'blue']),
    'choices': ([ROW | dict(options='red|blue')], 'options', ['red', 'blue']),
    'box': ([ROW | dict(bbox_2d=[1, 2, 9, 9])], 'bbox_2d', [(1, 2, 9, 9)]),
    'bbox': ([ROW | dict(gt_boxes=[[1, 2, 8, 7]])], 'gt_boxes', [(1, 2, 9, 9)])}


@pytest.mark.parametrize('field', OTHER_NAMES)
def test_a_column_is_named_as_the_message_says(field, load):
    "In Python, and in the words of a shell, which give the same names"
    rows, column, want = OTHER_NAMES[field]
    cures = {re.match(r'names\.(\w+)', shell)[1]: (code, shell) for code, shell in cures_of(load, rows) if 'None' not in code}
    code, shell = (text.replace('COLUMN', column) for text in cures[field])
    names = eval(code)
    key, _, value = shell.partition('=')
    assert names == {key.removeprefix('names.'): value}
    records, told = load(rows, names=names)
    got = getattr(records[0], dict(answer='answers', bbox='boxes', box='boxes').get(field, field))
    assert (got.name if field == 'image' else got, told) == (want, '')


def test_all_missing_columns_are_told_at_once(load, capsys):
    "In a shell in its words alone; an empty answer is told as that, and not as another answer"
    _, said = load([dict(file='a.png', query='What?', label='red')])
    assert "no column 'question', 'image', 'answer'; the columns are file, query, label" in said
    assert main(['eval', str(load.folder)]) == 2
    assert '; name yours: --set names.question=COLUMN --set names.image=COLUMN --set names.answer=COLUMN.\n' in capsys.readouterr().err
    _, said = load([ROW, ROW | dict(answer='')])
    assert '1 of 2 rows have no answer to score by' in said and 'different answers' not in said


@pytest.mark.parametrize('rows, field', [([ROW | dict(options='red|blue')], 'choices'), ([ROW | dict(bbox_2d=[1, 2, 9, 9])], 'box'),
                                         ([ROW | dict(id=1), ROW | dict(id=1)], 'id')])
def test_a_column_is_left_out_as_the_message_says(rows, field, load, capsys):
    "In Python and in a shell"
    code, shell = next((code, shell) for code, shell in cures_of(load, rows) if 'None' in code)
    assert eval(code) == {field: None} and shell == f'names.{field}='
    records, told = load(rows, names=eval(code))
    assert (len(records), told) == (len(rows), '')
    out = load.folder/'out'
    words = ['--methods', 'none', '--model', 'carve-tiny', '--quiet', '--out', str(out)]
    assert main(['eval', str(load.folder), '--set', shell, *words]) == 0
    assert len(read_run(out).records) == len(rows)


def test_images_in_another_folder(load, tmp_path_factory, capsys, monkeypatch):
    "The message names the image and not the columns; images= and --images find it, below the folder and beside the table"
    other = tmp_path_factory.mktemp('pictures')
    (other/'deep').mkdir()
    Image.new('RGB', (32, 32)).save(other/'deep'/'b.png')
    rows = [ROW | dict(image='deep/b.png')]
    _, said = load(rows)
    assert "1 of 1 rows have no image: 'deep/b.png'" in said and 'columns' not in said and 'question' not in said
    assert 'another folder: images=FOLDER' in said
    with patch.object(Reader, 'in_shell', True): option = re.search(r'(--images) FOLDER', load(rows)[1])[1]
    for images, why in (None, 'have no image'), (other, 'neither a folder nor a Hub id'):     # the table is read before the model
        with pytest.raises(CarveError, match=why): run_checkup('./none', other/'out', load.folder/'q.json', images=images)
    records, told = load([*rows, ROW], images=other)
    assert ([r.open().size for r in records], told) == ([(32, 32), (64, 64)], '')
    words = ['--methods', 'none', '--model', 'carve-tiny', '--quiet', '--out', str(other/'out')]
    assert main(['eval', str(load.folder), option, str(other), *words]) == 0
    assert [r['status'] for r in read_run(other/'out').records] == ['ok']*2
    words[words.index('--out') + 1] = str(other/'half')
    words[words.index('none')] = 'none,center'
    capsys.readouterr()
    monkeypatch.setenv('COLUMNS', '300')
    assert main(['eval', str(load.folder), *words]) == 1
    out, err = capsys.readouterr()
    assert out.count("row 1: the image 'deep/b.png' is not in the folder") == 1 and '`none`, `center`, 1 of 2: error: ' in out
    page = (other/'half'/'answers.html').read_text()
    assert page.count('deep/b.png') == 1 and page.count('>error</td>') == 2      # the reason once, in words that wrap
    assert err.splitlines()[-1].startswith('carve: error: 1 of 2 questions could not be measured; the first line says: ')
    _, said = load(rows, images=other/'none')
    assert 'is no folder; name one that holds the images' in said


@pytest.mark.parametrize('named, there', [('img_0003.jpg', 'IMG_0003.JPG'), ('IMG_3.jpg', 'IMG_0003.JPG'), ('img-03.png', 'IMG_0003.JPG'),
    ('IMG_0030.JPG', None), ('MG_0003.JPG', None)])
def test_near_names_of_images(tmp_path, named, there):
    "A file of almost this name is told and not taken"
    Image.new('RGB', (32, 32)).save(tmp_path/'IMG_0003.JPG')
    (tmp_path/'q.json').write_text(json.dumps([ROW | dict(image='IMG_0003.JPG'), ROW | dict(image=named)]))
    with pytest.warns(UserWarning) as told: record = load_benchmark(tmp_path)[1]
    assert ("'IMG_0003.JPG' is there" in str(told[0].message)) == bool(there), told[0].message
    with pytest.raises(CarveError, match='row 2: the image'): record.open()


LINES = {    # file -> three rows, the second on line 6 and the third, with a fault, on line 7, below a cell of two lines or blank lines
    'q.csv': 'sep=;\nimage;question;answer\na.png;"What?\nA word.";red\n\na.png;Who?;red\n{image};{question};{answer}\n',
    'q.jsonl': '{{"image": "a.png", "question": "What?", "answer": "red"}}\n\n\n\n\n{{"image": "a.png", "question": "Who?", "answer": "red"}}\n'
               '{{"image": "{image}", "question": "{question}", "answer": "{answer}"}}\n'}


@pytest.mark.parametrize('name', LINES)
@pytest.mark.parametrize('fault, said', [(dict(image='9.png'), "line 7: the image '9.png' is not in the folder"), (dict(question=' '), 'line 7: there is no question'),
    (dict(answer=''), 'no answer to score by: line 7;'), (dict(question='Who?', answer='blue'), 'with different answers: line 6, line 7;'),
    (dict(image='b.png'), 'the image of line 7 cannot be opened')])
def test_a_line_is_named_as_an_editor_numbers_it(name, fault, said, load):
    "Not as a number of rows below the header, nor as an id that the file does not have"
    (load.folder/'b.png').write_bytes(b'nothing')
    row = dict(image='a.png', question='Where?', answer='red') | fault
    try: told = load(LINES[name].format(**row), name)[1]
    except CarveError as e: told = str(e)
    assert said in told, told


@pytest.mark.parametrize('name, text, said', [
    ('q.csv', LINES['q.csv'].format(image='a.png', question='red; or blue?', answer='red'), 'line 7 has 4 cells, and the header 3; put'),
    ('q.csv', LINES['q.csv'].format(image='a.png', question='"Where?', answer='red'), 'begins on line 7 has a quotation mark that none closes'),
    ('q.jsonl', LINES['q.jsonl'].format(image='a.png', question='a "red" one?', answer='red'), 'line 7, column ')])
def test_the_line_of_a_file_that_cannot_be_read(name, text, said, load):
    assert said in load(text, name)[1]


CURED = {    # what is refused or told -> the words that say so, the same table with the cure done
    'a gap between options': ([ROW | dict(choices=['red', None, 'blue'])], 'give a text for each letter',
                              [ROW | dict(choices=['red', 'green', 'blue'])]),
    'one option': ([ROW | dict(choices=['red'])], r'texts with \| between them', [ROW | dict(choices='red|blue')]),
    'a printed list': ([ROW | dict(answers="['red' 'blue']")], r'write JSON, such as (\["red", "blue"\])', lambda text: [ROW | dict(answers=text)]),
    'an object as an answer': ([ROW | dict(answer=dict(text='red'))], 'write texts, such as "(red)"', lambda text: [ROW | dict(answer=text)]),
    'two images': ([ROW | dict(image=['a.png', 'a.png'])], 'write one image in each row', [ROW | dict(image=['a.png'])]*2),
    'an address': ([ROW | dict(image='https://x.org/a.png')], 'download it, and write the name of the file', [ROW]),
    'no question': ([ROW, ROW | dict(question=' ')], 'leave the row out', [ROW]),
    'an answer that is no option': ([ROW | dict(answer='gray', choices=['red', 'blue'])], 'give its letter', [ROW | dict(answer='A', choices=['red', 'blue'])]),
    'the index of an option': ([ROW | dict(answer=2, choices=[1, 2, 3])], 'or as (correct_choice_idx) its index, from 0 to 2',
                               lambda column: [ROW | {'choices': [1, 2, 3], column: 1}]),
    'corners that are sizes': ([ROW | dict(box=[40, 40, 9, 9])], '"(bbox)" is x, y, width, height', lambda column: [ROW | {column: [40, 40, 9, 9]}]),
    'options that are counted': ([ROW | dict(question='Which?\n1. red\n2. blue')], 'give them as "(choices)"', lambda column: [ROW | {column: 'red|blue'}]),
    'one name in two cases': ([{'image': 'a.png', 'Question': 'What?', 'QUESTION': 'Who?', 'answer': 'red'}],
                              'rename all but one', [ROW | dict(other='Who?')]),
    'two truths': ([ROW, ROW | dict(answer='blue'), ROW], '(?s)3 of 3 rows ask the same.*all answers in one row, under "(answers)"',
                   lambda column: [dict(image='a.png', question='What is it?') | {column: ['red', 'blue']}]),
    'two values': ('[{"image": "a.png", "question": "?", "answer": 1, "answer": 2}]', 'keep one', [ROW])}


@pytest.mark.parametrize('what', CURED)
def test_what_a_message_says_is_done(what, load):
    rows, words, cured = CURED[what]
    _, said = load(rows)
    found = re.search(words, said)
    assert found, said
    records, told = load(cured(*found.groups()) if callable(cured) else cured)
    assert records and told == ''


HEAD = 'image,question,answer\na.png,Größe?,{}\n'
FILES = {    # text, file -> words, the file with the cure done
    'another encoding': (HEAD.format('rot').encode('cp1252'), 'q.csv', 'save it as (UTF-8)', lambda name: (HEAD.format('rot').encode(name), 'q.csv')),
    'numbers of pandas': (HEAD.format('2.0').encode(), 'q.csv', 'to keep it, write (JSON)', lambda name: (json.dumps([ROW | dict(answer='2.0')]), 'q.json')),
    'a name twice': ('image,question,answer,answer\na.png,q?,1,2\n', 'q.csv', 'rename one', lambda: ('image,question,answer,other\na.png,q?,1,2\n', 'q.csv')),
    'a comma in a cell': ('image,question,answer\na.png,red, or blue?,red\n', 'q.csv', 'put a cell that has \',\'.* into (quotation marks)',
                          lambda _: ('image,question,answer\na.png,"red, or blue?",red\n', 'q.csv')),
    'a header alone': ('image,question,answer\n', 'q.csv', 'q.csv has no rows; write one', lambda: ('Image,QUESTION,Answer\na.png,What?,red\n', 'q.csv')),
    'a workbook': (b'PK', 'q.xlsx', 'save a workbook as (CSV)', lambda name: (HEAD.format('rot'), f'q.{name.lower()}')),
    'no rows': ('{"image": "a.png"}', 'q.json', r'one on a line in (\.jsonl)', lambda ending: (json.dumps(ROW), f'q{ending}')),
    'an unknown ending': (json.dumps([ROW]), 'q.txt', r'name one \.jsonl, (\.json),', lambda ending: (json.dumps([ROW]), f'q{ending}'))}


@pytest.mark.parametrize('what', FILES)
def test_what_a_message_says_of_a_file_is_done(what, load):
    text, name, words, cured = FILES[what]
    _, said = load(text, name)
    found = re.search(words, said)
    assert found, said
    records, told = load(*cured(*found.groups()))
    assert len(records) == 1 and told == ''


@pytest.mark.parametrize('rule', ['vqa', 'vqa-text', 'vqa-simple', 'choice', 'choice-text'])
def test_the_rule_that_a_message_names_scores(rule):
    record = Record('1', None, 'What?', ['red', 'crimson'])
    with pytest.raises(CarveError, match="Use the rule '") as e: score_answer('red', record, rule)
    assert score_answer('red', record, re.search("Use the rule '(.*?)'", str(e.value))[1]) == 1


LONG = 'x'*100_000
@pytest.mark.parametrize('row', [
    dict(image=LONG), dict(image=[LONG]*2), dict(image=f'https://{LONG}'), dict(answer=[[LONG]]), dict(answer=f'["{LONG}'), dict(answers=f'["{LONG}'),
    dict(choices=LONG), dict(choices=[LONG, None, 'b']), dict(choices=['a', 'b'], answer=LONG), dict(box=LONG), dict(box=[LONG]), dict(kind=[LONG]),
    dict(id=LONG)])
def test_no_value_is_longer_than_eighty_letters(row, load):
    "Also where it is an image, the name of one, or a column"
    _, said = load([ROW | row]*2)
    assert said and not re.search('x{81}', said), said[:300]


def test_no_name_of_a_column_is_longer():
    for names in ({LONG: 'a'}, dict(question=LONG)):
        with pytest.raises(CarveError) as e: make_records([ROW], 'set', names=names)
        assert not re.search('x{81}', str(e.value))
