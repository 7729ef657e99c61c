"""`carve` in a process of its own, forked from one that has loaded the libraries: they are imported once for all tests, not
for each command. test_install, test_downloaded and test_cli.test_ask_on_a_terminal start what a shell starts."""
import os, shutil, signal, subprocess, sys, tempfile
from multiprocessing import get_context
from pathlib import Path

SERVER = get_context('forkserver')
SERVER.set_forkserver_preload(['torch', 'transformers', 'pandas', 'matplotlib.pyplot', 'carve_nb.cli.main', 'carve_nb.evaluation.report',
                               'carve_nb.evaluation.runner', 'carve_nb.models.vlm', 'carve_nb.studies.entropy'])


def carve(words, out, err):
    "In the new process: what `python -m carve_nb` does, with its output in two files"
    for fd, path in ((1, out), (2, err)): os.dup2(os.open(path, os.O_WRONLY), fd)
    sys.stdout, sys.stderr = (open(fd, 'w', encoding='utf-8', errors='backslashreplace', buffering=1, closefd=False) for fd in (1, 2))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.update(HF_HUB_OFFLINE='1', OMP_NUM_THREADS='1')
    import torch
    torch.set_num_threads(1)
    from carve_nb.cli.main import main
    sys.argv = ['carve', *words]
    sys.exit(main(words))


class Carve:
    "A running `carve WORDS`, with the names of `subprocess.Popen`"
    def __init__(self, *words):
        place = Path(tempfile.mkdtemp())
        self.files = place/'out', place/'err'
        for f in self.files: f.touch()
        self.process = SERVER.Process(target=carve, args=([str(w) for w in words], *map(str, self.files)))
        self.process.start()
        self.pid, self.kill = self.process.pid, self.process.kill

    @property
    def returncode(self): return self.process.exitcode
    def poll(self): return self.process.exitcode
    def send_signal(self, number): os.kill(self.pid, number)

    def communicate(self):
        "What it has said on the standard output and the other, once it has ended"
        self.process.join()
        said = tuple(f.read_text(encoding='utf-8') for f in self.files)
        shutil.rmtree(self.files[0].parent)
        return said


def run(*words):
    "`carve WORDS` to its end, as `subprocess.run` gives it"
    p = Carve(*words)
    out, err = p.communicate()
    return subprocess.CompletedProcess(words, p.returncode, out, err)
