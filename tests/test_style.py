"The numbers of the style guide that a script can check."
import ast, statistics
import pytest
from test_notebooks import EXPORTED, MODULES, cells, source

modules = [pytest.param(p, id=p.stem) for p in MODULES]


def functions(path):
    return [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))]


def public(path): return [n for n in functions(path) if n.name[0] != '_']
def length(node): return node.end_lineno - node.lineno + 1


@pytest.mark.parametrize('path', [pytest.param(p, id=p.name) for p in EXPORTED.values()])
def test_exported_cells_short(path):
    exported = [source(c) for c in cells(path) if c['cell_type'] == 'code' and source(c).startswith('#| export')]
    sizes = [len([l for l in o.splitlines() if l.strip() and not l.startswith('#|')]) for o in exported]
    assert max(sizes) <= 40, [o[:60] for o, n in zip(exported, sizes) if n > 40]


@pytest.mark.parametrize('path', modules)
def test_functions_short(path):
    assert not [(n.name, length(n)) for n in functions(path) if length(n) > 50]


@pytest.mark.parametrize('path', modules)
def test_names_short(path):
    assert not [n.name for n in public(path) if n.name.count('_') > 2]


@pytest.mark.parametrize('path', modules)
def test_functions_documented(path):
    "Every public function of a module says what it does in one line"
    top = [n for n in ast.parse(path.read_text()).body if isinstance(n, (ast.FunctionDef, ast.ClassDef)) and n.name[0] != '_']
    assert not [n.name for n in top if not ast.get_docstring(n)]


def test_median_function():
    assert statistics.median(length(n) for p in MODULES for n in functions(p)) <= 12
