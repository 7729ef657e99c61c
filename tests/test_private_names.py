"Names of transformers and PyTorch that their makers have not promised to keep: all that we use, in one list."
import ast
import importlib
import pytest
import torch
import transformers
from processes import package_trees

PUBLIC = ('transformers.utils.logging', 'transformers.modeling_outputs.', 'safetensors.torch.',
    'torch.nn.Module', 'torch.nn.functional', 'torch.nn.utils.rnn.',
    'transformers.pipelines.PIPELINE_REGISTRY')   # of its guide to new pipelines
PRIVATE = {   # name -> where it is used, and what it does there
    'transformers.image_processing_utils.get_patch_output_size': 'models.image_tokens: where LLaVA-NeXT pads a canvas',
    'transformers.image_processing_utils.select_best_resolution': 'models.image_tokens: its canvas',
    'transformers.image_utils.ChannelDimension': 'models.image_tokens: an argument of the above',
    'transformers.masking_utils.ALL_MASK_ATTENTION_FUNCTIONS': 'models.kernel: the mask of the kernel in use',
    'transformers.modeling_utils.ALL_ATTENTION_FUNCTIONS': 'models.kernel: the kernel in use',
    'transformers.models.auto.modeling_auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES': 'models.families: types that the rule may read',
    'transformers.models.auto.processing_auto.PROCESSOR_MAPPING_NAMES': 'models.loading: the processor of a type',
    'transformers.vision_utils.get_vision_window_index': 'attention.masking, recipes.contrast: windows of Qwen2.5-VL',
    'transformers.PreTrainedConfig._attn_implementation': 'models.kernel: the name of the kernel in use',
    'torch.nn.attention.flex_attention.BlockMask': 'models.kernel: the mask of flex attention',
    'torch.nn.modules.module': 'models.identity: hooks on all modules, `_global_forward_hooks`',
    'torch.Tensor._version': 'testing: has a weight been changed in place?',
}
OWN = 'self', 'cls', 'os', 'box', 'x'   # what belongs to us, Python or ipywidgets


def find(name):
    "The object behind a dotted name; an error names the first part that is not there"
    parts = name.split('.')
    for i in range(len(parts) - 1, 0, -1):
        try: there = importlib.import_module('.'.join(parts[:i]))
        except ImportError: continue
        for part in parts[i:]:
            assert hasattr(there, part), f'{name}: there is no {part!r} in {there!r} any more'
            there = getattr(there, part)
        return there
    raise AssertionError(f'{name}: no module of this name any more')


def used_names():
    """Names of transformers and torch in the package that are imported from within, or begin with an
    underscore"""
    modules, marks = set(), set()
    for tree in package_trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module
                    or '').startswith(('transformers.', 'torch.')):
                modules |= {f'{node.module}.{a.name}' for a in node.names}
            if isinstance(node, ast.Attribute) and node.attr.startswith('_') and not node.attr.startswith(
                    '__'):
                if not (isinstance(node.value, ast.Name) and node.value.id in OWN): marks.add(node.attr)
            if isinstance(node, ast.Constant) and str(node.value).startswith('_scaled'): marks.add(node.value)
    return {m for m in modules if not m.startswith(PUBLIC)}, marks


@pytest.mark.parametrize('name', PRIVATE)
def test_still_there(name):
    if name == 'torch.Tensor._version': assert torch.ones(1)._version == 0
    else: find(name)


def test_nothing_else():
    "The list is whole, and holds nothing that is not used"
    modules, marks = used_names()
    listed = {n for n in PRIVATE if not n.split('.')[-1].startswith('_')}
    assert modules - listed == set() and listed - modules == set()
    known = {n.split('.')[-1] for n in PRIVATE}
    foreign = {m for m in marks if any(hasattr(o, m) for o in (transformers.PreTrainedConfig, torch.Tensor,
        torch.ops.aten))}
    assert foreign <= known, foreign - known


