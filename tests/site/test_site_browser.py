"""The site in a real browser: a few of its pages, as `make docs` has built them, in Chromium.

With CARVE_BROWSER=required a missing browser is a failure."""

import os
from pathlib import Path
import pytest
from browsers import chromium, missing, need_browser, open_page
from processes import ROOT

PAGES = (
    'index',
    '01_clutter',
    '02_query_token',
    '07_algorithm',
    'quickstart',
    'tutorials/gallery',
    'tutorials/your_model',
    'tutorials/how_do_i',
    'tutorials/serve',
    'notes/results',
    'notes/robustness',
    'library/core/10_saliency',
)
AXE = ROOT / 'tests/vendor/axe.min.js'
# what is wrong on a page: too wide, an image or an equation that is not there, what axe-core calls serious
DRAWN = '''() => document.querySelectorAll("mjx-container").length >= document.querySelectorAll(".math").length
    && document.querySelectorAll("[data-ready]").length >= document.querySelectorAll("[data-figure]").length'''
WRONG = '''async () => {
    const wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
    const blank = [...document.querySelectorAll('article img')].filter(i => !i.naturalWidth && (i.complete || i.loading != 'lazy') || !i.alt);
    const cut = [...document.querySelectorAll('article p mjx-container:not([display])')].filter(e => e.getBoundingClientRect().right > innerWidth);
    const wrong = [...document.querySelectorAll('mjx-merror, .MathJax_Error')];
    const {violations} = await axe.run(document, {preload: false, resultTypes: ['violations']});
    return [...wide > 1 ? [`${wide} pixels too wide`] : [], ...[...blank, ...cut, ...wrong].map(e => e.outerHTML.slice(0, 200)),
        ...violations.filter(v => ['serious', 'critical'].includes(v.impact)).map(v => `${v.id}: ${v.nodes[0].html.slice(0, 120)}`)];
}'''


@pytest.fixture(scope='module')
def site():
    "The folder that `make docs` has built"
    need_browser(missing())
    if 'CARVE_SITE' not in os.environ:
        pytest.skip('`make docs pytest` runs it')
    return Path(os.environ['CARVE_SITE']).resolve()


@pytest.fixture(scope='module')
def browser(site):
    with chromium() as browser:
        yield browser


@pytest.mark.parametrize('width, scheme', [(1400, 'light'), (390, 'dark')])
def test_pages(site, browser, width, scheme):
    """Nothing is asked of another host, nothing fails, images and equations are there, no page is wider than its
    window, and axe-core finds no serious fault: contrast, names of controls, what a keyboard reaches"""
    page = open_page(browser, width, scheme=scheme)
    wrong = {}
    for name in PAGES:
        page.goto((site / f'{name}.html').as_uri())
        page.wait_for_function(DRAWN, timeout=300_000)
        page.add_script_tag(path=AXE)
        wrong[name] = page.evaluate(WRONG)
    page.close()
    assert page.outside == []
    assert page.errors == []
    assert {name: faults for name, faults in wrong.items() if faults} == {}


ANSWERED = {  # what a newcomer types -> the page that answers it; the name of a function -> its reference
    'how do I use my own model': 'tutorials/your_model.html',
    'add a method': 'tutorials/extend.html',
    'error out of memory': 'tutorials/how_do_i.html#what-an-error-means',
    'accuracy on my data': 'tutorials/how_do_i.html#accuracy-on-my-own-data-folder-csv-benchmark',
    'what is a query token': 'notes/limitations.html#words-and-symbols',
    'why is my map empty': 'tutorials/how_do_i.html',
    'reproduce the paper': 'notes/paper_vs_code.html',
    'openai api server': 'tutorials/serve.html',
    'use lmms-eval': 'tutorials/serve.html',
    'what is a profile': 'tutorials/how_do_i.html#what-is-a-profile-what-does-carve-stand-for-how-do-i-cite-it',
    'random baseline': 'tutorials/how_do_i.html#is-the-difference-significant-random-baseline-and-confidence-interval',
    'confidence interval': 'tutorials/how_do_i.html#is-the-difference-significant-random-baseline-and-confidence-interval',
    'cite the package': 'index.html',
    'carve-smol': 'notes/released_model.html',
    'how accurate is lookup': 'notes/results.html#accuracy-of-lookup-carve-and-others-with-intervals',
    'why does carve not help': '05_contrast.html',
    'fuse_maps': '07_algorithm.html',
    'pick_layers': 'library/core/10_saliency.html',
}


def test_search_answers(site, browser):
    "Among the first three results is the answer, without a server"
    page, missed = browser.new_page(), {}
    for words, answer in ANSWERED.items():
        page.goto((site / 'search.html').as_uri() + f'?q={words}')
        page.wait_for_selector('ul.search li a', timeout=300_000)
        page.wait_for_function('() => /found/.test(document.querySelector(".search-summary")?.textContent)')
        results = page.eval_on_selector_all(
            'ul.search li > a', 'all => all.slice(0, 3).map(a => a.getAttribute("href"))'
        )
        if not any(address.startswith(answer) for address in results):
            missed[words] = results
    page.close()
    assert missed == {}


def test_a_name_leads_to_its_reference(site, browser):
    "A class in backticks is a link to its signature and the words on its parameters, at the foot of the page that explains it"
    page = open_page(browser)
    page.goto((site / '08_does_it_work.html').as_uri())
    page.locator('article a.reference[href$="#carve_nb.method.carve.Carve"]').first.click()
    assert page.url.endswith('library/method/05_carve.html#carve_nb.method.carve.Carve')
    words = page.locator('dl.py dd dl.field-list li')
    words.nth(5).wait_for(state='attached')  # at the foot of a long page
    assert words.count() > 5
    page.close()
