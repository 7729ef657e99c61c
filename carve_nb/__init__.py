"""CARVE for vision-language models, as a literate package: find the spot that a question is about by contrasting
attention, look at it again, answer better.

Names are imported at their first use, so `import carve_nb` costs milliseconds and does not load torch. The modules are
exported from the notebooks in `nbs/`; this file is the only one that is written by hand."""

__version__ = "0.1.0"

_names = {
    'core.errors': 'ImageError InsufficientMemoryError UnsupportedError CarveError',
    'core.io': '',
    'core.image': 'open_image png_bytes',
    'core.plotting': 'overlay draw_boxes strip',
    'core.stats': 'Interval Estimate bootstrap mcnemar paired_test',
    'models.image_tokens': 'ImageSpan',
    'models.families': 'Family FAMILIES add_family family_table',
    'models.attention_hook': '',
    'models.loading': '',
    'models.vlm': 'Prompt Answer GENERAL_INSTRUCTION SHORT_ANSWER',
    'models.prefix_cache': '',
    'models.tiny_models': 'make_tiny_checkpoint',
    'models.api_client': 'Endpoint',
    'attention.capture': 'AttentionRows recording',
    'attention.batching': 'VLM grad_rows',
    'attention.memory': 'Memory estimate_memory peak_memory',
    'attention.low_memory': '',
    'attention.intervention': 'Edit editing',
    'attention.layer_masking': '',
    'attention.head_importance': '',
    'attention.vision_tower': '',
    'attention.cache': 'AttentionCache',
    'attention.results': 'Result',
    'data.scenes': 'SceneObject Query Scene Sample make_scene samples',
    'data.readers': '',
    'data.records': 'Record',
    'data.folders': 'RecordFile folder_samples read_records',
    'data.benchmarks': 'BENCHMARKS',
    'data.metrics': '',
    'data.scoring': 'score_answer',
    'data.datasets': 'DataSet load_benchmark',
    'training.curriculum': '',
    'training.reference_vlm': '',
    'complexity': 'Complexity texture colour',
    'maps': 'Saliency pick_layers',
    'entropy': '',
    'convergence': 'profile_layers',
    'decomposition': 'contrast',
    'regulariser': '',
    'invariance': '',
    'regions': 'Region View magnify top_mask box_iou',
    'carve': 'Carve',
    'controls': 'DirectAnswer RandomCrop CentreCrop QuestionOnly InstructionOnly Oracle RandomMap UniformMap ShuffledQuestion',
    'ablation': '',
    'adaptive': 'CarveAuto calibrate',
    'studies.runner': 'STUDIES run_study',
    'baselines.base': 'CropMethod DecodingMethod check_method',
    'baselines.box_search': '',
    'baselines.vicrop': '',
    'baselines.fusion_review': '',
    'baselines.vea': '',
    'baselines.attwarp': '',
    'baselines.external_crops': '',
    'baselines.vrga': '',
    'baselines.gift': '',
    'baselines.var': '',
    'baselines.vhr': '',
    'baselines.dual_stream': '',
    'baselines.vcd': '',
    'baselines.icd': '',
    'baselines.pai': '',
    'baselines.dola': '',
    'baselines.laser': '',
    'baselines.cross_model': 'CrossModelAnswer',
    'baselines.registry': 'methods make_method',
    'evaluation.scene_benchmark': 'Study score run_demo',
    'evaluation.config': 'limit_image_tokens',
    'evaluation.sample_evaluator': '',
    'evaluation.run_store': '',
    'evaluation.runner': 'run_eval',
    'evaluation.report': 'write_report',
    'evaluation.distributed': '',
    'evaluation.benchmark_cases': '',
    'evaluation.benchmark': 'run_bench',
    'evaluation.comparison': 'Comparison',
    'evaluation.lmms_eval': '',
    'explorer.state': '',
    'explorer.plots': '',
    'explorer.vision_tower': '',
    'explorer.background': '',
    'explorer.widgets': '',
    'explorer.tabs': '',
    'explorer.app': '',
    'explorer.launch': '',
    'cli.options': '',
    'cli.main': '',
}
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
