"README.md is what the index notebook says, and the pictures it shows are there."
import re, subprocess, sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

def test_readme_is_fresh():
    r = subprocess.run([sys.executable, ROOT/'tools/readme.py', '--check'], capture_output=True, text=True)
    assert r.returncode == 0, r.stdout + r.stderr

def test_pictures_exist():
    shown = re.findall(r'!\[[^\]]*\]\(([^)]+)\)', (ROOT/'README.md').read_text(encoding='utf-8'))
    assert shown, 'the first screen of the README has a picture'
    for p in shown: assert (ROOT/p).stat().st_size < 300_000, p
