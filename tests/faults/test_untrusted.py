"A folder of others that looks like a run: nothing outside it is read or written"
import resource
import shutil
import subprocess
from time import monotonic
import pytest
from carve_nb.attention.vlm import VLM
from carve_nb.core.errors import CarveError
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


NAMES = ['records.jsonl', 'records.jsonl.gz', 'protocol.json', 'run.lock', 'part-1-of-2', 'table.md', 'results.csv',
    'accuracy.png', 'records.jsonl.bak']


@pytest.mark.parametrize('name', NAMES)
@pytest.mark.parametrize('make', [link, dangling])
def test_a_run_folder_of_others(folder, make, name, tmp_path):
    "Each file of a run as a link, and as a link to nothing"
    path = folder/name
    if path.exists(): path.unlink()
    make(path, tmp_path/'secret')
    for call in lambda: read_run(folder), lambda: write_report(folder), lambda: RunStore(folder, PROTOCOL).close():
        try: call()
        except (CarveError, OSError) as e: assert str(e) and not isinstance(e, UnicodeError)
    assert (tmp_path/'secret').read_text() == SECRET and not (tmp_path/'new').exists()


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
