"How a table is read and how an answer is read: files on disk, through `carve eval`, `load_benchmark` and `score_answer`"
import base64
import csv
import io
import json
import threading
import unicodedata
import warnings
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
import numpy as np
import pytest
import torch
from PIL import Image
from transformers import LogitsProcessor
from carve_nb import VLM, CarveError, load_benchmark, open_image
from carve_nb.cli.main import main
from carve_nb.data.records import Record, folder_images, make_records, read_table
from carve_nb.data.scoring import score_answer
from carve_nb.runs.store import read_run
from recipes.tiny_models import make_tiny_checkpoint

pytestmark = pytest.mark.filterwarnings('ignore')


@pytest.fixture
def answerer(monkeypatch):
    "answerer({question: reply}) -> the address of a model that replies so; a reply is a text or a message"
    for k in ('HTTP_PROXY', 'http_proxy', 'ALL_PROXY', 'all_proxy'): monkeypatch.delenv(k, raising=False)
    servers = []

    def start(replies):
        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *args): pass
            def do_POST(self):
                sent = json.loads(self.rfile.read(int(self.headers['Content-Length'])))
                asked = sent['messages'][0]['content'][-1]['text']
                reply = next(reply for question, reply in replies.items() if asked.startswith(question))
                message = dict(role='assistant') | (reply if isinstance(reply, dict) else dict(content=reply))
                raw = json.dumps(dict(choices=[dict(message=message, finish_reason='stop')])).encode()
                self.send_response(200)
                for k, v in {'Content-Type': 'application/json', 'Content-Length': len(raw)}.items():
                    self.send_header(k, str(v))
                self.end_headers()
                self.wfile.write(raw)
        servers.append(HTTPServer(('127.0.0.1', 0), Handler))
        threading.Thread(target=servers[-1].serve_forever, args=(.01,), daemon=True).start()
        return f'http://127.0.0.1:{servers[-1].server_port}/v1#m'

    yield start
    for server in servers: server.shutdown(), server.server_close()


def write_set(folder, rows):
    "A folder with one image and rows of questions"
    folder.mkdir(parents=True, exist_ok=True)
    Image.new('RGB', (64, 64), 'red').save(folder/'a.png')
    (folder/'questions.jsonl').write_text('\n'.join(json.dumps(dict(image='a.png') | row) for row in rows) + '\n',
        encoding='utf-8')
    return str(folder)


def evaluate(folder, url, out, *more): # lines by question
    "`carve eval` of a model elsewhere"
    assert main(['eval', folder, '--methods', 'none', '--answer-by', url, '--out', str(out), '--quiet', *more]) == 0
    return {line['question'].split('\n')[0]: line for line in read_run(out)[1]}


def test_unread_answers_are_counted(answerer, tmp_path, capsys):
    "Options, yes and no, and empty answers; where all could be read nothing is said"
    ways = dict(choices=['red', 'blue'], answer='A')
    replies = {
        'Which one?': ('I cannot tell.', ways), 'Which two?': ('Hard to say', ways), 'Which three?': ('A', ways),
        'Which four?': ('B', ways),
        'Is it?': ('That depends.', dict(answer='yes')), 'Is it not?': ('No.', dict(answer='yes')),
        'What is it?': ('Prose', dict(answer='red'))}
    folder = write_set(tmp_path/'set', [dict(question=k, **row) for k, (_, row) in replies.items()])
    lines = evaluate(folder, answerer({k: said for k, (said, _) in replies.items()}), tmp_path/'R')
    assert [lines[k]['score'] for k in replies] == [0, 0, 1, 0, 0, 0, 0]
    told = [
        '`none`, 2 of 7: no option could be read, as in "I cannot tell."',
        '`none`, 1 of 7: neither yes nor no could be read, as in "That depends."']
    for page in (capsys.readouterr().out, (tmp_path/'R'/'table.md').read_text(encoding='utf-8')):
        assert [line for line in page.splitlines() if 'could be read' in line] == told
    for said, rule, page in (('**No**', 'pope', '1 of 2: neither yes nor no could be read, as in "**No**"'),
            ('No', 'pope', ''), ('Yes', 'exact', '')):
        out = tmp_path/f'R-{rule}-{len(said)}'
        folder = write_set(tmp_path/out.name, [dict(question='Is it?', answer='no'),
            dict(question='Is it so?', answer='yes')])
        evaluate(folder, answerer({'Is it?': said, 'Is it so?': 'Yes, it is' if rule == 'pope' else 'yes'}), out/'R',
            '--rule', rule)
        found = [line for line in capsys.readouterr().out.splitlines() if 'could be read' in line]
        assert len(found) == bool(page) and page in ''.join(found)


@pytest.mark.parametrize('field', ['reasoning', 'reasoning_content'])
def test_a_reply_that_is_all_reasoning(field, answerer, tmp_path, capsys):
    "It is no answer: the run counts it as failed and says where the reasoning may have gone"
    folder = write_set(tmp_path/'set', [dict(question='What is it?', answer='red'),
        dict(question='What else?', answer='blue')])
    replies = {'What is it?': {'content': '', field: 'It is red, I think.'}, 'What else?': 'blue'}
    lines = evaluate(folder, answerer(replies), tmp_path/'R')
    assert [lines[k]['status'] for k in replies] == ['malformed', 'ok'] and lines['What else?']['score'] == 1
    assert 'see how the server parts reasoning from answers' in str(lines['What is it?'])


H = 'image,question,answers\n'


def table_of(folder, text, name='questions.csv'): # records, warnings
    "A folder with one image and a file of annotations"
    folder.mkdir(parents=True, exist_ok=True)
    Image.new('RGB', (64, 64), 'red').save(folder/'a.png')
    (folder/name).write_text(text, encoding='utf-8', newline='')
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter('always')
        return load_benchmark(str(folder)).records, ' '.join(str(w.message) for w in found)


def test_columns_of_other_names(answerer, tmp_path, capsys):
    "A column is named once, also in a shell"
    rows = [dict(img='a.png', prompt='What is it?', gold=['cup', 'mug']),
        dict(img='a.png', prompt='What else?', gold='cat')]
    folder = write_set(tmp_path/'set', rows)
    (tmp_path/'set'/'questions.jsonl').write_text(''.join(json.dumps(row) + '\n' for row in rows))
    names = dict(image='img', question='prompt', answers='gold')
    lines = evaluate(folder, answerer({'What is it?': 'mug', 'What else?': 'dog'}), tmp_path/'R',
        *(w for k, v in names.items() for w in ('--set', f'names.{k}={v}')))
    assert [lines[row['prompt']]['score'] for row in rows] == [1, 0]
    for words, said in (
            (('--set', 'names.questoin=prompt'), 'perhaps question'),
            (('--set', 'names.prompt'), 'write names.FIELD=COLUMN')):
        assert main(['eval', folder, '--out', str(tmp_path/'none'), '--quiet', *words]) == 2
        assert said in ' '.join(capsys.readouterr().err.replace('│', ' ').split())


@pytest.mark.parametrize('name', ['q.csv', 'q.jsonl'])
def test_reading_stops_at_n(name, tmp_path):
    "What follows is not looked at, and takes no memory: of a table of 25 MB less than 5"
    import tracemalloc
    row = 'a.png,What is it?,red\n' if name == 'q.csv' else json.dumps(dict(image='a.png', question='What is it?',
        answer='red')) + '\n'
    Image.new('RGB', (64, 64), 'red').save(tmp_path/'a.png')
    with open(tmp_path/name, 'w') as f:
        f.write(('image,question,answer\n' if name == 'q.csv' else '') + row*2)
        f.write('torn,"\n' if name == 'q.csv' else '{\n')
        f.write(row*(25_000_000//len(row)))
    load_benchmark(tmp_path, 1)       # imports
    tracemalloc.start()
    try:
        assert len(load_benchmark(tmp_path, 2)) == 2 and tracemalloc.get_traced_memory()[1] < 5e6
    finally: tracemalloc.stop()
    with pytest.raises(CarveError, match='cannot be read'): load_benchmark(tmp_path, 3)


PRINTED = {
    "['2', 'two']": ['2', 'two'], '["2", "two"]': ['2', 'two'], "('2', 'two')": ['2', 'two'],
    '[3.0, 4.0]': ['3', '4'], '2|two': ['2', 'two'], '[sic]': ['[sic]'], "['left']": ['left'],
    '[left] or [right]': ['[left] or [right]'], '(3, 4)': ['(3, 4)'], '[...]': ['[...]']}


@pytest.mark.parametrize('cell', PRINTED)
def test_lists_printed_into_a_cell(cell, tmp_path):
    "As JSON and Python print them; what only looks like one stays a text"
    written = io.StringIO()
    csv.writer(written).writerow(['a.png', 'What is it?', cell])
    records, told = table_of(tmp_path, H + written.getvalue())
    assert (records[0].answers, told) == (PRINTED[cell], '')


def quoted(cell): return cell.replace('"', '""')


UNREAD = ["['2' 'two']", "['a'\n \"it's\"\n 'c d']", "array(['2', 'two'], dtype=object)", "[np.str_('2'), np.str_('two')]", '[3 3 4]', '[3. 4.5]',
    '[np.float64(3.0), np.float64(4.5)]', "['a' ... 'b']", "['a', ..., 'b']", "['a', nan]", '[1. nan]', '[0 1 2 ... 7 8 9]']


@pytest.mark.parametrize('cell', UNREAD)
def test_lists_that_cannot_be_read(cell, tmp_path):
    "NumPy prints no commas, which Python reads as one text"
    with pytest.raises(CarveError, match='row 2: answers .* is a printed list that cannot be read; write JSON, such as'):
        table_of(tmp_path, f'{H}a.png,What?,red\na.png,What?,"{quoted(cell)}"\n')
    with pytest.raises(CarveError, match='choices .* is a printed list'):
        table_of(tmp_path, f'image,question,choices,answer\na.png,Which?,"{quoted(cell)}",a\n')


def test_numbers_of_a_column(tmp_path):
    "pandas writes 4.0 for 4 where a column has a gap; 2.0 among texts is a text"
    of = lambda cells: (lambda records, told: ([r.answers for r in records], told))(*table_of(
        tmp_path, 'image,question,answer\n' + ''.join(f'a.png,What?,{cell}\n' for cell in cells)))
    told = "The column 'answer' holds numbers such as {}.0, read without the .0; to keep it, write JSON."
    answers, said = of(['4.0', '', '17.0'])
    assert answers == [['4'], [], ['17']] and told.format(4) in said
    answers, said = of(['4.0', '2.5', '-3.0', '7'])
    assert answers == [['4'], ['2.5'], ['-3'], ['7']] and told.format(4) in said
    for texts in ['2.0', 'USB'], ['2.0', '3.10'], ['007', '1'], ['3.5', '2.5']:
        assert of(texts) == ([[o] for o in texts], '')


@pytest.mark.parametrize('sep', ';\t')
def test_other_separators(sep, tmp_path):
    "A table of a German Excel, with commas in its questions, is read as one with commas"
    rows = [('image', 'question', 'answer'), ('a.png', 'What, here; now?', 'red'), ('a.png', 'Where, who?', '1,5')]
    written = io.StringIO()
    csv.writer(written, delimiter=sep).writerows(rows)
    records, told = table_of(tmp_path, written.getvalue())
    assert ([(r.question, r.answers) for r in records], told) == ([(q, [a]) for _, q, a in rows[1:]], '')


def test_values_of_json(tmp_path):
    rows = [dict(image='a.png', question='q?', answer=o) for o in (4.0, 2.5, '2.0', 7, 1e3)] + [dict(image='a.png',
        question='q?', answers=[3.0, None, '3.0'])]
    records, told = table_of(tmp_path, json.dumps(rows), 'q.json')
    assert [r.answers for r in records] == [['4'], ['2.5'], ['2.0'], ['7'], ['1000'], ['3', '3.0']] and told == ''


@pytest.mark.parametrize('name, text', [
    ('q.json', '[{"image": "a.png", "question": "Is it?", "answer": true}, {"image": "a.png", "question": "Is it so?", "answer": false}]'),
    ('q.csv', 'image,question,answer\na.png,Is it?,True\na.png,Is it so?,False\n')])
def test_truth_values(name, text, tmp_path):
    "A model says yes or no, or repeats the value"
    records, told = table_of(tmp_path, text, name)
    assert [[score_answer(said, r) for said in ('Yes.', 'True', 'No', 'false')] for r in records] == [[1, 1, 0, 0],
        [0, 0, 1, 1]]
    assert told == ''
    assert [score_answer(o, records[0], 'pope') for o in ('Yes', 'No')] == [1, 0]
    options, _ = table_of(tmp_path/'options', 'image,question,choices,answer\na.png,Is it?,True|False,False\n')
    assert (options[0].choices, options[0].answers) == (['True', 'False'], ['False'])


FORMS = {
    'lines': ['A. {}\nB. {}', '(A) {}\n(B) {}', 'A: {}\nB: {}', 'A：{}\nB：{}', 'A - {}\nB - {}', 'a) {}\nb) {}',
    '(a) {}\n(b) {}', '[A] {}\n[B] {}',
              'A、{}\nB、{}', 'A．{}\nB．{}', 'Options:\nA: {}\nB: {}', 'Options: A: {}\nB: {}',
              'Choices:\n\n[A] {}\n[B] {}\nAnswer with the letter.'],
    'one line': ['A. {} B. {}', '(A) {} (B) {}', 'A: {}, B: {}', 'Options: A: {}, B: {}',
    'Choices: (a) {}; (b) {}. Answer with the letter only.',
                 'Options:\nA: {}, B: {}\nAnswer:']}


@pytest.mark.parametrize('form', [form for forms in FORMS.values() for form in forms])
def test_forms_of_options(form, tmp_path):
    "Letters with a sign, on lines or on one"
    rows = [dict(image='a.png', question='Which color is it?\n' + form.format('dark red', 'blue'), answer=o)
        for o in ('B', 'b' if 'b)' in form else '[B]', 'blue')]
    if form in FORMS['one line']:
        rows += [dict(rows[0], question=f'Which color is it? {form.format("dark red", "blue")}')]
    records, told = table_of(tmp_path, json.dumps(rows), 'q.json')
    for r in records:
        assert (r.choices, r.answers, r.rule, r.short_question) == (['dark red', 'blue'], ['blue'], 'choice',
            'Which color is it?'), r
    assert [score_answer(o, records[0]) for o in ('B', 'blue', 'b', 'Answer: B', 'A', 'dark red')] == [1, 1, 1, 1, 0, 0]
    assert told == ''


def test_options_that_are_not_read(tmp_path):
    "Numbers are no letters, and an answer that is no option leaves an open question: both are told"
    for question, answer in ('Which?\n1. red\n2. blue', '2'), ('Which?\nA: red\nB: blue', 'green'):
        records, told = table_of(tmp_path, json.dumps([dict(image='a.png', question=question, answer=answer)]),
            'q.json')
        assert records[0].choices is None
        assert "1 of 1 rows seem to have options in a form that is not read: 'a-1'; give them as \"choices\"" in told
    for question in ('Is vitamin A or B. better?', 'What is 1. on the list?', 'Is A - B equal to C - D?',
            'Who is taller: A or B?', 'What does the sign say: A. Smith?'):
        records, told = table_of(tmp_path, json.dumps([dict(image='a.png', question=question, answer='A')]), 'q.json')
        assert (records[0].choices, told) == (None, ''), question


MARKED = [    # a text that says blue: before it, and after it
    ('<|channel>thought\nIt is red? no<channel|>', ''), ('<|channel>thought\n<channel|>', ''),
    ('<|begin_of_box|>', '<|end_of_box|>'), ('<answer>', '</answer>'), ('The color is \\boxed{', '}.'),
    ('<think>red?</think><answer><|begin_of_box|>', '<|end_of_box|></answer>'),
    ('<|channel|>analysis<|message|>red?<|end|><|start|>assistant<|channel|>final<|message|>', ''),
    ('analysisIs it red? no.assistantfinal', '')]
TOKENS = ['<|channel>', '<channel|>', '<|begin_of_box|>', '<|end_of_box|>', '<|channel|>', '<|message|>', '<|start|>',
    '<|end|>']


def test_marks_around_an_answer(answerer, tmp_path):
    "They are taken off before it is scored; the record keeps what was said. A thought that does not end is no answer"
    said = {f'Which color has {i}?': before + 'blue' + after for i, (before, after) in enumerate(MARKED)}
    said |= {'What is cut?': '<|channel>thought\nblue', 'Which is cut?': '<|channel|>analysis<|message|>blue<|end|>',
        'Where is it?': '<answer>blue'}
    folder = write_set(tmp_path/'set', [dict(question=k, answer='blue') for k in said])
    lines = evaluate(folder, answerer(said), tmp_path/'R')
    assert {k: (lines[k]['answer'], lines[k]['score']) for k in said} == {k: (v, float('cut' not in k)) for k,
        v in said.items()}


@pytest.fixture(scope='module')
def marking(tmp_path_factory):
    "A tiny model whose marks are special tokens, and one that spells them"
    models = [VLM.from_pretrained(make_tiny_checkpoint('llava', tmp_path_factory.mktemp('m'))) for _ in range(2)]
    models[0].tokenizer.add_special_tokens(dict(additional_special_tokens=TOKENS))
    models[0].model.resize_token_embeddings(len(models[0].tokenizer))
    return models


class Says(LogitsProcessor):
    "Say these tokens, of which some are sure and the others have another beside them"
    def __init__(self, ids, sure): self.plan = iter(zip(ids, sure))
    def __call__(self, input_ids, scores):
        token, sure = next(self.plan)
        scores = torch.full_like(scores, -1e4)
        if not sure: scores[:, token - 1] = -.01
        scores[:, token] = 0
        return scores


@pytest.mark.parametrize('special', [True, False])
@pytest.mark.parametrize('before, after', MARKED + [('', '')], ids=range(len(MARKED) + 1))
def test_confidence_without_marks(before, after, special, marking):
    "Only the tokens of the answer count; a sure answer after a doubtful thought is sure"
    vlm = marking[not special]
    ids = [vlm.tokenizer(text, add_special_tokens=False).input_ids for text in (before, 'blue', after)]
    end = vlm.model.generation_config.eos_token_id
    says = lambda sure: vlm.generate(
        vlm.prompt(Image.new('RGB', (32, 32), 'blue'), 'Which color?'), 200,
        processors=[Says([*sum(ids, []), end], [s for s, part in zip(sure, ids) for _ in part] + [True])])
    answer = says([False, True, False])
    assert (str(answer), answer.finished) == (before + 'blue' + after, True)
    assert answer.confidence > .99 and score_answer(answer, Record('1', None, '?', ['blue'])) == 1
    assert says([True, False, True]).confidence < .7


@pytest.mark.parametrize('file, named', [
    (unicodedata.normalize('NFD', 'é.png'), 'é.png'), ('é.png', unicodedata.normalize('NFD', 'é.png')),
    ('x\\b.png', 'x\\b.png'), ('x\\b.png', 'x/b.png'), ('c.avif', 'c.avif'), ('d.jfif', 'd.jfif'), ('d.JPE', 'd.JPE')])
def test_names_of_files(file, named, tmp_path):
    "As macOS and Windows write them, and endings of JPEG and AVIF"
    Image.new('RGB', (20, 10), 'blue').save(tmp_path/file, dict(avif='AVIF', jfif='JPEG').get(file[-4:],
        'JPEG' if 'jpe' in file.lower() else 'PNG'))
    records, told = table_of(tmp_path, json.dumps([dict(image=named, question='What?', answer='red')]), 'q.json')
    assert (records[0].open().size, told) == ((20, 10), '')
    assert tmp_path/file in folder_images(tmp_path)


def test_formats_that_are_not_read(tmp_path, capsys):
    "The format, not the file, is missing; and a file of the name is there"
    (tmp_path/'a.heic').write_bytes(b'\0\0\0\x18ftypheic' + bytes(40))
    Image.new('RGB', (20, 10)).save(tmp_path/'b.avif')
    rows = [dict(image=name, question='What?', answer='red') for name in ('b.avif', 'a.heic')]
    records, told = table_of(tmp_path, json.dumps(rows), 'q.json')
    with pytest.raises(CarveError, match='of another format, such as HEIC, convert it'): records[1].open()
    with pytest.warns(UserWarning, match='1 files such as a.heic are left out, as their format is not read here'):
        folder_images(tmp_path)
    assert main(['ask', str(tmp_path/'a.heic'), 'What is it?']) == 2
    assert 'of another format, such as HEIC, convert it' in ' '.join(capsys.readouterr().err.split())


def test_boxes_of_turned_images(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new('RGB', (60, 40)).save(tmp_path/'t.jpg', exif=exif)
    rows = [dict(image=name, question='What?', answer='red', box=[1, 2, 9, 9]) for name in ('t.jpg', 'a.png')]
    turned, plain = table_of(tmp_path, json.dumps(rows), 'q.json')[0]
    with pytest.warns(UserWarning, match='Boxes are read as pixels of the upright image; EXIF data turn some images'): turned.open()
    turned.boxes = None
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        plain.open(), turned.open()


PEOPLE = [    # question, options, truth; answers and the scores that a person would give
    ('How many dogs?', None, 4.0, {'Four.': 1, '4': 1, '14': 0}), ('What does it cost?', None, '$1,200', {'1200': 1, '$1200.00': 1, '$12': 0}),
    ('Is it red?', None, 'yes', {'Yes, it is.': 1, 'No': 0, 'It is not red.': 0}),
    ('Which?', ['red', 'blue'], 'B', {'A. red\nB. blue\n\nB': 1, 'blue': 1, '(A)': 0, 'A. red\nB. blue': 0})]


def written(form, folder): # names of the files
    "Write the same table as pandas 3, Excel, LLaVA and `datasets` do"
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq
    rows = [dict(image='pictures/a.png', question=q, choices=c, answer=a) for q, c, a, _ in PEOPLE]
    if form == 'pandas': pd.DataFrame(rows).to_csv(folder/'q.csv', index=False)
    if form in ('Excel', 'Unicode text'):
        cells = [[r['image'], r['question'], *(r['choices'] or ['', '']), str(r['answer'])] for r in rows]
        out = io.StringIO()
        sep = ';' if form == 'Excel' else '\t'
        csv.writer(out, delimiter=sep).writerows([['image', 'question', 'A', 'B', 'answer'], *cells])
        text = ('sep=;\r\n' if form == 'Excel' else '') + out.getvalue()
        (folder/('q.csv' if form == 'Excel' else 'q.tsv')).write_text(text, encoding='utf-8-sig' if form == 'Excel' else 'utf-16', newline='')
        (folder/'._q.csv').write_bytes(b'macOS')
    if form == 'LLaVA':
        lined = [r | dict(question='<image>\n' + r['question']) for r in rows]
        (folder/'q.jsonl').write_text(''.join(json.dumps(r) + '\n' for r in lined))
    texts = dict(question=[r['question'] for r in rows], answer=[str(r['answer']) for r in rows], choices=[r['choices'] for r in rows])
    raw = (folder/'pictures'/'a.png').read_bytes()
    images = dict(
        structs=pa.array([dict(bytes=raw, path='a.png')]*4), paths=pa.array([dict(bytes=None, path='pictures/a.png')]*4),
        polars=pa.array(['pictures/a.png']*4, pa.large_string()), lists=pa.array([[dict(bytes=raw, path=None)]]*4),
        base64=pa.array([base64.b64encode(raw).decode()]*4))
    if form in images: pq.write_table(pa.table(dict(image=images[form], **texts)), folder/'q.parquet')


@pytest.mark.parametrize('form', ['pandas', 'Excel', 'Unicode text', 'LLaVA', 'structs', 'paths', 'polars', 'lists', 'base64'])
def test_tables_that_people_bring(form, tmp_path):
    "The scores that a person would give, and the image"
    pytest.importorskip('datasets')
    (tmp_path/'pictures').mkdir()
    Image.new('RGB', (64, 48), 'red').save(tmp_path/'pictures'/'a.png')
    written(form, tmp_path)
    records = load_benchmark(tmp_path).records
    for r, (question, options, _, answers) in zip(records, PEOPLE, strict=True):
        assert (r.open().size, (r.short_question or r.question), r.choices) == ((64, 48), question, options)
        assert {said: score_answer(said, r) for said in answers} == answers
    assert [r.rule for r in records] == ['exact', 'exact', 'yes/no', 'choice']


def test_white_ink_on_transparent():
    clear = Image.new('RGBA', (20, 20), (0, 0, 0, 0))
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        open_image(clear)
        clear.paste((0, 0, 0, 255), (5, 5, 9, 9))
        open_image(clear)
    clear.paste((255, 255, 255, 255), (5, 5, 9, 9))
    with pytest.warns(UserWarning, match='what is drawn in white is lost'): open_image(clear)


def test_transparent_value_of_sixteen_bits(tmp_path):
    Image.fromarray(np.array([[0, 65535], [300, 65535]], np.uint16)).save(tmp_path/'a.png', transparency=300)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        assert np.asarray(open_image(tmp_path/'a.png'))[1, 0].tolist() == [255]*3


@pytest.mark.parametrize('names, answers, box', [
    ({}, ['red'], (0, 0, 9, 9)),
    (dict(answer='label'), ['blue'], (0, 0, 9, 9)),
    (dict(answers='label', bbox='region'), ['blue'], (1, 2, 4, 6)),
    (dict(answer='label', correct_choice_idx='index'), ['green'], (0, 0, 9, 9)),
    (dict(answers=None, box='region'), ['red'], (1, 2, 3, 4))])
def test_named_column_goes_before_the_usual_one(names, answers, box):
    row = dict(question='Which?', choices=['red', 'blue', 'green'], answers=['red'], correct_choice_idx=0, label='B', index=2,
               box=[0, 0, 9, 9], region=[1, 2, 3, 4], image=Image.new('RGB', (64, 64)))
    r, = make_records([row], 'set', names=names)
    assert (r.answers, r.boxes) == (answers, [box])


def test_a_table_in_a_home_directory(tmp_path, monkeypatch):
    "Images that lie where the table says are found without a walk through all that lies beside it; others by the walk"
    Image.new('RGB', (9, 9)).save(tmp_path/'a.png')
    (tmp_path/'deep').mkdir()
    Image.new('RGB', (7, 7)).save(tmp_path/'deep'/'b.png')
    (tmp_path/'q.csv').write_text('image,question,answer\na.png,Who?,me\n.\\deep\\b.png,Who?,you\n../a.png,Who?,nobody\n')
    with pytest.warns(UserWarning, match='1 of 3 rows have no image'): a, b, outside = read_table(tmp_path/'q.csv')
    assert (a.open().size, b.open().size) == ((9, 9), (7, 7))
    monkeypatch.setattr(Path, 'rglob', lambda *args: 1/0)
    assert read_table(tmp_path/'q.csv', 1)[0].open().size == (9, 9)
