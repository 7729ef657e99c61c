"""Files that others wrote, or that were damaged: the rows, or the documented error; what is written is read
again as it was."""

import csv
import io
import json
import resource
import tempfile
import warnings
from functools import lru_cache
from pathlib import Path
import pytest
from faults.hostile import mutated
from hypothesis import given, settings, strategies as st
from carve_nb.core.errors import DataError
from carve_nb.data.datasets import load_benchmark
from carve_nb.data.files import read_file
from carve_nb.data.records import Record

FORMS = '.json', '.jsonl', '.csv'
# MB by which a reader may raise the highest level, for a file of some kilobytes
MOST = 64
text = st.text(st.characters(exclude_categories=['Cs']), max_size=30)
plain = (
    st.none()
    | st.booleans()
    | st.integers(-(10**6), 10**6)
    | st.floats(allow_nan=False, allow_infinity=False)
    | text
)
junk = st.recursive(
    plain | st.text(max_size=9),
    lambda s: st.lists(s, max_size=4) | st.dictionaries(st.text(max_size=5), s, max_size=4),
    max_leaves=9,
)
FIELDS = (
    'id image question text answers answer choices box bbox kind short_question correct_choice_idx'.split()
)
rows = st.lists(st.dictionaries(st.sampled_from(FIELDS), junk, max_size=9), max_size=4)


half = settings(max_examples=settings().max_examples // 2)  # those that make whole records of text


@pytest.fixture(scope='module')
def folder():
    with tempfile.TemporaryDirectory() as d:
        yield Path(d)


def held(read, path, *known):
    """What a reader gives, None where it refuses; nothing but the known errors, and no more memory than a
    bound"""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            return read(path)
    except known as e:
        assert str(e) and len(str(e)) < 4000
    finally:
        more = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before >> 10
        assert more < MOST, f'{more} MB for {path.stat().st_size} bytes'


@lru_cache(None)
def valid(suffix):
    "A good file of each form"
    good_rows = [
        dict(id=str(i), image='a.png', question=f'Wäs is {i}?', answer='cup', kind='k', box='1,2,3,4')
        for i in range(3)
    ]
    if suffix == '.jsonl':
        return ''.join(json.dumps(r, ensure_ascii=False) + '\n' for r in good_rows).encode()
    if suffix == '.json':
        return json.dumps(good_rows).encode()
    out = io.StringIO()
    w = csv.DictWriter(out, good_rows[0])
    w.writeheader(), w.writerows(good_rows)
    return out.getvalue().encode()


@given(data=st.data(), suffix=st.sampled_from(FORMS))
def test_any_bytes(folder, data, suffix):
    "Random bytes, and good files with some bytes changed"
    path = folder / f'any{suffix}'
    path.write_bytes(data.draw(st.binary(max_size=200) | mutated(valid(suffix))))
    table = held(read_file, path, DataError)
    assert table is None or table.rows and all(isinstance(row, dict) for row in table.rows.values())
    held(load_benchmark, path, DataError)


@half
@given(values=rows, suffix=st.sampled_from(('.json', '.jsonl')))
def test_any_values(folder, values, suffix):
    "Whatever JSON can say in the fields that are read"
    path = folder / f'values{suffix}'
    path.write_text(
        json.dumps(values) if suffix == '.json' else ''.join(json.dumps(r) + '\n' for r in values)
    )
    records = held(load_benchmark, path, DataError)
    for r in records or ():
        assert isinstance(r, Record)
        assert r.id
        assert r.question.strip()
        f'{r.id}{r.question}{r.answers}{r.choices}{r.kind}'.encode()
    assert not records or any(r.answers for r in records)


@pytest.mark.parametrize(
    'bad',
    [
        '[' * 200_000,
        '{"data":' * 100_000,
        '1' * 100_000,
        '[{"question": ' + '9' * 5000 + '}]',
        '[{"box": [1e999, NaN, 3, 4]}]',
        'x,' * 100_000,
        '"' + 'a' * 300_000,
        '[{"image": "a", "question": "q", "answers": "' + '[' * 50_000 + ']"}]',
        '\ufeff[]',
        '\x00' * 1000,
    ],
)
def test_hostile_files(folder, bad):
    "Deep, long and strange ones, made here"
    for suffix in FORMS:
        path = folder / f'bad{suffix}'
        path.write_text(bad, encoding='utf-8')
        held(read_file, path, DataError), held(load_benchmark, path, DataError)
