"""The figures that move without a kernel: a browser computes what the library computes, by mouse and by keys.

Skipped without a browser; with CARVE_BROWSER=required a missing browser is a failure."""

import json
import numpy as np
import pages
import pytest
from browsers import chromium, missing, need_browser, open_page
from processes import ROOT
from carve_nb.formulas.clutter import entropy
from recipes.figures import DECADES, STEPS, decode_weights
from recipes.live_figures import formula_figure, program_figure, tokens_figure

DRAWN = '''document.querySelectorAll("[data-ready]").length
    === document.querySelectorAll("[data-figure]").length'''
NAMES = sorted(p.stem for p in pages.FIGURES.glob('*.json'))


def stored(name):
    return json.loads((pages.FIGURES / f'{name}.json').read_text(encoding='utf-8'))


@pytest.fixture(scope='module')
def browser():
    need_browser(missing())
    with chromium() as browser:
        yield browser


@pytest.fixture(scope='module')
def page(browser, tmp_path_factory):
    "A page with all figures, as the site has them"
    root = tmp_path_factory.mktemp('figures')
    pages.write_figures(root / '_static/figures')
    for name in ('figure.js', 'site.css'):
        (root / '_static' / name).write_text((ROOT / 'docs/_static' / name).read_text())
    body = pages.place_figures(f'<!-- figure: {" ".join(NAMES)} -->', '')
    (root / 'a.html').write_text(
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Figures</title>'
        '<meta name="viewport" content="width=device-width"><link rel="stylesheet" href="_static/site.css">'
        f'<body><main><h1>Figures</h1>{body}</main></body></html>',
        encoding='utf-8',
    )
    page = open_page(browser)
    page.goto((root / 'a.html').as_uri())
    page.wait_for_function(DRAWN, timeout=300_000)
    yield page
    assert page.errors == []
    page.close()


@pytest.mark.parametrize('width', [390, 1400])
def test_fits(page, width):
    page.set_viewport_size(dict(width=width, height=900))
    wide = 'document.documentElement.scrollWidth - document.documentElement.clientWidth'
    narrowest = 'Math.min(...[...document.querySelectorAll(".moving canvas")].map(c => c.clientWidth))'
    assert page.evaluate(wide) <= 1 and page.evaluate(narrowest) >= 90


def test_entropy_of_stages(page):
    "Each stage of the clutter knob has the entropy that chapter 1 counts"
    root = page.locator('[data-figure=clutter]')
    for i, stage in enumerate(stored('clutter')['stages']):
        root.locator('input').fill(str(i))
        drawn = root.evaluate('e => e.result')
        for k, text in stage['maps'].items():
            counted = entropy(decode_weights(text, (stage['shape'][0], -1))).mean().item()
            assert abs(drawn[k] - counted) < 1e-6 and abs(drawn[k] - stage['H'][k]) < 0.01


def test_size_of_a_thing(page):
    "Each size has the peak of its stored map and both answers"
    root = page.locator('[data-figure=size]')
    for i, s in enumerate(stored('size')['stages']):
        root.locator('input').fill(str(i))
        assert {k: s[k] for k in ('share', 'alone', 'looked')}.items() <= root.evaluate(
            'e => e.result'
        ).items()
        assert root.locator('.answer strong').all_text_contents() == [s['alone'], s['looked']]


def test_rows(page):
    "Every model, question and layer shows the stored shares; the layers follow the model"
    root = page.locator('[data-figure=rows]')
    for model, kinds in stored('rows').items():
        root.get_by_role('radio', name=model).focus()
        page.keyboard.press('Space')
        for kind, shares in kinds.items():
            root.get_by_role('radio', name=kind).focus()
            page.keyboard.press('Space')
            for i, layer in enumerate(shares['layers']):
                root.locator('[type=range]').fill(str(i))
                assert root.evaluate('e => e.result') == dict(
                    layer=layer, pointing=shares['pointing'][i], lost=shares['lost'][i]
                )


def test_tokens(page):
    "Each token of each prompt shows its map's share on both models, by arrow keys and by click"
    root = page.locator('[data-figure=tokens]')
    for name, order in zip(('after the question', 'before it', 'away'), stored('tokens')['orders'].values()):
        root.get_by_role('radio', name=name).check(force=True)
        root.locator('.chip').nth(0).focus()
        for i, token in enumerate(order['tokens']):
            if i:
                page.keyboard.press('ArrowRight')
            shares = [model['pointing'][i] for model in order['models'].values()]
            assert root.evaluate('e => e.result') == dict(token=token, pointing=shares)


def test_formula(page):
    "Each λ and token shows its share"
    figure, root = stored('formula'), page.locator('[data-figure=formula]')
    for i, lam in enumerate(figure['lambdas']):
        root.locator('[type=range]').fill(str(i))
        for j, token in enumerate(figure['tokens']):
            root.locator('.chip').nth(j).click()
            assert root.evaluate('e => e.result') == dict(
                token=token, lam=lam, pointing=figure['pointing'][i][j]
            )


def test_program(page):
    "Each setting of the program shows its answer and crop"
    root = page.locator('[data-figure=program]')
    for stage in stored('program')['stages']:
        root.get_by_role('radio', name=stage['name']).check(force=True)
        assert root.evaluate('e => e.result') == {k: stage[k] for k in ('name', 'answer', 'box')}


def test_stored_figures_are_the_library(load):
    "The maps, contrasts, answers and crops that the page draws are those that the library makes now"
    tokens = stored('tokens')
    drawn = tokens_figure([load(name) for name in tokens['orders']['after']['models']], 2)
    for name, order in tokens['orders'].items():
        for model, figures in order['models'].items():
            assert (
                np.abs(np.subtract(figures['maps'], drawn['orders'][name]['models'][model]['maps'])).max()
                <= 1
            )
    formula, drawn = stored('formula'), formula_figure(load('carve-small'), 2)
    assert all(formula[key] == drawn[key] for key in ('tokens', 'lambdas', 'grid'))
    for new, old in zip(
        [drawn['A_Q'], *drawn['A_G']], [formula['A_Q'], *formula['A_G']], strict=True
    ):  # another processor may round a weight up
        np.testing.assert_allclose(
            decode_weights(new, -1),
            decode_weights(old, -1),
            rtol=1.01 * (10 ** (DECADES / STEPS) - 1),
            atol=1.01 * 10.0**-DECADES,
        )
    assert program_figure(load('carve-small')) == stored('program')
