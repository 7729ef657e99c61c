"""Which changes of a user's model give another fingerprint, and which do not; and that the beginning of a
prompt, read before, never changes an answer."""

import shutil
import threading
import time
import pytest
import torch
from tiny import QUESTION, WIDE, refuse
from carve_nb import VLM, Carve, record_attention
from carve_nb.attention.edits import Edit, applying
from carve_nb.models.checkpoints import same_logits
from carve_nb.models.model import model_lock
from carve_nb.runs.runner import run_eval

pytestmark = pytest.mark.filterwarnings('ignore::UserWarning')


@pytest.fixture
def vlm(folders):
    return VLM.from_pretrained(folders('llava'))


def changed(before: dict, vlm: VLM) -> set[str]:
    "Names of the parts of a fingerprint that are others now"
    vlm.forget()
    after = vlm.fingerprint.record()
    names = {k for k, v in before['parts'].items() if after['parts'][k] != v}
    names |= {k for k in ('weights', 'dtype') if before[k] != after[k]}
    return names if same_logits(before['probe'], after['probe'], after['dtype']) else names | {'probe'}


# -- changes


def layers(vlm):
    return vlm.model.model.language_model.layers


def attention(vlm):
    return layers(vlm)[1].self_attn


def switch_adapter(vlm):
    import peft

    torch.manual_seed(0)
    config = peft.LoraConfig(target_modules=['q_proj', 'v_proj'], r=2, init_lora_weights=False)
    adapted = peft.get_peft_model(vlm.model, config)
    vlm.forget()
    before = vlm.fingerprint.record()
    adapted.base_model.disable_adapter_layers()
    return before


def double(module, args, out):
    return (2 * out[0], *out[1:]) if isinstance(out, tuple) else 2 * out


def put(where, name, value):
    "Set an attribute of a part of the model"
    return lambda vlm, patch: patch.setattr(where(vlm), name, value)


def rare_word(vlm, patch):
    with torch.no_grad():
        vlm.model.get_input_embeddings().weight[-1] += 0.01


def image_processor(vlm):
    return vlm.processor.image_processor


CHANGES = dict(  # name -> (change, one part that must be another)
    tokenizer=(lambda vlm, patch: vlm.tokenizer.add_tokens(['<new>']), 'tokenizer'),
    scaling=(put(lambda vlm: attention(vlm), 'scaling', 1.0), 'probe'),
    hook=(lambda vlm, patch: layers(vlm)[1].register_forward_hook(double), 'probe'),
    processor=(lambda vlm, patch: setattr(image_processor(vlm), 'image_mean', [0.1, 0.1, 0.1]), 'processor'),
    template=(
        lambda vlm, patch: setattr(vlm.processor, 'chat_template', f'So. {vlm.processor.chat_template}'),
        'chat_template',
    ),
    configuration=(
        lambda vlm, patch: setattr(vlm.model.config, 'question_suffix', 'Briefly.'),
        'configuration',
    ),
    rare_word=(rare_word, 'weights'),
    adapter=(lambda vlm, patch: switch_adapter(vlm), 'adapters'),
    dtype=(lambda vlm, patch: vlm.model.half(), 'dtype'),
)


@pytest.mark.filterwarnings('ignore:`is_gradient_checkpointing`:FutureWarning')  # of peft
@pytest.mark.parametrize('name', CHANGES)
def test_another_model(name, vlm, monkeypatch):
    "The fingerprint says which part is another"
    change, part = CHANGES[name]
    before = vlm.fingerprint.record()
    started = change(vlm, monkeypatch)
    parts = changed(started if isinstance(started, dict) else before, vlm)
    assert part in parts, parts


def ask(vlm):
    return vlm.ask(WIDE, QUESTION, max_new_tokens=3), Carve(max_new_tokens=2)(vlm, WIDE, QUESTION)


def in_a_block(vlm):
    inputs = vlm.prompt(WIDE, QUESTION).inputs
    with record_attention(vlm.model, vlm.processor, inputs, [WIDE]):
        vlm.model(**inputs)


def in_an_edit(vlm):
    "Read first while an edit is open, it is not that of the edit"
    plain = vlm.fingerprint.record()
    vlm.forget()
    with applying(vlm, Edit([1], heads=lambda layer, out, rows: 0 * out)):
        assert vlm.fingerprint.record() == plain
        vlm.ask(WIDE, QUESTION, max_new_tokens=1)


SAME = dict(
    asked=ask,
    block=in_a_block,
    edit=in_an_edit,
    train=lambda vlm: vlm.model.train(),
    threads=lambda vlm: torch.set_num_threads(2),
    kernel=lambda vlm: vlm.model.set_attn_implementation('eager'),
)


@pytest.mark.parametrize('name', SAME)
def test_the_same_model(name, vlm):
    before = vlm.fingerprint.record()
    threads = torch.get_num_threads()
    try:
        SAME[name](vlm)
        assert not changed(before, vlm)
    finally:
        torch.set_num_threads(threads)


def test_a_moved_folder(folders, tmp_path):
    "The same model at another path has the same fingerprint, so its runs go on"
    shutil.copytree(folders('llava'), tmp_path / 'moved')
    original, moved = (
        VLM.from_pretrained(path).fingerprint for path in (folders('llava'), tmp_path / 'moved')
    )
    assert (original.weights, original.parts) == (moved.weights, moved.parts)


# -- prompts that are read in two parts


def hooked(vlm, hook):
    layers(vlm)[1].register_forward_hook(hook)
    return vlm


# -- runs


def test_a_run_is_not_resumed_over_another_model(vlm, tmp_path):
    "The refusal names the part; over the same model, asked in between, a run goes on"

    def go(n):
        return run_eval('scenes', vlm, ('none',), n=n, out=tmp_path, max_new_tokens=2, progress=False)

    go(2)
    ask(vlm)
    go(3)
    hooked(vlm, double)
    refuse('holds another run: .*probe is', lambda: go(4))


def test_two_threads_ask_for_the_proof(vlm):
    "One that has the model is not kept waiting by one that waits for it"
    other = threading.Thread(target=lambda: vlm.fingerprint.probe, daemon=True)

    def first():
        with model_lock(vlm.model):
            other.start()
            time.sleep(0.3)
            assert vlm.fingerprint.probe and not vlm.fingerprint.why_not_shared

    one = threading.Thread(target=first, daemon=True)
    one.start()
    one.join(30)
    other.join(30)
    assert not one.is_alive() and not other.is_alive()
