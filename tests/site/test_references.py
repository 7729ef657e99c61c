"The bibliography beside the pages, docs/references.bib: each paper that they name by its arXiv number has its title."

import re
from fastcore.nbio import read_nb
from processes import ROOT

ARXIV = re.compile(r'(?<![\w.])\d{2}(?:0[1-9]|1[0-2])\.\d{5}(?![\w.]*\d)')
ENTRIES = {
    fields['eprint']: fields
    for entry in re.split(r'^@misc', (ROOT / 'docs/references.bib').read_text(encoding='utf-8'), flags=re.M)[
        1:
    ]
    if (fields := dict(re.findall(r'^  (\w+) = \{+(.+?)\}+,$', entry, re.M)))
}


def sources(folder):
    "Texts of a folder: modules, records, and the cells of notebooks without their outputs"
    for path in sorted((ROOT / folder).rglob('*')):
        if path.suffix in ('.py', '.toml', '.md') and path.name != '_modidx.py':
            yield path, path.read_text(encoding='utf-8')
        if path.suffix == '.ipynb' and '.ipynb_checkpoints' not in path.parts:
            nb = read_nb(path)
            yield path, '\n'.join(cell.source for cell in nb.cells)


def test_each_number_has_its_title():
    "What a page, a docstring, a recipe or README names by its number is in the bibliography, and nothing else is"
    texts = [*sources('nbs'), *sources('carve_nb'), *sources('recipes')]
    texts.append((ROOT / 'README.md', (ROOT / 'README.md').read_text(encoding='utf-8')))
    numbers = {number: path for path, text in texts for number in ARXIV.findall(text)}
    assert len(numbers) > 50
    missing = {number: path.name for number, path in numbers.items() if number not in ENTRIES}
    assert missing == {}
    assert ENTRIES.keys() - numbers.keys() == set()


def test_entries_can_be_cited():
    "Each has a title, the year of its number and its address"
    for number, entry in ENTRIES.items():
        assert len(entry['title'].split()) >= 3, number
        assert entry['year'] == f'20{number[:2]}', number
        assert entry['url'] == f'https://arxiv.org/abs/{number}'
