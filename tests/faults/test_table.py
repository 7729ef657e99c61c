"Each of the sixty fault cases has a test or a reason; nbs/notes/robustness.ipynb shows this table."
import ast, tomllib
from pathlib import Path

TESTS = Path(__file__).parents[1]


def cases():
    "The sixty cases of cases.toml, each with the tests that name it in `@pytest.mark.case(...)`"
    found = tomllib.loads((TESTS/'faults'/'cases.toml').read_text(encoding='utf-8'))['case']
    tests = {c['number']: c.setdefault('tests', []) for c in found}
    for path in sorted(TESTS.rglob('test_*.py')):
        for f in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
            for d in f.decorator_list if isinstance(f, ast.FunctionDef) else ():
                if not ast.unparse(d).startswith('pytest.mark.case('): continue
                for a in d.args: tests[a.value].append(f'{path.relative_to(TESTS).as_posix()}::{f.name}')
    return found


def test_cases_are_held_or_reasoned():
    assert [c['number'] for c in cases()] == list(range(1, 61))
    assert not [c['number'] for c in cases() if bool(c['tests']) == ('reason' in c)], 'neither a test nor a reason, or both'
