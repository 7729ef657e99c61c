"""CARVE for vision-language models, as a literate package: find the spot that a question is about by
contrasting attention, look at it again, answer better. The formulas that the book explains lie in
`formulas`, the library in rooms.

One half looks: core, formulas, models, attention and method. The other measures and shows: data, runs, studies,
explorer and cli. Names are imported at their first use, so `import carve_nb` costs milliseconds and does not load
torch. The modules are exported from the notebooks in `nbs/`; the fronts of the package and its rooms, with their
stubs, and `__main__` are written by hand."""

import re
import sys
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

__version__ = "0.3.0"


def _front(package, folder):
    """Return `__all__`, the modules, `__getattr__` and `__dir__` of a package: the names in its stub, which type
    checkers and editors read too, and its modules, each imported when it is first asked for"""
    stub = Path(folder, '__init__.pyi').read_text(encoding='utf-8')
    where = {name: module for module, name in re.findall(r'^from \.(\w\S+) import (\w+)', stub, re.M)}
    modules = {module.name for module in iter_modules([folder]) if module.name[0] != '_'}

    def get(name):
        if name in modules:
            return import_module(f'{package}.{name}')
        if name not in where:
            raise AttributeError(f'module {package!r} has no attribute {name!r}')
        value = getattr(import_module(f'{package}.{where[name]}'), name)
        setattr(sys.modules[package], name, value)
        return value

    def names():
        own = (name for name in vars(sys.modules[package]) if name.startswith('__'))
        return sorted({*where, *modules, *own})

    return list(where), modules, get, names


__all__, _rooms, __getattr__, __dir__ = _front(__name__, __path__[0])
