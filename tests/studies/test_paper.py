"""`carve paper` on miniatures of the four public sets and complete tiny models with as many layers as the
tables name: every line that it prints is a line that it runs."""

import json
import re
from functools import cache
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from processes import ROOT
from carve_nb.attention.vlm import VLM
from carve_nb.core.image import png_bytes
from carve_nb.data import datasets
from carve_nb.method.crop import box_regions
from carve_nb.method.external_crops import ClipCrop, Detector, SamCrop, ToolCrop
from carve_nb.studies.paper import FIGURES, TABLES, find_places
from recipes.tiny_models import make_tiny_checkpoint

FAMILIES = {'Qwen2.5-VL-3B-Instruct': 'qwen2_5_vl', 'llava-1.5-7b-hf': 'llava'}
OF = dict(main='Qwen2.5-VL-3B-Instruct', tools='llava-1.5-7b-hf')


@pytest.fixture(scope='module')
def models(tmp_path_factory):
    place = tmp_path_factory.mktemp('models')
    return {name: make_tiny_checkpoint(family, place / name, layers=28) for name, family in FAMILIES.items()}


@pytest.fixture(scope='module')
def copies(tmp_path_factory):
    "A snapshot of each set as the Hub has it: its columns, made-up content"
    root = tmp_path_factory.mktemp('copies')

    def lay(name, split, *rows):
        (root / name / 'data').mkdir(parents=True)
        noise = [
            dict(bytes=png_bytes(Image.effect_noise((120, 90), 30 * (i + 1)).convert('RGB')), path=None)
            for i in range(len(rows))
        ]
        pq.write_table(
            pa.Table.from_pylist([dict(image=image, **row) for image, row in zip(noise, rows)]),
            root / name / 'data' / f'{split}-00000-of-00001.parquet',
        )

    lay(
        'textvqa',
        'validation',
        *(
            dict(question_id=i, question='what is the brand of this camera?', answers=['dakota'] * 10)
            for i in (1, 2)
        ),
    )
    lay(
        'vstar',
        'test',
        dict(
            question_id='0',
            text="What is the material of the glove?\n(A) rubber\n(B) cotton\nAnswer with the option's letter from the given choices directly.",
            category='direct_attributes',
            label='A',
        ),
    )
    lay(
        'pope',
        'test',
        dict(
            id='0', question_id='0', question='Is there a dog in the image?', answer='yes', category='random'
        ),
    )
    lay(
        'aokvqa',
        'validation',
        dict(
            question_id='q',
            question='What is the man waiting for?',
            choices=['bus', 'train', 'taxi', 'cab'],
            correct_choice_idx=3,
            direct_answers=str(['taxi'] * 10),
            difficult_direct_answer=False,
        ),
    )
    return root


@pytest.fixture(scope='module')
def load_once():
    return cache(VLM.from_pretrained)


@pytest.fixture(autouse=True)
def short(monkeypatch, load_once):
    """Answers of two tokens; a model is loaded once; the networks of the tools are not there, and their crop is
    a fixed one"""
    monkeypatch.setattr(VLM, 'from_pretrained', load_once)
    load = datasets.load_benchmark

    def loaded(*args, **kw):
        data = load(*args, **kw)
        data.max_new_tokens = 2
        return data

    for module in 'carve_nb.data.datasets', 'carve_nb.runs.runner':
        monkeypatch.setattr(f'{module}.load_benchmark', loaded)
    monkeypatch.setattr(ToolCrop, 'tool', lambda self, vlm: (None, None))
    for kind in Detector, ClipCrop, SamCrop:
        monkeypatch.setattr(
            kind, 'find', lambda self, session, ask: box_regions([(10, 10, 60, 60)], ask.image.size, [1.0])
        )


@pytest.mark.parametrize('name', OF)
def test_table(name, models, copies, shell, tmp_path, monkeypatch):
    "The commands that --dry prints, with the price, are those that are run; the table has the paper's numbers and ours, with n"
    monkeypatch.setenv('COLUMNS', '300')
    monkeypatch.setattr('carve_nb.cli.commands.is_here', lambda model: name == 'main')
    table, model = TABLES[name], OF[name]
    words = f'paper {name} --model {models[model]} --root {copies} --out runs --n 1'
    status, dry, err = shell(f'{words} --dry')
    assert status == 0 and not (tmp_path / 'runs').exists(), err
    hours = '0.0' if name == 'main' else 'unknown'
    for data in table.sets:
        assert re.search(rf'^{data} +1( .unverified.)? +0 +{hours} *$', dry, re.M), dry
    status, out, err = shell(words)
    assert status == 0, err[-2000:]
    commands = re.findall('^carve eval .*', out, re.M)
    assert commands == re.findall('^carve eval .*', dry, re.M)
    assert all('--image-tokens 256' in command for command in commands)
    for data in table.sets:
        protocol = json.loads((tmp_path / 'runs' / f'{name}-{data}' / 'protocol.json').read_text())
        assert [*protocol['methods']] == [*table.methods.values()] and protocol['data']['name'] == data
    page = out[out.index('yours with its 95 % interval') :]
    assert str(table.printed[model][-1][0]) in page and not re.search(r' nan\b', page), page
    assert re.search(rf'^{re.escape([*table.methods][-1])} .*\[', page, re.M), page


def test_a_table_of_ones_own(models, shell, tmp_path, monkeypatch):
    "`--set` takes a table of the user's, scored as the set is; sets that are missing do not end the others, and nothing is fetched"
    monkeypatch.setenv('COLUMNS', '300')
    (tmp_path / 'mine').mkdir()
    Image.effect_noise((120, 90), 30).convert('RGB').save(tmp_path / 'mine' / 'a.png')
    row = dict(image='a.png', question='What is it?', answers=['dakota'] * 10)
    (tmp_path / 'mine' / 'questions.jsonl').write_text(json.dumps(row) + '\n')
    status, out, err = shell(f'paper main --model {models[OF["main"]]} --set textvqa=mine --n 1 --out runs')
    assert status == 2
    assert all(f'{data} is left out: ' in err for data in ('pope', 'vstar', 'aokvqa-direct'))
    assert '--download' in err
    assert re.search(r'^T_full .*\[', out, re.M), err
    assert {line['rule'] for line in map(json.loads, open('runs/main-textvqa/records.jsonl'))} == {'vqa-text'}


def test_figures(models, copies, shell, tmp_path):
    "One measurement gives all figures; ours and what is legible of theirs, with n"
    words = f'--model {models["Qwen2.5-VL-3B-Instruct"]} --root {copies} --out runs'
    for name in FIGURES:
        status, out, err = shell(f'paper {name} {words}')
        assert status == 0 and FIGURES[name].about in out, err[-2000:]
        rows = [
            re.split('  +', line.strip())
            for line in out.splitlines()
            if re.match(r'[\d.]+( to [\d.]+)? ', line)
        ]
        assert sum(int(row[-1]) for row in rows) == (2 * 28 if name == 'depth' else 2), out
        assert name != 'texture' or '0.67' in out
    assert [p.name for p in (tmp_path / 'runs').iterdir()] == ['entropy-textvqa']


def test_list_and_refusals(shell, monkeypatch):
    "Without a word the list with complete commands; --dry prints complete ones without the model; a wrong word is refused"
    status, out, _ = shell('paper')
    assert status == 0
    assert all(f'carve paper {name} --model M --download' in out for name in (*TABLES, *FIGURES))
    for name, end in ('main', '61,344'), ('texture', '5,000'):
        assert re.search(rf'^{name} .* {end} ', out, re.M)
    status, out, err = shell('paper tools --model nosuch/model --dry')
    assert (status, err) == (0, '')
    assert 'eval textvqa --download' in out
    assert 'sam-vit-huge:download=True' in out
    assert re.search('^textvqa +5,000 +1.4 +unknown', out, re.M)
    assert 'perhaps main' in shell('paper mian')[2]


def test_printed_numbers():
    "Each number of the tables stands in our reading notes, which were written from the paper by hand before"
    cells = json.loads((ROOT / 'nbs/notes/paper_vs_code.ipynb').read_text(encoding='utf-8'))['cells']
    notes = {
        float(number) for cell in cells for number in re.findall(r'\d*\.\d+|\d+', ''.join(cell['source']))
    }
    printed = {
        value for table in TABLES.values() for rows in table.printed.values() for row in rows for value in row
    }
    seconds = {value for table in TABLES.values() for value in table.seconds}
    assert len(printed) > 100
    assert printed | seconds | {*FIGURES['texture'].printed} | {*FIGURES['hue'].printed} <= notes


def test_a_folder_named_as_a_set_is_read_as_a_folder():
    assert find_places(['textvqa'], ['textvqa=textvqa'], None, True)['textvqa']['spec'] == './textvqa'
