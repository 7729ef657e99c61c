"""CARVE for vision-language models, as a literate package: find the spot that a question is about by contrasting
attention, look at it again, answer better. The formulas that the book explains lie in `formulas`, the library in rooms.

Names are imported at their first use, so `import carve_nb` costs milliseconds and does not load torch. The modules are
exported from the notebooks in `nbs/`; this file and `__main__` are the only ones that are written by hand."""

from importlib import import_module
from pkgutil import iter_modules

__version__ = "0.3.0"

_names = {
    'core.errors': 'ImageError InsufficientMemoryError UnsupportedError CarveError',
    'core.image': 'open_image',
    'models.families': 'Family add_family',
    'models.prompts': 'Prompt remember',
    'models.model': 'Answer',
    'models.api_client': 'Endpoint',
    'attention.stock_recording': 'record_attention',
    'attention.rows': 'AttentionRows',
    'attention.vlm': 'VLM',
    'attention.intervention': 'Edit',
    'method.results': 'Result',
    'data.scenes': 'Scene make_scene',
    'data.datasets': 'load_benchmark',
    'formulas.clutter': 'Complexity',
    'core.saliency': 'Saliency',
    'formulas.threshold': 'Region',
    'method.settings': 'Crop',
    'method.carve': 'Carve',
    'method.auto': 'CarveAuto',
    'method.lookup': 'Lookup',
    'studies.profile': 'profile_model',
    'studies.entropy': 'measure_entropy',
    'studies.layers': 'measure_layers',
    'studies.masking': 'measure_masking',
    'testing': 'check_method',
    'method.registry': 'methods make_method',
    'method.wrappers': 'ask_several ask_video',
    'method.stock_models': 'editing',
    'runs.runner': 'run_eval',
    'runs.demo': 'run_demo',
    'explorer.app': 'explore',
}
_where = {name: module for module, names in _names.items() for name in names.split()}
_rooms = {m.name for m in iter_modules(__path__) if m.name[0] != '_'}
__all__ = list(_where)

def __getattr__(name):
    "Import a public name, or a module, when it is first asked for"
    if name in _rooms: return import_module(f'{__name__}.{name}')
    if name not in _where: raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    value = globals()[name] = getattr(import_module(f'{__name__}.{_where[name]}'), name)
    return value

def __dir__(): return sorted({*globals(), *_where, *_rooms})
