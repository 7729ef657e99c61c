"""The site, as far as it can be checked without building it: reading order, llms.txt, links, what the pages
are made of."""
import base64
import inspect
import re
import check_site
import colab
import nbformat
import page_html
import pages
from IPython.core.interactiveshell import InteractiveShell
from processes import ROOT

ALL = pages.notebooks()
CODE = re.compile(r'```.*?```|`[^`\n]*`', re.S)


def test_reading_order():
    "Each notebook stands once in a group with a sentence and a page of its own; chapters by number, after the quickstart"
    order = pages.reading_order()
    names = [p.name for _, inside in order for p in inside]
    assert sorted(names) == sorted(p.name for p in ALL if p.name != 'index')
    assert all(g.about and inside for g, inside in order)
    assert len({g.home for g, _ in order} - {*names, 'library'}) == len(order) and pages.RESULTS in names
    book = [p.name for p in order[0][1]]
    assert len(book) == 10 and book[0] == 'quickstart' and book[1:] == sorted(book[1:])


def inside(text):
    "Addresses of links and images that lead nowhere outside"
    return [o for o in re.findall(r'\]\(([^)\s#]+)[^)]*\)', CODE.sub('', text)) if not re.match(r'\w+:', o)]


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


def test_pages_are_clean():
    "No directive of nbdev and no number of a fault case is left; every image has words, by whoever drew it"
    for page in ALL:
        for c in pages.site_notebook(page)['cells']:
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


def test_tutorials_show_imports():
    "Imports are folded everywhere but on tutorial pages; gallery and living figure fold all of their code"
    def tags(name):
        page = next(p for p in ALL if p.name == name)
        return [{*c['metadata'].get('tags', ())} for c in pages.site_notebook(page)['cells'] if c['cell_type'] == 'code']
    assert not any('hide-input' in of for of in tags('quickstart'))
    assert any('hide-input' in of for of in tags('02_query_token'))
    assert all(of & {'hide-input', 'remove-input'} for name in pages.FOLDED for of in tags(name))


def test_figures_are_placed():
    "The mark of a figure that moves, or of the living figure, becomes its box with the still, and its scripts, which are there"
    page = pages.place_figures('x\n\n<!-- figure: size clutter -->\n![a](b.png)\n\ny', '../')
    assert re.findall(r'data-figure="(\w+)"', page) == ['size', 'clutter'] and '\n\n![a](b.png)\n\n</div>' in page
    assert re.findall(r'src="(.*?)"', page) == [f'../_static/{o}.js' for o in ('figures/size', 'figures/clutter', 'figure')]
    words = '\n'.join(pages.joined(c['source']) for p in ALL for c in p.nb['cells'])
    names = {name for mark in re.findall(r'<!-- figure: ([\w ]+) -->', words) for name in mark.split()}
    assert names == {p.stem for p in pages.FIGURES.glob('*.json')}
    living = pages.place_figures('x\n\n<!-- living figure -->\n![a](b.png)\n\ny', '../')
    assert 'data-living>\n\n![a](b.png)\n\n</div>' in living and '"../_static/living/page.js"' in living


def add(a: int,   # the first
        b: int = 2) -> int:   # the sum
    """Add `a` and *b*.

    Examples
    --------
    >>> add(1)"""


def test_docstrings():
    "Words in backticks are literals, stars are plain; comments behind parameters and examples are set"
    lines = inspect.getdoc(add).split('\n')
    page_html.write_docstring(None, 'function', 'add', add, None, lines)
    text = '\n'.join(lines)
    assert '``a``' in text and r'\*b\*' in text and ':param a: the first' in text and ':returns: the sum' in text
    assert text.rstrip().endswith('.. code-block:: python\n\n   >>> add(1)')


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


def test_checker_sees_faults(tmp_path):
    (tmp_path/'a.html').write_text(
        '<a href="b.html#there">x</a> <a href="https://example.org">y</a> <img src="p.png" alt="words">')
    (tmp_path/'b.html').write_text('<p id="there">x</p>')
    (tmp_path/'p.png').write_bytes(b'')
    assert not list(check_site.check(tmp_path.resolve()))
    (tmp_path/'c.html').write_text(
        '<a href="b.html#gone">x</a> <a href="../etc">x</a> <script src="https://cdn.example/x.js"></script> <img src="p.png"> '
        '<div class="output traceback"></div>')
    assert len(list(check_site.check(tmp_path.resolve()))) == 5


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
