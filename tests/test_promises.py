"""What must survive a rebuild: each promise with the tests that hold it. Those of this file see only what a
user sees: the public names, the shell, files, models of strangers. `tools/holds.py` holds the answers,
boxes and maps of all methods."""
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

HERE = 'test_promises'
PROMISES = {   # what is promised: tests, as file::function in tests/; notebooks and tools, by their path
    # the mission
    # `make drift` exports and compares, `make notebooks` runs every page, `make docs` begins with the pages of nbdev
    'nbdev_export, nbdev_test and nbdev-proc-nbs run': ['test_config::test_older_options', 'Makefile'],
    'import carve_nb works in a notebook outside the clone': ['site/test_downloaded::test_runs_alone',
    'test_install::test_colab'],
    'settings.ini, setup.py and pyproject.toml agree': ['test_config::test_settings_say_the_same',
    'test_config::test_version_moves'],
    'entropy and convergence are measured on the model of a stranger': [
    'studies/test_studies::test_killed_and_resumed'],
    'two commands of README do all set-up': [f'{HERE}::test_two_commands_set_up',
    'test_install::test_blocks_of_the_readme'],
    # what is answered
    'answers, boxes and maps of every method and field that stays, on both models': ['tools/holds.py',
    f'{HERE}::test_answers_stay', 'method/test_determinism::test_same_run'],
    'every method conforms': ['method/test_methods::test_conforms',
        'method/test_methods::test_answers_or_gives_reason'],
    'paper is Algorithm 1, official the published code': ['nbs/07_algorithm.ipynb',
    'nbs/notes/paper_vs_code.ipynb'],
    'the other methods agree with their sources': [f'nbs/library/method/{page}.ipynb' for page in (
        '09_asking', '10_vicrop', '11_fusion_review', '18_hide', '20_raised_tokens', '22_heads',
        '25_contrast')],
    'edits act, and behind a window too': ['method/test_methods::test_default_edit_acts',
    'method/test_methods::test_edits_behind_a_window'],
    'a method, a family and a model of your own': ['method/test_methods::test_templates',
    'method/test_methods::test_models_of_their_own'],
    # models
    '26 families, with any kernel': ['attention/test_stock::test_every_family',
    'attention/test_stock::test_every_family_eager', 'models/test_families::test_rows_float32',
    'models/test_families::test_table_shipped'],
    "rows around a generate of the user's own": ['nbs/library/attention/04_vlm.ipynb',
    'attention/test_turns::test_kinds_of_cache', 'attention/test_turns::test_sinks_of_the_kernel',
    'attention/test_own_model::test_adapters_and_wrappers'],
    'threads': ['faults/test_blocks::test_threads_take_turns'],
    'weights that change are seen after vlm.forget(), and when a run begins': [
    f'{HERE}::test_weights_changed_in_place', 'models/test_identity::test_another_model',
    'models/test_identity::test_the_same_model',
    'models/test_identity::test_a_run_is_not_resumed_over_another_model',
    'models/test_identity::test_weights_that_cannot_be_read'],
    "the baseline answer is the model's own": ['models/test_sharing::test_a_change_between_two_questions',
    'models/test_sharing::test_stock_code_is_shared'],
    'several images; the frames of a video are several': [f'{HERE}::test_a_video_is_its_frames',
    'method/test_chat::test_images_in_the_messages', 'nbs/library/method/02_wrappers.ipynb',
    'cli/test_cli::test_several_images', 'models/test_families::test_several_images'],
    "chats of the user's own": ['method/test_chat::test_carve_in_a_chat'],
    'another model answers': ['models/test_remote::test_every_method',
        'runs/test_run::test_another_model_answers'],
    # runs
    'a run that is killed ends with the same table': ['runs/test_run::test_kill_at_random_points',
    'studies/test_studies::test_killed_and_resumed'],
    'controls, clustered intervals, Holm': ['data/test_scores::test_intervals_and_tests_by_image',
    'nbs/library/core/04_stats.ipynb'],
    'an address for every harness': ['runs/test_serve::test_answers_as_python', 'runs/test_lmms::test_stock_lmms_eval'],
    'scenes bit for bit': ['tools/holds.py', f'{HERE}::test_answers_stay'],
    "the book's tests of its own numbers": ['site/test_numbers::test_numbers_agree'],
    'the explorer in a browser': ['explorer/test_browser::test_carve_explore',
    'explorer/test_browser::test_hostile_words', 'explorer/test_browser::test_keyboard'],
}


def test_promises_are_held():
    "Each test is there, also those that SECURITY.md names"
    there = {f'{p.relative_to(ROOT/"tests").with_suffix("").as_posix()}::{f.name}'
        for p in (ROOT/'tests').rglob('test_*.py')
             for f in ast.parse(p.read_text(encoding='utf-8')).body if isinstance(f, ast.FunctionDef)}
    said = re.findall(r'^\| (.*) \| (`.*::.*`) \|$', (ROOT/'SECURITY.md').read_text(encoding='utf-8'), re.M)
    promises = PROMISES | {promise: tests.strip('`').split('` `') for promise, tests in said}
    assert len(said) == 11 and all(promises.values())
    assert not [(promise, test) for promise, tests in promises.items() for test in tests
        if not (test in there or (ROOT/test).is_file())]


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
