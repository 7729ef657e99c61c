"""A byte that changes in what is kept: a sentence, or the same meaning as before; never a bare error, never
another meaning."""
import pytest
from hypothesis import given, strategies as st
from carve_nb.core.errors import CarveError
from carve_nb.runs.store import RunStore, read_run, without

PROTOCOL = dict(data=dict(name='a', n=4, rule='exact'), model=dict(name='m'),
    methods=dict(none={}, carve=dict(p=.1)))
LINES = [dict(id=f'q{i}', at=i, method=m, status='ok', kind='digit', question='What?', answer=str(i),
    truth='1',
    score=float(i == 1), calls=1, notes=[]) for i in range(4) for m in PROTOCOL['methods']]


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    "A run, and a copy of its files"
    path = tmp_path_factory.mktemp('damage')/'R'
    store = RunStore(path, PROTOCOL)
    store.add(LINES)
    store.close()
    return (path, {name: (path/name).read_bytes() for name in ('records.jsonl',
        'protocol.json')}.__getitem__)     # of a short repr


def damaged(raw, at, bit, cut):
    "A file with another bit, or cut there"
    at %= len(raw)
    return raw[:at] if cut else raw[:at] + bytes([raw[at] ^ 1 << bit]) + raw[at + 1:]


places = st.integers(0, 10**6), st.integers(0, 7), st.sampled_from([False]*9 + [True])


@given(*places)
def test_lines(folder, at, bit, cut):
    """What is read is some of what was written, in its order; what is missing is counted, unless the end was
    cut off"""
    path, files = folder
    (path/'records.jsonl').write_bytes(damaged(files('records.jsonl'), at, bit, cut))
    found = read_run(path)
    (path/'records.jsonl').write_bytes(files('records.jsonl'))
    found = found._replace(records=[without(l, ['run', 'code']) for l in found.records])
    assert found.records == [l for l in LINES if l in found.records]
    assert len(found.records) >= (0 if cut else len(LINES) - 2)
    last_line = at % len(files('records.jsonl')) >= files('records.jsonl')[:-1].rfind(b'\n')
    assert len(found.damaged) <= 2 and (cut or last_line or bool(found.damaged) == (found.records != LINES))


@given(*places)
def test_protocol(folder, at, bit, cut):
    path, files = folder
    whole = read_run(path)
    (path/'protocol.json').write_bytes(damaged(files('protocol.json'), at, bit, cut))
    try: assert read_run(path) == whole
    except CarveError as e: assert 'damaged' in str(e)
    finally: (path/'protocol.json').write_bytes(files('protocol.json'))
