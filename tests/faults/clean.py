"What a block could leave behind in a model, in this process and in its memory"
import contextlib
import contextvars
import functools
import gc
import importlib
import pkgutil
import random
import threading
import warnings
import numpy as np
import torch
import transformers
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
import carve_nb
from carve_nb.attention.edits import decoder_layers
from carve_nb.models import model as model_module

STOCK = 'eager', 'sdpa', 'flash_attention_2', 'flex_attention'


@contextlib.contextmanager
def count_passes(vlm):
    "A list that grows with every pass through the decoder or the vision tower"
    seen, parts = [], [decoder_layers(vlm.model)[0]]
    parts += [m for n, m in vlm.model.named_modules() if n.rpartition('.')[2] in ('vision_tower', 'visual',
        'vision_model', 'vision_encoder')]
    handles = [m.register_forward_pre_hook(lambda *a: seen.append(1)) for m in parts]
    try: yield seen
    finally:
        for h in handles: h.remove()


def special_and_image(vlm, prompt):
    "Which positions are the image's, which tokens of the prompt are special, and the spans"
    ids, tok = prompt.inputs['input_ids'][0], vlm.tokenizer
    special = set(tok.all_special_ids) | {i for i, t in tok.added_tokens_decoder.items() if t.special}
    return ((ids == vlm.model.config.image_token_id).nonzero()[:, 0].tolist(),
        [i for i in ids.tolist() if i in special], repr(prompt.spans))


def plain(v):
    "A value as it can be compared"
    if torch.is_tensor(v):
        return ('tensor', tuple(v.shape), v.dtype,
            v.detach().cpu().tolist() if v.numel() < 100 else v.data_ptr())
    return v if v is None or isinstance(v, (int, float, str, bool)) else (type(v).__name__, id(v))


@functools.cache
def context_variables():
    "Those that modules of the package made"
    names = [m.name for m in pkgutil.walk_packages(carve_nb.__path__, 'carve_nb.')]
    mods = [importlib.import_module(n) for n in names if n.rpartition('.')[2] in ('kernel',)]
    return [*{id(v): v for m in mods
        for v in vars(m).values() if isinstance(v, contextvars.ContextVar)}.values()]


def lock_is_free(model):
    "Could another thread take its turn?"
    lock, free = model_module._locks.get(model), []
    if lock is None: return True
    def take():
        if lock.acquire(timeout=1):
            free.append(1)
            lock.release()
    t = threading.Thread(target=take)
    t.start(), t.join()
    return bool(free)


def snapshot(vlm):
    """Everything of a model that is not a value of its weights, by name; and of this process what belongs to
    it"""
    model, found = vlm.model, {}
    for name, m in model.named_modules():
        own = vars(m)
        found[name, 'hooks'] = {k: [(i, id(f)) for i, f in d.items()] for k,
            d in own.items() if 'hooks' in k and hasattr(d, 'items') and d}
        found[name, 'own'] = {k: plain(v) for k, v in own.items() if not k.startswith('_')
            and not hasattr(v, '_attn_implementation')}
        found[name, 'parts'] = [(k, id(v)) for k, v in own['_modules'].items()]
        found[name, 'parameters'] = [(k, id(p), p.data_ptr(), p._version, p.requires_grad, p.grad is None)
            for k,
            p in own['_parameters'].items() if p is not None]
        found[name, 'buffers'] = [(k, b.data_ptr(), b._version)
            for k, b in own['_buffers'].items() if b is not None]
        if hasattr(m, 'config'): found[name, 'kernel'] = m.config._attn_implementation
    config = model.config
    found['kernels'] = [getattr(c, '_attn_implementation', None)
        for c in (config, config.get_text_config(), getattr(config, 'vision_config', None),
        getattr(config, 'qformer_config', None))]
    found['registry'] = [(k, id(r[k])) for r in (ALL_ATTENTION_FUNCTIONS, ALL_MASK_ATTENTION_FUNCTIONS)
        for k in STOCK
        if k in r]
    found['lock'] = lock_is_free(model)
    found['context'] = {v.name: v.get(None) or None for v in context_variables()}   # empty is as unset
    found['vlm'] = {k: plain(v) for k, v in vars(vlm).items()}
    found['generation'], found['config'] = model.generation_config.to_dict(), config.to_json_string()
    found['gradients'], found['threads'] = torch.is_grad_enabled(), torch.get_num_threads()
    found['chance'] = hash((torch.random.get_rng_state().numpy().tobytes(),
        np.random.get_state()[1].tobytes(),
        random.getstate()))
    found['log'] = transformers.utils.logging.get_verbosity()
    return found


def differences(before, after):
    "What is not as before, by name"
    return {k: (before.get(k), after.get(k)) for k in {**before, **after} if before.get(k) != after.get(k)}


def tensor_bytes():
    "Bytes of all tensors that are alive"
    gc.collect()
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')   # of objects that only look like tensors
        there = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in gc.get_objects()
                 # a FakeTensor has no storage
                 if type(t) in (torch.Tensor, torch.nn.Parameter) and not t.is_meta}
    return sum(there.values())
