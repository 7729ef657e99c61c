"""What holds for every notebook and module: one notebook a module, imports that point down, no path of a
machine, outputs stored without error, and model families known in one place. Line length and docstrings
are ruff's (`make lint`)."""
import ast
import json
import re
import anatomy
from processes import ROOT

PATHS = sorted(p for p in (ROOT/'nbs').rglob('*.ipynb')
    if not any(o[0] in '._' for o in p.relative_to(ROOT).parts))
MODULES = sorted(p for p in (ROOT/'carve_nb').rglob('*.py') if p.name[0] != '_')
# The module that imports all of its room, whose methods register themselves.
LAZY = {'method.base'}
# as records are named
FAMILY = re.compile('|'.join(['onevision',
    *re.findall(r"_add\('([a-z]+)", (ROOT/'carve_nb/models/families.py').read_text())]), re.I)
# Where model families are described, the help of the command line, and the models of the paper's tables.
FAMILY_MAY = {'image_tokens', 'families', 'main', 'commands', 'paper'}
MACHINE = re.compile(r'(?<![\w.:/-])/(work|root|home|tmp|Users|opt|usr|mnt|var)/')


def cells(path): return json.loads(path.read_text())['cells']
def source(cell): return ''.join(cell['source'])
def name(path): return '.'.join(path.relative_to(ROOT/'carve_nb').with_suffix('').parts)
def room(module): return module.split('.')[0]


def test_one_notebook_one_module():
    "Each module comes from one notebook, which lies where the module lies"
    found = [(m[1], p) for p in PATHS
        for c in cells(p) if (m := re.match(r'#\|\s*default_exp[: ]\s*([\w.]+)', source(c)))]
    assert sorted(m for m, _ in found) == sorted(map(name, MODULES))


def test_imports_point_down():
    "Rooms import from rooms before them, and reach none by a string"
    known, wrong = set(map(name, MODULES)), []
    for path in MODULES:
        own = name(path)
        wrong += [f'{own} imports {o}' for o in anatomy.imported(path)
                  if o in known and anatomy.ROOMS.index(room(o)) > anatomy.ROOMS.index(room(own))]
        if own not in LAZY and 'import_module(' in path.read_text(): wrong += [f'{own} imports by a string']
    assert not wrong


def test_no_machine_path():
    "No notebook names a path of the machine on which it was run, in source or outputs"
    drawn = re.compile(r'data:image/[\w+]+;base64,[\w+/=\s]+')
    def texts(cell):
        yield source(cell)
        for o in cell.get('outputs', []):
            yield ''.join(o.get('text', ''))
            yield from (''.join(v) for k, v in o.get('data', {}).items() if not k.startswith('image/'))
    assert not [(p.name, m[0]) for p in PATHS for c in cells(p) for t in texts(c)
        for m in MACHINE.finditer(drawn.sub('', t))]


def test_imports_stand_alone():
    """In a notebook that exports, a cell that imports does nothing else, or is exported: `nbdev-proc-nbs`
    runs it without the cells before it"""
    wrong, imports = [], (ast.Import, ast.ImportFrom)
    for path in PATHS:
        texts = [source(c) for c in cells(path) if c['cell_type'] == 'code' and not source(c).startswith('%')]
        if not texts or 'default_exp' not in texts[0]: continue
        for text in texts:
            tree = ast.parse(text)
            if re.search(r'^#\| ?(export|recipe|eval: ?false)', text, re.M) or not any(isinstance(n, imports)
                    for n in ast.walk(tree)):
                continue
            if not all(isinstance(n, imports) for n in tree.body): wrong += [(path.name, text[:80])]
    assert not wrong


def test_outputs_stored():
    "No notebook is stored with an error or an image over 100 kB, or 250 in the book"
    for path in PATHS:
        outputs = [o for c in cells(path) for o in c.get('outputs', [])]
        assert not [o for o in outputs if o['output_type'] == 'error'], path.name
        sizes = [len(''.join(o['data']['image/png']))*3/4
            for o in outputs if 'image/png' in o.get('data', {})]
        assert max(sizes, default=0) <= (250_500 if path.parent.name == 'nbs'
            else 100_500), f'{path.name}: `python tools/shrink.py` draws it smaller'


def words(path):
    "Names and strings of a module, without comments and docstrings"
    tree = ast.parse(path.read_text())
    docs = {id(n.body[0].value)
        for n in ast.walk(tree) if isinstance(n, (ast.Module, ast.ClassDef, ast.FunctionDef))
            and n.body and isinstance(n.body[0], ast.Expr)}
    for n in ast.walk(tree):
        if id(n) in docs: continue
        yield from (v for k in ('id', 'attr', 'name', 'arg', 'module', 'value')
            if isinstance(v := getattr(n, k, None), str))


def test_families_stay_home():
    "Model families are records in one notebook; no other code knows their names"
    assert not [(name(p), w) for p in MODULES if p.stem not in FAMILY_MAY
        for w in words(p) if FAMILY.search(w)]
