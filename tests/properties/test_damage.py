"A byte that changes in what is kept: a sentence, or the same meaning as before; never a bare error, never another meaning."
import json
import pytest, torch
from hypothesis import given, strategies as st
from carve_nb.core.errors import CarveError
from carve_nb.core.saliency import Saliency
from carve_nb.runs.store import STORE, RunStore, export_run, read_records, read_run

PROTOCOL = dict(data=dict(name='a', n=4, rule='exact'), model=dict(name='m'), methods=dict(none={}, carve=dict(p=.1)))
LINES = [dict(id=f'q{i}', at=i, method=m, status='ok', kind='digit', question='What?', answer=str(i), truth='1', score=float(i == 1), calls=1, notes=[]) for i in range(4) for m in PROTOCOL['methods']]


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    "A run with its exports, and a copy of its files"
    torch.set_num_threads(1)
    path = tmp_path_factory.mktemp('damage')/'R'
    store = RunStore(path, PROTOCOL)
    store.add(LINES)
    store.close()
    export_run(path, read_run(path)[1], 'protocol.json', PROTOCOL)
    return path, {name: (path/name).read_bytes() for name in (STORE, 'records.jsonl', 'protocol.json')}.__getitem__     # of a short repr


def damaged(raw, at, bit, cut):
    "A file with another bit, or cut there"
    at %= len(raw)
    return raw[:at] if cut else raw[:at] + bytes([raw[at] ^ 1 << bit]) + raw[at + 1:]


places = st.integers(0, 10**6), st.integers(0, 7), st.sampled_from([False]*9 + [True])


@given(*places)
def test_database(folder, at, bit, cut):
    path, files = folder
    (path/STORE).write_bytes(damaged(files(STORE), at, bit, cut))
    try: assert read_run(path)[:2] == (PROTOCOL, LINES)
    except CarveError as e: assert STORE in str(e)
    finally: (path/STORE).write_bytes(files(STORE))


@given(st.sampled_from(['records.jsonl', 'protocol.json']), *places)
def test_exports(folder, name, at, bit, cut):
    path, files = folder
    (path/name).write_bytes(damaged(files(name), at, bit, cut))
    plain = [{k: v for k, v in l.items() if k != 'seconds'} for l in LINES]
    try:
        records, protocol = read_records(path, 'protocol.json')
        if json.loads((path/'protocol.json').read_text()).get('sum'): assert (records, protocol) == (plain, PROTOCOL)
    except CarveError as e: assert 'damaged' in str(e)
    finally: (path/name).write_bytes(files(name))


@given(*places)
def test_maps(at, bit, cut):
    import numpy as np
    whole = Saliency(np.arange(12, dtype=np.float32).reshape(3, 4), (40, 30), (0, 0, 40, 30))
    raw = json.dumps(whole.pack()).encode()
    try: packed = json.loads(damaged(raw, at, bit, cut))
    except ValueError: return
    try: found = Saliency.unpack(packed)
    except CarveError: return
    if 'sum' in packed: assert (found.values == whole.values).all() and (found.size, found.box) == (whole.size, whole.box)
