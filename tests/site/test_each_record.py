"Each record is read by a page, each of its arms is printed or named below, and each prediction tells what came."

import ast
import gzip
import inspect
import json
from functools import cache
from importlib import import_module
import pytest
from processes import ROOT

TRIAL = ROOT / 'nbs/results/trial'
RECORDS = sorted(path.name.removesuffix('.jsonl.gz') for path in TRIAL.glob('*.jsonl.gz'))
PREDICTIONS = json.loads((TRIAL / 'predictions.json').read_text(encoding='utf-8'))
PAGES = [
    path.relative_to(ROOT / 'nbs').with_suffix('').as_posix()
    for folder in ('', 'notes', 'training', 'tutorials')
    for path in sorted((ROOT / 'nbs' / folder).glob('*.ipynb'))
]
IDS = 'id', 'seed', 'kind', 'truth'
NOT_PRINTED = {  # the beginning of a record's name -> its keys that no page prints, and why
    'front_page-peak': {'box': 'of the crop; two ranks that choose one box were asked about it once'},
    'controls-moved': {'apart': 'how many tokens lie between; the text says it'},
    'controls-tokens': {
        'last, profile': 'of layers that are gone',
        'noun, profile': 'of layers that are gone',
    },
    'question_last': {'bits': 'the spread of the same maps, which the question of that page is not about'},
    'region-ideal': {
        'A_G, quotient, 1e-8': 'the published λ; the pages print λ of one mean',
        'no other, quotient, 1e-8': 'the same',
        'no target, quotient, 1e-8': 'the same',
        'no target, difference': 'the target is left out for the quotient alone',
        'A_G, difference': 'printed for carve-smol; below the raw map on the others',
        'objects': 'how many objects the scene has',
    },
    'region-maps': {'area': 'the size of a crop, of which the text gives the largest'},
    'released_sinks': {'dims': 'which dimensions `var` finds; the page gives how many patches'},
    'replay-carve-smol': {
        f'layer {k}': 'the page prints the two that bring most back' for k in range(30) if k not in (23, 24)
    },
    'replay-carve': {
        'before row': 'the tokens before the word alone; the page prints word and last',
        'after row': 'the same of those after it',
        'own pixels': "the target's own pixels with all else gray; controls-clutter has them as `alone`",
        'around': 'of carve-smol not printed',
        'elsewhere': 'of carve-smol not printed',
        'moved busy': 'of carve-smol not printed',
        'moved calm': 'of carve-smol not printed',
    },
    'set_spread': {'early, 0': 'the page prints the flat attention of all layers', 'widened, 0': 'the same'},
    'worlds-assume-forced': {'digit step': 'of a world that was not reached'},
}


def strings_of(source: str) -> tuple[set[str], list[list[str | None]]]:
    "Return the names and strings of a piece of code, and its f-strings with None for what is filled in"
    words, patterns = set(), []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            words.add(node.value)
        elif isinstance(node, ast.Attribute):
            words.add(node.attr)
        elif isinstance(node, ast.keyword):
            words.add(node.arg or "")
        elif isinstance(node, ast.JoinedStr):
            patterns.append([part.value if isinstance(part, ast.Constant) else None for part in node.values])
    return words, patterns


def called_recipes(source: str):
    "Yield the functions of recipes that a piece of code imports, or whose module it imports"
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and (node.module or '').split('.')[0] == 'recipes':
            module = import_module(node.module)
            for name in node.names:
                found = getattr(module, name.name, None) or import_module(f'{node.module}.{name.name}')
                if inspect.isfunction(found):
                    yield found
                elif inspect.ismodule(found):
                    yield from (of for _, of in inspect.getmembers(found, inspect.isfunction))


@cache
def said_by(page: str) -> tuple[set[str], list]:
    "Return the strings and f-strings of a page's code, and of the recipes that it calls"
    cells = json.loads((ROOT / f'nbs/{page}.ipynb').read_text(encoding='utf-8'))['cells']
    sources = [''.join(cell['source']) for cell in cells if cell['cell_type'] == 'code']
    sources = [source for source in sources if not source.lstrip().startswith(('%', '!'))]
    sources += [
        inspect.cleandoc('\n' + inspect.getsource(f)) for source in sources for f in called_recipes(source)
    ]
    words, patterns = set(), []
    for source in sources:
        more, forms = strings_of(source)
        words |= more
        patterns += forms
    return words, patterns


def fills(form: list, name: str, words: set[str], patterns: list) -> bool:
    "Tell whether an f-string can make a name from what a page says"
    if not form:
        return not name
    first, *rest = form
    if first is not None:
        return name.startswith(first) and fills(rest, name[len(first) :], words, patterns)
    ends = range(len(name) + 1)
    return any(
        fills(rest, name[end:], words, patterns) and (not end or says(name[:end], words, patterns))
        for end in ends
    )


def says(name: str, words: set[str], patterns: list) -> bool:
    "Tell whether code holds a name: whole, as a number, by its beginning or end, or filled into an f-string"
    if name in words or name.isdigit():
        return True
    if any(
        len(w) > 2 and (w.endswith(' ') and name.startswith(w) or w.startswith(', ') and name.endswith(w))
        for w in words
    ):
        return True
    shorter = [form for form in patterns if len(form) > 1 and any(form)]
    return any(fills(form, name, words, [f for f in patterns if f is not form]) for form in shorter)


def keys_in(value) -> set[str]:
    "Return the keys of a line of a record, at all depths"
    if isinstance(value, dict):
        return set(value).union(*map(keys_in, value.values()))
    if isinstance(value, list):
        return set().union(*map(keys_in, value))
    return set()


@cache
def keys_of(record: str) -> frozenset[str]:
    with gzip.open(TRIAL / f'{record}.jsonl.gz', 'rt', encoding='utf-8') as lines:
        return frozenset(set().union(*(keys_in(json.loads(line)) for line in lines)) - {*IDS})


@cache
def readers_of(record: str) -> tuple[str, ...]:
    return tuple(
        page
        for page in PAGES
        if 'load_trial' in ''.join(said_code(page))
        and any(says(name, *said_by(page)) for name in (record, f'trial/{record}'))
    )


@cache
def said_code(page: str) -> list[str]:
    cells = json.loads((ROOT / f'nbs/{page}.ipynb').read_text(encoding='utf-8'))['cells']
    return [''.join(cell['source']) for cell in cells if cell['cell_type'] == 'code']


def not_printed(record: str) -> dict[str, str]:
    return {
        k: why for start, keys in NOT_PRINTED.items() if record.startswith(start) for k, why in keys.items()
    }


def unsaid(record: str) -> set[str]:
    "Return the keys of a record that no page that reads it holds"
    return {
        key for key in keys_of(record) if not any(says(key, *said_by(page)) for page in readers_of(record))
    }


@pytest.mark.parametrize('record', RECORDS)
def test_a_page_reads_it(record):
    assert readers_of(record)


@pytest.mark.parametrize('record', RECORDS)
def test_each_arm_is_printed_or_named(record):
    assert unsaid(record) - set(not_printed(record)) == set()


def test_what_is_named_is_not_printed():
    listed = {(start, key) for start, keys in NOT_PRINTED.items() for key in keys}
    needed = {
        (start, key)
        for start, key in listed
        for record in RECORDS
        if record.startswith(start) and key in unsaid(record)
    }
    assert listed - needed == set()


@pytest.mark.parametrize('name', PREDICTIONS)
def test_a_prediction_says_what_came(name):
    entry = PREDICTIONS[name]
    assert entry['came']
    assert f"show_predictions('{entry['page']}')" in ''.join(said_code(entry['page']))


def test_a_page_that_stops_reading_is_found(monkeypatch):
    page, record = 'notes/released_model', 'controls-cut-carve-smol'
    assert readers_of(record) == (page,)
    words, patterns = said_by(page)
    assert not says(record, words - {record}, patterns)
