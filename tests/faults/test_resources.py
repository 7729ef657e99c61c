"""Memory that runs out, disks that are full, devices that are not there. What may come, and what must
happen:

44. Out of memory in pass 1 or 2 => one error that says what helps; in a run the sample is marked `oom`,
    memory is given back and the run goes on (a second try with less at a time, and forecasts, went with
    0.2)
45. Out of memory in the re-query => the same error; in a run the sample is marked `oom` and does not
    count as the method's (the baseline answer in its place went with 0.2)
46. Disk full while writing => run stops cleanly; what was kept is whole; resume works
47. No GPU; MPS; device given that does not exist => CPU path; clear error for the last"""

import re
import sys
from contextlib import contextmanager
from dataclasses import replace
import pytest
import torch
from PIL import Image
from processes import afresh, run
from carve_nb.attention.edits import decoder_layers
from carve_nb.attention.vlm import VLM
from carve_nb.core.errors import CarveError, InsufficientMemoryError
from carve_nb.data.datasets import load_benchmark
from carve_nb.data.scenes import make_scene, to_sample
from carve_nb.method.registry import make_method
from carve_nb.models.checkpoints import pick_device
from carve_nb.models.kernel import find_cache
from carve_nb.runs.pages import markdown, write_report
from carve_nb.runs.runner import run_eval
from carve_nb.testing import traces

IMAGE = Image.linear_gradient('L').convert('RGB')
ERRORS = [
    torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 2.00 GiB'),
    MemoryError(),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
]


@contextmanager
def no_memory(vlm, when, error=ERRORS[0]):
    """Let forward passes of the decoder fail: those for which `when(number, tokens of its prompt so far)`
    holds"""
    lengths = []

    def begin(module, args, kw):
        cache = find_cache(kw.values())
        lengths.append(args[0].shape[1] + (0 if cache is None else cache.get_seq_length()))
        if when(len(lengths) - 1, lengths[-1]):
            raise error

    handle = decoder_layers(vlm.model)[0].register_forward_pre_hook(begin, with_kwargs=True)
    try:
        yield lengths
    finally:
        handle.remove()


@pytest.fixture(scope='module')
def scene_question():
    s = to_sample(make_scene(0, 'heldout'), 'digit')
    return s.image.resize((120, 90)), s.question


def sample(passes, name):
    "Which passes are made to fail: all of CARVE's, some of the others'"
    n = len(passes)
    return range(n) if name == 'carve' else sorted({0, n // 2, n - 1})


@pytest.mark.case(44, 45)
@pytest.mark.parametrize('name', ['none', 'carve', 'official', 'rel-att', 'vcd'])
def test_no_memory(load, scene_question, name):
    """Memory runs out in any one pass, whatever the error is called: an error that says what helps; nothing
    is left behind"""
    vlm = load('llava')
    method = make_method(name, max_new_tokens=2)
    with no_memory(vlm, lambda i, n: False) as passes:
        whole = method(vlm, *scene_question)
    before = traces(vlm)
    for at in sample(passes, name):
        with (
            no_memory(vlm, lambda i, n: i == at, ERRORS[at % 3]),
            pytest.raises(InsufficientMemoryError, match='memory ran out: give a smaller image'),
        ):
            method(vlm, *scene_question)
    assert traces(vlm) == before and method(vlm, *scene_question).answer.tokens == whole.answer.tokens


@pytest.mark.case(44, 45)
def test_no_memory_in_a_run(load, tmp_path):
    """A capture that does not fit, a second question that does not fit, and one that does: statuses, and the
    run goes on"""
    vlm = load('qwen2_5_vl')
    images = [(56, 56), (224, 224), (144, 144)]
    data = load_benchmark('scenes', 3)
    data = replace(
        data, records=[replace(r, image=r.open().resize(size), boxes=None) for r, size in zip(data, images)]
    )
    n, m = (len(vlm.prompt(data[i].image, data[i].question, data.suffix)) for i in (1, 2))
    with no_memory(vlm, lambda i, tokens: tokens > (n + m) // 2 or tokens > m + 20):
        records = run_eval(
            data, vlm, 'none,carve', out=tmp_path / 'R', max_new_tokens=2, progress=False
        ).records
    by = {(line['at'], line['method']): line['status'] for line in records}
    assert [by[at, k] for at in range(3) for k in ('none', 'carve')] == [
        'ok',
        'ok',
        'oom',
        'oom',
        'ok',
        'oom',
    ]
    for line in records:
        if line['status'] == 'oom':
            assert 'memory ran out' in line['why'] and not {'answer', 'score'} & {*line}
    assert 'the first, oom: ' in markdown(write_report(tmp_path / 'R').run)


DISK = '''
import io, resource, signal, warnings
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
import pytest
from carve_nb.attention.vlm import VLM
from carve_nb.cli.main import main
from carve_nb.core.errors import IncompleteError
from carve_nb.runs.pages import write_report
from carve_nb.runs.runner import run_eval
from carve_nb.runs.store import read_run
warnings.simplefilter('ignore')
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
model, root = MODEL, Path(ROOT)
vlm = VLM.from_pretrained(model)

@contextmanager
def room(n):
    "Only so many bytes for each file"
    resource.setrlimit(resource.RLIMIT_FSIZE, (n, resource.RLIM_INFINITY))
    try: yield
    finally: resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,)*2)

def command(*words):
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()) as err: status = main([*map(str, words)])
    return status, err.getvalue()

def run(out): run_eval('scenes', vlm, 'none,carve', 8, out, max_new_tokens=2, progress=False)
def lines(out): return [{k: v for k, v in r.items() if k != 'seconds'} for r in read_run(out).records]
def names(out): return {p.name for p in out.iterdir()}

run(root/'whole')
with room(10): status, words = command('eval', 'scenes', '--model', model, '--n', 8, '--methods', 'none,carve', '--max-new-tokens', 2, '--out', root/'R')
assert status == 1 and 'File too large' in words and 'Traceback' not in words, words
with room(6000), pytest.raises(IncompleteError, match='File too large.*Make room, .* the same command goes on'): run(root/'R')
assert 0 < len(lines(root/'R')) < 16 and not [n for n in names(root/'R') if n.endswith('.new')]
run(root/'R')
assert lines(root/'R') == lines(root/'whole')
write_report(root/'R')
before = {p.name: p.read_bytes() for p in (root/'R').iterdir()}
with room(100): status, words = command('report', root/'R')
assert status == 1 and 'File too large' in words and 'Traceback' not in words, words
assert before == {p.name: p.read_bytes() for p in (root/'R').iterdir()} and command('report', root/'R')[0] == 0
'''


@pytest.mark.case(46)
@pytest.mark.skipif(not sys.platform.startswith('linux'), reason='`make pytest` on Linux runs it')
def test_full_disk(folders, tmp_path):
    "A run without room stops and goes on, and a report leaves what was there: under a limit on the size of files"
    code = DISK.replace('MODEL', repr(str(folders('llava')))).replace('ROOT', repr(str(tmp_path)))
    done = run(code, work=afresh)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.case(47)
def test_devices_that_are_not_there(folders, monkeypatch):
    "Refused by name, before any weights are read"
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    monkeypatch.setattr(
        'carve_nb.models.loading.load_weights', lambda *args, **kw: pytest.fail('weights were read')
    )
    missing = [name for name in ('mps', 'xpu') if not getattr(torch, name).is_available()]
    for name in [*missing, 'nonsense', *['cuda', 'cuda:99'] * (not torch.version.cuda)]:
        for ask in (lambda: pick_device(name), lambda: VLM.from_pretrained(folders('llava'), device=name)):
            with pytest.raises(CarveError, match=re.escape(repr(name))):
                ask()
