"""Memory that runs out, disks that are full, devices that are not there. What may come, and what must
happen:

44. Out of memory in pass 1 or 2 => one error that says what helps; in a run the sample is marked `oom`,
    memory is given back and the run goes on (a second try with less at a time, and forecasts, went with
    0.2)
45. Out of memory in the re-query => the same error; in a run the sample is marked `oom` and does not
    count as the method's (the baseline answer in its place went with 0.2)
46. Disk full while writing => run stops cleanly; what was kept is whole; resume works
47. No GPU; MPS; device given that does not exist => CPU path; clear error for the last"""
import json
import os
import re
import subprocess
import sys
import warnings
from contextlib import contextmanager
from dataclasses import replace
import pytest
import torch
from PIL import Image
from carve_nb.attention.edits import decoder_layers
from carve_nb.attention.vlm import VLM
from carve_nb.core.errors import CarveError, InsufficientMemoryError
from carve_nb.data.datasets import load_benchmark
from carve_nb.data.scenes import make_scene, to_sample
from carve_nb.method.registry import make_method
from carve_nb.models.kernel import find_cache
from carve_nb.models.loading import pick_device
from carve_nb.runs.report import markdown, write_report
from carve_nb.runs.runner import run_eval
from carve_nb.testing import traces

IMAGE = Image.linear_gradient('L').convert('RGB')
ERRORS = [torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 2.00 GiB'), MemoryError(),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")]


@contextmanager
def no_memory(vlm, when, error=ERRORS[0]):
    """Let forward passes of the decoder fail: those for which `when(number, tokens of its prompt so far)`
    holds"""
    seen = []
    def begin(module, args, kw):
        cache = find_cache(kw.values())
        seen.append(args[0].shape[1] + (0 if cache is None else cache.get_seq_length()))
        if when(len(seen) - 1, seen[-1]): raise error
    handle = decoder_layers(vlm.model)[0].register_forward_pre_hook(begin, with_kwargs=True)
    try: yield seen
    finally: handle.remove()


@pytest.fixture(scope='module')
def asked():
    s = to_sample(make_scene(0, 'heldout'), 'digit')
    return s.image.resize((120, 90)), s.question


def sample(passes, name):
    "Which passes are made to fail: all of CARVE's, some of the others'"
    n = len(passes)
    return range(n) if name == 'carve' else sorted({0, n//2, n - 1})


@pytest.mark.case(44, 45)
@pytest.mark.parametrize('name', ['none', 'carve', 'official', 'rel-att', 'vcd'])
def test_no_memory(load, asked, name):
    """Memory runs out in any one pass, whatever the error is called: an error that says what helps; nothing
    is left behind"""
    vlm = load('llava')
    method = make_method(name, max_new_tokens=2)
    with no_memory(vlm, lambda i, n: False) as passes: whole = method(vlm, *asked)
    before = traces(vlm)
    for at in sample(passes, name):
        with no_memory(vlm, lambda i, n: i == at, ERRORS[at % 3]), pytest.raises(InsufficientMemoryError,
                match='memory ran out: give a smaller image'):
            method(vlm, *asked)
    assert traces(vlm) == before and method(vlm, *asked).answer.tokens == whole.answer.tokens


@pytest.mark.case(44, 45)
def test_no_memory_in_a_run(load, tmp_path):
    """A capture that does not fit, a second question that does not fit, and one that does: statuses, and the
    run goes on"""
    vlm = load('qwen2_5_vl')
    images = [(56, 56), (224, 224), (144, 144)]
    data = load_benchmark('scenes', 3)
    data = replace(data, records=[replace(r, image=r.open().resize(size), boxes=None)
        for r, size in zip(data, images)])
    n, m = (len(vlm.prompt(data[i].image, data[i].question, data.suffix)) for i in (1, 2))
    with no_memory(vlm, lambda i, tokens: tokens > (n + m)//2 or tokens > m + 20):
        found = run_eval(data, vlm, 'none,carve', out=tmp_path/'R', max_new_tokens=2, progress=False).records
    by = {(line['at'], line['method']): line['status'] for line in found}
    assert [by[at, k] for at in range(3) for k in ('none', 'carve')] == ['ok', 'ok', 'oom', 'oom', 'ok',
        'oom']
    for line in found:
        if line['status'] == 'oom':
            assert 'memory ran out' in line['why'] and not {'answer', 'score'} & {*line}
    assert 'the first, oom: ' in markdown(write_report(tmp_path/'R')[0])


DISK = '''
import io, json, os, resource, signal, sys, warnings
warnings.simplefilter('ignore')
import torch
torch.set_num_threads(1)
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from PIL import Image
from carve_nb.attention.vlm import VLM
from carve_nb.attention.rows import AttentionRows
from carve_nb.cli.main import main
from carve_nb.core.errors import IncompleteError
from carve_nb.runs.store import read_run
from carve_nb.runs.report import write_report
from carve_nb.runs.runner import run_eval
# a disk with little room
model, disk, mode, found = sys.argv[1], Path(sys.argv[2]), sys.argv[3], {}
vlm = VLM.from_pretrained(model)
out, S = disk/'R', io.StringIO()
run = lambda out: run_eval('scenes', vlm, 'none,carve', 8, out, max_new_tokens=2, progress=False)

@contextmanager
def room(n):
    "Only so many bytes left; without a disk of our own, for each file"
    if mode == 'disk':
        with open(disk/'ballast', 'wb', buffering=0) as f:
            left = os.statvfs(disk).f_bavail*os.statvfs(disk).f_frsize - n
            while left > 0: left -= f.write(bytes(min(left, 4096)))
        try: yield
        finally: (disk/'ballast').unlink()
    else:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (n, resource.RLIM_INFINITY))
        try: yield
        finally: resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,)*2)

def command(*words):
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()) as err: status = main([*map(str, words)])
    return [status, err.getvalue()]

whole = Path(sys.argv[4])/'whole'
run(whole)
write_report(whole)
with room(0 if mode == 'disk' else 10): found['start'] = command('eval', 'scenes', '--model', model, '--n', 8, '--methods', 'none,carve', '--max-new-tokens', 2, '--out', out)
blocks = -(-(whole/'protocol.json').stat().st_size//4096)
with room((blocks + 1)*4096 if mode == 'disk' else 6000):     # the protocol, and some lines
    try: run(out)
    except IncompleteError as e: found['run'] = str(e)
found['half'] = [len(read_run(out)[1]), True, sorted(p.name for p in out.iterdir())]
again = lambda: [{k: v for k, v in r.items() if k != 'seconds'} for r in read_run(out)[1]]
run(out)
found['same'] = again() == [{k: v for k, v in r.items() if k != 'seconds'} for r in read_run(whole)[1]]
write_report(out)
before = {p.name: p.read_bytes() for p in out.iterdir()}
Image.effect_noise((60, 50), 60).convert('RGB').save(disk/'a.png')
words = 'What is it?', '--model', model
with room(0 if mode == 'disk' else 100):
    found['report'] = command('report', out)
    found['ask'] = command('ask', disk/'a.png', *words, '--out', disk/'capture')
    try: vlm.capture(disk/'a.png', 'What?').save(disk/'rows.safetensors')
    except Exception as e: found['rows'] = type(e).__name__
    if (disk/'rows.safetensors').exists():
        try: AttentionRows.load(disk/'rows.safetensors'); found['rows'] = 'loaded'
        except Exception: pass
found['kept'] = before == {p.name: p.read_bytes() for p in out.iterdir()}
found['left'] = sorted(p.name for p in disk.iterdir() if p.is_file() and p.name not in ('a.png', 'rows.safetensors') and p.stat().st_size)
found['finished'] = [command('report', out)[0], command('ask', disk/'a.png', *words)[0]]
print(json.dumps(found | dict(mode=mode)))
'''
MOUNT = 'mount -t tmpfs -o size=256k tmpfs "$1" && shift && exec "$@"'


def child(words, **more):
    "What a process of its own has found"
    p = subprocess.run([*map(str, words)], capture_output=True, text=True,
        env=dict(os.environ, OMP_NUM_THREADS='1', HF_HUB_OFFLINE='1', **more))
    assert p.returncode == 0, (p.returncode, p.stderr[-3000:])
    return json.loads(p.stdout.splitlines()[-1])


@pytest.mark.case(46)
@pytest.mark.skipif(not sys.platform.startswith('linux'), reason='`make pytest` on Linux runs it')
def test_full_disk(folders, tmp_path):
    """Runs stop and go on, and nothing that is written through us is left half-written: on a file system of
    256 kB that only a process of its own sees, or else under a limit on the size of files"""
    (disk := tmp_path/'disk').mkdir()
    own = ['unshare', '-rm', 'sh', '-c', MOUNT, 'sh', disk]
    try: mode = 'disk' if subprocess.run([*own, 'true'], capture_output=True).returncode == 0 else 'limit'
    except FileNotFoundError: mode = 'limit'
    mode = os.environ.get('CARVE_DISK', mode)
    said = child([*(own if mode == 'disk' else ()), sys.executable, '-c', DISK, folders('llava'), disk, mode,
        tmp_path])
    why = 'No space left on device' if said['mode'] == 'disk' else 'File too large|No space left'
    assert said['start'][0] == 1 and re.search(why, said['start'][1]), said['start']
    assert re.search(f'({why}).*Make room, or put the file back, and the same command goes on',
        said['run']), said
    n, whole, names = said['half']
    assert (0 < n < 16 and whole and {'protocol.json', 'records.jsonl', 'run.lock'} <= {*names}
        and not [k for k in names if k.endswith('.new')]), said['half']
    assert said['same'] and said['kept'] and said['left'] == [] and said['rows'] != 'loaded', said
    for k in 'report', 'ask':
        assert (said[k][0] == 1 and re.search(why, said[k][1])
            and 'Traceback' not in said[k][1]), (k, said[k])
    assert said['finished'] == [0, 0]


@pytest.mark.case(47)
def test_devices_that_are_not_there(folders, monkeypatch):
    "Refused by name, before any weights are read"
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    monkeypatch.setattr('carve_nb.models.loading.load_weights',
        lambda *args, **kw: pytest.fail('weights were read'))
    missing = [name for name in ('mps', 'xpu') if not getattr(torch, name).is_available()]
    for name in [*missing, 'nonsense', *['cuda', 'cuda:99']*(not torch.version.cuda)]:
        for ask in (lambda: pick_device(name), lambda: VLM.from_pretrained(folders('llava'), device=name)):
            with pytest.raises(CarveError, match=re.escape(repr(name))): ask()


@pytest.mark.case(47)
def test_one_gpu_too_few(folders, monkeypatch):
    "The hundredth GPU where there is one; the driver's own words, without its advice for programmers"
    honest = torch.empty
    def empty(*args, device=None, **kw):
        if str(device) == 'cuda:99':
            raise RuntimeError(
                'CUDA error: invalid device ordinal\nCUDA kernel errors might be asynchronously reported')
        return honest(*args, **kw) if str(device).startswith('cuda') else honest(*args, device=device, **kw)
    for name, value in (('cuda.is_available', True), ('cuda.device_count', 1)):
        monkeypatch.setattr(f'torch.{name}', lambda value=value: value)
    monkeypatch.setattr(torch, 'empty', empty)
    monkeypatch.setattr('carve_nb.models.loading.load_weights',
        lambda *args, **kw: pytest.fail('weights were read'))
    for ask in (lambda: pick_device('cuda:99'),
            lambda: VLM.from_pretrained(folders('llava'), device='cuda:99')):
        with pytest.raises(CarveError,
                match="'cuda:99' cannot be used here: CUDA error: invalid device ordinal$"):
            ask()


@pytest.mark.case(47)
def test_no_gpu(folders, monkeypatch):
    "The CPU, without a word"
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        vlm = VLM.from_pretrained(folders('llava'))
        assert vlm.device.type == pick_device(None).type == 'cpu'
        vlm.ask(IMAGE, 'What is it?', max_new_tokens=2)
