"""What is seen of the site without building it: links, words of images, what a page offers to take along, README's images,
addresses and citation, and the stored table of commands."""

import re
import check_site
import page_html
import pages
from fastcore.nbio import nb2dict
from processes import ROOT
from readme import absolute, render

ALL = pages.notebooks()
CODE = re.compile(r'```.*?```|`[^`\n]*`', re.S)
README = (ROOT / 'README.md').read_text(encoding='utf-8')


def test_reading_order():
    "Each notebook stands once in the order of the site; one that docs/order.toml forgets has no page"
    names = [page.name for _, inside in pages.reading_order() for page in inside]
    assert sorted(names) == sorted(page.name for page in ALL if page.name != 'index')


def words(page):
    return '\n'.join(c['source'] for c in page.nb['cells'] if c['cell_type'] == 'markdown')


def links(text):
    "Addresses of links and images that lead nowhere outside"
    addresses = re.findall(r'\]\(([^)\s#]+)[^)]*\)', CODE.sub('', text))
    return [address for address in addresses if not re.match(r'\w+:', address)]


def test_links_lead_somewhere():
    "Links and images of the files that one sees first, and between notebooks"
    texts = {
        ROOT / name: (ROOT / name).read_text(encoding='utf-8')
        for name in ('README.md', 'CONTRIBUTING.md', 'SECURITY.md', 'CHANGELOG.md', 'llms.txt')
    }
    texts |= {page.path: words(page) for page in ALL}
    assert not [
        (path.name, address)
        for path, text in texts.items()
        for address in links(text)
        if not (path.parent / address).is_file()
    ]


def test_images_have_words():
    "Whoever draws an image in a cell says what it shows"
    own_words = re.compile(r'^#\|\s*(fig-alt:\s*\S.{14}|hide\s*$|include:\s*false)', re.M)
    drawn = [
        (page.name, c['source'])
        for page in ALL
        for c in page.nb['cells']
        if any('image/png' in o.get('data', {}) for o in c.get('outputs', []))
    ]
    assert not [(name, source[:80]) for name, source in drawn if not own_words.search(source)]


def test_folded_code_shows_what_it_made():
    "The picture or table of each folded figure or table is stored: without it the page is empty there"
    empty = []
    for page in ALL:
        for cell in page.nb['cells']:
            made = {kind for o in cell.get('outputs', []) for kind in o.get('data', {})}
            folded = re.search('code-summary: Code of this (figure|table)$', cell['source'], re.M)
            if folded and not made & {'image/png', 'text/html', 'text/markdown'}:
                empty.append((page.name, cell['id']))
    assert empty == []


def test_header_of_a_page():
    "A notebook to download, its source and Colab where pyproject.toml has an address; the path of one that needs the clone"
    page_html.ABOUT['a/b'] = dict(notebook='nbs/a/b.ipynb', alone=True, clone=False, about='')
    site = dict(repository='https://github.com/one/two', branch='main')
    assert page_html.links('a/b', '../', {}) == [('Download notebook', '../notebooks/a/b.ipynb')]
    assert [address for _, address in page_html.links('a/b', '../', site)[1:]] == [
        'https://github.com/one/two/blob/main/nbs/a/b.ipynb',
        'https://colab.research.google.com/github/one/two/blob/main/nbs/a/b.ipynb',
    ]
    page_html.ABOUT['a/b'] = dict(notebook='nbs/a/b.ipynb', alone=False, clone=True, about='')
    assert '<code>nbs/a/b.ipynb</code>' in page_html.header('a/b', '../')


def test_download_carries_its_images():
    "A downloaded notebook is valid, and no image of it lies in another file"
    import nbformat  # takes seconds

    for page in ALL:
        notebook = nb2dict(pages.download(page))
        nbformat.validate(notebook)
        text = '\n'.join(''.join(c['source']) for c in notebook['cells'] if c['cell_type'] == 'markdown')
        assert all(re.match(r'\w+:', address) for address in re.findall(r'!\[[^]]*\]\(([^)]+)\)', text)), (
            page.name
        )


def test_command_line_page_is_fresh():
    "The page has every command in a heading, and in its table every option with its help of now"
    import typer
    from carve_nb.cli.commands import app

    page = next(page for page in ALL if page.name == 'tutorials/command_line')
    commands = typer.main.get_command(app).commands
    assert not [name for name in commands if f'`carve {name}`' not in words(page)]
    table = next(
        output['data']['text/markdown']
        for c in page.nb['cells']
        for output in c.get('outputs', ())
        if 'text/markdown' in output.get('data', ())
    )
    options = {
        (option.opts[0], option.help.replace('|', '/'))
        for command in commands.values()
        for option in command.params
        if option.opts[0].startswith('--')
    }
    rows = {
        (row[1].split()[0].strip('`'), row[3].strip())
        for row in (line.split('|') for line in table.splitlines()[2:])
    }
    assert rows == options, 'run nbs/tutorials/command_line.ipynb again'


def test_checker_sees_faults(tmp_path):
    (tmp_path / 'a.html').write_text('<p id="there">x</p>')
    (tmp_path / 'b.html').write_text(
        '<a href="a.html#there">x</a> <a href="a.html#gone">x</a> <a href="../etc">x</a> <img src="p.png"> '
        '<script src="https://cdn.example/x.js"></script> <div class="output traceback"></div>'
    )
    assert len(list(check_site.check(tmp_path.resolve()))) == 6


def test_images_of_readme():
    "A moving picture and its still, small enough for a first screen"
    paths = re.findall(r'src(?:set)?="([^"]+)"', README)
    sizes = [(ROOT / path[path.index('nbs/') :]).stat().st_size for path in paths]
    assert len(paths) == 2 and max(sizes) < 600_000


def test_absolute_links():
    "With an address in pyproject.toml README says what to clone, and a package index can follow every link"
    address = 'https://github.com/one/two'
    text = absolute(render()[0], address, 'main')
    assert f'git clone --depth 1 {address}`' in text and f'{address}/raw/main/nbs/images/' in text
    assert f'{address}/blob/main/nbs/notes/limitations.ipynb' in text
    assert not links(text)


def test_citation():
    "The BibTeX of README and CITATION.cff name the same paper, and both have the package's version"
    import yaml
    from carve_nb import __version__

    cff = yaml.safe_load((ROOT / 'CITATION.cff').read_text(encoding='utf-8'))
    entries = README.split('```bibtex')[1].split('```')[0].split('@')[1:]
    article, package = (dict(re.findall(r'^ +(\w+) += \{(.+?)\},?$', entry, re.M)) for entry in entries)
    (paper,) = cff['references']
    assert (article['title'], int(article['year'])) == (paper['title'], paper['year'])
    assert article['note'].removeprefix('arXiv:') in paper['doi']
    assert str(cff['version']) == package['version'] == __version__
