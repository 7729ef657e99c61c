"README.md is what the index notebook says, and the pictures it shows are there."
import json, re, subprocess, sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

def test_readme_is_fresh():
    r = subprocess.run([sys.executable, ROOT/'tools/readme.py', '--check'], capture_output=True, text=True)
    assert r.returncode == 0, r.stdout + r.stderr

def test_pictures_exist():
    shown = re.findall(r'!\[[^\]]*\]\(([^)]+)\)', (ROOT/'README.md').read_text(encoding='utf-8'))
    assert shown, 'the first screen of the README has a picture'
    for p in shown: assert (ROOT/p).stat().st_size < 300_000, p

def chapters(): return sorted((ROOT/'nbs').glob('[01]*.ipynb'))

def words(path): return [''.join(c['source']) for c in json.loads(path.read_text(encoding='utf-8'))['cells']]

def test_one_banner():
    "What the numbers of the book come from is said once; every chapter has the same line that leads there and to the glossary"
    banners = {p.name: [s for s in words(p)[:5] if 'notes/glossary.ipynb' in s] for p in chapters()}
    assert not [name for name, found in banners.items() if len(found) != 1]
    assert len({found[0] for found in banners.values()}) == 1

def test_citation():
    "The BibTeX of the README, CITATION.cff and the package name the same paper, authors, year and version"
    import yaml
    from carve_nb import __version__
    cff, readme = yaml.safe_load((ROOT/'CITATION.cff').read_text(encoding='utf-8')), (ROOT/'README.md').read_text(encoding='utf-8')
    entries = readme.split('```bibtex')[1].split('```')[0].split('@')[1:]
    paper, package = (dict(re.findall(r'^ +(\w+) += \{(.+?)\},?$', e, re.M)) for e in entries)
    told, = cff['references']
    assert (paper['title'], int(paper['year']), paper['booktitle']) == (told['title'], told['year'], told['conference']['name'])
    assert paper['author'] == ' and '.join(f"{a['family-names']}, {a['given-names']}" for a in told['authors'])
    assert paper['note'].removeprefix('arXiv:') in told['doi'] and told['title'] in readme.split('## ')[0]
    assert (package['title'], package['version'], package['author']) == (cff['title'], __version__, f"{{{cff['authors'][0]['name']}}}")
    assert str(cff['version']) == __version__
