"""CARVE for vision-language models, as a literate package: find the spot that a question is about by contrasting
attention, look at it again, answer better.

Names are imported at their first use, so `import carve_nb` costs milliseconds and does not load torch. The modules are
exported from the notebooks in `nbs/`; this file is the only one that is written by hand."""

__version__ = "0.1.0"

_names = {
    'image': 'ImageError open_image overlay draw_boxes strip png_bytes',
    'complexity': 'Complexity texture colour',
    'scenes': 'Thing Query Scene Sample make_scene samples',
    'tiny': '',
    'spans': '',
    'families': 'Family FAMILIES Span add_family family_table tiny_folder',
    'kernel': '',
    'load': '',
    'vlm': 'Prompt Answer GENERAL SHORT',
    'prefix': '',
    'capture': 'Rows recording',
    'lessons': '',
    'batch': 'VLM grad_rows',  # VLM: the class of vlm, with what capture and batch add to it
    'memory': 'Memory estimate_memory peak_memory',
    'lean': 'MemoryShort',
    'reference': '',
    'tables': '',
    'records': 'Record',
    'files': '',
    'text': '',
    'maps': 'Saliency pick_layers',
    'statistics': 'Interval Estimate bootstrap mcnemar paired_test',
    'data': 'Journal folder_samples read_records',
    'entropy': '',
    'convergence': 'profile_layers',
    'decomposition': 'contrast',
    'constancy': '',
    'region': 'Region View regions magnify top_mask box_iou',
    'result': 'Result Memo',
    'carve': 'Carve NoMethod RandomCrop CentreCrop TaskMap GeneralMap Oracle',
    'ablation': '',
    'controls': 'RandomMap UniformMap ShuffledQuestion',
    'edit': 'Edit editing',
    'peer': 'PeerError SecondView Guided check_method',
    'auto': 'CarveAuto calibrate',
    'registry': 'methods make_method',
    'answers': '',
    'layouts': 'SETS',
    'sets': 'DataSet open_set',
    'scores': 'score_answer',
    'endpoint': 'Endpoint',
    'remote': 'AnswerThere',
    'evaluate': 'Study score run_demo',
    'plan': 'few_tokens',
    'worker': '',
    'ledger': '',
    'study': 'STUDIES run_study',
    'run': 'run_eval',
    'report': 'write_report',
    'cases': '',
    'compare': 'Comparison',
    'bench': 'run_bench',
    'options': '',
    'app': '',
    'shown': '',
    'panels': '',
    'patches': '',
    'jobs': '',
    'dials': '',
    'tabs': '',
    'explore': '',
    'scale': '',
    'cli': '',
    'lmms': ''}
_where = {name: module for module, names in _names.items() for name in names.split()}
__all__ = list(_where)

def __getattr__(name):
    "Import a public name, or a module, when it is first asked for"
    from importlib import import_module
    if name in _names: return import_module(f'{__name__}.{name}')
    if name not in _where: raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    value = globals()[name] = getattr(import_module(f'{__name__}.{_where[name]}'), name)
    return value

def __dir__(): return sorted({*globals(), *_where, *_names})
