"What a block could leave behind in a model, in this process and in its memory"

import contextlib
import gc
import threading
import warnings
import torch
from carve_nb.attention.edits import decoder_layers
from carve_nb.models import model as model_module
from carve_nb.models.kernel import open_hooks
from carve_nb.testing import traces


@contextlib.contextmanager
def count_passes(vlm):
    "A list that grows with every pass through the decoder or the vision tower"
    passes, parts = [], [decoder_layers(vlm.model)[0]]
    parts += [
        m
        for n, m in vlm.model.named_modules()
        if n.rpartition('.')[2] in ('vision_tower', 'visual', 'vision_model', 'vision_encoder')
    ]
    handles = [m.register_forward_pre_hook(lambda *a: passes.append(1)) for m in parts]
    try:
        yield passes
    finally:
        for h in handles:
            h.remove()


def special_and_image(vlm, prompt):
    "Which positions are the image's, which tokens of the prompt are special, and the spans"
    ids, tok = prompt.inputs['input_ids'][0], vlm.tokenizer
    special = set(tok.all_special_ids) | {i for i, t in tok.added_tokens_decoder.items() if t.special}
    return (
        (ids == vlm.model.config.image_token_id).nonzero()[:, 0].tolist(),
        [i for i in ids.tolist() if i in special],
        repr(prompt.spans),
    )


def lock_is_free(model):
    "Could another thread take its turn?"
    lock, free = model_module._locks.get(model), []
    if lock is None:
        return True

    def take():
        if lock.acquire(timeout=1):
            free.append(1)
            lock.release()

    t = threading.Thread(target=take)
    t.start(), t.join()
    return bool(free)


def state(vlm):
    "What a block could leave behind: the traces of a method, open hooks, a lock that is held"
    return traces(vlm) | dict(open=open_hooks.get(), free=lock_is_free(vlm.model))


def tensor_bytes():
    "Bytes of all tensors that are alive"
    gc.collect()
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # of objects that only look like tensors
        storages = {
            t.untyped_storage().data_ptr(): t.untyped_storage().nbytes()
            for t in gc.get_objects()
            # a FakeTensor has no storage
            if type(t) in (torch.Tensor, torch.nn.Parameter) and not t.is_meta
        }
    return sum(storages.values())
