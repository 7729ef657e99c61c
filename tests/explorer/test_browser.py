"""The explorer in a real browser: JupyterLab on loopback, Chromium driven by Playwright.

Without a browser the tests are skipped, and say so; with CARVE_BROWSER=required (set in .ci/run) that is
a failure."""

import io
import json
import re
import socket
import time
import urllib.request
from pathlib import Path
from types import SimpleNamespace
import pytest
from browsers import TOKEN, chromium, explored, open_page, run_cell, until
from faults import hostile
from PIL import Image, ImageChops


@pytest.fixture(scope='module')
def page(server):
    "The notebook in Chromium, its cell run, the explorer on screen"
    address, home = server
    with chromium() as browser:
        page = open_page(browser, 1500, 1900, console=False)
        page.set_default_timeout(300_000)
        page.goto(f'{address}/doc/tree/look.ipynb?token={TOKEN}')
        run_cell(page)
        page.get_by_role('button', name='Ask', exact=True).wait_for(timeout=300_000)
        yield page


@pytest.fixture(scope='module')
def kernel(page, server):
    "Asks the page's own kernel: code in, value out"
    from jupyter_client import BlockingKernelClient

    path = max((server[1] / 'runtime').glob('kernel-*.json'), key=lambda p: p.stat().st_mtime)
    client = BlockingKernelClient(connection_file=str(path))
    client.load_connection_file()
    client.start_channels()
    client.wait_for_ready(60)

    def ask(expression, first=''):
        reply = client.execute_interactive(first, user_expressions=dict(v=expression), timeout=600)['content']
        assert reply['status'] == 'ok' and reply['user_expressions']['v']['status'] == 'ok', reply
        return json.loads(
            reply['user_expressions']['v']['data']['text/plain'][1:-1].encode().decode('unicode_escape')
        )

    yield lambda expression, first='': ask(f'__import__("json").dumps({expression})', first)
    client.stop_channels()


SHAPE = '.lm-Widget:has(> .widget-label:text-is("{}"))'  # a selection slider has no class jupyter-widgets


def pixels(page):
    "What image, map and crop look like on the screen"
    figures = page.locator('.carve-explore figure img')
    assert until(lambda: figures.count() == 3), figures.count()
    return [Image.open(io.BytesIO(figures.nth(i).screenshot())).convert('RGB') for i in range(3)]


def differ(a, b):
    return any(x.size != y.size or ImageChops.difference(x, y).getbbox() for x, y in zip(a, b, strict=True))


def status(page):
    return page.locator('[role=status]').inner_text()


def press(page, name):
    page.get_by_role('button', name=name, exact=True).click()


def ask(page):
    "Press Ask and wait for the answer with the crop"
    press(page, 'Ask')
    assert until(
        lambda: (
            status(page).startswith('Ready')
            and 'not asked yet' not in page.locator('strong').nth(1).inner_text()
        )
    ), status(page)


def choose(kernel, seed):
    "Take a scene with its question"
    kernel(
        '1',
        f"""from carve_nb import make_scene
scene = make_scene({seed}, 'heldout')
ex.show_image(scene.image, 'scene {seed}', 'scene.image')
ex.question.value = next(filter(None, map(scene.question, ('digit', 'exist')))).question""",
    )


def turn(page, name, key='ArrowRight', handle=0):
    "Move a slider by the keyboard"
    page.locator(SHAPE.format(name)).locator('.noUi-handle').nth(handle).press(key)


def answers(page):
    "What the page says of both answers"
    return page.locator('strong').all_inner_texts()


def words(page):
    return page.locator('.carve-explore .widget-toggle-buttons').first.get_by_role('button')


def test_first_state(page, kernel):
    "Scene 145 with the model that answers it: without the crop wrong, with the crop of the word heart right"
    assert until(lambda: status(page).startswith('Ready')), status(page)
    text = page.locator('.carve-explore').inner_text()
    assert 'carve-small, a small model that we trained on synthetic scenes' in text
    assert 'scene 145, 448 x 448' in text
    assert kernel('ex.words.value') == ['heart']
    assert [a.partition('(')[0] for a in answers(page)] == [
        'baseline, without a crop: "8" ',
        'with the crop: "2" ',
    ]
    assert page.locator('.carve-explore figure img').count() == 3
    assert "Lookup(query='noun'" in page.locator('.carve-explore pre').inner_text()


def test_clicked_word(page, kernel):
    "A click on a word of the question shows its attention, a move of the slider another crop; Ask answers with it"
    assert words(page).all_inner_texts() == [
        *'what digit is on the orange heart ?'.split(),
        'all words',
        'last token of the prompt',
    ]
    before = pixels(page)
    words(page).nth(1).click()
    assert until(lambda: 'not asked yet' in answers(page)[1] and differ(before, pixels(page))), status(page)
    assert kernel('ex.method.query') == ['digit']
    words(page).nth(6).click()
    assert until(lambda: not differ(before, pixels(page)))
    for _ in range(3):
        turn(page, 'p, kept share of pixels')
    assert until(lambda: differ(before, pixels(page)))
    ask(page)
    assert f'p={kernel("ex.p.value")}' in page.locator('.carve-explore pre').inner_text()
    assert not page.outside and not page.errors


def choose_file(page, path):
    "Upload a file"
    with page.expect_file_chooser() as chooser:
        page.get_by_role('button', name=re.compile('Upload')).click()
    chooser.value.set_files(str(path))


def test_upload(page, tmp_path):
    """A file of the user, also a large one; what is no image, or would fill the memory, is refused in words,
    and the page goes on"""
    from skimage import data

    Image.fromarray(data.astronaut()).save(tmp_path / 'who is it.jpg')
    Image.new('RGB', (2100, 2000)).save(tmp_path / 'large.bmp')  # 12.6 MB, more than a server takes by itself
    (tmp_path / 'bad.png').write_bytes(b'GIF8')
    (tmp_path / 'bomb.png').write_bytes(hostile.bomb(14_000, 14_000))
    widget = page.locator('.carve-explore')
    for name, words in {
        'who is it.jpg': '512 x 512',
        'bad.png': 'is not an image',
        'large.bmp': '2100 x 2000',
        'bomb.png': 'bomb.png: .*exceeds limit',
    }.items():
        choose_file(page, tmp_path / name)
        assert until(lambda: re.search(words, widget.inner_text())), (name, status(page))
    assert 'large.bmp' in widget.inner_text()
    page.get_by_label('Question').fill('What is it?')
    ask(page)
    assert 'large.bmp, 2100 x 2000' in widget.inner_text()  # the name stays
    assert not page.errors


# What may grow in the kernel while somebody clicks.
COUNTED = """
def count():
    import gc, threading, ipywidgets, psutil
    gc.collect()
    listeners = [kinds.values() for child in ex.box.children for kinds in child._trait_notifiers.values()]
    return dict(
        observers=sum(len(functions) for kinds in listeners for functions in kinds),
        widgets=len(ipywidgets.widgets.widget._instances),
        hooks=sum(len(module._forward_hooks) for module in ex.vlm.model.modules()),
        threads=len(threading.enumerate()),
        megabytes=psutil.Process().memory_info().rss // 10**6)
"""


@pytest.mark.case(59)
def test_hundred_clicks(page, kernel):
    "Ten moves of the slider and ninety clicks on words: observers, widgets, hooks and threads as before, memory flat"
    choose(kernel, 0)
    ask(page)
    n = words(page).count()

    def click(times):
        for i in range(times):
            words(page).nth(i % n).click()
        assert until(lambda: kernel('ex.words.index') == (times - 1) % n)
        return kernel('count()', COUNTED)

    before = click(n)
    for key in 5 * ['ArrowRight', 'ArrowLeft']:
        turn(page, 'p, kept share of pixels', key)
    after = click(90)
    assert after.pop('megabytes') - before.pop('megabytes') < 60
    assert after == before
    assert not page.outside and not page.errors


def test_keyboard(page, kernel):
    "Every slider and button is reached with the Tab key, in the order of the page"
    choose(kernel, 145)
    ask(page)
    page.get_by_role('button', name=re.compile('Upload')).focus()
    reached = []
    for _ in range(20):
        page.keyboard.press('Tab')
        reached.append(
            page.evaluate('''() => { const e = document.activeElement;
            return e.getAttribute('aria-label') || e.labels?.[0]?.innerText.trim() || (e.innerText || '').trim() || '?'; }''')
        )
    order = ['Question', 'Ask', 'what', 'last token of the prompt', 'p, kept share of pixels']
    positions = [next((i for i, r in enumerate(reached) if r.split('\n')[0] == o), None) for o in order]
    assert None not in positions, dict(zip(order, positions), reached=reached)
    assert positions == sorted(positions), dict(zip(order, positions), reached=reached)


def test_names(page):
    """What can be moved or pressed has a name, as a screen reader is told; a slider says the value that is
    shown"""
    snapshot = page.locator('.carve-explore').aria_snapshot()
    assert not re.findall(
        r'^ *- (?:slider|button|combobox|textbox|checkbox|link|img)(?: \[.*\])?:?$', snapshot, re.M
    ), snapshot
    handle = page.get_by_role('slider', name='p, kept share of pixels')
    assert (
        handle.get_attribute('aria-valuetext')
        == page.locator(SHAPE.format('p, kept share of pixels')).locator('.widget-readout').inner_text()
    )


LOOK = Path(__file__).with_name('look.js').read_text(encoding='utf-8')


@pytest.fixture(params=[('JupyterLab Light', 1280), ('JupyterLab Dark', 900)], ids=lambda look: look[0])
def look(request, page):
    "`look('cutOff')`: what a function of look.js finds, in a theme and on a page of a width"
    theme, width = request.param
    page.evaluate("t => window.jupyterapp.commands.execute('apputils:change-theme', {theme: t})", theme)
    page.set_viewport_size(dict(width=width, height=1900))
    assert until(lambda: page.evaluate('document.body.dataset.jpThemeName') == theme)
    return lambda function: page.evaluate(f'() => {{ {LOOK}\nreturn {function}(); }}')


def test_nothing_sticks_out(look):
    seen, cut = look('cutOff')
    assert seen > 10
    assert cut == []


def test_words_stand_out_from_what_is_behind_them(look):
    seen, pale = look('paleWords')
    assert seen > 10
    assert pale == []


def stored(path):
    "Stored outputs; none while the file is being written"
    if not path.stat().st_size:
        return []
    return [o.get('data', {}) for c in json.loads(path.read_text())['cells'] for o in c.get('outputs', ())]


@pytest.mark.case(60)
def test_saved_without_kernel(page, server):
    "The notebook as the browser saves it: readable when opened again, untrusted"
    address, home = server
    saved = home / 'work' / 'look.ipynb'
    other = home / 'work' / 'other.ipynb'
    page.locator('.jp-Cell .cm-content').first.click()
    page.keyboard.press('Control+s')
    outputs = until(lambda: stored(saved))
    assert outputs
    assert all({'image/png', 'text/plain'} <= {*o} for o in outputs), outputs
    assert 'baseline: "' in ''.join(outputs[-1]['text/plain']), outputs
    # nobody has trusted this one
    other.write_text(saved.read_text().replace('ex = explore()', 'ex = explore( )'))
    assert not page.locator('.jp-OutputArea-output > .carve-still').first.is_visible()
    again = page.context.browser.new_page()
    again.goto(f'{address}/doc/tree/other.ipynb?token={TOKEN}')
    assert until(
        lambda: any(
            i.is_visible() and i.bounding_box()['height'] > 150
            for i in again.locator('.jp-OutputArea img').all()
        )
    )
    again.close()


@pytest.fixture(scope='module')
def opened(page, tmp_path_factory):
    "`carve explore` with an image and a question: its address, port and token, and its page in the browser"
    from carve_nb.testing import three_scenes

    folder, scene = tmp_path_factory.mktemp('explored'), three_scenes()[0]
    scene.image.save(folder / 's.png')
    begun = time.time() - 1
    with explored(folder, 's.png', scene.question) as (address, port, token, _):
        own = open_page(page.context.browser, 1400, 1200, console=False)
        own.set_default_timeout(300_000)
        own.goto(f'{address}?token={token}')
        is_ready = lambda: own.locator('[role=status]').count() and status(own).startswith('Ready')
        assert until(is_ready, 180), (folder / 'log').read_text()
        yield SimpleNamespace(address=address, port=int(port), token=token, page=own, begun=begun)
        own.close()


def test_carve_explore_is_on_this_machine_only(opened):
    "Another address of this machine, at which a server is reached that listens everywhere, does not reach it"
    with socket.create_server(('0.0.0.0', 0)) as everywhere:
        socket.create_connection(('127.0.0.2', everywhere.getsockname()[1]), 3).close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(('127.0.0.2', opened.port), 3)


def test_carve_explore_wants_its_token(opened):
    assert '/login' in urllib.request.urlopen(opened.address, timeout=20).url


def test_carve_explore_names_no_other_host(opened):
    address = f'{opened.address}?token={opened.token}'
    served = urllib.request.urlopen(address, timeout=100).read().decode()
    assert 'explore' in served
    assert re.findall('(?:href|src)="(?:https?:)?//[^"]*', served) == []


def test_no_other_account_hears_the_kernel_of_carve_explore(opened):
    files = Path('/tmp').glob('voila_*/kernel-*.json')
    kernels = [path for path in files if path.stat().st_mtime >= opened.begun]
    assert kernels
    for path in kernels:
        assert json.loads(path.read_text())['transport'] == 'ipc'
        assert path.parent.stat().st_mode & 0o77 == 0


def test_carve_explore_shows_both_answers_and_the_images(opened):
    assert opened.page.title() == 'carve explore'
    assert opened.page.locator('.carve-explore figure img').count() == 3


def test_carve_explore_is_dark_where_the_system_is(opened):
    color = 'getComputedStyle(document.body).backgroundColor.match(/\\d+/g)'
    brightness = lambda: sum(map(int, opened.page.evaluate(color)))
    assert brightness() == 765
    opened.page.emulate_media(color_scheme='dark')
    assert until(lambda: brightness() < 150)


def test_enter_asks_in_carve_explore(opened):
    opened.page.get_by_label('Question').fill('What digit is on the blue cross?')
    opened.page.get_by_label('Question').press('Enter')
    text = lambda: opened.page.locator('.carve-explore').inner_text()
    assert until(lambda: 'blue [cross]' in text() and status(opened.page).startswith('Ready')), status(
        opened.page
    )


def test_carve_explore_refuses_a_file_over_the_limit(opened, tmp_path):
    with open(tmp_path / 'big.png', 'wb') as file:
        file.truncate(201_000_000)
    choose_file(opened.page, tmp_path / 'big.png')
    assert until(lambda: 'big.png has 201 MB' in status(opened.page)), status(opened.page)


def test_carve_explore_ran_without_an_error_or_another_host(opened):
    assert opened.page.errors == []
    assert opened.page.outside == []
