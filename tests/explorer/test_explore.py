"`carve explore` as a server, without a browser."

import contextlib
import os
import urllib.request
import pytest
from browsers import explored
from processes import until


@pytest.mark.skipif(os.name != 'posix', reason='`make pytest` on Linux or macOS runs it')
def test_kernels_of_lost_pages_end(tmp_path):
    """A page is loaded and nobody says farewell, as after a crash of the browser: its kernel ends by itself,
    and the server serves on"""
    import psutil

    with explored(tmp_path, CARVE_IDLE_SECONDS='5') as (address, _, token, server):

        def kernels():
            processes = []
            for p in psutil.Process(server.pid).children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    # one that ends meanwhile has no command
                    processes += [p] * ('ipykernel' in ' '.join(p.cmdline()))
            return processes

        def load():
            return urllib.request.urlopen(f'{address}?token={token}', timeout=300)

        assert b'explore' in load().read() and kernels()
        assert until(lambda: not kernels())
        assert server.poll() is None and load().status == 200
