"`carve explore` as a server, without a browser."
import contextlib
import os
import re
import signal
import subprocess
import sys
import urllib.request
import pytest
from processes import until

@pytest.mark.skipif(os.name != 'posix', reason='`make pytest` on Linux or macOS runs it')
def test_kernels_of_lost_pages_end(tmp_path):
    "A page is loaded and nobody says farewell, as after a crash of the browser: its kernel ends by itself, and the server serves on"
    import psutil
    env = dict(os.environ, HOME=str(tmp_path), TMPDIR=str(tmp_path), CARVE_IDLE_SECONDS='5', HF_HUB_OFFLINE='1',
        OMP_NUM_THREADS='1')
    with open(tmp_path/'log', 'w') as log:
        server = subprocess.Popen([sys.executable, '-m', 'carve_nb', 'explore', '--no-browser'], env=env, stdout=log,
            stderr=log, cwd=tmp_path)
    def kernels():
        found = []
        for p in psutil.Process(server.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                found += [p]*('ipykernel' in ' '.join(p.cmdline()))     # one that ends meanwhile has no command
        return found
    def said(): return (tmp_path/'log').read_text()
    try:
        assert until(lambda: re.search(r'http://\S+token=\w+', said())), said()
        address = re.search(r'http://\S+token=\w+', said())[0]
        assert b'explore' in urllib.request.urlopen(address, timeout=300).read()
        assert kernels(), said()
        assert until(lambda: not kernels()), said()
        assert server.poll() is None and urllib.request.urlopen(address, timeout=300).status == 200
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(60)
