"""A folder of others that looks like a run: nothing outside it is read or written, nothing hangs or fills the
memory, and each door says what it found."""
import gzip
import os
import resource
import shutil
import subprocess
from time import monotonic
import pytest
import torch
from carve_nb.attention.rows import AttentionRows
from carve_nb.attention.vlm import VLM
from carve_nb.core.errors import CarveError
from carve_nb.core.io import load_with_digest, replace_file
from carve_nb.models.image_tokens import ImageSpan
from carve_nb.runs.report import write_report
from carve_nb.runs.store import RunStore, read_run

PROTOCOL = dict(data=dict(name='a', n=4, rule='exact'), model=dict(name='m'), methods=dict(none={}, carve={}))
LINES = [dict(id=f'q{i}', at=i, method=m, status='ok', kind='digit', question='What?', answer=str(i), truth='1',
    score=float(i == 1), calls=1, notes=[]) for i in range(4) for m in PROTOCOL['methods']]
SECRET = 'nobody reads or writes this\n'


@pytest.fixture
def folder(tmp_path):
    store = RunStore(tmp_path/'R', PROTOCOL)
    store.add(LINES)
    store.close()
    write_report(tmp_path/'R')
    (tmp_path/'secret').write_text(SECRET)
    return tmp_path/'R'


def link(path, secret): path.symlink_to(secret)
def dangling(path, secret): path.symlink_to(secret.with_name('new'))
def pipe(path, secret): os.mkfifo(path)
def device(path, secret): path.symlink_to('/dev/zero')
def a_folder(path, secret): path.mkdir()
def second(path, secret): os.link(secret, path)


KINDS = [link, dangling, pipe, device, a_folder, second]
NAMES = ['records.jsonl', 'records-2.jsonl', 'records-3.jsonl.gz', 'protocol.json', 'records.lock', 'protocol.lock',
    'table.md', 'results.csv', 'accuracy.png', 'records.jsonl.bak']


@pytest.mark.parametrize('name', NAMES)
@pytest.mark.parametrize('make', KINDS)
def test_a_run_folder_of_others(folder, make, name, tmp_path):
    "Each file of a run as a link, a link to nothing, a pipe, a device, a folder, a second name of a file elsewhere"
    path = folder/name
    if path.exists(): path.unlink()
    make(path, tmp_path/'secret')
    begun = monotonic()
    for call in lambda: read_run(folder), lambda: write_report(folder), lambda: RunStore(folder, PROTOCOL).close():
        try: call()
        except (CarveError, OSError) as e: assert str(e) and not isinstance(e, UnicodeError)
    assert monotonic() - begun < 20
    assert (tmp_path/'secret').read_text() == SECRET and not (tmp_path/'new').exists()


@pytest.mark.parametrize('content', [bytes(600_000_000), b'\n'*3_000_000, b'{"a": "' + b'x'*20_000_000 + b'"}\n'], ids=len)
def test_a_packed_file_that_fills_the_memory(folder, content):
    "Zeros, blank lines, one long line in a small packed file"
    (folder/'records-2.jsonl.gz').write_bytes(gzip.compress(content, 1))
    content = None
    before, begun = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, monotonic()
    try: read_run(folder)
    except CarveError as e: assert 'it is not of a run' in str(e)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000 and monotonic() - begun < 20


@pytest.mark.parametrize('make', KINDS)
def test_what_is_kept(make, tmp_path):
    "A profile, a mark, a file that a command writes"
    (tmp_path/'secret').write_text(SECRET)
    make(tmp_path/'p.json', tmp_path/'secret')
    with pytest.raises((CarveError, OSError)): load_with_digest(tmp_path/'p.json')
    if make is second: replace_file(tmp_path/'p.json', 'x')      # which takes the name away from the other file
    else:
        with pytest.raises(CarveError, match='is left alone'): replace_file(tmp_path/'p.json', 'x')
    assert (tmp_path/'secret').read_text() == SECRET and not (tmp_path/'new').exists()


@pytest.mark.parametrize('make', KINDS)
def test_rows_of_attention(make, tmp_path):
    "Saved to a link they overwrote the file that it names, and read of a pipe they were waited for"
    (tmp_path/'secret').write_text(SECRET)
    rows = AttentionRows(torch.zeros(1, 1, 1, 4), [0], [], [ImageSpan(torch.arange(4), (2, 2), (0, 0, 9, 9))])
    path = tmp_path/'rows.safetensors'
    make(path, tmp_path/'secret')
    with pytest.raises(CarveError, match='holds no rows' if make is second else 'is left alone'): AttentionRows.load(path)
    if make is second: rows.save(path)
    else:
        with pytest.raises(CarveError, match='is left alone'): rows.save(path)
    assert (tmp_path/'secret').read_text() == SECRET and not (tmp_path/'new').exists()


def test_a_copied_folder_is_read(folder, tmp_path):
    "With hard links, as some backups and installers make them; it is not written to"
    shutil.copytree(folder, tmp_path/'copy', copy_function=os.link)
    assert len(read_run(tmp_path/'copy').records) == 8
    with pytest.raises(CarveError, match='second name'): RunStore(tmp_path/'copy', PROTOCOL)


# -- chat templates

NAMED = '{% set n = namespace(x="a") %}'
BOMBS = dict(
    loops='{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}',
    times='{{ "a" * 10**9 }}', power='{{ 10**(10**10) }}',
    square='{% set n = namespace(x=9) %}{% for i in range(99) %}{% set n.x = n.x*n.x %}{% endfor %}',
    joined=NAMED + '{% for i in range(40) %}{% set n.x = n.x ~ n.x %}{% endfor %}',
    added=NAMED + '{% for i in range(40) %}{% set n.x = n.x + n.x %}{% endfor %}',
    macro='{% macro f(n) %}{% if n %}{{ f(n-1) }}{{ f(n-1) }}{% endif %}{% endmacro %}{{ f(60) }}',
    lists='{% for i in range(9999) %}{% set x = range(99999)|list %}{% endfor %}',
    output='{% for i in range(9000) %}{{ "a" * 9999 }}{% endfor %}', center='{{ "a"|center(10**9) }}',
    width='{{ "{:>999999999}".format(1) }}', helper='{{ raise_exception("a" * 10**9) }}')


@pytest.mark.parametrize('name', BOMBS)
def test_a_template_that_does_not_end(name, folders, tmp_path):
    """A chat template's loops, products, joined texts and macros are refused in a sentence when the model is
    loaded, and soon"""
    folder = shutil.copytree(folders('llava'), tmp_path/'m')
    path = folder/'chat_template.jinja'
    path.write_text(BOMBS[name] + path.read_text())
    before, begun = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, monotonic()
    with pytest.raises(CarveError, match='chat template takes over .* get the release of the model again'):
        VLM.from_pretrained(folder)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000 and monotonic() - begun < 90


def test_a_busy_machine_is_not_a_broken_template(folders, tmp_path, monkeypatch):
    "A trial that ran out of time is told as that, and made anew when the model is loaded again"
    folder = shutil.copytree(folders('llava'), tmp_path/'m')
    path = folder/'chat_template.jinja'
    path.write_text(path.read_text() + '{# never tried before #}')
    def late(*args, **kwargs): raise subprocess.TimeoutExpired(args[0], kwargs['timeout'])
    with monkeypatch.context() as busy:
        busy.setattr(subprocess, 'run', late)
        with pytest.raises(CarveError, match='too busy.* Load the model again'): VLM.from_pretrained(folder)
    assert VLM.from_pretrained(folder).n_layers
