"`carve explore` as a server, without a browser."
import os, re, signal, subprocess, sys, time, urllib.request
from importlib.util import find_spec
import pytest

pytestmark = pytest.mark.skipif(not find_spec('voila'), reason='voila serves the page')


def until(ready, seconds):
    "Whether something is so within that time"
    end = time.monotonic() + seconds
    while not (found := ready()) and time.monotonic() < end: time.sleep(.1)
    return found


@pytest.mark.skipif(os.name != 'posix', reason='processes as Unix has them')
def test_kernels_of_lost_pages_end(tmp_path):
    "A page is loaded and nobody says farewell, as after a crash of the browser: its kernel ends by itself, and the server serves on"
    import psutil
    env = dict(os.environ, HOME=str(tmp_path), TMPDIR=str(tmp_path), CARVE_IDLE_SECONDS='5', HF_HUB_OFFLINE='1', OMP_NUM_THREADS='1')
    with open(tmp_path/'log', 'w') as log: server = subprocess.Popen([sys.executable, '-m', 'carve_nb', 'explore', '--no-browser'], env=env, stdout=log, stderr=log, cwd=tmp_path)
    def kernels(): return [p for p in psutil.Process(server.pid).children(recursive=True) if p.status() != psutil.STATUS_ZOMBIE and 'ipykernel' in ' '.join(p.cmdline())]
    def said(): return (tmp_path/'log').read_text()
    try:
        assert until(lambda: re.search(r'http://\S+token=\w+', said()), 120), said()
        address = re.search(r'http://\S+token=\w+', said())[0]
        assert b'explore' in urllib.request.urlopen(address, timeout=120).read()
        assert kernels(), said()
        assert until(lambda: not kernels(), 60), said()
        assert server.poll() is None and urllib.request.urlopen(address, timeout=120).status == 200
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(30)
