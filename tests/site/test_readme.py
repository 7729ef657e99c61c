"""The images that README.md shows are there, its links lead somewhere, and what it cites is what CITATION.cff
says."""
import json
import re
from pathlib import Path
from processes import ROOT
from readme import absolute, render  # noqa: E402

def test_images_exist():
    shown = re.findall(r'src(?:set)?="([^"]+)"', (ROOT/'README.md').read_text(encoding='utf-8'))
    assert [Path(p).suffix for p in shown] == ['.png', '.gif'], 'a moving picture, and its still'
    for p in shown: assert (ROOT/p[p.index('nbs/'):]).stat().st_size < 600_000, p

def test_length():
    "What stands above the citation is read in a minute"
    assert len((ROOT/'README.md').read_bytes().partition(b'## Citation')[0]) <= 5800

def test_absolute_links():
    "With an address in pyproject.toml README says what to clone, and a package index can follow every link; without one they stay"
    text = render()[0]
    address = 'https://github.com/one/two'
    told = absolute(text, address, 'main')
    assert f'git clone --depth 1 {address}`' in told and f'{address}/raw/main/nbs/images/' in told
    assert f'{address}/blob/main/nbs/notes/limitations.ipynb' in told
    assert not re.findall(r'\]\((?!\w+:|#)[^)]*\)', re.sub(r'`[^`]*`', '', told))
    assert absolute(text, '', 'main') == text

def words(path): return [''.join(c['source']) for c in json.loads(path.read_text(encoding='utf-8'))['cells']]

def test_banner():
    "Where the numbers of the book come from is said where it begins"
    for page in 'quickstart.ipynb', '01_clutter.ipynb':
        assert [s for s in words(ROOT/'nbs'/page)[:5] if 'notes/limitations.ipynb#words-and-symbols' in s
            and 'notes/limitations.ipynb)' in s]

def test_citation():
    "The BibTeX of the README and CITATION.cff name the same paper; CITATION.cff has the package's version"
    import yaml
    from carve_nb import __version__
    cff = yaml.safe_load((ROOT/'CITATION.cff').read_text(encoding='utf-8'))
    readme = (ROOT/'README.md').read_text(encoding='utf-8')
    paper = dict(re.findall(r'^ +(\w+) += \{(.+?)\},?$', readme.split('```bibtex')[1].split('```')[0], re.M))
    told, = cff['references']
    assert (paper['title'], int(paper['year']), paper['booktitle']) == (told['title'], told['year'],
        told['conference']['name'])
    assert paper['author'] == ' and '.join(f"{a['family-names']}, {a['given-names']}"
        for a in told['authors'])
    assert paper['note'].removeprefix('arXiv:') in told['doi']
    assert told['title'] in readme.split('## Citation')[0]
    assert (cff['title'], str(cff['version'])) == ('carve_nb', __version__)
