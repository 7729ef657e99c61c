"""Promises that a user sees: the public names, the shell, files, models of strangers. `tools/holds.py` holds the answers, boxes and
maps of all methods."""
import ast
import copy
import json
import os
import re
import subprocess
import sys
from collections import Counter
import numpy as np
import pytest
import torch
from PIL import Image
from processes import ROOT
from carve_nb import VLM, CarveError, Lookup, make_scene
from carve_nb.core.image import open_image

def test_security_names_tests():
    "Each test that SECURITY.md names for a promise is there"
    tests = {f'{p.relative_to(ROOT/"tests").with_suffix("").as_posix()}::{f.name}' for p in (ROOT/'tests').rglob('test_*.py')
        for f in ast.parse(p.read_text(encoding='utf-8')).body if isinstance(f, ast.FunctionDef)}
    rows = re.findall(r'^\| .* \| `(.*::.*)` \|$', (ROOT/'SECURITY.md').read_text(encoding='utf-8'), re.M)
    assert len(rows) == 11 and not [test for row in rows for test in row.split('` `') if test not in tests]


def image(seed=0, size=(260, 180)):
    "An image of few colors, each in a block"
    blocks = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(blocks).resize(size, Image.Resampling.NEAREST)


# -- the mission

def test_two_commands_set_up():
    """`make demo` and `make test` begin with the environment, install what they need, and do it: as make
    itself says, with no environment there"""
    texts = [(ROOT/name).read_text(encoding='utf-8') for name in ('README.md', 'CONTRIBUTING.md')]
    for target, does in ('demo', 'carve demo'), ('test', '-m pytest'):
        assert any(f'make {target}' in text for text in texts)
        told = subprocess.run(['make', '-n', target, 'V=no-such-folder', f'PY={sys.executable}'], cwd=ROOT,
            capture_output=True, text=True, check=True).stdout
        steps = [told.index(step) for step in ('-m venv no-such-folder', '-m pip install', does)]
        assert steps == sorted(steps) and not (ROOT/'no-such-folder').exists()


# -- what is answered

def test_answers_stay():
    "Both models on one scene, by the methods that answer in no time, as `tools/holds.py` has recorded them"
    import holds
    told = json.loads(holds.FILE.read_text(encoding='utf-8'))
    now = holds.measure(scenes=1, only=('none', 'lookup', 'carve', 'official', 'random'), run=False)
    assert len(now) == 13
    assert not [line for key in now for line in holds.differences(key, told.get(key), now[key])]


def test_a_video_is_its_frames(tmp_path):
    "A file of a video is refused where images are opened, with the line to use"
    video = tmp_path/'clip.mp4'
    video.write_bytes(b'\0\0\0\x18ftypmp42')
    with pytest.raises(CarveError, match=r'list of its frames: `method\(vlm, frames, question\)`'):
        open_image(video)


def test_weights_changed_in_place():
    "The next call sees them: it maps as a copy of the model does"
    scene = make_scene(145)
    vlm = VLM.from_pretrained('carve-tiny')
    def look(vlm):
        return Lookup(query='noun')(vlm, scene.image, scene.question('digit').question).saliency.values
    before = look(vlm)
    with torch.no_grad():
        for name, p in vlm.model.named_parameters():
            if name.endswith('k_proj.weight') and 'vis' not in name: p.data.mul_(-1.5)
    assert (look(vlm) != before).any()
    assert np.allclose(look(vlm), look(VLM(copy.deepcopy(vlm.model), vlm.processor)))


# -- SECURITY.md

WATCH = '''
import json, os, runpy, sys
import matplotlib.font_manager      # which asks the system for its fonts, once in a life
import torch                        # which asks the system for a library as it is imported (2.14)
seen, log, folder = [], *sys.argv[1:3]
EVENTS = {'socket.connect', 'socket.getaddrinfo', 'socket.gethostbyname', 'socket.sendto', 'subprocess.Popen', 'os.system', 'os.exec', 'os.posix_spawn',
          'pickle.find_class', 'urllib.Request', 'webbrowser.open', 'marshal.load'}
def hear(event, args):
    if event in EVENTS: seen.append([event, str(args)[:200]])
    if event == 'open' and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT): seen.append(['write', os.path.abspath(os.fsdecode(args[0]))])
    if event in ('os.remove', 'os.rename', 'os.mkdir'): seen.append([event, os.path.abspath(os.fsdecode(args[0]))])
def carve(*words):
    sys.argv = ['carve', *words]
    try: runpy.run_module('carve_nb', run_name='__main__')
    except SystemExit as e: return e.code or 0
    return 0
sys.addaudithook(hear)
statuses = [carve(*words) for words in json.load(sys.stdin)]
kept, seen = seen, []
open(log, 'w').write(json.dumps([statuses, kept]))
'''
CODE = "__import__('os').system('touch cracked')"
IDS = '../../escaped', '/absolute', 'a/b:c', 'CON', '..\\up', CODE, '$(touch cracked)', '`touch cracked`'


def test_watched(tmp_path):
    """Python's own listener hears connections, processes, pickles and files while an image is asked about,
    hostile rows are evaluated, addresses stand where images should, and models are named by what is no
    id: only the folders that were named are written to"""
    data, out = tmp_path/'data', tmp_path/'out'
    data.mkdir(), out.mkdir()
    image().save(data/'x.png')
    rows = [dict(id=i, image='x.png', question=f'What is it? {i}', answer=i) for i in IDS]
    rows += [dict(id=f'far{i}', image=a, question='What is it?', answer='x') for i,
        a in enumerate(('https://example.org/a.png', 'file:///etc/hostname', '../secret.png'))]
    image(1).save(tmp_path/'secret.png')
    (data/'rows.jsonl').write_text(''.join(json.dumps(r) + '\n' for r in rows))
    asks = [['ask', str(data/'x.png'), f'What is it? {CODE}', '--quiet', '--out', str(out/'ask')],
            ['ask', str(data/'x.png'), 'What is it?', '--map', str(out/'S.npy')],
            ['eval', str(data), '--methods', 'none,carve', '--max-new-tokens', '2', '--quiet', '--out',
                str(out/'run')],
            ['report', str(out/'run')],
            ['ask', 'https://example.org/a.png', 'What is it?'],
            ['ask', 'data:image/png;base64,AAAA', 'What is it?'],
            ['ask', str(data/'x.png'), 'What is it?', '--method', f'carve:p={CODE}'],
            ['ask', str(data/'x.png'), 'What is it?', '--model', './my-model'],
            ['eval', str(data), '--methods', f'none,carve:layers={CODE}', '--out', str(out/'none')]]
    (tmp_path/'watch.py').write_text(WATCH)
    (cache := tmp_path/'cache').mkdir()
    env = {k: v for k, v in os.environ.items() if k not in ('HF_HUB_OFFLINE', 'TRANSFORMERS_OFFLINE')} | dict(
        TMPDIR=str(cache), TORCHINDUCTOR_CACHE_DIR=str(cache), PYTHONDONTWRITEBYTECODE='1',
        OMP_NUM_THREADS='1',
        CARVE_PROFILES=str(tmp_path/'profiles'))
    done = subprocess.run([sys.executable, str(tmp_path/'watch.py'), str(tmp_path/'log.json'), str(out)],
        input=json.dumps(asks), cwd=data, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    statuses, seen = json.loads((tmp_path/'log.json').read_text())
    assert statuses == [0, 0, 1, 1, 2, 2, 2, 2, 2], (statuses, done.stderr[-3000:])
    folders = str(out), str(cache), os.devnull
    assert not [s for s in seen if s[0] not in ('write', 'os.remove', 'os.rename', 'os.mkdir')
        or not s[1].startswith(folders)], seen
    told = (out/'run'/'results.csv').read_text(encoding='utf-8')
    assert sum(line.startswith('far') and 'error' in line for line in told.splitlines()) == 6
    assert not [p for p in tmp_path.rglob('*') if 'cracked' in p.name or 'escaped' in p.name]


CALLS = {'eval', 'exec', 'compile', '__import__', 'os.system', 'os.popen', 'os.startfile', 'torch.load',
    'torch.hub.load', 'joblib.load', 'dill.load', 'marshal.loads',
         'pickle.load', 'pickle.loads', 'pickle.Unpickler', 'shelve.open', 'yaml.load', 'yaml.unsafe_load',
         'np.fromregex', 'pd.read_pickle'}
MODULES = {'pickle', 'dill', 'cloudpickle', 'joblib', 'marshal', 'shelve', 'requests', 'urllib.request',
    'http',
    'httpx', 'aiohttp', 'ftplib', 'smtplib',
           'socket', 'ctypes', 'webbrowser', 'huggingface_hub', 'openai', 'datasets', 'subprocess'}
# What of it may be there: the cluster of your own, a model behind an address, a data set of the Hub, each
# only when you name it
MAY = {'import openai': {'models/api_client.py'}, 'import datasets': {'data/records.py'}}


def risks(text):
    "Calls and imports of a piece of Python that can run code, or speak to others"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if name in CALLS or name.endswith('pickle.loads'): yield f'{name}()'
            yield from (f'{k.arg}={ast.unparse(k.value)}' for k in node.keywords
                if k.arg in ('shell', 'allow_pickle', 'weights_only'))
        names = [o.name for o in node.names] if isinstance(node,
            ast.Import) else [node.module or ''] if isinstance(node,
            ast.ImportFrom) and not node.level else []
        yield from (f'import {n}' for n in names if n in MODULES or n.split('.')[0] in MODULES)


def test_no_code_out_of_data():
    "No call or import of the package runs what a file or a string carries, but for those that MAY names"
    assert [*risks(
        'import pickle, json\nsubprocess.run(x, shell=True)\ntorch.load(f)\nnp.load(f, allow_pickle=False)')] == [
        'import pickle', 'shell=True', 'torch.load()', 'allow_pickle=False']
    package = ROOT/'carve_nb'
    found = {p.relative_to(package).as_posix(): Counter(risks(p.read_text(encoding='utf-8')))
        for p in sorted(package.rglob('*.py'))}
    assert {r: {m for m, f in found.items() if r in f} for r in {r for f in found.values() for r in f}} == MAY
