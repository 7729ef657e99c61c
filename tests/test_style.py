"The numbers of the style guide that a script can check."
import ast, importlib, re, statistics
from collections import defaultdict
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


def body(path):
    "Lines that a notebook wrote: `__all__`, which nbdev wraps by its own width, is left out"
    text = path.read_text()
    return re.sub(r'^__all__ = \[.*?\]$', '', text, flags=re.S | re.M).splitlines()


@pytest.mark.parametrize('path', modules)
def test_lines_short(path): assert not [l for l in body(path) if len(l) > 120]


@pytest.mark.parametrize('path', modules)
def test_module_short(path): assert len(path.read_text().splitlines()) <= 330, 'a longer module is two modules'


def nodes(path):
    "Syntax nodes of each line that has any"
    count = defaultdict(int)
    for n in ast.walk(ast.parse(path.read_text())):
        if hasattr(n, 'lineno'): count[n.lineno] += 1
    return sorted(count.values())


def test_few_ideas_a_line():
    "At most fourteen syntax nodes on nine lines of ten"
    all_nodes = sorted(n for p in MODULES for n in nodes(p))
    assert all_nodes[int(.9*len(all_nodes))] <= 14


# Names that several modules define on purpose.
SHARED_NAMES = {'__getattr__'}


def test_one_name_one_meaning():
    homes = defaultdict(list)
    for p in MODULES:
        for n in ast.parse(p.read_text()).body:
            if not isinstance(n, (ast.FunctionDef, ast.ClassDef)): continue
            if not any('patch' in ast.dump(d) for d in n.decorator_list): homes[n.name].append(p.stem)
    assert not {k: v for k, v in homes.items() if len(v) > 1 and k not in SHARED_NAMES}


# Signals between two places of one module, which nobody outside ever sees.
SIGNALS = {'Done', 'Cancelled', 'Stop'}


@pytest.mark.parametrize('path', modules)
def test_one_error_family(path):
    "Every error of ours is a `CarveError`, and stands in core.errors"
    made = [n.name for n in ast.parse(path.read_text()).body if isinstance(n, ast.ClassDef)
            and any(re.search(r'(Error|Exception)\b', ast.unparse(b)) for b in n.bases)]
    assert set(made) <= SIGNALS or path.stem == 'errors'


def test_errors_have_one_root():
    errors = importlib.import_module('carve_nb.core.errors')
    found = [o for o in vars(errors).values() if isinstance(o, type) and issubclass(o, Exception)]
    assert len(found) > 5 and all(issubclass(o, errors.CarveError) for o in found)
