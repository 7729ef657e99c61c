"""The site in a real browser: a few of its pages, as `make docs` has built them, in Chromium.

With CARVE_BROWSER=required a missing browser is a failure. CARVE_PAGES=all looks at every page."""
import os
from pathlib import Path
import pytest
from browsers import chromium, missing, need_browser, open_page
from processes import ROOT

FEW = ('index', '01_clutter', '02_query_token', '07_algorithm', 'quickstart', 'tutorials/gallery',
       'tutorials/your_model', 'tutorials/how_do_i', 'tutorials/serve', 'notes/results', 'notes/robustness',
       'library/core/10_saliency')
SEEN = '''() => ({wide: document.documentElement.scrollWidth - document.documentElement.clientWidth,
    blank: [...document.querySelectorAll('article img')].filter(i => !i.naturalWidth && (i.complete || i.loading != 'lazy') || !i.alt).map(i => i.src),
    maths: document.querySelectorAll('.math').length, drawn: document.querySelectorAll('mjx-container').length,
    cut: [...document.querySelectorAll('article p mjx-container:not([display])')].filter(e => e.getBoundingClientRect().right > innerWidth).map(e => e.textContent),
    wrong: [...document.querySelectorAll('mjx-merror, .MathJax_Error')].map(e => e.textContent),
    heads: document.querySelectorAll('h1').length, back: getComputedStyle(document.body).backgroundColor})'''
DONE = '() => !document.querySelector(".math") || document.querySelectorAll("mjx-container").length >= document.querySelectorAll(".math").length'


@pytest.fixture(scope='module')
def site():
    "The folder that `make docs` has built"
    need_browser(missing())
    if 'CARVE_SITE' not in os.environ: pytest.skip('`make docs pytest` runs it')
    return Path(os.environ['CARVE_SITE']).resolve()


@pytest.fixture(scope='module')
def browser(site):
    with chromium() as browser: yield browser


def visit(page, path):
    "What stands on a page"
    page.goto(path.resolve().as_uri())
    page.wait_for_function(DONE, timeout=300_000)
    return page.evaluate(SEEN)


def names(site):
    "Pages to look at"
    if os.environ.get('CARVE_PAGES') != 'all': return FEW
    return [p.relative_to(site).with_suffix('').as_posix() for p in sorted(site.rglob('*.html'))]


def test_faults_are_seen(browser, tmp_path):
    """The checks of the next test see an image of another host, an error, an image without words, and a page
    that is too wide"""
    (tmp_path/'a.html').write_text(
        '<article><img src="http://localhost:9/a.png"><img src="data:image/gif;base64,R0lGODlhAQABAAAAACw="></article>'
                                   '<div style="width: 3000px">x</div><script>throw Error("oh")</script>')
    page = open_page(browser)
    seen = visit(page, tmp_path/'a.html')
    page.close()
    assert (page.outside, [o for o in page.errors if 'ERR_' not in o], len(seen['blank']),
        seen['wide'] > 1000) == (['http://localhost:9/a.png'], ['oh'], 2, True)


@pytest.mark.parametrize('width, scheme', [(1400, 'light'), (700, 'light'), (700, 'dark'), (420, 'dark')])
def test_pages(site, browser, width, scheme):
    """Nothing is asked of another host, nothing fails, images and equations are there, and no page is wider
    than its window"""
    page = open_page(browser, width, scheme=scheme)
    wrong = []
    for name in names(site):
        seen = visit(page, site/f'{name}.html')
        dark = sum(map(int, seen['back'][4:-1].split(','))) < 200
        if seen['wide'] > 1 or seen['cut'] or seen['blank'] or seen['wrong'] or seen['heads'] > 1 or seen['drawn'] < seen['maths'] or dark != (scheme == 'dark'):
            wrong.append((name, seen))
    page.close()
    assert (page.outside, page.errors, wrong) == ([], [], [])


AXE = ROOT/'tests/vendor/axe.min.js'
SERIOUS = """async () => (await axe.run(document, {preload: false, resultTypes: ['violations']})).violations
    .filter(v => ['serious', 'critical'].includes(v.impact)).map(v => `${v.id}: ${v.nodes.length} such as ${v.nodes[0].html.slice(0, 120)}`)"""


def faults(page, path):
    "What axe-core calls serious or critical"
    visit(page, path)
    if page.query_selector('[data-figure]'):
        page.wait_for_selector('[data-ready]', timeout=300_000)
    page.add_script_tag(path=AXE)
    return page.evaluate(SERIOUS)


def test_axe_sees_faults(browser, tmp_path):
    (tmp_path/'a.html').write_text(
        '<html lang="en"><title>a</title><body><p style="color: #999">pale</p><input></body></html>')
    page = open_page(browser)
    assert {o.partition(':')[0] for o in faults(page, tmp_path/'a.html')} == {'color-contrast', 'label'}
    page.close()


@pytest.mark.parametrize('width, scheme, names', [(1400, 'light', FEW), (420, 'dark', FEW[::3])])
def test_accessible(site, browser, width, scheme, names):
    "axe-core finds no serious fault: contrast, names of controls, what a keyboard reaches"
    page = open_page(browser, width, scheme=scheme)
    found = {n: f for n in names if (f := faults(page, site/f'{n}.html'))}
    page.close()
    assert found == {}


def results(site, browser, words):
    "Pages that the search of the site finds, in order, without a server"
    page = browser.new_page()
    page.goto((site/'search.html').as_uri() + f'?q={words}')
    page.wait_for_selector('ul.search li a', timeout=300_000)
    page.wait_for_function(
        '() => document.querySelector("#search-progress, .search-summary") && !/Searching/.test(document.querySelector(".search-summary")?.textContent ?? "")')
    found = [a.get_attribute('href').partition('?')[0]
        for a in page.query_selector_all('ul.search li > a')]
    page.close()
    return found


def test_search_finds(site, browser):
    "Functions of the reference are found, the text of the library's pages is not"
    def pages(words): return [href.partition('#')[0] for href in results(site, browser, words)]
    assert '07_algorithm.html' in pages('fuse_maps')
    assert 'library/core/10_saliency.html' not in pages('bilinear')   # a page of the library: its functions are found
    assert 'library/core/10_saliency.html' in pages('pick_layers')


ANSWERED = {   # what a newcomer types -> the page that answers it
    'how do I use my own model': 'tutorials/your_model', 'install without gpu': 'tutorials/your_model',
    'what is lambda': 'notes/results',
    'add a method': 'tutorials/extend', 'which method should I use': 'tutorials/how_do_i', 'cite': 'index',
    'error out of memory': 'tutorials/how_do_i#what-an-error-means',
    'memory': 'tutorials/how_do_i', 'batch': 'tutorials/how_do_i#measure',
    'process a batch of images': 'tutorials/how_do_i#measure',
    'save the result as json': 'tutorials/how_do_i#measure',
    'bounding boxes of the region': 'tutorials/how_do_i#crop-and-ask-again',
    'CSV format': 'tutorials/how_do_i#measure',
    'holds another run': 'tutorials/how_do_i#what-an-error-means',
    'No such option': 'tutorials/how_do_i#what-an-error-means',
    'does not know the words': 'tutorials/how_do_i#what-an-error-means',
    'glossary': 'notes/limitations#words-and-symbols',
    'what is a query token': 'notes/limitations#words-and-symbols',
    'does cropping help': 'tutorials/how_do_i#measure', 'attention of one word': 'tutorials/how_do_i#see-where-the-model-looks',
    'does cropping help on real photos': 'tutorials/how_do_i',
    'how long does a checkup take': 'tutorials/how_do_i#measure', 'german questions': 'tutorials/how_do_i#other-languages', 'will it fit my gpu': 'tutorials/your_model#on-your-gpu',
    'video': 'tutorials/your_model',
    'lambda': 'notes/limitations#words-and-symbols', 'lamda': 'notes/limitations#words-and-symbols',
    'heat map of Qwen': 'tutorials/your_model', 'accuracy on my data': 'tutorials/how_do_i#measure',
    'heatmap of qwen': 'tutorials/your_model', 'colab': 'tutorials/your_model',
    'save the map': 'tutorials/your_model', 'several images': 'tutorials/your_model',
    'my own data set': 'tutorials/how_do_i', 'how to make it faster': 'notes/results',
    'reproduce the paper': 'notes/paper_vs_code', 'what is pointing': 'notes/limitations',
    'compare two models': 'tutorials/how_do_i',
    'does it work on real photographs': 'notes/limitations',
    'save attention map as png': 'tutorials/your_model',
    'multiple gpus': 'tutorials/how_do_i',
    'heat map of Qwen3-VL without eager': 'tutorials/how_do_i',
    'InternVL tiles': 'tutorials/how_do_i',
    'why does the top-left corner light up': 'tutorials/how_do_i', 'vllm': 'tutorials/how_do_i',
    'which layer which token': 'tutorials/how_do_i',
    'bounding box': 'tutorials/how_do_i', 'why is my map empty': 'tutorials/how_do_i',
    'ocr textvqa': 'tutorials/how_do_i',
    'quantized 4-bit': 'tutorials/how_do_i', 'qwen2.5-vl 7b memory': 'tutorials/how_do_i',
    'flash attention': 'tutorials/how_do_i',
    'statistical significance': 'tutorials/how_do_i', 'attention rollout': 'tutorials/how_do_i',
    'docker': 'tutorials/how_do_i',
    'export heatmap image': 'tutorials/how_do_i', 'TransformerLens': 'tutorials/other_tools',
    'does it work on GPT-4': 'tutorials/how_do_i#install-and-load',
    'what does carve stand for': 'tutorials/how_do_i#measure',
    'how long does it take': 'tutorials/how_do_i#measure',
    'why is the answer worse with the crop': 'tutorials/how_do_i#crop-and-ask-again',
    'openai api server': 'tutorials/serve', 'streaming': 'tutorials/serve', 'lmms-eval': 'tutorials/serve',
    'how long does carve paper take': 'tutorials/your_model#hours-of-a-first-day-computed',
    'where does llava look': 'tutorials/how_do_i', 'excel csv': 'tutorials/how_do_i#measure',
    'license of the data': 'tutorials/how_do_i#measure', 'video frames': 'tutorials/your_model',
    'why is my V* baseline 64 and theirs 90': 'notes/paper_vs_code',
    'open webui': 'tutorials/serve', 'vstar accuracy lower than paper': 'notes/paper_vs_code', 'gpu hours': 'tutorials/your_model',
    'speed': 'notes/results', 'chatgpt': 'tutorials/how_do_i', 'random crop control': '08_does_it_work',
    'attention sink': 'tutorials/how_do_i', 'cuda out of memory': 'tutorials/how_do_i',
    'hallucination': 'tutorials/how_do_i'}


@pytest.mark.parametrize('asked', ANSWERED)
def test_search_answers(site, browser, asked):
    page, mark, section = ANSWERED[asked].partition('#')
    found = results(site, browser, asked)[:3]
    assert f'{page}.html{mark}{section}' in (found if section else [href.partition('#')[0] for href in found])


def test_a_name_leads_to_its_reference(site, browser):
    "A class in backticks is a link to its signature and the words on its parameters, at the foot of the page that explains it"
    page = open_page(browser)
    visit(page, site/'08_does_it_work.html')
    page.locator('article a.reference[href$="#carve_nb.method.carve.Carve"]').first.click()
    assert page.url.endswith('library/method/05_carve.html#carve_nb.method.carve.Carve')
    assert 'layers' in page.locator('[id="carve_nb.method.carve.Carve"]').inner_text()
    assert page.locator('dl.py dd dl.field-list li').count() > 5
    page.close()


def test_a_miss_suggests(site, browser):
    "A search without a result leads to the page of all questions"
    page = browser.new_page()
    page.goto((site/'search.html').as_uri() + '?q=zyxwvut')
    page.click('p.else a')
    assert page.title().startswith('How do I')
    page.close()


def test_folds_and_header(site, browser):
    """The sidebar shows the book by its four parts, chapters with numbers, the rest below; a notebook to take
    along; a description"""
    page = open_page(browser)
    visit(page, site/'07_algorithm.html')
    parts = page.eval_on_selector_all('.sidebar-tree > .caption', 'all => all.map(e => e.textContent)')
    entries = page.eval_on_selector_all('.sidebar-tree > ul > li > a',
        'all => all.map(e => e.textContent)')
    assert parts == ['Complexity and entropy', 'Layers', 'Noise and signal', 'CARVE', 'More']
    assert [o.partition('. ')[0] for o in entries] == ['The book', 'Quickstart', *'123456789', 'Tutorials',
        'Results: methods and settings', 'Notes', 'Library']
    link = page.get_attribute('.page-links a', 'href')
    assert (site/link).is_file() and 'Carve' in (site/link).read_text(encoding='utf-8')
    assert len(page.get_attribute('meta[name=description]', 'content')) > 40
    page.close()


def test_room(site, browser):
    """At 1,400 pixels a line of 118 characters is in sight; figures fill the page; tables of words are left
    in their order"""
    page = open_page(browser, 1400)
    visit(page, site/'08_does_it_work.html')
    room = page.evaluate("""() => { const pre = document.querySelector('div.cell_input pre'), old = pre.textContent;
        pre.textContent = 'x'.repeat(118); const fits = pre.scrollWidth <= pre.clientWidth; pre.textContent = old; return fits; }""")
    visit(page, site/'01_clutter.html')
    filled = page.eval_on_selector_all('img.wide',
        'all => all.map(i => i.offsetWidth/i.closest(".cell_output").offsetWidth)')
    assert room and len(filled) > 3 and min(filled) > .95
    visit(page, site/'notes/robustness.html')
    sorts = page.eval_on_selector_all('article table',
        'all => all.map(t => t.querySelectorAll("button.sort").length)')
    assert min(sorts) == 0 and max(sorts) > 1
    page.close()


def test_tables_sort(site, browser):
    "A click on a head sorts by number, a second one the other way; the first column stays in sight"
    page = open_page(browser, 420)
    visit(page, site/'notes/results.html')
    table = page.locator('table:has(th:nth-child(3) button.sort)').first
    head = table.locator('th:has(button.sort)').nth(1)
    k = head.evaluate('e => e.cellIndex')
    column = lambda: table.evaluate(
        '(t, k) => [...t.tBodies[0].rows].map(r => r.cells[k].textContent.trim())', k)
    before = column()
    head.locator('button').focus()
    page.keyboard.press('Enter')
    down = column()
    assert head.get_attribute('aria-sort') == 'descending' and sorted(down) == sorted(before)
    page.keyboard.press('Enter')
    assert head.get_attribute('aria-sort') == 'ascending' and column() != down
    assert page.evaluate(
        'getComputedStyle(document.querySelector("table.dataframe tbody th, table.docutils tbody td")).position') == 'sticky'
    page.close()


def test_tables_of_words(browser, tmp_path):
    """Columns of words stand on the left, numbers on the right; the name of an index stands in the corner,
    unless the columns have a name too"""
    table = lambda corner: (
        f'<article><table class="dataframe"><thead><tr><th>{corner}</th><th>name</th><th>n</th></tr><tr><th>i</th><th></th><th></th></tr></thead>'
                            '<tbody><tr><th>0</th><td>one thing</td><td>1e-08</td></tr><tr><th>1</th><td>-</td><td>NaN</td></tr></tbody></table></article>')
    (tmp_path/'a.html').write_text(table('') + table('kind')
        + f'<script src="{(ROOT/"docs/_static/site.js").as_uri()}"></script>')
    page = open_page(browser)
    page.goto((tmp_path/'a.html').as_uri())
    words, heads = (page.eval_on_selector_all(q, 'all => all.map(e => e.textContent)')
        for q in ('.words', 'thead tr'))
    assert words == ['name', 'one thing', '-', 'name', '', 'one thing', '-']
    assert heads == ['inamen', 'kindnamen', 'i']
    assert not page.errors
    page.close()


@pytest.mark.parametrize('width', [1400, 420])
def test_first_screen_shows_the_finding(site, browser, width):
    "The three panels of the first page are in sight without scrolling"
    page = open_page(browser, width)
    visit(page, site/'index.html')
    panels = page.locator('article img').first.bounding_box()
    assert panels['height'] > 150 and panels['y'] + panels['height'] < 900 and page.errors == []
    page.close()
