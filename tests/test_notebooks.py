"The notebooks are the source: their order, their form, what is stored in them, and that the modules follow from them."
import ast, base64, json, re
from pathlib import Path
import pytest

ROOT = Path(__file__).parents[1]
PATHS = sorted(p for p in (ROOT/'nbs').rglob('*.ipynb') if not any(o[0] in '._' for o in p.relative_to(ROOT).parts))
MODULES = sorted(p for p in (ROOT/'carve_nb').rglob('*.py') if p.name[0] != '_')
# Words that may stand in code only where model families are described, in the training of our own models (stock LLaVA
# and Qwen classes), and in the help of the command line.
FAMILY = re.compile(r'llava|qwen|internvl|idefics|smolvlm|paligemma|gemma|mllama|onevision|instructblip', re.I)
FAMILY_MAY = {'tiny_models', 'tiny_recipes', 'tiny_parts', 'image_tokens', 'image_tiles', 'processors', 'families', 'main', 'options'}
OWN_MODEL = {'model': {'llava'}, 'reference_vlm': {'llava'}, 'small_model': {'qwen'}, 'small_vlm': {'qwen'}}
MACHINE = re.compile(r'(?<![\w.:/-])/(work|root|home|tmp|Users|opt|usr|mnt|var)/')


def cells(path): return json.loads(path.read_text())['cells']
def source(cell): return ''.join(cell['source'])
def number(path): return re.match(r'(\d\d)_', path.name)


def exported_name(path):
    "Module that a notebook exports to, or None"
    found = [re.search(r'^#\|\s*default_exp[: ]\s*([\w.]+)', source(c), re.M) for c in cells(path)]
    return next((o[1] for o in found if o), None)


EXPORTED = {exported_name(p): p for p in PATHS if exported_name(p)}
params = [pytest.param(p, id=p.name) for p in PATHS]
exported_params = [pytest.param(p, id=p.name) for p in EXPORTED.values()]


def outputs(path):
    "All outputs that are stored in a notebook"
    return [o for c in cells(path) for o in c.get('outputs', [])]


@pytest.mark.parametrize('path', params)
def test_outputs_stored(path):
    kinds = {o['output_type'] for o in outputs(path)}
    code = [c for c in cells(path) if c['cell_type'] == 'code']
    assert kinds or not code, 'run it with `nbdev-test --save` and clean it'
    assert 'error' not in kinds


@pytest.mark.parametrize('path', params)
def test_clean(path):
    nb = json.loads(path.read_text())
    assert set(nb['metadata']) <= {'kernelspec', 'nbdev'}, 'run `nbdev-clean`'
    ids = [c['id'] for c in nb['cells']]
    assert len(set(ids)) == len(ids)
    for c in nb['cells']:
        assert not set(c['metadata']) - {'nbdev', 'hide_input'} and c.get('execution_count') is None
        assert source(c).strip(), f'cell {c["id"]} is empty'


@pytest.mark.parametrize('path', params)
def test_no_machine_path(path):
    "No path of the machine on which the notebook was run, in source or outputs"
    texts = [source(c) for c in cells(path)]
    for o in outputs(path):
        texts += [''.join(o.get('text', ''))] + [''.join(v) for k, v in o.get('data', {}).items() if not k.startswith('image/')]
    drawn = re.compile(r'data:image/[\w+]+;base64,[\w+/=\s]+')
    assert not [m[0] for t in texts for m in MACHINE.finditer(drawn.sub('', t))]


@pytest.mark.parametrize('path', params)
def test_pictures_small(path):
    "No stored picture over 100 kB, no widget state"
    for c in cells(path):
        for o in c.get('outputs', []):
            sizes = [len(base64.b64decode(''.join(v))) for k, v in o.get('data', {}).items() if k == 'image/png']
            assert all(s <= 100_000 for s in sizes), f'cell {c["id"]}: {max(sizes)/1000:.0f} kB; draw it smaller'
            assert 'application/vnd.jupyter.widget-state+json' not in o.get('data', {})


@pytest.mark.parametrize('path', exported_params)
def test_opening(path):
    "default_exp, then the title with one sentence, then a paragraph of what goes in and out"
    first, second, third = cells(path)[:3]
    assert first['cell_type'] == 'code' and re.fullmatch(r'#\|\s*default_exp[: ]\s*[\w.]+', source(first).strip())
    assert second['cell_type'] == 'markdown' and re.fullmatch(r'# [^\n]+\n\s*(> [^\n]+\n?)+', source(second).strip() + '\n')
    assert third['cell_type'] == 'markdown' and len(source(third).split()) > 15


@pytest.mark.parametrize('path', exported_params)
def test_imports_alone(path):
    "Imports and computation never share a cell (the documentation re-runs cells with imports)"
    for c in cells(path):
        if c['cell_type'] != 'code' or re.search(r'^\s*[%!]', source(c), re.M): continue
        body = ast.parse(source(c)).body
        top = [isinstance(o, (ast.Import, ast.ImportFrom)) for o in body]
        assert all(top) or not any(top), f'cell {c["id"]}: {source(c)[:80]}'


def test_one_notebook_one_module():
    have = {'.'.join(p.relative_to(ROOT/'carve_nb').with_suffix('').parts) for p in MODULES}
    assert have == set(EXPORTED)
    assert len(EXPORTED) == sum(exported_name(p) is not None for p in PATHS)
    numbers = [(p.parent, number(p)[1]) for p in EXPORTED.values()]
    assert len(numbers) == len(set(numbers)), 'two notebooks of one folder have the same number'
    assert not [p.name for p in EXPORTED.values() if not number(p)]
    for p in MODULES: assert 'AUTOGENERATED! DO NOT EDIT!' in p.read_text()[:2000], p.name


ROOMS = 'core', 'models', 'attention', 'data', 'training', 'book', 'studies', 'baselines', 'evaluation', 'explorer', 'cli'


def room(module): return module.split('.')[0] if '.' in module else 'book'
def place(module): return ROOMS.index(room(module)), number(EXPORTED[module])[1]


def package_imports(module):
    "Exported modules that a module of this package imports, also inside functions"
    tree = ast.parse((ROOT/'carve_nb'/f'{module.replace(".", "/")}.py').read_text())
    folders = module.split('.')[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import): names = [o.name for o in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = ['carve_nb', *folders[:len(folders) - node.level + 1]] if node.level else []
            whole = '.'.join(base + [node.module]) if node.module else '.'.join(base)
            names = [whole, *(f'{whole}.{o.name}' for o in node.names)]
        else: continue
        yield from (o.removeprefix('carve_nb.') for o in names if o.removeprefix('carve_nb.') in EXPORTED)


@pytest.mark.parametrize('module', sorted(EXPORTED))
def test_imports_point_down(module):
    """Imports go one way: from a room to the rooms before it, inside a room (and the book) to lower numbers"""
    bad = {o for o in package_imports(module) if place(o) >= place(module)}
    assert not bad, f'{module} imports {sorted(bad)}; the order is {" < ".join(ROOMS)}'


def test_rooms():
    """A notebook lies where its module lies; the book has no folder"""
    for module, path in EXPORTED.items():
        folder = path.parent.relative_to(ROOT/'nbs').as_posix()
        assert folder == ('.' if room(module) == 'book' else room(module)), f'{path} exports to {module}'
    folders = {p.parent.relative_to(ROOT/'nbs').as_posix() for p in PATHS}
    assert folders == {'.', 'tutorials', 'explanations', *ROOMS} - {'book'}


def code_words(path):
    "Names and strings of a module, without comments and docstrings"
    tree = ast.parse(path.read_text())
    docs = {id(n.body[0].value) for n in ast.walk(tree) if isinstance(n, (ast.Module, ast.ClassDef, ast.FunctionDef))
            and n.body and isinstance(n.body[0], ast.Expr)}
    for n in ast.walk(tree):
        if isinstance(n, ast.Constant) and isinstance(n.value, str) and id(n) not in docs: yield n.value
        elif isinstance(n, ast.Name): yield n.id
        elif isinstance(n, ast.Attribute): yield n.attr
        elif isinstance(n, ast.alias): yield n.name
        elif isinstance(n, (ast.FunctionDef, ast.ClassDef)): yield n.name
        elif isinstance(n, ast.arg): yield n.arg
        elif isinstance(n, ast.keyword) and n.arg: yield n.arg
        elif isinstance(n, ast.ImportFrom) and n.module: yield n.module


@pytest.mark.parametrize('path', [pytest.param(p, id=p.stem) for p in MODULES if p.stem not in FAMILY_MAY])
def test_families_stay_home(path):
    "Model families are records in one notebook, families; no other code knows their names"
    found = {m[0].lower() for w in code_words(path) for m in FAMILY.finditer(w)}
    assert not found - OWN_MODEL.get(path.stem, set())
