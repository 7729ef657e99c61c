"Each of the sixty fault cases has a test; nbs/notes/robustness.ipynb shows this table."

import ast
import json
import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
GROUPS = {
    'Images': 'images',
    'Text': 'text',
    'Model and capture': 'model',
    'Resources': 'resources',
    'Runs': 'runs',
    'Output': 'output',
}


def cases():
    "The cases in the docstrings of this folder, each with the tests that name it in `@pytest.mark.case(...)`, and the pages with cells of it"
    rows = []
    for group, name in GROUPS.items():
        doc = ast.get_docstring(ast.parse((TESTS / f'faults/test_{name}.py').read_text(encoding='utf-8')))
        for text in re.findall(r'^\d+\. .*(?:\n +.*)*', doc, re.M):
            number, event, expected = re.fullmatch(r'(\d+)\. (.*) => (.*)', ' '.join(text.split())).groups()
            rows.append(dict(number=int(number), group=group, event=event, expected=expected, tests=[]))
    for path in sorted(TESTS.rglob('test_*.py')):
        for f in ast.parse(path.read_text(encoding='utf-8')).body:
            for d in f.decorator_list if isinstance(f, ast.FunctionDef) else ():
                if not ast.unparse(d).startswith('pytest.mark.case('):
                    continue
                for a in d.args:
                    rows[a.value - 1]['tests'].append(f'{path.relative_to(TESTS).as_posix()}::{f.name}')
    for path in sorted(
        [*(TESTS.parent / 'nbs').glob('0*.ipynb'), *(TESTS.parent / 'nbs/library').rglob('*.ipynb')]
    ):
        for cell in json.loads(path.read_text(encoding='utf-8'))['cells']:
            named = re.findall(r'^# cases? ([\d, ]+)', ''.join(cell['source']), re.M)
            for number in re.findall(r'\d+', ' '.join(named)):
                page = f'{path.stem.partition("_")[2]}.ipynb'
                if page not in (tests := rows[int(number) - 1]['tests']):
                    tests.append(page)
    return rows


def test_cases_are_held():
    assert [c['number'] for c in cases()] == list(range(1, 61)) and all(c['tests'] for c in cases())
