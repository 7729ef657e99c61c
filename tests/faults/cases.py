"The table of fault cases: which tests and notebook cells hold each, and how they ended"
import ast, json, re, tomllib
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
NBS = TESTS.parent/'nbs'
HELD, LONG, PART, NOT_RUN = 'held', 'held; more in make soak', 'held in part', 'not run'
SOAK, NO_GPU = 'long: `make soak` runs it', 'no GPU here'   # why a test was not run


def cases():
    "The sixty cases of cases.toml"
    return tomllib.loads((TESTS/'faults'/'cases.toml').read_text(encoding='utf-8'))['case']


def numbers(test):
    "The cases in a test's `@pytest.mark.case(...)`"
    marks = (d for d in test.decorator_list if isinstance(d, ast.Call) and ast.unparse(d.func) == 'pytest.mark.case')
    return [a.value for d in marks for a in d.args]


def marked_tests():
    "Case → its tests, by file and name"
    found = {}
    for path in sorted(TESTS.rglob('test_*.py')):
        for o in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
            for n in numbers(o) if isinstance(o, ast.FunctionDef) else (): found.setdefault(n, []).append(f'{path.relative_to(TESTS).as_posix()}::{o.name}')
    return found


def marked_cells():
    "Case → notebooks with a test cell whose first line is `# case n`"
    found = {}
    for path in sorted(NBS.rglob('*.ipynb')):
        for cell in json.loads(path.read_text(encoding='utf-8'))['cells']:
            first = next((l.strip() for l in ''.join(cell['source']).splitlines() if not l.startswith('#|')), '')
            for n in re.findall(r'\d+', first) if cell['cell_type'] == 'code' and re.fullmatch(r'# cases? [\d, ]+', first) else ():
                name = path.relative_to(NBS).with_suffix('').as_posix()
                if name not in found.setdefault(int(n), []): found[int(n)].append(name)
    return found


def reasons(ends): return sorted(e.removeprefix(f'{NOT_RUN}: ') for e in ends if e.startswith(NOT_RUN))


def how(ends):
    "A test in words, from the ways in which its variants ended"
    left, ran = reasons(ends), 'failed' if 'failed' in ends else 'passed' if 'passed' in ends else ''
    return '; '.join(filter(None, [ran, f'{NOT_RUN}: {", ".join(left)}'*bool(left)]))


def result(case, ended):
    "What the run says of a case, from the ways in which the variants of its tests ended"
    ends = {e for o in ended for e in o}
    if 'reason' in case: return 'does not apply'
    if 'failed' in ends or 'passed' not in ends: return 'failed' if 'failed' in ends else NOT_RUN
    left = [r for r in reasons(ends) if r != SOAK]
    return f'{PART}: {", ".join(left)}' if left else LONG if reasons(ends) else HELD


def table(ended):
    "The rows of nbs/results/faults.json, from test → the ways in which its variants ended"
    tests, cells = marked_tests(), marked_cells()
    def row(c):
        of = {t: ended.get(f'tests/{t}', {f'{NOT_RUN}: not asked for'}) for t in tests.get(c['number'], ())}
        return dict(c, tests={t: how(e) for t, e in of.items()}, notebooks=cells.get(c['number'], []), result=result(c, of.values()))
    return [row(c) for c in cases()]
