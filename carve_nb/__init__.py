"""CARVE for vision-language models, as a literate package: find the spot that a question is about by contrasting
attention, look at it again, answer better.

Names are imported at their first use, so `import carve_nb` costs milliseconds and does not load torch. The modules are
exported from the notebooks in `nbs/`; this file is the only one that is written by hand."""

__version__ = "0.1.0"

_names = {
    'core.image': 'ImageError open_image overlay draw_boxes strip png_bytes',
    'complexity': 'Complexity texture colour',
    'data.scenes': 'Thing Query Scene Sample make_scene samples',
    'models.tiny_models': '',
    'models.image_tokens': '',
    'models.families': 'Family FAMILIES Span add_family family_table make_tiny_checkpoint',
    'models.attention_hook': '',
    'models.loading': '',
    'models.vlm': 'Prompt Answer GENERAL SHORT',
    'models.prefix_cache': '',
    'attention.capture': 'Rows recording',
    'training.curriculum': '',
    'attention.batching': 'VLM grad_rows',  # VLM: the class of vlm, with what capture and batch add to it
    'attention.memory': 'Memory estimate_memory peak_memory',
    'attention.low_memory': 'InsufficientMemoryError',
    'training.reference_vlm': '',
    'data.readers': '',
    'data.records': 'Record',
    'core.io': '',
    'core.text': '',
    'maps': 'Saliency pick_layers',
    'core.stats': 'Interval Estimate bootstrap mcnemar paired_test',
    'data.folders': 'Journal folder_samples read_records',
    'entropy': '',
    'convergence': 'profile_layers',
    'decomposition': 'contrast',
    'invariance': '',
    'regions': 'Region View regions magnify top_mask box_iou',
    'attention.results': 'Result Memo',
    'carve': 'Carve DirectAnswer RandomCrop CentreCrop QuestionOnly InstructionOnly Oracle',
    'ablation': '',
    'controls': 'RandomMap UniformMap ShuffledQuestion',
    'attention.intervention': 'Edit editing',
    'baselines.base': 'UnsupportedError CropMethod Guided check_method',
    'adaptive': 'CarveAuto calibrate',
    'baselines.registry': 'methods make_method',
    'data.metrics': '',
    'data.benchmarks': 'SETS',
    'data.datasets': 'DataSet load_benchmark',
    'data.scoring': 'score_answer',
    'models.api_client': 'Endpoint',
    'baselines.cross_model': 'CrossModelAnswer',
    'evaluation.scene_benchmark': 'Study score run_demo',
    'evaluation.config': 'limit_image_tokens',
    'evaluation.sample_evaluator': '',
    'evaluation.run_store': '',
    'studies.runner': 'STUDIES run_study',
    'evaluation.runner': 'run_eval',
    'evaluation.report': 'write_report',
    'evaluation.benchmark_cases': '',
    'evaluation.comparison': 'Comparison',
    'evaluation.benchmark': 'run_bench',
    'cli.options': '',
    'explorer.launch': '',
    'explorer.state': '',
    'explorer.plots': '',
    'explorer.vision_tower': '',
    'attention.head_importance': '',
    'explorer.widgets': '',
    'explorer.tabs': '',
    'explorer.app': '',
    'evaluation.distributed': '',
    'cli.main': '',
    'evaluation.lmms_eval': ''}
_rooms = {module.split('.')[0] for module in _names}
_where = {name: module for module, names in _names.items() for name in names.split()}
__all__ = list(_where)

def __getattr__(name):
    "Import a public name, or a module, when it is first asked for"
    from importlib import import_module
    if name in _rooms: return import_module(f'{__name__}.{name}')
    if name not in _where: raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    value = globals()[name] = getattr(import_module(f'{__name__}.{_where[name]}'), name)
    return value

def __dir__(): return sorted({*globals(), *_where, *_rooms})
