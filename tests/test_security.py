"""The promises of SECURITY.md, as a user would see them broken. Python's own listener (`sys.addaudithook`) hears connections,
processes, pickles and files while commands of the shell read hostile questions, ids, addresses and fields."""

import ast
import json
import os
import re
import subprocess
import sys
import threading
from collections import Counter
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
import numpy as np
import pytest
from PIL import Image
from processes import ROOT

WATCH = '''
import json, os, runpy, sys
import matplotlib.font_manager      # which asks the system for its fonts, once in a life
import torch                        # which asks the system for a library as it is imported (2.14)
heard = []
NETWORK = {'socket.connect', 'socket.getaddrinfo', 'socket.gethostbyname', 'socket.sendto', 'urllib.Request', 'webbrowser.open'}
PROCESSES = {'subprocess.Popen', 'os.system', 'os.exec', 'os.posix_spawn'}
PICKLES = {'pickle.find_class', 'marshal.load'}
KINDS = {event: kind for kind, events in dict(network=NETWORK, process=PROCESSES, pickle=PICKLES).items() for event in events}
def hear(event, args):
    if event in KINDS: heard.append([KINDS[event], f'{event}: {args}'[:200]])
    if event == 'open' and isinstance(args[0], (str, bytes)) and isinstance(args[2], int):
        path = os.path.abspath(os.fsdecode(args[0]))
        heard.append(['write' if args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) else 'read', path])
    if event in ('os.remove', 'os.rename', 'os.mkdir'): heard.append(['write', os.path.abspath(os.fsdecode(args[0]))])
def carve(words):
    sys.argv = ['carve', *words]
    try: runpy.run_module('carve_nb', run_name='__main__')
    except SystemExit as end: return end.code or 0
    return 0
sys.addaudithook(hear)
told = []
for words in json.load(sys.stdin):
    heard.clear()
    status = carve(words)
    told.append([words, status, heard[:]])
open(sys.argv_of_watch[1], 'w').write(json.dumps(told))
'''.replace('heard = []', 'heard, sys.argv_of_watch = [], [*sys.argv]')
CODE = "__import__('os').system('touch cracked')"
IDS = '../../escaped', '/absolute', 'a/b:c', 'CON', '..\\up', CODE, '$(touch cracked)', '`touch cracked`'
ADDRESSES = 'https://example.org/a.png', 'file:///etc/hostname'


def save_image(path, seed):
    "An image of few colors, each in a block"
    blocks = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    Image.fromarray(blocks).resize((260, 180), Image.Resampling.NEAREST).save(path)


class SilentHandler(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture(scope='module')
def watched(tmp_path_factory):
    """What Python heard in each of some commands: an image is asked about, hostile rows are evaluated, addresses
    stand where images should, models are named by what is no id, and last a model of the Hub by its id"""
    folder = tmp_path_factory.mktemp('watched')
    data, out, cache, leading_out = (folder / name for name in ('data', 'out', 'cache', 'leading-out'))
    for new in (data, cache, leading_out, folder / 'hub'):
        new.mkdir()
    save_image(data / 'x.png', 0)
    save_image(folder / 'secret.png', 1)
    rows = [dict(id=id, image='x.png', question=f'What is it? {id}', answer=id) for id in IDS]
    rows += [
        dict(id=f'far{i}', image=address, question='What is it?', answer='x')
        for i, address in enumerate(ADDRESSES)
    ]
    (data / 'rows.jsonl').write_text(''.join(json.dumps(row) + '\n' for row in rows))
    (leading_out / 'rows.csv').write_text('image,question,answer\n../secret.png,What is it?,x\n')
    image, what = str(data / 'x.png'), 'What is it?'
    commands = [
        ['ask', image, f'What is it? {CODE}', '--out', str(out / 'ask')],
        ['eval', str(data), '--methods', 'none,carve', '--max-new-tokens', '2', '--out', str(out / 'run')],
        ['report', str(out / 'run')],
        ['ask', 'https://example.org/a.png', what],
        ['ask', 'data:image/png;base64,AAAA', what],
        ['ask', image, what, '--method', f'carve:p={CODE}'],
        ['ask', image, what, '--model', './my-model'],
        ['eval', str(data), '--methods', f'none,carve:layers={CODE}', '--out', str(out / 'none')],
        ['eval', str(leading_out)],
        ['eval', 'textvqa'],
        ['ask', image, what, '--model', 'nobody/no-model'],
    ]
    (folder / 'watch.py').write_text(WATCH)
    empty_hub = ThreadingHTTPServer(('127.0.0.1', 0), partial(SilentHandler, directory=folder / 'hub'))
    online = {k: v for k, v in os.environ.items() if k not in ('HF_HUB_OFFLINE', 'TRANSFORMERS_OFFLINE')}
    here = dict.fromkeys(('TMPDIR', 'TORCHINDUCTOR_CACHE_DIR', 'HF_HOME'), str(cache))
    settings = dict(
        HF_ENDPOINT=f'http://127.0.0.1:{empty_hub.server_port}',
        PYTHONDONTWRITEBYTECODE='1',
        OMP_NUM_THREADS='1',
        CARVE_PROFILES=str(folder / 'profiles'),
        PYTHONPATH=str(ROOT),
    )
    threading.Thread(target=empty_hub.serve_forever, daemon=True).start()
    done = subprocess.run(
        [sys.executable, str(folder / 'watch.py'), str(folder / 'told.json')],
        input=json.dumps(commands),
        cwd=data,
        env=online | here | settings,
        capture_output=True,
        text=True,
    )
    empty_hub.shutdown()
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads((folder / 'told.json').read_text())
    assert [status for _, status, _ in told] == [0, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2], done.stderr[-3000:]
    *offline, hub = [SimpleNamespace(words=words, events=events) for words, _, events in told]
    return SimpleNamespace(folder=folder, out=out, cache=cache, offline=offline, hub=hub)


def heard(commands, kind):
    "List the events of a kind, each with the words of its command"
    return [(*command.words[:3], what) for command in commands for k, what in command.events if k == kind]


def test_no_pickle_is_read(watched):
    assert heard([*watched.offline, watched.hub], 'pickle') == []


def test_no_process_of_a_string(watched):
    "No command starts a process, and no file appears that code inside a question, id or field would make"
    assert heard([*watched.offline, watched.hub], 'process') == []
    assert not [p for p in watched.folder.rglob('*') if 'cracked' in p.name]


def test_no_address_is_fetched(watched):
    "An address in place of an image is an error: of the command, or of its line in a run"
    assert heard(watched.offline, 'network') == []
    lines = (watched.out / 'run' / 'results.csv').read_text(encoding='utf-8').splitlines()
    assert sum(line.startswith('far') and 'error' in line for line in lines) == 2 * len(ADDRESSES)


def test_no_connection_but_by_name(watched):
    "Nothing is told to anybody; the Hub is asked when a model is named by its id, and a set with --download alone"
    assert heard(watched.offline, 'network') == []
    assert heard([watched.hub], 'network')  # the listener hears


def test_nothing_is_written_elsewhere(watched):
    places = str(watched.out), str(watched.cache), os.devnull
    written = heard([*watched.offline, watched.hub], 'write')
    assert [event for event in written if not event[-1].startswith(places)] == []
    assert not [p for p in watched.folder.rglob('*') if 'escaped' in p.name]


def test_nothing_is_read_beside_a_set(watched):
    "A row that names an image outside its folder is refused, and the image stays unread"
    assert str(watched.folder / 'secret.png') not in [what for *_, what in heard(watched.offline, 'read')]


CALLS = {
    *('eval', 'exec', 'compile', '__import__', 'os.system', 'os.popen', 'os.startfile'),
    *(
        'torch.load',
        'torch.hub.load',
        'joblib.load',
        'dill.load',
        'marshal.loads',
        'pickle.load',
        'pickle.loads',
    ),
    *('pickle.Unpickler', 'shelve.open', 'yaml.load', 'yaml.unsafe_load', 'np.fromregex', 'pd.read_pickle'),
}
MODULES = {
    *('pickle', 'dill', 'cloudpickle', 'joblib', 'marshal', 'shelve', 'ctypes', 'subprocess', 'webbrowser'),
    *('requests', 'urllib.request', 'http', 'httpx', 'aiohttp', 'ftplib', 'smtplib', 'socket'),
    *('huggingface_hub', 'openai', 'datasets'),
}
# what may be there, each only when you name it: a model behind an address, a data set of the Hub, and the tower
# of carve-photo, whose sha256 is known
ALLOWED = {
    'torch.load()': {'models/released.py'},
    'weights_only=True': {'models/released.py'},
    'import openai': {'models/api_client.py'},
    'import openai.types.chat': {'models/api_client.py'},  # for a type alone
    'import datasets': {'data/files.py'},
}


def risks(text):
    "Find calls and imports in a piece of Python that can run code, or speak to others"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if name in CALLS or name.endswith('pickle.loads'):
                yield f'{name}()'
            for word in node.keywords:
                if word.arg in ('shell', 'allow_pickle', 'weights_only'):
                    yield f'{word.arg}={ast.unparse(word.value)}'
        elif isinstance(node, ast.Import):
            yield from (f'import {a.name}' for a in node.names if {a.name, a.name.split('.')[0]} & MODULES)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            if {node.module, node.module.split('.')[0]} & MODULES:
                yield f'import {node.module}'


def test_scan_finds_risks():
    code = 'import pickle, json\nsubprocess.run(x, shell=True)\ntorch.load(f)\nnp.load(f, allow_pickle=False)'
    assert [*risks(code)] == ['import pickle', 'shell=True', 'torch.load()', 'allow_pickle=False']


def test_no_code_out_of_data():
    "No call or import of the package runs what a file or a string carries, but for those that ALLOWED names"
    package = ROOT / 'carve_nb'
    found = Counter()
    for path in package.rglob('*.py'):
        for risk in risks(path.read_text(encoding='utf-8')):
            found[risk, path.relative_to(package).as_posix()] += 1
    assert {risk: {path for r, path in found if r == risk} for risk, _ in found} == ALLOWED


def test_security_names_tests():
    "Each row of SECURITY.md names tests, and each test that it names is there"
    tests = {
        f'{path.relative_to(ROOT / "tests").with_suffix("").as_posix()}::{item.name}'
        for path in (ROOT / 'tests').rglob('test_*.py')
        for item in ast.parse(path.read_text(encoding='utf-8')).body
        if isinstance(item, ast.FunctionDef)
    }
    security = (ROOT / 'SECURITY.md').read_text(encoding='utf-8')
    rows = [line for line in security.splitlines() if line.startswith('| ') and not line.startswith('|---')]
    promises = [row for row in rows if not row.endswith('| tests |')]
    assert len(promises) == 11
    for promise in promises:
        named = re.findall('`([^` ]*::[^`]*)`', promise)
        assert named, promise
        assert [name for name in named if name not in tests] == []
