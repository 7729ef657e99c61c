"""The figures that move without a kernel: a browser shows what is stored, by mouse and by keys.

Skipped without a browser; with CARVE_BROWSER=required a missing browser is a failure."""
import json
import math
import numpy as np
import pages  # noqa: E402
import pytest
from browsers import chromium, missing, need_browser, open_page
from processes import ROOT
from carve_nb.core.saliency import Saliency
from carve_nb.formulas.clutter import entropy
from recipes.figures import DECADES, STEPS, decode_weights  # noqa: E402
from recipes.live_figures import formula_figure, program_figure, tokens_figure

DRAWN = '''document.querySelectorAll("[data-ready]").length
    === document.querySelectorAll("[data-figure]").length'''
NAMES = sorted(p.stem for p in pages.FIGURES.glob('*.json'))


def stored(name): return json.loads((pages.FIGURES/f'{name}.json').read_text(encoding='utf-8'))


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    "A page with all figures, as the site has them"
    need_browser(missing())
    root = tmp_path_factory.mktemp('figures')
    pages.write_figures(root/'_static/figures')
    for name in ('figure.js', 'site.css'):
        (root/'_static'/name).write_text((ROOT/'docs/_static'/name).read_text())
    body = pages.place_figures(f'<!-- figure: {" ".join(NAMES)} -->', '')
    (root/'a.html').write_text(
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Figures</title><meta name="viewport" content="width=device-width"><link rel="stylesheet" '
                               f'href="_static/site.css"><body><main><h1>Figures</h1>{body}</main></body></html>',
                               encoding='utf-8')
    return root


@pytest.fixture(scope='module')
def browser(folder):
    with chromium() as browser: yield browser


def open_figures(browser, folder, width=1400):
    "The page, with its figures drawn"
    page = open_page(browser, width)
    page.goto((folder/'a.html').as_uri())
    page.wait_for_function(DRAWN, timeout=300_000)
    return page


@pytest.fixture(scope='module')
def page(browser, folder):
    page = open_figures(browser, folder)
    yield page
    page.close()


def test_entropy_of_stages(page):
    "Each stage of the clutter knob has the entropy that chapter 2 counts"
    figure = stored('clutter')
    root = page.locator('[data-figure=clutter]')
    for i, stage in enumerate(figure['stages']):
        root.locator('input').fill(str(i))
        got = root.evaluate('e => e.result')
        for k, text in stage['maps'].items():
            mine = entropy(decode_weights(text, (stage['shape'][0], -1))).mean().item()
            assert abs(got[k] - mine) < 1e-6 and abs(got[k] - stage['H'][k]) < .01
        assert f'answers “{stage["answer"]}”' in root.locator('[role=status]').text_content()


def test_size_of_a_thing(page):
    "Each size has the peak of its stored map and both answers"
    figure = stored('size')
    root = page.locator('[data-figure=size]')
    for i, s in enumerate(figure['stages']):
        root.locator('input').fill(str(i))
        S = Saliency(s['map'], (s['side'], s['side']))
        assert root.evaluate('e => e.result') == dict(share=s['share'], peak=list(S.peak()), alone=s['alone'],
            looked=s['looked'])
        assert S.points_at(s['target']) == s['pointing']
        shown = root.locator('.answer strong').evaluate_all('a => a.map(e => [e.textContent, e.className])')
        assert shown == [[s[k], 'right' if s[k] == figure['truth'] else 'wrong'] for k in ('alone', 'looked')]
    assert page.errors == []


def test_rows(page):
    "Every model, question and layer shows the stored shares; the layers follow the model"
    figure = stored('rows')
    root = page.locator('[data-figure=rows]')
    for model, kinds in figure.items():
        root.get_by_role('radio', name=model).focus()
        page.keyboard.press('Space')
        for kind, found in kinds.items():
            root.get_by_role('radio', name=kind).focus()
            page.keyboard.press('Space')
            for i, layer in enumerate(found['layers']):
                root.locator('[type=range]').fill(str(i))
                assert root.evaluate('e => e.result') == dict(layer=layer, pointing=found['pointing'][i],
                    lost=found['lost'][i])
                shown = [f'{math.floor(v + .5)} %' for pair in zip(found['pointing'][i], found['lost'][i])
                    for v in pair]
                assert root.locator('.cell output').all_text_contents() == shown
            assert root.locator('[type=range]').get_attribute('max') == str(len(found['layers']) - 1)
    assert page.errors == []


@pytest.mark.parametrize('width', [1400, 700, 420])
def test_fits(browser, folder, width):
    page = open_figures(browser, folder, width)
    assert page.evaluate('document.documentElement.scrollWidth - document.documentElement.clientWidth') <= 1
    small = page.evaluate(
        'Math.min(...[...document.querySelectorAll(".moving canvas")].map(c => c.clientWidth))')
    assert small >= 90 and page.errors == []
    page.close()


def test_tokens(page, load):
    """Each token of each prompt shows its map's share on both models, by arrow keys and by click; the maps
    are the library's"""
    figure = stored('tokens')
    root = page.locator('[data-figure=tokens]')
    assert root.evaluate('e => e.result.token') == 'heart'
    for name, order in zip(('after the question', 'before it', 'away'), figure['orders'].values()):
        root.get_by_role('radio', name=name).check(force=True)
        chips = root.locator('.chip')
        assert chips.all_text_contents() == order['tokens']
        chips.nth(0).focus()
        for i, token in enumerate(order['tokens']):
            if i: page.keyboard.press('ArrowRight')
            shares = [of['pointing'][i] for of in order['models'].values()]
            assert root.evaluate('e => e.result') == dict(token=token, pointing=shares)
            ends = [float(end) for end in root.locator('.range span:last-child').all_text_contents()]
            maps = [of['maps'][i] for of in order['models'].values()]
            # in means, between pixels
            assert ends == pytest.approx([max(m)*len(m)/sum(m) for m in maps], rel=.1)
    models = [load(name) for name in figure['orders']['after']['models']]
    made = tokens_figure(models, 2)
    for name, order in figure['orders'].items():
        for model, of in order['models'].items():
            assert np.abs(np.subtract(of['maps'], made['orders'][name]['models'][model]['maps'])).max() <= 1
    assert page.errors == []


def test_formula(page, load):
    "Each λ and token shows its share; the contrast in the page is the library's"
    figure = stored('formula')
    root = page.locator('[data-figure=formula]')
    for i, lam in enumerate(figure['lambdas']):
        root.locator('[type=range]').fill(str(i))
        for j, token in enumerate(figure['tokens']):
            root.locator('.chip').nth(j).click()
            assert root.evaluate('e => e.result') == dict(token=token, lam=lam,
                pointing=figure['pointing'][i][j])
    made = formula_figure(load('carve-small'), 2)
    for key in ('tokens', 'lambdas', 'grid'): assert figure[key] == made[key]
    for new, old in zip([made['A_Q'], *made['A_G']], [figure['A_Q'], *figure['A_G']], strict=True):    # another processor may round a weight up
        np.testing.assert_allclose(decode_weights(new, -1), decode_weights(old, -1), rtol=1.01*(10**(DECADES/STEPS) - 1), atol=1.01*10.**-DECADES)
    assert page.errors == []


def test_program(page, load):
    "Each setting of the program shows the answer and the crop that it has in the library"
    figure = stored('program')
    root = page.locator('[data-figure=program]')
    for stage in figure['stages']:
        root.get_by_role('radio', name=stage['name']).check(force=True)
        assert root.evaluate('e => e.result') == {k: stage[k] for k in ('name', 'answer', 'box')}
        assert root.locator('.line code').all_text_contents() == [code for code, _ in figure['lines']]
    assert program_figure(load('carve-small')) == figure
    assert page.errors == []
