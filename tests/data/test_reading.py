"How a table is read and how an answer is read: files on disk, through `carve eval`, `load_benchmark` and `score_answer`"

import csv
import io
import json
import pytest
import torch
from PIL import Image
from server import ok
from tiny import write_set
from transformers import LogitsProcessor
from carve_nb import VLM, CarveError, load_benchmark
from carve_nb.data.records import Record
from carve_nb.data.scoring import score_answer
from carve_nb.runs.store import read_run
from recipes.tiny_models import make_tiny_checkpoint

pytestmark = pytest.mark.filterwarnings('ignore')


@pytest.fixture
def evaluate(serve, shell, tmp_path):
    """evaluate(rows, replies) -> status, output and lines of `carve eval` of a model elsewhere, which gives each
    row its reply, a text or a message"""

    def run(rows, replies, *more):
        def play(server, sent):
            question = sent['messages'][0]['content'][-1]['text']
            reply = next(reply for row, reply in zip(rows, replies) if question.startswith(row['question']))
            return ok(**reply) if isinstance(reply, dict) else ok(reply)

        folder = write_set(tmp_path / str(len(list(tmp_path.iterdir()))), rows)
        status, out, _ = shell(
            'eval --methods none --answer-by',
            f'{serve(play)[0].base_url}#m',
            folder,
            '--out',
            folder / 'R',
            *more,
        )
        return status, out, read_run(folder / 'R').records

    return run


def counts(page):
    "The cells of a report's table below *unread* and *near*"
    head, _, row = [line for line in page.splitlines() if line.startswith('|')][:3]
    cells = dict(zip(head.split('|'), row.split('|')))
    return cells[' unread '].strip(), cells[' near '].strip()


def test_unread_answers_are_counted(evaluate, tmp_path):
    "Options, yes and no and second thoughts in one column of the table, near ones in another"
    ways = dict(choices=['red', 'blue'], answer='A')
    questions = {
        'Which one?': ways,
        'Which two?': ways,
        'Which three?': ways,
        'Which four?': ways,
        'What is it?': dict(answer='red'),
        'What else?': dict(answer='red'),
        'What more?': dict(answer='red'),
    }
    replies = 'I cannot tell.', 'Hard to say', 'A', 'B', 'Prose', 'It is red.', 'red, wait, blue'
    status, out, lines = evaluate([dict(question=k) | row for k, row in questions.items()], replies)
    assert (status, [line['score'] for line in lines]) == (0, [0, 0, 1, 0, 0, 0, 0])
    assert counts((tmp_path / '0' / 'R' / 'table.md').read_text(encoding='utf-8')) == ('3', '1')
    assert [line.get('unread', '').partition(' ')[0] for line in lines] == [
        'no',
        'no',
        '',
        '',
        '',
        'near',
        'no',
    ]
    both = [dict(question='Is it?', answer='no'), dict(question='Is it so?', answer='yes')]
    for replies, rule, n in (
        (('**No**', 'Yes, it is'), 'pope', 1),
        (('Yes', 'yes'), 'exact', 0),
        (('There is none', 'yes'), 'yes/no', 1),
    ):
        assert sum('unread' in line for line in evaluate(both, replies, '--rule', rule)[2]) == n


def test_a_reply_that_is_all_reasoning(evaluate):
    "It is no answer: the run counts it as failed and says where the reasoning may have gone"
    rows = [dict(question='What is it?', answer='red'), dict(question='What else?', answer='blue')]
    status, _, lines = evaluate(rows, [dict(content='', reasoning_content='It is red, I think.'), 'blue'])
    assert (status, [line['status'] for line in lines]) == (1, ['malformed', 'ok']) and lines[1]['score'] == 1
    assert 'see how the server parts reasoning from answers' in lines[0]['why']


@pytest.mark.parametrize('name', ['q.csv', 'q.jsonl'])
def test_reading_stops_at_n(name, tmp_path):
    "What follows is not looked at, and takes no memory: of a table of 25 MB less than 5"
    import tracemalloc

    row = (
        'a.png,What is it?,red\n'
        if name == 'q.csv'
        else json.dumps(dict(image='a.png', question='What is it?', answer='red')) + '\n'
    )
    Image.new('RGB', (64, 64), 'red').save(tmp_path / 'a.png')
    with open(tmp_path / name, 'w') as f:
        f.write(('image,question,answer\n' if name == 'q.csv' else '') + row * 2)
        f.write('torn,"\n' if name == 'q.csv' else '{\n')
        f.write(row * (25_000_000 // len(row)))
    load_benchmark(tmp_path, 1)  # imports
    tracemalloc.start()
    try:
        assert len(load_benchmark(tmp_path, 2)) == 2 and tracemalloc.get_traced_memory()[1] < 5e6
    finally:
        tracemalloc.stop()
    with pytest.raises(CarveError, match='cannot be read'):
        load_benchmark(tmp_path, 3)


MARKED = [
    ('<think>It is red? no</think>', ''),
    ('<answer>', '</answer>'),
    ('', ''),
]  # before and after a text that says blue
TOKENS = ['<think>', '</think>', '<answer>', '</answer>']


@pytest.fixture(scope='module')
def marking(tmp_path_factory):
    "A tiny model whose marks are special tokens, and one that spells them"
    models = [
        VLM.from_pretrained(make_tiny_checkpoint('llava', tmp_path_factory.mktemp('m'))) for _ in range(2)
    ]
    models[0].tokenizer.add_special_tokens(dict(additional_special_tokens=TOKENS))
    models[0].model.resize_token_embeddings(len(models[0].tokenizer))
    return models


class Says(LogitsProcessor):
    "Say these tokens, of which some are sure and the others have another beside them"

    def __init__(self, ids, sure):
        self.plan = iter(zip(ids, sure))

    def __call__(self, input_ids, scores):
        token, sure = next(self.plan)
        scores = torch.full_like(scores, -1e4)
        if not sure:
            scores[:, token - 1] = -0.01
        scores[:, token] = 0
        return scores


@pytest.mark.parametrize('special', [True, False])
@pytest.mark.parametrize('before, after', MARKED, ids=range(len(MARKED)))
def test_confidence_without_marks(before, after, special, marking):
    "An answer is read inside its marks; the tokens of a thought do not count: a sure answer after a doubtful one is sure"
    vlm = marking[not special]
    ids = [vlm.tokenizer(text, add_special_tokens=False).input_ids for text in (before, 'blue', after)]
    end = vlm.model.generation_config.eos_token_id
    says = lambda sure: vlm.generate(
        vlm.prompt(Image.new('RGB', (32, 32), 'blue'), 'Which color?'),
        200,
        processors=[Says([*sum(ids, []), end], [s for s, part in zip(sure, ids) for _ in part] + [True])],
    )
    answer = says([False, True, False])
    assert (str(answer), answer.finished) == (before + 'blue' + after, True)
    assert score_answer(answer, Record('1', None, '?', ['blue'])) == 1
    if before.endswith('</think>'):
        assert answer.confidence > 0.99
    assert says([True, False, True]).confidence < 0.99


PEOPLE = [  # question, options, truth; answers and the scores that a person would give
    ('How many dogs?', None, '4', {'Four.': 1, '4': 1, '14': 0}),
    ('Which?', ['red', 'blue'], 'B', {'A. red\nB. blue\n\nB': 1, 'blue': 1, '(A)': 0, 'A. red\nB. blue': 0}),
]


def written(form, folder):  # columns that are declared
    "Write the same table as Excel and as several libraries write Parquet"
    import pyarrow as pa
    import pyarrow.parquet as pq

    if form == 'Excel':
        out = io.StringIO()
        cells = [
            ['pictures/a.png', question, '|'.join(options or []), answer]
            for question, options, answer, _ in PEOPLE
        ]
        csv.writer(out, delimiter=';').writerows(
            [['Image', 'Question', 'Choices', 'Answer'], *cells, [''] * 4]
        )
        (folder / 'q.csv').write_text(out.getvalue(), encoding='utf-8-sig', newline='')
        (folder / '._q.csv').write_bytes(b'macOS')
        return
    struct = dict(bytes=(folder / 'pictures' / 'a.png').read_bytes(), path='a.png')
    image = dict(
        structs=struct, paths=dict(bytes=None, path='pictures/a.png'), lists=[struct], texts='pictures/a.png'
    )[form]
    question, choices, answer, _ = zip(*PEOPLE)
    pq.write_table(
        pa.table(dict(image=[image] * 2, question=[*question], choices=[*choices], answer=[*answer])),
        folder / 'q.parquet',
    )


@pytest.mark.parametrize('form', ['Excel', 'structs', 'paths', 'lists', 'texts'])
def test_tables_that_people_bring(form, tmp_path):
    "The scores that a person would give, and the image"
    (tmp_path / 'pictures').mkdir()
    Image.new('RGB', (64, 48), 'red').save(tmp_path / 'pictures' / 'a.png')
    written(form, tmp_path)
    records = load_benchmark(tmp_path).records
    for r, (question, options, _, answers) in zip(records, PEOPLE, strict=True):
        assert r.open().size == (64, 48)
        assert (r.short_question or r.question) == question
        assert r.choices == options
        assert {answer: score_answer(answer, r) for answer in answers} == answers
    assert [r.rule for r in records] == ['exact', 'choice']
