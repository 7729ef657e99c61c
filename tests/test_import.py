"The top level is light and lazy, and every name that it promises is there."

import ast
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from processes import python
import carve_nb

FRONTS = [getattr(carve_nb, name) for name in sorted(carve_nb._rooms - {'testing'})]


def run(code):
    return python('-c', code).strip()


def test_import_is_light():
    "The top level alone: of the package itself it loads what makes its names lazy, and no other library"
    loaded = run(
        'import sys; was = set(sys.modules); import carve_nb; '
        'print(*{o.split(".")[0] for o in set(sys.modules) - was if o.split(".")[0] not in sys.stdlib_module_names})'
    ).split()
    assert loaded == ['carve_nb']


def test_import_without_torch():
    modules = 'carve_nb.core.image, carve_nb.formulas.clutter, carve_nb.data.scenes'
    assert (
        run(f'import {modules}, sys; print([o for o in ("torch", "transformers") if o in sys.modules])')
        == '[]'
    )


def test_everything_resolves():
    "Public names, rooms and modules"
    for name in (*carve_nb.__all__, *carve_nb._rooms):
        assert getattr(carve_nb, name) is not None
    for m in walk_packages(carve_nb.__path__, 'carve_nb.'):
        if not m.name.endswith('__main__'):
            import_module(m.name)


def test_public_names_are_typed():
    "`make lint` checks a use of each"
    imports = [
        n
        for n in ast.walk(ast.parse((Path(__file__).parent / 'typed_user.py').read_text()))
        if isinstance(n, ast.ImportFrom)
    ]
    assert {a.name for n in imports if n.module == 'carve_nb' for a in n.names} == {*carve_nb.__all__}


def test_no_name_hides_a_module():
    "`carve_nb.method` must always be the module, whatever was imported before"
    assert not set(carve_nb.__all__) & carve_nb._rooms
    for room in FRONTS:
        assert not set(room.__all__) & room._modules, room


def test_fronts_of_rooms():
    "Each room offers the names in its stub, which are also those of the top level, and loads nothing before it is asked"
    for room in FRONTS:
        for name in room.__all__:
            assert getattr(room, name) is not None
        for name in {*room.__all__} & {*carve_nb.__all__}:
            assert getattr(room, name) is getattr(carve_nb, name)
    code = 'import carve_nb.method as room, sys; assert "Carve" in dir(room); print("torch" in sys.modules, room.Carve.__module__)'
    assert run(code) == 'False carve_nb.method.carve'
