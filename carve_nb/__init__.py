"""CARVE for vision-language models, as a literate package: find the spot that a question is about by
contrasting attention, look at it again, answer better. The formulas that the book explains lie in
`formulas`, the library in rooms.

Names are imported at their first use, so `import carve_nb` costs milliseconds and does not load torch.
The modules are exported from the notebooks in `nbs/`; this file, its stub and `__main__` are the only
ones that are written by hand."""

import re
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

__version__ = "0.3.0"

# name -> module, as the stub beside this file has them, which type checkers and editors read too
_stub = Path(__file__).with_suffix('.pyi').read_text(encoding='utf-8')
_where = {name: module for module, name in re.findall(r'^from \.(\w\S+) import (\w+)', _stub, re.M)}
_rooms = {module.name for module in iter_modules(__path__) if module.name[0] != '_'}
__all__ = list(_where)

def __getattr__(name):
    "Import a public name, or a module, when it is first asked for"
    if name in _rooms: return import_module(f'{__name__}.{name}')
    if name not in _where: raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    value = globals()[name] = getattr(import_module(f'{__name__}.{_where[name]}'), name)
    return value

def __dir__(): return sorted({*_where, *_rooms, *(name for name in globals() if name.startswith('__'))})
