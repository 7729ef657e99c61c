"Chromium, driven by Playwright, a notebook in JupyterLab, and `carve explore`"

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
import processes
import pytest

TOKEN = 'only-for-this-test'


def missing(*packages):
    "What is not there to drive a browser with, or ''"
    absent = next((p for p in ('playwright', *packages) if not find_spec(p)), None)
    if absent:
        return f'{absent} is not installed: pip install -e ".[explore,browser]"'
    return (
        ''
        if browser_path()
        else 'no Chromium was found: apt-get install chromium, or `playwright install chromium`'
    )


def browser_path():
    "Chromium of the system, or the one that Playwright has fetched"
    system_path = next(
        (p for n in ('chromium', 'chromium-browser', 'google-chrome') if (p := shutil.which(n))), None
    )
    if system_path:
        return system_path
    from playwright.sync_api import sync_playwright

    with sync_playwright() as p:
        return p.chromium.executable_path if Path(p.chromium.executable_path).exists() else None


def need_browser(why):
    "Skip for a reason, unless a browser is required"
    if why:
        (pytest.fail if os.environ.get('CARVE_BROWSER') == 'required' else pytest.skip)(why)


@contextlib.contextmanager
def chromium():
    "A headless browser"
    from playwright.sync_api import sync_playwright

    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=browser_path(), args=['--no-sandbox', '--disable-gpu'])
        yield browser
        browser.close()


def open_page(browser, width=1280, height=900, scheme='light', console=True):
    "A page that notes what it asks of other machines (`outside`), and the `errors` of its scripts"
    page = browser.new_page(viewport=dict(width=width, height=height), color_scheme=scheme)
    local = 'file:', 'data:', 'blob:', 'http://127.0.0.1', 'ws://127.0.0.1'
    page.outside, page.errors = [], []
    page.on('request', lambda r: r.url.startswith(local) or page.outside.append(r.url))
    page.on('pageerror', lambda e: page.errors.append(str(e)))
    if console:
        page.on('console', lambda m: m.type == 'error' and page.errors.append(m.text))
    return page


def until(test, seconds=120):
    "Wait for something to become true"

    def ready():
        try:
            return test()
        except json.JSONDecodeError:
            return None  # the file is being written
        except Exception as e:  # an image is replaced while it is taken
            if not any(word in str(e) for word in ('attached', 'visible')):
                raise

    return processes.until(ready, seconds=seconds)


def run_cell(page):
    "Run the cell; a key that comes before the kernel is connected is lost, so look whether it was taken"
    dialog = page.locator('.jp-Dialog-footer')  # a loaded machine may be asked which kernel to start
    page.add_locator_handler(dialog, lambda footer: footer.locator('.jp-mod-accept').click())
    page.locator('.jp-Notebook-ExecutionIndicator[data-status=idle]').wait_for(timeout=300_000)
    prompt = lambda: page.locator('.jp-InputPrompt').first.inner_text().strip()
    was = prompt()
    for _ in range(30):
        page.locator('.jp-Cell .cm-content').first.click()
        page.keyboard.press('Shift+Enter')
        if until(lambda: prompt() not in ('', '[ ]:', was), 5):
            return
    pytest.fail('the cell was not run')


@contextlib.contextmanager
def explored(folder, *words, **env):
    "`carve explore`, with nothing added; yields (address, port, token, process), and ends it by a signal"
    env = dict(
        os.environ, HOME=str(folder), TMPDIR=str(folder), HF_HUB_OFFLINE='1', OMP_NUM_THREADS='1', **env
    )
    with open(folder / 'log', 'w') as log:
        process = subprocess.Popen(
            [sys.executable, '-m', 'carve_nb', 'explore', '--no-browser', *words],
            env=env,
            stdout=log,
            stderr=log,
            cwd=folder,
        )
    find = lambda: re.search(r'(http://127\.0\.0\.1:(\d+)/)\?token=(\w+)', (folder / 'log').read_text())
    try:
        assert until(find, 120), (folder / 'log').read_text()
        sentence, alone = (folder / 'log').read_text().splitlines()
        assert sentence.startswith('The explorer is ready'), 'the log of the server'
        assert re.fullmatch(r'http://\S+/\?token=\w+', alone), 'the log of the server'
        yield *find().groups(), process
    finally:
        process.send_signal(signal.SIGTERM)
    process.wait(30)
    assert until(lambda: socket.socket().connect_ex(('127.0.0.1', int(find()[2]))) != 0)
    assert not list(folder.glob('carve-explore-*'))
