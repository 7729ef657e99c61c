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
