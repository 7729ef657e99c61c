"""The site, as far as it can be checked without building it: reading order, llms.txt, links, what the pages
are made of."""
import base64
import io
import re
import textwrap
import check_site  # noqa: E402
import colab
import page_html
import pages
import pytest
import signatures
from IPython.core.interactiveshell import InteractiveShell
from PIL import Image
from processes import ROOT, python

ALL = pages.notebooks()


@pytest.fixture(scope='module')
def links(): return pages.Links(pages.modules(), [p for _, g in pages.reading_order() for p in g])


def test_order_has_every_notebook_once():
    placed = [p.name for _, g in pages.reading_order() for p in g]
    assert sorted(placed) == sorted(p.name for p in ALL if p.name != 'index')
    assert all(g for _, g in pages.reading_order()), 'a group of docs/order.toml claims no notebook'


def test_groups_are_complete():
    "Each group has a sentence and a page of its own; the book stands first, by number"
    order = pages.reading_order()
    keys = [[p.key for p in inside if p.key] for _, inside in order]
    assert keys == [*map(sorted, keys)]
    assert [g.title for g, _ in order][:2] == ['The book', 'Tutorials'] and all(g.about for g, _ in order)
    homes = [g.home for g, _ in order]
    names = [p.name for p in ALL]
    assert len({*homes, *names, 'library'}) == len(homes) + len(names) + 1 and pages.RESULTS in names
    book = [p.name for p in order[0][1]]
    assert len(book) == 10 and book[0] == 'quickstart' and book[1:] == sorted(book[1:])


def inside(text):
    "Addresses of links and images that lead nowhere outside"
    text = re.sub(r'`[^`\n]*`', '', pages.CODE.sub('', text))
    return [o for o in re.findall(r'\]\(([^)\s#]+)[^)]*\)', text) if not re.match(r'\w+:', o)]


def test_links_lead_somewhere():
    """Links and images of the files that one sees first, and between notebooks; each page has a title and a
    sentence"""
    for name in 'README.md', 'CONTRIBUTING.md', 'SECURITY.md', 'CHANGELOG.md', 'llms.txt':
        assert not [o for o in inside((ROOT/name).read_text(encoding='utf-8'))
            if not (ROOT/o).is_file()], name
    for page in ALL:
        assert page.title != page.name and page.subtitle, page.name
        text = '\n'.join(pages.joined(c['source']) for c in page.nb['cells'] if c['cell_type'] == 'markdown')
        assert not [o for o in inside(text) if not (page.path.parent/o).is_file()], page.name


def drawn(cell): return any('image/png' in o.get('data', {}) for o in cell.get('outputs', []))


OWN_WORDS = r'^#\|\s*(fig-alt:\s*\S.{14}|hide\s*$|include:\s*false)'


def test_pages_are_clean(links):
    "No directive of nbdev and no number of a fault case is left; every image has words, by whoever drew it"
    for page in ALL:
        for c in pages.site_notebook(page, links)['cells']:
            if c['cell_type'] != 'code': continue
            assert not re.search(r'^#(\|| cases? \d)', pages.joined(c['source']), re.M), page.name
            if drawn(c): assert c['metadata']['mystnb']['image']['alt'].strip(), page.name
        images = [pages.joined(c['source'])
            for c in page.nb['cells'] if c['cell_type'] == 'code' and drawn(c)]
        assert not [source for source in images if not re.search(OWN_WORDS, source, re.M)], page.name


def test_figures_of_the_book_are_numbered():
    """Below each image of a chapter stands its caption; captions, also of figures that move, are **Figure
    2.1.** and so on in order"""
    for page in ALL:
        if not re.match(r'\d\d_', page.name): continue
        chapter = int(page.name[:2])
        cells = page.nb['cells']
        below = [pages.joined(after['source']) for c, after in zip(cells, cells[1:]) if drawn(c)]
        assert not [text[:80] for text in below if not text.startswith(f'**Figure {chapter}.')], page.name
        words = '\n'.join(pages.joined(c['source']) for c in cells if c['cell_type'] == 'markdown')
        numbers = [int(n) for n in re.findall(rf'^\*\*Figure {chapter}\.(\d+)\.\*\* ', words, re.M)]
        assert numbers == [*range(1, len(numbers) + 1)], page.name


def test_tutorials_show_imports(links):
    "Imports are folded everywhere but on tutorial pages; gallery and living figure fold all of their code"
    folded = lambda c: 'hide-input' in c['metadata'].get('tags', ())
    hidden = lambda c: 'remove-input' in c['metadata'].get('tags', ())
    code = lambda name: [c for c in pages.site_notebook(next(p for p in ALL if p.name == name),
        links)['cells']
        if c['cell_type'] == 'code']
    assert not any(map(folded, code('quickstart')))
    assert all(folded(c) or hidden(c) for name in pages.FOLDED for c in code(name))
    assert any(map(folded, code('02_query_token')))


def test_figures_are_placed(links):
    "The mark of a moving figure becomes its box and scripts, whose files are there"
    shown = pages.place_figures('x\n\n<!-- figure: size clutter -->\n\ny', '../')
    assert re.findall(r'data-figure="(\w+)"', shown) == ['size', 'clutter']
    assert re.findall(r'src="(.*?)"', shown) == ['../_static/figures/size.js',
        '../_static/figures/clutter.js',
        '../_static/figure.js']
    marked = [m for p in ALL for c in p.nb['cells'] for m in re.findall(r'<!-- figure: ([\w ]+) -->',
        pages.joined(c['source']))]
    assert {n for m in marked for n in m.split()} == {p.stem for p in pages.FIGURES.glob('*.json')}
    assert '\n\n![a](b.png)\n\n</div>' in pages.place_figures('<!-- figure: size -->\n![a](b.png)\n\nx', '')
    # a page loads its own alone
    assert max(p.stat().st_size for p in pages.FIGURES.glob('*.json')) < 120_000


def test_living_figure_is_placed():
    "Its mark becomes its box, with the still in it, and the module"
    shown = pages.place_figures('x\n\n<!-- living figure -->\n![a](b.png)\n\ny', '../')
    assert '<div class="living" data-living>\n\n![a](b.png)\n\n</div>' in shown
    assert '"../_static/living/page.js"' in shown


def test_examples_of_a_function(links):
    "The reference names pages that import a function, not the one that defines it"
    used = pages.examples([p for _, g in pages.reading_order() for p in g], links)
    assert [p.name for p in used['formulas.threshold.regions']][0] == 'quickstart'
    assert '06_crop' not in {p.name for p in used['formulas.threshold.regions']}
    assert 'Examples: :doc:`Quickstart </quickstart>`' in pages.reference('formulas.threshold', links, used)


def test_call_is_told(links):
    "How a method is called stands in the reference of its class, also where it is inherited"
    carve = next(o for o in links.mods['method.carve'][1] if o.name == 'Carve')
    assert carve.members[0].name == 'Carve.__call__' and 'image: Image' in carve.members[0].signature


def test_header_of_a_page():
    "A download; source and Colab where pyproject.toml has an address"
    page_html.ABOUT['a/b'] = dict(notebook='nbs/a/b.ipynb', alone=True, clone=False,
        about='Says "what" it is')
    assert page_html.links('a/b', '../', {}) == [('Download notebook', '../notebooks/a/b.ipynb')]
    site = dict(repository='https://github.com/one/two', branch='main')
    assert [a for _, a in page_html.links('a/b', '../', site)[1:]] == [
        'https://github.com/one/two/blob/main/nbs/a/b.ipynb',
        'https://colab.research.google.com/github/one/two/blob/main/nbs/a/b.ipynb']
    assert len(page_html.links('a/b', '', dict(site, repository='https://example.org/x'))) == 2
    assert page_html.links('library', '', site) == []
    tags = page_html.description('a/b', 'B')
    assert '<meta name="description" content="Says &quot;what&quot; it is">' in tags
    assert '<meta property="og:title" content="B">' in tags


def test_first_cell_for_colab():
    """Notebooks that run alone install the package below their title, where pyproject.toml has an address;
    where it is there the cell does nothing"""
    alone = [p for p in ALL if p.alone]
    address = pages.addresses()['repository']
    assert len(alone) > 3 and not [p.name for p in alone if colab.with_install(p.nb, address) != p.nb]
    nb = colab.with_install(alone[0].nb, 'https://github.com/one/two')
    cell = pages.joined(nb['cells'][1]['source'])
    assert '%pip install -q "carve_nb @ git+https://github.com/one/two"' in cell
    assert InteractiveShell().run_cell(cell).success
    assert pages.code_cell(nb['cells'][1]) is None
    assert colab.with_install(nb, '') == colab.with_install(alone[0].nb, '')


def test_command_line_page_is_fresh():
    "The page has every command in a heading, and in its table every option with its help of now"
    import typer
    from carve_nb.cli.commands import app
    cells = next(p for p in ALL if p.name == 'tutorials/command_line').nb['cells']
    commands = typer.main.get_command(app).commands
    headings = ''.join(pages.joined(c['source']) for c in cells if c['cell_type'] == 'markdown')
    assert not [name for name in commands if f'`carve {name}`' not in headings]
    table = next(pages.joined(output['data']['text/markdown']) for c in cells for output in c.get('outputs', ())
        if 'text/markdown' in output.get('data', ()))
    options = {(option.opts[0], option.help.replace('|', '/')) for command in commands.values()
        for option in command.params if option.opts[0].startswith('--')}
    rows = {(row[1].split()[0].strip('`'), row[3].strip()) for row in (line.split('|') for line in table.splitlines()[2:])}
    assert rows == options, 'run nbs/tutorials/command_line.ipynb again'


def test_size_of_figures():
    """Neither small figures nor towers fill the page; those of the book are stored at 1.5 times their size,
    very wide ones at twice"""
    for size, book, shown in (
            ((640, 300), False, dict(classes='wide')), ((640, 1195), False, dict(width='640px')),
            ((300, 300), False, dict(width='300px')), ((1000, 300), False, dict(width='500px')),
            ((600, 300), True, dict(classes='wide')), ((300, 300), True, dict(width='200px'))):
        Image.new('L', size).save(f := io.BytesIO(), 'PNG')
        assert pages.shown(dict(data={'image/png': base64.b64encode(f.getvalue()).decode()}), book) == shown


def test_words_become_references(links):
    page = next(p for p in ALL if p.path.stem == '02_query_token')
    say = lambda text: pages.link_words(text, links, page)
    assert say('see `pick_layers`') == 'see {py:obj}`pick_layers <carve_nb.core.saliency.pick_layers>`'
    assert say('`Carve.paper()`') == '{py:obj}`Carve.paper() <carve_nb.method.carve.Carve.paper>`'
    assert say(
        '`02_image` and `no_such_name`') == '[`02_image`](/library/core/02_image.ipynb) and `no_such_name`'
    assert say('```\n`pick_layers`\n```') == '```\n`pick_layers`\n```'
    assert say('# `pick_layers`') == '# `pick_layers`'


def test_every_word_leads_to_a_symbol(links):
    "What `Links` answers stands on a page of the reference"
    there = {f'carve_nb.{m}' for m in links.mods} | {f'carve_nb.{m}.{s.name}' for m,
        (_, ss) in links.mods.items() for o in ss for s in (o, *o.members)}
    for page in ALL:
        for c in pages.site_notebook(page, links)['cells']:
            assert set(re.findall(r'\{py:obj\}`[^`<]* <([\w.]+)>`', pages.joined(c['source']))) <= there


def test_signatures(tmp_path):
    path = tmp_path/'m.py'
    path.write_text(textwrap.dedent('''
        "A module"
        __all__ = ['f', 'C', 'N', 'told']
        N = 3 # a number
        def f(a, # first
            b: int = 2, c=(1,
            2), *, d=None, # fourth
            ) -> list: # of things
            "Does it"
            return [a] # not this
        @dataclass
        class C(Base):
            "Holds"
            x: int = 0 # how many
            name = 'c'
            def go(self, y): # where
                "Goes"
            def come(self, # of no parameter
                y): # whence
                "Comes"
            @property
            def p(self): "A property"
            @p.setter
            def p(self, new): pass
        @patch
        def more(self:C, z=1 # what
            ): "More"
        def hidden(): pass
        def told(a, **kw):
            \"\"\"Tell it.

            Parameters
            ----------
            a
                what is
                told
            **kw
                the rest

            Returns
            -------
            words
                of all

            Examples
            --------
            >>> told(1)
            \"\"\"
    '''))
    doc, found = signatures.read(path)
    by = {s.name: s for s in found}
    assert doc == 'A module' and list(by) == ['N', 'f', 'C', 'C.more', 'told']
    numpy = by['told']
    assert (numpy.doc, numpy.params, numpy.returns, numpy.example) == (
        'Tell it.', [('a', 'what is told'), ('kw', 'the rest')], 'of all', '>>> told(1)')
    f, c = by['f'], by['C']
    assert f.signature == '(a, b: int=2, c=(1, 2), *, d=None) -> list' and f.doc == 'Does it'
    assert f.returns == 'of things'
    assert dict(f.params) == dict(a='first', b='', c='', d='fourth')
    assert (c.signature, c.params, c.bases) == ('(x=0)', [('x', 'how many')], ['Base'])
    assert [(m.kind, m.name) for m in c.members] == [('method', 'C.go'), ('method', 'C.come'),
        ('property', 'C.p')]
    assert c.members[1].params == [('y', 'whence')]
    assert by['C.more'].signature == '(z=1)' and by['C.more'].params == [('z', 'what')]
    assert (by['N'].value, by['N'].doc) == ('3', 'a number')


def test_public_functions_are_found(links):
    "The reference has what a module lists as public, but for names it takes from others"
    for m, (_, symbols) in links.mods.items():
        text = (ROOT/'carve_nb'/(m.replace('.', '/') + '.py')).read_text()
        listed = re.search(r'^__all__ = (\[.*?\])', text, re.M | re.S)
        missing = set(eval(listed[1])) - {s.name for s in symbols} if listed else set()
        assert not [o for o in missing if re.search(rf'^(def|class) {o}\b', text, re.M)], m


def test_checker_sees_faults(tmp_path):
    (tmp_path/'a.html').write_text(
        '<a href="b.html#there">x</a> <a href="https://example.org">y</a> <img src="p.png" alt="words">')
    (tmp_path/'b.html').write_text('<p id="there">x</p>')
    (tmp_path/'p.png').write_bytes(b'')
    assert not list(check_site.check(tmp_path.resolve()))
    (tmp_path/'c.html').write_text(
        '<a href="b.html#gone">x</a> <a href="../etc">x</a> <script src="https://cdn.example/x.js"></script> <img src="p.png"> '
        '<div class="output traceback"></div> On a <a href="b.html">released decoder</a> more passes.')
    assert len(list(check_site.check(tmp_path.resolve()))) == 6


def test_download_or_path():
    """Notebooks that read files of the repository have no download: their header names the path; the others
    say what they need"""
    assert [p.name for p in ALL if not p.clone and '/' not in p.name] == ['04_product', '07_algorithm',
        'quickstart']
    quickstart = pages.download(next(p for p in ALL if p.name == 'quickstart'))
    assert 'pip install' in pages.joined(quickstart['cells'][0]['source'])
    links = re.findall(r'(?<!!)\[[^]]*\]\(([^)]+)\)',
        ''.join(pages.joined(c['source']) for c in quickstart['cells'] if c['cell_type'] == 'markdown'))
    assert all(link.startswith('http') for link in links)
    page_html.ABOUT['a/b'] = dict(notebook='nbs/a/b.ipynb', alone=False, clone=True, about='')
    assert page_html.links('a/b', '../', {}) == []
    assert '<code>nbs/a/b.ipynb</code>' in page_html.header('a/b', '../')


def test_download_carries_its_images():
    "No image of a downloaded notebook lies in another file, and each is the one that the page shows"
    import nbformat
    for p in ALL:
        notebook = pages.download(p)
        nbformat.validate(notebook)
        shown = [address for c in notebook['cells'] if c['cell_type'] == 'markdown'
            for address in re.findall(r'!\[[^]]*\]\(([^)]+)\)', pages.joined(c['source']))]
        assert all(re.match(r'\w+:', o) for o in shown), (p.name, shown)
    carried = [c['attachments']
        for c in pages.download(next(p for p in ALL if p.name == 'quickstart'))['cells']
        if 'attachments' in c]
    assert [*carried[0]] == ['index_2.png']
    assert base64.b64decode(carried[0]['index_2.png']['image/png']) == (
        ROOT/'nbs/images/index_2.png').read_bytes()


def test_asked_pages_are_there():
    assert {place.partition('#')[0] for place in pages.settings()['asked']} <= {p.name for p in ALL}


def test_docs_need_no_package():
    "The pages are made without importing what they describe"
    code = f'import sys; sys.path.insert(0, "{ROOT}/tools"); import pages; pages.modules(); print("torch" in sys.modules)'
    assert python('-c', code).strip() == 'False'
