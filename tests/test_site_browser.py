"""The site in a real browser: a few of its pages are built as `make docs` builds them, and looked at in Chromium.

Skipped without Sphinx or a browser; with CARVE_BROWSER=required a missing browser is a failure.
CARVE_SITE=FOLDER looks at every page of a site that is there, such as that of `make docs`."""
import os, subprocess, sys
from importlib.util import find_spec
from pathlib import Path
import pytest
from test_browser import browser_path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT/'tools'))
import pages  # noqa: E402

FEW = 'index', '02_attention_maps', '10_carve', 'explanations/robustness', 'api/maps'
SEEN = '''() => ({wide: document.documentElement.scrollWidth - document.documentElement.clientWidth,
    blank: [...document.querySelectorAll('article img')].filter(i => !i.naturalWidth || !i.alt).map(i => i.src),
    maths: document.querySelectorAll('.math').length, drawn: document.querySelectorAll('mjx-container').length,
    wrong: [...document.querySelectorAll('mjx-merror, .MathJax_Error')].map(e => e.textContent),
    heads: document.querySelectorAll('h1').length, back: getComputedStyle(document.body).backgroundColor})'''
DONE = '() => !document.querySelector(".math") || document.querySelectorAll("mjx-container").length >= document.querySelectorAll(".math").length'


def why_not():
    "What is missing for these tests, or ''"
    if not all(map(find_spec, ('sphinx', 'myst_nb', 'furo'))) and 'CARVE_SITE' not in os.environ: return 'Sphinx is not installed: pip install -e ".[docs]"'
    if not find_spec('playwright'): return 'playwright is not installed: pip install -e ".[browser]"'
    return '' if browser_path() else 'no Chromium was found: apt-get install chromium, or `playwright install chromium`'


@pytest.fixture(scope='module')
def site(tmp_path_factory):
    "A folder of pages"
    why = why_not()
    if why and 'Sphinx' not in why and os.environ.get('CARVE_BROWSER') == 'required': pytest.fail(why)
    if why: pytest.skip(why)
    if 'CARVE_SITE' in os.environ: return Path(os.environ['CARVE_SITE']).resolve()
    root = tmp_path_factory.mktemp('site')
    pages.write_site(root/'source')
    for p in (root/'source').rglob('*.*'):
        if p.suffix in ('.ipynb', '.rst') and p.relative_to(root/'source').with_suffix('').as_posix() not in FEW: p.unlink()
    done = subprocess.run([sys.executable, '-m', 'sphinx', '-q', root/'source', root/'html'], capture_output=True, text=True)
    assert (root/'html'/'index.html').is_file(), done.stderr[-2000:]
    return root/'html'


@pytest.fixture(scope='module')
def browser(site):
    from playwright.sync_api import sync_playwright
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=browser_path(), args=['--no-sandbox', '--disable-gpu'])
        yield browser
        browser.close()


class Looker:
    "A page in the browser that notes what is asked of others, and the errors of scripts"
    def __init__(self, browser, width=1280, scheme='light'):
        self.page, self.outside, self.errors = browser.new_page(viewport=dict(width=width, height=900), color_scheme=scheme), [], []
        self.page.on('request', lambda r: r.url.startswith(('file:', 'data:', 'blob:')) or self.outside.append(r.url))
        self.page.on('pageerror', lambda e: self.errors.append(str(e)))

    def visit(self, path):
        "What stands on a page"
        self.page.goto(path.resolve().as_uri())
        self.page.wait_for_function(DONE, timeout=60_000)
        return self.page.evaluate(SEEN)


def names(site): return FEW if 'CARVE_SITE' not in os.environ else [p.relative_to(site).with_suffix('').as_posix() for p in sorted(site.rglob('*.html'))]


def test_faults_are_seen(browser, tmp_path):
    "The checks of the next test see a picture of another host, an error, a picture without words, and a page that is too wide"
    (tmp_path/'a.html').write_text('<article><img src="http://127.0.0.1:9/a.png"><img src="data:image/gif;base64,R0lGODlhAQABAAAAACw="></article>'
                                   '<div style="width: 3000px">x</div><script>throw Error("oh")</script>')
    looker = Looker(browser)
    seen = looker.visit(tmp_path/'a.html')
    looker.page.close()
    assert (looker.outside, looker.errors, len(seen['blank']), seen['wide'] > 1000) == (['http://127.0.0.1:9/a.png'], ['oh'], 2, True)


@pytest.mark.parametrize('width, scheme', [(1280, 'light'), (390, 'dark')])
def test_pages(site, browser, width, scheme):
    "Nothing is asked of another host, nothing fails, pictures and equations are there, and no page is wider than its window"
    looker, wrong = Looker(browser, width, scheme), []
    for name in names(site):
        seen = looker.visit(site/f'{name}.html')
        dark = sum(map(int, seen['back'][4:-1].split(','))) < 200
        if seen['wide'] > 1 or seen['blank'] or seen['wrong'] or seen['heads'] > 1 or seen['drawn'] < seen['maths'] or dark != (scheme == 'dark'): wrong.append((name, seen))
    looker.page.close()
    assert (looker.outside, looker.errors, wrong) == ([], [], [])


def test_search_finds(site, browser):
    "The search of the site works without a server"
    page = browser.new_page()
    page.goto((site/'search.html').as_uri() + '?q=entropy')
    page.wait_for_selector('ul.search li a', timeout=30_000)
    assert '02_attention_maps.html' in ' '.join(a.get_attribute('href') for a in page.query_selector_all('ul.search li a'))
    page.close()
