"The quickstart in JupyterLab, as far as its widgets go."
import json
from browsers import TOKEN, chromium, run_cell, until
from processes import ROOT

def test_switches_show_their_image(server, ready):
    "The quickstart's three switches: an image is there, and another one after a click"
    from carve_nb.cli.commands import write_page
    address, home = server
    nb = json.loads((ROOT/'nbs'/'quickstart.ipynb').read_text())
    sources = [''.join(c['source']) for c in nb['cells'] if c['cell_type'] == 'code']
    imports, scene, switches = (next(s for s in sources if word in s)
        for word in ('from carve_nb import', 'scene = ', 'interactive(show'))
    write_page(home/'work'/'switches.ipynb', '\n'.join([imports, scene, switches]))
    with chromium() as browser:
        page = browser.new_page()
        page.set_default_timeout(300_000)
        page.goto(f'{address}/doc/tree/switches.ipynb?token={TOKEN}')
        run_cell(page)
        shown = lambda: [i.get_attribute('src')
            for i in page.locator('.jp-OutputArea img').all() if i.is_visible()]
        assert until(lambda: len(shown()) == 1, 120)
        first = shown()
        page.locator('.widget-toggle-button', has_text='heart').click()
        assert until(lambda: len(shown()) == 1 and shown() != first)
