"""CARVE for vision-language models, as a literate package: find the spot that a question is about by contrasting
attention, look at it again, answer better. The formulas that the book explains lie in `formulas`, the library in rooms.

Names are imported at their first use, so `import carve_nb` costs milliseconds and does not load torch. The modules are
exported from the notebooks in `nbs/`; this file and `__main__` are the only ones that are written by hand."""

from importlib import import_module
from pkgutil import iter_modules

__version__ = "0.2.0"

_names = {
    'core.errors': 'ImageError InsufficientMemoryError UnsupportedError CarveError',
    'core.image': 'open_image',
    'models.families': 'Family add_family',
    'models.prompts': 'Prompt',
    'models.vlm': 'Answer',
    'models.api_client': 'Endpoint',
    'attention.stock_recording': 'record_attention',
    'attention.rows': 'AttentionRows',
    'attention.capture': 'VLM',
    'attention.intervention': 'Edit',
    'method.results': 'Result',
    'data.scenes': 'Scene make_scene',
    'data.datasets': 'load_benchmark',
    'formulas.complexity': 'Complexity',
    'core.saliency': 'Saliency',
    'formulas.regions': 'Region',
    'method.view': 'View',
    'method.carve': 'Carve RegionRule ViewRule ReadingRule',
    'method.auto': 'CarveAuto',
    'method.lookup': 'Lookup',
    'studies.profile': 'profile_model',
    'studies.runner': 'run_study',
    'method.base': 'check_method',
    'method.registry': 'methods make_method add_method ask_several ask_video',
    'method.stock_models': 'editing CarvePipeline',
    'runs.runner': 'limit_image_tokens run_eval',
    'runs.demo': 'run_demo bench',
    'explorer.app': 'explore',
}
_where = {name: module for module, names in _names.items() for name in names.split()}
_rooms = {m.name for m in iter_modules(__path__) if m.name[0] != '_'}
# What 0.1 had here too, and is imported from its module now.
_inside = {
    'core.image': 'png_bytes box_iou',
    'core.plotting': 'overlay draw_boxes strip',
    'core.stats': 'Estimate mean_interval mcnemar paired_test',
    'models.image_tokens': 'ImageSpan',
    'models.families': 'FAMILIES',
    'models.prompts': 'GENERAL_INSTRUCTION SHORT_ANSWER',
    'models.video': 'Video open_video',
    'attention.capture': 'recording',
    'attention.intervention': 'applying grad_rows',
    'attention.cache': 'AttentionCache',
    'data.drawing': 'SceneObject',
    'data.questions': 'Query',
    'data.scenes': 'samples',
    'data.records': 'Record',
    'runs.store': 'RunStore read_records read_run',
    'data.scoring': 'score_answer',
    'data.datasets': 'DataSet BENCHMARKS',
    'formulas.complexity': 'texture colour',
    'core.saliency': 'pick_layers',
    'method.profiles': 'profile_layers',
    'formulas.product': 'contrast',
    'formulas.regions': 'top_mask',
    'method.view': 'magnify',
    'method.controls': 'DirectAnswer RandomCrop CentreCrop QuestionOnly InstructionOnly Oracle '
                          'RandomMap UniformMap ShuffledQuestion',
    'studies.runner': 'STUDIES',
    'method.base': 'CropMethod DecodingMethod',
    'method.cross_model': 'CrossModelAnswer',
    'runs.report': 'Report write_report',
    'runs.demo': 'peak_memory',
}
# What went with a version: its old name, and in one sentence where it went.
_gone = {
    'Interval': '`from carve_nb.core.stats import Estimate` is the one class for a number with its interval.',
    'Sample': '`from carve_nb.data.records import Record`, the one class for a question with its picture, took its place.',
    'load_comparison': '`from recipes.all_methods import load_comparison` reads a comparison, in a clone of the repository.',
    'family_table': '`carve families` shows the table, `family_rows` of `carve_nb.models.families` gives its rows.',
    'make_tiny_checkpoint': '`from recipes.tiny_models import make_tiny_checkpoint` makes one, in a clone of the repository.',
    'load_demo': '`Report.load(FOLDER)` of `carve_nb.runs.report` reads a demo, which is a run.',
    'folder_samples': '`load_benchmark(FOLDER)` gives its records, and `.opened()` one with its picture in memory.',
    'score': '`score_answer(answer, record)` of `carve_nb.data.scoring` scores by the rule of a `Record`, also of a scene.',
    'run_bench': '`bench(vlm, image, question)` measures a model; the experiment is tools/side_by_side.py of the repository.',
    'estimate_memory': 'nothing forecasts memory any more; `peak_memory` of `carve_nb.runs.demo` measures a call.',
    'calibrate': '`profile_model` chooses row and layers, `add_thresholds` of `carve_nb.studies.profile` thresholds.',
}
_gone |= {n: f'from carve_nb.{module} import {n}' for module, names in _inside.items() for n in names.split()}
__all__ = list(_where)

def __getattr__(name):
    "Import a public name, or a module, when it is first asked for"
    if name in _rooms: return import_module(f'{__name__}.{name}')
    # An AttributeError would lose its sentence in `from carve_nb import name`.
    if name in _gone: raise ImportError(f'{name}: {_gone[name]}', name=__name__)
    if name not in _where: raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    value = globals()[name] = getattr(import_module(f'{__name__}.{_where[name]}'), name)
    return value

def __dir__(): return sorted({*globals(), *_where, *_rooms})
