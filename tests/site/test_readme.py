"README.md is what the index notebook says, and the images it shows are there."
import json
import re
from processes import ROOT, python
from readme import absolute, render  # noqa: E402

def test_readme_is_fresh(): python(ROOT/'tools/readme.py', '--check')

def test_images_exist():
    shown = re.findall(r'!\[[^\]]*\]\(([^)]+)\)', (ROOT/'README.md').read_text(encoding='utf-8'))
    assert shown, 'the first screen of the README has an image'
    for p in shown: assert (ROOT/p[p.index('nbs/'):]).stat().st_size < 300_000, p

def test_absolute_links():
    "With an address in pyproject.toml, a package index can follow every link; without one they stay"
    text, address = render()[0], 'https://github.com/one/two'
    told = absolute(text, address, 'main')
    assert f'{address}/raw/main/nbs/images/' in told and f'{address}/blob/main/nbs/notes/limitations.ipynb' in told
    assert not re.findall(r'\]\((?!\w+:|#)[^)]*\)', re.sub(r'`[^`]*`', '', told)) and absolute(text, '', 'main') == text

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
    cff, readme = (yaml.safe_load((ROOT/'CITATION.cff').read_text(encoding='utf-8')),
        (ROOT/'README.md').read_text(encoding='utf-8'))
    paper = dict(re.findall(r'^ +(\w+) += \{(.+?)\},?$', readme.split('```bibtex')[1].split('```')[0], re.M))
    told, = cff['references']
    assert (paper['title'], int(paper['year']), paper['booktitle']) == (told['title'], told['year'],
        told['conference']['name'])
    assert paper['author'] == ' and '.join(f"{a['family-names']}, {a['given-names']}" for a in told['authors'])
    assert paper['note'].removeprefix('arXiv:') in told['doi'] and told['title'] in readme.split('## Citation')[0]
    assert (cff['title'], str(cff['version'])) == ('carve_nb', __version__)

def test_which_method():
    "The numbers in the table of needs are those of the stored records"
    from carve_nb.runs.report import report
    from carve_nb.runs.store import read_run
    runs = {m: [report(read_run(ROOT/'nbs/results'/run).records, kind='digit')
        for run in (demo, f'switches-{m}', f'peers-{m}', f'ablation-{m}')]
            for m, demo in (('tiny', 'demo'), ('small', 'demo-carve-small-full'))}
    def right(m, method): return 100*next(t.acc[method] for t in runs[m] if method in t.index)
    def gain(m, method): return right(m, method) - right(m, 'none')
    bare = [f'{right(m, k + end):.1f}' for m in ('small', 'tiny') for end,
        ks in ((':suffix=None', ('question-only', 'carve')), ('', ('lookup', 'carve'))) for k in ks]
    page = ' '.join(words(ROOT/'nbs/tutorials/questions.ipynb'))
    now = report(read_run(ROOT/'nbs/results/demo-carve-small').records, kind='digit').gain['lookup']
    for said in (f"+{gain('tiny', 'lookup'):.0f} and +{100*now:.0f} points",
                 '{} and {} % of the digits (`lookup` {}, `carve` with the instruction {}), on `carve-tiny` {} and {} ({}, {})'.format(*bare),
                 f"({right('tiny', 'pure-grad'):.1f} and {right('small', 'pure-grad'):.1f} %)",
                 f"gains {gain('tiny', 'official'):.1f} points on one and loses {-gain('small', 'official'):.1f} on the other"):
        assert said in page, said
    assert max(gain(m, 'paper') for m in runs) < 0
