"""Processes forked from one that has loaded the libraries: they are imported once for all tests, not for
each process. Where the start is what is tested, in test_install, test_import and some
of test_cli, a shell's command is started."""

import gc
import os
import runpy
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from multiprocessing import get_context
from pathlib import Path
import pytest

ROOT = Path(__file__).parents[1]
SERVER = get_context('forkserver')
SERVER.set_forkserver_preload(
    [
        'torch',
        'transformers',
        'pandas',
        'matplotlib.pyplot',
        'ipykernel.kernelapp',
        'carve_nb.cli.main',
        'carve_nb.runs.pages',
        'carve_nb.runs.runner',
        'carve_nb.attention.vlm',
        'carve_nb.studies.measure',
    ]
)


def begin(work, words, out, err, errors, cwd, env):
    "In the new process: its output in two files, its folder, its environment; then the work"
    for fd, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY), fd)
    sys.stdout, sys.stderr = (
        open(fd, 'w', encoding='utf-8', errors=errors, buffering=1, closefd=False) for fd in (1, 2)
    )
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if cwd:
        os.chdir(cwd)
    os.environ.update(env, HF_HUB_OFFLINE='1', OMP_NUM_THREADS='1')
    import torch

    torch.set_num_threads(1)
    gc.freeze()
    sys.exit(work(words))


def carve(words):
    "What `python -m carve_nb` does"
    from carve_nb.cli.main import main

    sys.argv = ['carve', *words]
    return main()


def script(words):
    "What `python FILE` does"
    sys.argv = words
    runpy.run_path(words[0], run_name='__main__')


def afresh(words):
    "What `python -c CODE` does, with the libraries loaded and the package not"
    for k in [k for k in sys.modules if k.partition('.')[0] == 'carve_nb']:
        del sys.modules[k]
    exec(words[0], {})


def kernel(words):
    "What `python -m ipykernel_launcher` does, which begins before matplotlib is imported"
    import matplotlib
    from ipykernel.kernelapp import launch_new_instance

    os.setsid()
    sys.path[:] = [p for p in sys.path if not p.startswith((str(ROOT / 'tests'), str(ROOT / 'tools')))]
    matplotlib.rcParams['backend'] = 'module://matplotlib_inline.backend_inline'
    launch_new_instance(words)


def until(ready, process=None, seconds=900):
    "Wait for something to be so, or for a process to end; what there is then"
    end = time.monotonic() + seconds
    while not (result := ready()) and (process is None or process.poll() is None) and time.monotonic() < end:
        time.sleep(0.02)
    return result


def free_port():
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]


def served(url):
    "Does a server answer there?"
    try:
        return bool(urllib.request.urlopen(url, timeout=30).status)
    except OSError:
        return False


def python(*words, **env) -> str:
    "What `python WORDS` prints, which imports the clone and its tests"
    env = (
        dict(PYTHONPATH=f'{ROOT}{os.pathsep}{ROOT / "tests"}', OMP_NUM_THREADS='1', HF_HUB_OFFLINE='1') | env
    )
    done = subprocess.run(
        [sys.executable, *map(str, words)], capture_output=True, text=True, env=os.environ | env
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    return done.stdout


class Forked:
    "A running process, with the names of `subprocess.Popen`"

    stdin = stdout = stderr = None

    def __init__(self, work, *words, out=None, errors='backslashreplace', cwd=None, env=()):
        place = Path(tempfile.mkdtemp())
        self.files = place / 'out', place / 'err'
        for f in self.files:
            f.touch()
        self.process = SERVER.Process(
            target=begin,
            args=(
                work,
                [str(w) for w in words],
                out or str(self.files[0]),
                str(self.files[1]),
                errors,
                cwd,
                dict(env),
            ),
        )
        self.process.start()
        self.pid, self.kill, self.terminate = self.process.pid, self.process.kill, self.process.terminate

    @property
    def returncode(self):
        return self.process.exitcode

    def poll(self):
        return self.process.exitcode

    def send_signal(self, number):
        os.kill(self.pid, number)

    def wait(self):
        "Its exit status, once it has ended"
        self.process.join()
        return self.returncode

    def communicate(self):
        "What it has said on the standard output and the other, once it has ended"
        self.process.join()
        outputs = tuple(f.read_text(encoding='utf-8') for f in self.files)
        shutil.rmtree(self.files[0].parent)
        return outputs


def start_carve(*words):
    "Start the command `carve WORDS`"
    return Forked(carve, *words)


def run(*words, work=carve, **kw):
    "`carve WORDS` to its end, as `subprocess.run` gives it"
    p = Forked(work, *words, **kw)
    out, err = p.communicate()
    return subprocess.CompletedProcess(words, p.returncode, out, err)


def execute(cells, **kw):
    """Run cells as a notebook and return it with its outputs. Imported here, so that processes without a
    notebook are spared the seconds of jsonschema"""
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in cells])
    return NotebookClient(notebook, **kw).execute()


def fork_kernels(monkeypatch):
    "Let notebooks be run by kernels that are forked"

    def launch(cmd, cwd=None, env=None, **kw):
        p = Forked(kernel, *cmd[cmd.index('ipykernel_launcher') + 1 :], cwd=cwd, env=env or {})
        until(lambda: os.getpgid(p.pid) == p.pid, p)  # a group of its own, to be interrupted
        shutil.rmtree(p.files[0].parent)
        return p

    monkeypatch.setattr('jupyter_client.provisioning.local_provisioner.launch_kernel', launch)


@pytest.fixture
def forked_kernels(monkeypatch):
    "Notebooks are run by kernels that are forked"
    fork_kernels(monkeypatch)
