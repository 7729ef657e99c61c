"Chromium, driven by Playwright, and a notebook in JupyterLab"
import contextlib, shutil, time
from pathlib import Path
import pytest

TOKEN = 'only-for-this-test'


def missing():
    "What is not there for these tests, or ''"
    try: import jupyterlab, playwright, voila  # noqa
    except ImportError as e: return f'{e.name} is not installed: pip install -e ".[explore,browser]"'
    return '' if browser_path() else 'no Chromium was found: apt-get install chromium, or `playwright install chromium`'


def browser_path():
    "Chromium of the system, or the one that Playwright has fetched"
    found = next((p for n in ('chromium', 'chromium-browser', 'google-chrome') if (p := shutil.which(n))), None)
    if found: return found
    from playwright.sync_api import sync_playwright
    with sync_playwright() as p: return p.chromium.executable_path if Path(p.chromium.executable_path).exists() else None


@contextlib.contextmanager
def chromium():
    "A headless browser"
    from playwright.sync_api import sync_playwright
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=browser_path(), args=['--no-sandbox', '--disable-gpu'])
        yield browser
        browser.close()


def until(test, seconds=60):
    "Wait for something to become true"
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if test(): return True
        except Exception as e:   # an image is replaced while it is taken, a file is read while it is written
            if not any(word in str(e) for word in ('attached', 'visible', 'Expecting value')): raise
        time.sleep(.05)
    return False


def run_cell(page):
    "Run the cell; a key that comes before the kernel is connected is lost, so look whether it was taken"
    page.locator('.jp-Notebook-ExecutionIndicator[data-status=idle]').wait_for(timeout=300_000)
    prompt = lambda: page.locator('.jp-InputPrompt').first.inner_text().strip()
    was = prompt()
    for _ in range(30):
        page.locator('.jp-Cell .cm-content').first.click()
        page.keyboard.press('Shift+Enter')
        if until(lambda: prompt() not in ('', '[ ]:', was), 5): return
    pytest.fail('the cell was not run')
