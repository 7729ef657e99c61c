"""The figures that move without a kernel: what a browser computes from the stored rows is what `Carve` computes from them.

Skipped without a browser; with CARVE_BROWSER=required a missing browser is a failure."""
import json, os, sys
from pathlib import Path
import numpy as np
import pytest
from test_browser import browser_path, chromium
from carve_nb.method.carve import Carve, change, settings
from carve_nb.core.saliency import Saliency, pick_layers, to_grid
from carve_nb.data.scenes import make_scene
from carve_nb.maps import entropy

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT/'tools'))
import pages  # noqa: E402
from figure_data import decode_weights, figure_rows  # noqa: E402

NAMES = sorted(p.stem for p in pages.FIGURES.glob('*.json'))
SCENES = [n for n in NAMES if n.startswith('scene')]
SETTINGS = {
    'ours': Carve(),
    'official': Carve.official(),
    'bare ratio': change(Carve(), lam=1e-8, relative=False, steps='last', p=.1, K=2),
    'large λ': Carve(lam=100., layers=[2], heads=[0, 3], p=.3, K=3),
    'one head': change(Carve(), lam=1e-4, relative=False, steps='all', layers=[1, 4], heads=[1], p=.01),
    'most of it': change(Carve(), lam=.1, layers=[5], heads=[2], p=.6, K=3, min_side=28, square=False)}


def stored(name): return json.loads((pages.FIGURES/f'{name}.json').read_text(encoding='utf-8'))


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    "A page with all figures, as the site has them"
    if not pytest.importorskip('playwright') or not browser_path():
        (pytest.fail if os.environ.get('CARVE_BROWSER') == 'required' else pytest.skip)('no Chromium was found')
    root = tmp_path_factory.mktemp('figures')
    pages.write_figures(root/'_static/figures')
    for name in ('figure.js', 'site.css'): (root/'_static'/name).write_text((ROOT/'docs/_static'/name).read_text())
    body = pages.place_figures(f'<!-- figure: {" ".join(NAMES)} -->', '')
    (root/'a.html').write_text('<!doctype html><html lang="en"><meta charset="utf-8"><title>Figures</title><meta name="viewport" content="width=device-width"><link rel="stylesheet" '
                               f'href="_static/site.css"><body><main><h1>Figures</h1>{body}</main></body></html>', encoding='utf-8')
    return root


@pytest.fixture(scope='module')
def browser(folder):
    with chromium() as browser: yield browser


def open_page(browser, folder, width=1400):
    "The page, with its figures drawn; errors of scripts are kept"
    page = browser.new_page(viewport=dict(width=width, height=900))
    page.wrong = []
    page.on('pageerror', lambda e: page.wrong.append(str(e)))
    page.on('console', lambda m: m.type == 'error' and page.wrong.append(m.text))
    page.goto((folder/'a.html').as_uri())
    page.wait_for_function('document.querySelectorAll("[data-ready]").length === document.querySelectorAll("[data-figure]").length', timeout=30_000)
    return page


@pytest.fixture(scope='module')
def page(browser, folder):
    page = open_page(browser, folder)
    yield page
    page.close()


def asked(method, n_layers, n_heads):
    "The settings as the browser knows them"
    names = 'steps lam relative p K region_rule fill min_side square'.split()
    heads = list(range(n_heads)) if method.heads == 'mean' else list(method.heads)
    return dict({k: settings(method)[k] for k in names}, layers=pick_layers(method.layers, n_layers), heads=heads)


@pytest.mark.parametrize('setting', SETTINGS)
@pytest.mark.parametrize('name', SCENES)
def test_numbers_are_those_of_python(page, name, setting):
    "Both maps, the ratio, peaks, regions and view"
    figure, method = stored(name), SETTINGS[setting]
    _, L, H, _ = figure['shape']
    image, rows = make_scene(figure['seed']).image, [figure_rows(figure, k) for k in ('question', 'instruction')]
    want = method.from_rows(image, figure['question'], *rows)
    got = page.evaluate('([name, s]) => { const r = carveFigures.compute(carveData[name], s); return {...r, pixels: 0, label: 0, '
                        'A_Q: [...r.A_Q], A_G: [...r.A_G], ratio: [...r.ratio], kept: r.kept.map(o => o.box)}; }', [name, asked(method, L, H)])
    for (k, S), ours in zip(want.maps.items(), ('A_Q', 'A_G', 'ratio')):
        np.testing.assert_allclose(to_grid(np.array(got[ours]), rows[0].spans[0]), S.values, rtol=1e-5, atol=1e-12, err_msg=k)
        assert got['peaks'][ours] == list(S.peak()) and got['hits'][ours] == S.hit(figure['target'])
    np.testing.assert_allclose(got['kept'], [r.box for r in want.regions], atol=1)
    np.testing.assert_allclose(got['view'], want.view.box, atol=1)


@pytest.mark.parametrize('name', SCENES)
def test_presets_are_what_the_model_did(page, name):
    "From rounded rows in a browser, within two pixels of what came from the model's own"
    figure, root = stored(name), page.locator(f'[data-figure={name}]')
    for i, preset in enumerate(figure['presets'].values()):
        root.locator('button').nth(i).click()
        got = root.evaluate('e => ({view: e.result.view, hit: e.result.hits.ratio})')
        np.testing.assert_allclose(got['view'], preset['view'], atol=2)
        assert got['hit'] == preset['hit']
        page.wait_for_function('([e, t]) => e.querySelector("[role=status]").textContent.includes(t)', arg=[root.element_handle(), f'with this view “{preset["answer"]}”'])


def test_switches(page):
    "All eight settings by keys: the peak of the stored map, its view, the answer and the shares"
    figure, root = stored('switches'), page.locator('[data-figure=switches]')
    assert root.evaluate('e => e.result.key') == '100' and len(figure['switches']) == 8
    knobs = [root.get_by_role('group', name=n).get_by_role('radio') for n in ('Behind the question', 'Whose row', 'Divide by AG')]
    for key, s in figure['switches'].items():
        for knob, at in zip(knobs, key):
            knob.nth(int(at)).focus()
            page.keyboard.press('Space')
        got, S = root.evaluate('e => e.result'), Saliency(s['map'], figure['size'])
        assert got == dict(key=key, peak=list(S.peak()), view=s['view'], answer=s['answer']) and S.touch(figure['target']) == s['touch']
        right = s['answer'] == figure['truth']
        assert root.locator('.answer strong').evaluate('e => [e.textContent, e.className]') == [s['answer'], 'right' if right else 'wrong']
        said = root.locator('[role=status]').text_content()
        assert f'answers “{s["answer"]}”' in said and f'{s["right"][0]:.0f} % of the answers' in said
    assert page.wrong == []


def test_entropy_of_stages(page):
    "Each stage of the clutter knob has the entropy that chapter 3 counts"
    figure, root = stored('clutter'), page.locator('[data-figure=clutter]')
    for i, stage in enumerate(figure['stages']):
        root.locator('input').fill(str(i))
        got = root.evaluate('e => e.result')
        for k, text in stage['maps'].items():
            mine = entropy(decode_weights(text, (stage['shape'][0], -1))).mean().item()
            assert abs(got[k] - mine) < 1e-6 and abs(got[k] - stage['H'][k]) < .01
        assert f'answers “{stage["answer"]}”' in root.locator('[role=status]').text_content()


def test_keyboard_and_words(page):
    "A slider moves by arrow keys, says its value, and the result is told"
    root = page.locator('[data-figure=scene_16]')
    root.locator('button').first.click()
    dial, before = root.locator('input[name=lam]'), root.evaluate('e => [...e.result.ratio]')
    dial.focus()
    for _ in range(8): page.keyboard.press('ArrowLeft')
    assert dial.get_attribute('aria-valuetext') == '0.01 × mean A_G'
    assert root.evaluate('e => [...e.result.ratio]') != before
    page.wait_for_function('() => document.querySelector("[data-figure=scene_16] [role=status]").textContent.includes("not stored")')
    assert all(root.locator('canvas').nth(i).get_attribute('aria-label') for i in range(5))
    page.keyboard.press('Tab')
    assert page.evaluate('document.activeElement.name') == 'p'
    root.locator('input[name=heads]').first.focus()
    for _ in range(4): page.keyboard.press('Space'); page.keyboard.press('Tab')
    page.wait_for_function('() => document.querySelector("[data-figure=scene_16] [role=status]").textContent.startsWith("Tick at least")')
    root.locator('button').first.click()
    assert page.wrong == []


@pytest.mark.parametrize('width', [1400, 700, 420])
def test_fits(browser, folder, width):
    page = open_page(browser, folder, width)
    assert page.evaluate('document.documentElement.scrollWidth - document.documentElement.clientWidth') <= 1
    small = page.evaluate('Math.min(...[...document.querySelectorAll(".moving canvas")].map(c => c.clientWidth))')
    assert small >= 90 and page.wrong == []
    page.close()
