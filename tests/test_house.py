"""What holds for every notebook and module: one notebook a module, imports that point down, and no path of a
machine. Style is ruff's (`make lint`) and a reader's."""

import json
import re
import anatomy
from processes import ROOT

PATHS = sorted(
    p for p in (ROOT / 'nbs').rglob('*.ipynb') if not any(o[0] in '._' for o in p.relative_to(ROOT).parts)
)
MODULES = sorted(p for p in (ROOT / 'carve_nb').rglob('*.py') if p.name[0] != '_')
# The module that imports all of its room, whose methods register themselves.
LAZY = {'method.base'}
MACHINE = re.compile(r'(?<![\w.:/-])/(work|root|home|tmp|Users|opt|usr|mnt|var)/')


def cells(path):
    return json.loads(path.read_text())['cells']


def source(cell):
    return ''.join(cell['source'])


def name(path):
    return '.'.join(path.relative_to(ROOT / 'carve_nb').with_suffix('').parts)


def room(module):
    return module.split('.')[0]


def test_one_notebook_one_module():
    "Each module comes from one notebook, which lies where the module lies"
    exported = [re.match(r'#\|\s*default_exp[: ]\s*([\w.]+)', source(c)) for p in PATHS for c in cells(p)]
    assert sorted(match[1] for match in exported if match) == sorted(map(name, MODULES))


def test_imports_point_down():
    "Rooms import from rooms before them, and reach none by a string"
    modules, wrong = set(map(name, MODULES)), []
    for path in MODULES:
        module = name(path)
        wrong += [
            f'{module} imports {o}'
            for o in anatomy.imported(path)
            if o in modules and anatomy.ROOMS.index(room(o)) > anatomy.ROOMS.index(room(module))
        ]
        if module not in LAZY and 'import_module(' in path.read_text():
            wrong += [f'{module} imports by a string']
    assert not wrong


def test_no_machine_path():
    "No notebook names a path of the machine on which it was run, in source or outputs"
    drawn = re.compile(r'data:image/[\w+]+;base64,[\w+/=\s]+')

    def texts(cell):
        yield source(cell)
        for o in cell.get('outputs', []):
            yield ''.join(o.get('text', ''))
            yield from (''.join(v) for k, v in o.get('data', {}).items() if not k.startswith('image/'))

    assert not [
        (p.name, m[0])
        for p in PATHS
        for c in cells(p)
        for t in texts(c)
        for m in MACHINE.finditer(drawn.sub('', t))
    ]
