"""The beginning of prompts is read once, and never changes an answer or a row: where a pass of the model depends on more
than its tokens, each prompt is read whole, and a note says so."""

from functools import partial
import pytest
import torch
from tiny import QUESTION, WIDE
from transformers.models.qwen2_5_vl import modeling_qwen2_5_vl as qwen
from carve_nb import VLM, Carve, Lookup
from carve_nb.attention.session import Session
from carve_nb.models.identity import Fingerprint
from carve_nb.models.prompts import Ask

pytestmark = pytest.mark.filterwarnings('ignore::UserWarning')
METHODS = Carve(max_new_tokens=4), Lookup(query='last', max_new_tokens=4)
LONG = f'{QUESTION} ' * 4


def layer(vlm):
    return vlm.model.model.language_model.layers[1]


def less_mean(out, over):
    return out - 0.5 * out.mean(1, keepdim=True) if out.shape[1] > over else out


def by_length(over):
    "A forward of a decoder layer that acts in passes of more than so many tokens"
    stock = qwen.Qwen2_5_VLDecoderLayer.forward

    def forward(self, *args, **kw):
        return less_mean(stock(self, *args, **kw), over)

    return forward


def onto(bind):
    "Set a forward of one's own on a module"
    return lambda vlm, patch: patch.setattr(
        layer(vlm), 'forward', bind(by_length(60), layer(vlm)), raising=False
    )


def own_class(vlm, patch):
    layer(vlm).__class__ = type('Mine', (type(layer(vlm)),), dict(forward=by_length(40)))


def hook(vlm, patch):
    layer(vlm).register_forward_hook(lambda module, args, out: less_mean(out, 1))


def every_module(vlm, patch):
    "A hook on all modules of all models"

    def halve(module, args, out):
        return less_mean(out, 1) if module is layer(vlm) else None

    handle = torch.nn.modules.module.register_module_forward_hook(halve)
    patch.callback(handle.remove)


def int8(vlm, patch):
    torch.ao.quantization.quantize_dynamic(vlm.model, {torch.nn.Linear}, inplace=True)


def rope(vlm, patch):
    "Positions that change after 80 tokens, put into a loaded model"
    half = vlm.text_config.hidden_size // vlm.text_config.num_attention_heads // 2
    patch.setattr(
        vlm.text_config,
        'rope_parameters',
        dict(
            vlm.text_config.rope_parameters,
            rope_type='longrope',
            short_factor=[1.0] * half,
            long_factor=[4.0] * half,
            original_max_position_embeddings=80,
            factor=25.0,
        ),
    )
    vlm.model.model.language_model.rotary_emb = qwen.Qwen2_5_VLRotaryEmbedding(vlm.text_config)


CHANGES = dict(
    hook=hook,
    every_module=every_module,
    int8=int8,
    rope=rope,
    own_class=own_class,
    function=onto(partial),
    class_of_layers=lambda vlm, patch: patch.setattr(qwen.Qwen2_5_VLDecoderLayer, 'forward', by_length(60)),
)


def answered_as_whole(vlm, question=QUESTION):
    "The notes of two methods, whose answers and rows are those of the same prompt read whole"
    notes = []
    for method in METHODS:
        result = method(vlm, WIDE, question)
        whole = vlm.forward(vlm.prompt(WIDE, question, method.suffix), steps='all', max_new_tokens=4)
        assert result.plain_answer.tokens == whole.answer.tokens
        assert torch.allclose(result.rows.attn[0], whole.attn[0, result.rows.layers], atol=1e-5)
        notes.append([note for note in result.notes if note.startswith('every prompt is read whole')])
    return notes


# -- code that is no `forward` and no hook, and acts on long prompts alone

OVER = 420  # tokens of the passes in which it acts
LONGER = f'{QUESTION} ' * 80


def own_model_hook(vlm, patch):
    "A hook of accelerate's kind"
    from accelerate.hooks import ModelHook, add_hook_to_module

    class Mine(ModelHook):
        def post_forward(self, module, out):
            return less_mean(out, OVER)

    add_hook_to_module(layer(vlm), Mine())


def own_activation(vlm, patch):
    stock = layer(vlm).mlp.act_fn
    del layer(vlm).mlp.act_fn  # torch lets no function take a module's place
    layer(vlm).mlp.act_fn = lambda x: less_mean(stock(x), OVER)


def own_rotation(vlm, patch):
    "Rotary positions, replaced in the modeling file"
    stock = qwen.apply_rotary_pos_emb

    def rotated(q, k, *args, **kw):
        q, k = stock(q, k, *args, **kw)
        return (1.5 * q, k) if q.shape[2] > OVER else (q, k)

    patch.setattr(qwen, 'apply_rotary_pos_emb', rotated)


def own_positions(vlm, patch):
    stock = vlm.model.model.get_rope_index

    def positions(input_ids, *args, **kw):
        places, offset = stock(input_ids, *args, **kw)
        return (places // 2 if input_ids.shape[1] > OVER else places), offset

    patch.setattr(vlm.model.model, 'get_rope_index', positions)


def own_embedding(vlm, patch):
    words = vlm.model.get_input_embeddings()
    words.__class__ = type(
        'Mine',
        (type(words),),
        dict(__call__=lambda self, ids: less_mean(torch.nn.Module.__call__(self, ids), OVER)),
    )


OWN = own_model_hook, own_activation, own_rotation, own_positions, own_embedding


@pytest.mark.parametrize('change', OWN, ids=[change.__name__ for change in OWN])
def test_sharing_is_proven_at_the_length_that_is_shared(change, folders, monkeypatch):
    "A short prompt, on which the code does not act, is shared; a long one is read whole, with a note"
    vlm = VLM.from_pretrained(folders('qwen2_5_vl'))
    change(vlm, monkeypatch)
    assert answered_as_whole(vlm) == [[], []]
    assert [len(notes) for notes in answered_as_whole(vlm, LONGER)] == [1, 1]


def test_one_proof_for_prompts_that_are_not_longer(folders, monkeypatch):
    "Ten questions about one image cost one proof, and prompts an eighth longer another"
    vlm, lengths = VLM.from_pretrained(folders('qwen2_5_vl')), []
    prove = Fingerprint.prove_sharing
    monkeypatch.setattr(
        Fingerprint,
        'prove_sharing',
        lambda self, prompt, prefixes: lengths.append(len(prompt)) or prove(self, prompt, prefixes),
    )
    session = Session(vlm)
    for i in range(10):
        session.ask(Ask((WIDE,), f'{QUESTION} {i}', max_new_tokens=1))
    session.ask(Ask((WIDE,), f'{QUESTION} ' * 10, max_new_tokens=1))
    assert len(lengths) == 2 and lengths[1] > lengths[0] * 9 // 8


class Patches:
    "What is set for one case and put back"

    def __init__(self, monkeypatch):
        self.setattr, self.undo = monkeypatch.setattr, []

    def callback(self, undo):
        self.undo.append(undo)


@pytest.mark.parametrize('name', CHANGES)
def test_a_change_between_two_questions(name, folders, monkeypatch):
    vlm = VLM.from_pretrained(folders('qwen2_5_vl'))
    assert answered_as_whole(vlm) == [[], []]
    patches = Patches(monkeypatch)
    CHANGES[name](vlm, patches)
    try:
        for question in QUESTION, LONG:
            notes = answered_as_whole(vlm, question)
        assert [len(each) for each in notes] == [1, 1]
    finally:
        [undo() for undo in patches.undo]


def offloaded(vlm):
    "accelerate puts a forward of its own on the modules"
    import accelerate

    accelerate.cpu_offload(vlm.model, execution_device=torch.device('cpu'))
    assert sum('forward' in vars(module) for module in vlm.model.modules()) > 50
    return vlm


def stock_function(vlm):
    "A `partial` of a function without code, as an activation is stored"
    layer(vlm).act = partial(torch._C._nn.gelu, approximate='tanh')
    return vlm


STOCK = dict(
    plain=lambda vlm: vlm,
    offloaded=offloaded,
    stock_function=stock_function,
    copied=lambda vlm: VLM(vlm.model, vlm.processor),
)


@pytest.mark.parametrize('name', STOCK)
def test_stock_code_is_shared(name, folders):
    "A second question goes on from what the first has read, also where code of a library runs in a pass"
    vlm = STOCK[name](VLM.from_pretrained(folders('qwen2_5_vl')))
    assert answered_as_whole(vlm) == [[], []]
    session = Session(vlm)
    for question in QUESTION, 'Is it red?':
        METHODS[0](session, WIDE, question)
    assert session.prefixes.hits


@pytest.mark.filterwarnings('ignore:`is_gradient_checkpointing`:FutureWarning')  # of peft
def test_adapters_of_a_session(folders):
    "A session that has answered under one adapter reads the image and answers anew under another, or without"
    import peft

    vlm = VLM.from_pretrained(folders('qwen2_5_vl'))
    config = partial(peft.LoraConfig, target_modules=['q_proj', 'v_proj'], r=4, init_lora_weights=False)
    torch.manual_seed(0)
    adapted = peft.get_peft_model(vlm.model, config(), 'first')
    adapted.add_adapter('second', config())
    vlm = VLM(adapted, vlm.processor)
    session, tokens = Session(vlm), []

    def answers():
        for method in METHODS:
            result = method(session, WIDE, QUESTION)
            whole = vlm.forward(vlm.prompt(WIDE, QUESTION, method.suffix), steps='all', max_new_tokens=4)
            assert result.plain_answer.tokens == whole.answer.tokens
            assert torch.allclose(result.rows.attn[0], whole.attn[0, result.rows.layers], atol=1e-5)
        tokens.append(whole.answer.tokens)

    answers()
    adapted.set_adapter('second')
    answers()
    with adapted.disable_adapter():
        answers()
    assert session.prefixes.misses == 3 and len({*map(tuple, tokens)}) > 1
