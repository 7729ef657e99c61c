"JupyterLab on loopback, or a reason why not"

import os
import subprocess
import sys
import pytest
from browsers import TOKEN, missing, need_browser
from processes import free_port, served, until

CELL = 'from carve_nb.explorer.app import explore\nex = explore()\nex'


@pytest.fixture(scope='session')
def ready():
    need_browser(missing('jupyterlab', 'voila'))


@pytest.fixture(scope='session')
def server(ready, tmp_path_factory):
    "JupyterLab on loopback, for all tests, with a notebook of one cell; yields (address, folder)"
    from carve_nb.cli.commands import write_page

    home, port = tmp_path_factory.mktemp('lab'), free_port()
    (home / 'work').mkdir()
    write_page(home / 'work' / 'look.ipynb', CELL)
    news = home / 'settings' / '@jupyterlab' / 'apputils-extension'
    news.mkdir(parents=True)
    (news / 'notification.jupyterlab-settings').write_text('{"fetchNews": "false", "checkForUpdates": false}')
    dirs = {f'JUPYTER_{k}_DIR': str(home / k.lower()) for k in ('CONFIG', 'DATA', 'RUNTIME')}
    env = dict(
        os.environ,
        HOME=str(home),
        HF_HUB_OFFLINE='1',
        OMP_NUM_THREADS='1',
        IPYTHONDIR=str(home / 'ipython'),
        CARVE_UPLOAD_MB='20',
        JUPYTER_NO_CONFIG='1',
        JUPYTERLAB_SETTINGS_DIR=str(home / 'settings'),
        **dirs,
    )
    command = [
        sys.executable,
        '-m',
        'jupyterlab',
        '--no-browser',
        '--allow-root',
        '--ip=127.0.0.1',
        f'--port={port}',
        '--ServerApp.port_retries=0',
        f'--ServerApp.root_dir={home / "work"}',
        f'--IdentityProvider.token={TOKEN}',
        '--LabApp.news_url=',
        '--LabApp.extension_manager=readonly',
        '--LabApp.expose_app_in_browser=True',
        "--ServerApp.tornado_settings={'websocket_max_message_size': 20_000_000}",
    ]
    with open(home / 'log', 'w') as log:
        process = subprocess.Popen(command, env=env, stdout=log, stderr=log, cwd=home)
    address = f'http://127.0.0.1:{port}'
    try:
        assert until(lambda: served(f'{address}/api?token={TOKEN}'), process), (
            'JupyterLab did not start:\n' + (home / 'log').read_text()[-2000:]
        )
        yield address, home
    finally:
        process.terminate()
        process.wait(60)
