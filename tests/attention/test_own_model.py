"""The user's own model, inputs and wrong use, around a stock `generate`: what a user starts, and the one
sentence that answers."""

import copy
import pytest
import torch
from tiny import QUESTION, WIDE, User, refuse
from transformers import (
    AttentionInterface,
    AttentionMaskInterface,
    AutoModelForImageTextToText,
    FalconH1Config,
    Gemma2Config,
    Mamba2Config,
)
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask
from transformers.models.llama import modeling_llama
from carve_nb import VLM, Carve, Lookup
from carve_nb.testing import traces

pytestmark = pytest.mark.filterwarnings('ignore::UserWarning')


@pytest.fixture
def llava(load):
    return User(load('llava'))


@pytest.fixture
def qwen(load):
    return User(load('qwen2_5_vl'))


# -- kernels


def sharp(kernel):
    """A kernel with queries three times as large in the decoder, as a user may register it or put it in a
    model's file"""

    def run(module, query, *args, **kw):
        return kernel(module, query * (3 if hasattr(module, 'layer_idx') else 1), *args, **kw)

    return run


@pytest.fixture
def kernels(monkeypatch):
    "The kernels that a test registers are gone after it"
    for kinds in AttentionInterface, AttentionMaskInterface:
        monkeypatch.setattr(kinds, '_global_mapping', dict(kinds._global_mapping))


@pytest.fixture(params=['own name', 'over sdpa', 'eager patched', 'torch patched'])
def changed(request, folders, kernels, monkeypatch):
    "A model whose kernel is the user's own"
    vlm = VLM.from_pretrained(folders('llava'))
    if request.param == 'own name':
        AttentionInterface.register('my_sdpa', sharp(sdpa_attention_forward))
        AttentionMaskInterface.register('my_sdpa', sdpa_mask)
        vlm.model.set_attn_implementation({'text_config': 'my_sdpa'})
    elif request.param == 'over sdpa':
        AttentionInterface.register('sdpa', sharp(sdpa_attention_forward))
    elif request.param == 'torch patched':  # as users of SageAttention write it
        stock = torch.nn.functional.scaled_dot_product_attention
        monkeypatch.setattr(
            torch.nn.functional,
            'scaled_dot_product_attention',
            lambda q, *args, **kw: stock(1.3 * q, *args, **kw),
        )
    else:
        vlm.model.set_attn_implementation('eager')
        monkeypatch.setattr(
            modeling_llama, 'eager_attention_forward', sharp(modeling_llama.eager_attention_forward)
        )
    return User(vlm, [WIDE])


def test_kernel_of_ones_own(changed):
    "Its rows are not known: refused whatever its name; plain answers are as ever, and nothing is left"
    # transformers hangs hooks of its own on a model that runs
    plain = changed.vlm.ask(WIDE, QUESTION, max_new_tokens=2)
    before = traces(changed.vlm)
    for call in (
        changed.record,
        lambda: Carve()(changed.vlm, WIDE, QUESTION),
        lambda: changed.vlm.capture(WIDE, QUESTION, layers=[3]),
    ):
        refuse("in a kernel of your own, .* of test_own_model, .*set_attn_implementation", call)
    assert traces(changed.vlm) == before and changed.vlm.ask(WIDE, QUESTION, max_new_tokens=2) == plain


@pytest.mark.parametrize('name', ['flash_attention_2', 'flex_attention', 'stock_under_another_name'])
def test_stock_kernel_is_replaced(name, folders, llava, kernels):
    "Inside a block the model runs SDPA: the rows are its own, a note says so once, and outside it runs as it was set"
    AttentionInterface.register('stock_under_another_name', sdpa_attention_forward)
    user = User(VLM.from_pretrained(folders('llava')))
    user.vlm.text_config._attn_implementation = name
    rows = user.record()
    assert torch.equal(rows.attn, llava.record().attn) and user.vlm.text_config._attn_implementation == name
    assert [name in note for note in rows.notes] == [True] and rows.about['kernel'] == 'sdpa'


def test_bounded_scores_run_eager(llava, tmp_path):
    "Gemma 2 bounds its scores, which SDPA cannot: set to flash attention, it is read by eager"
    vlm = GEMMA(llava, tmp_path)
    prompt = vlm.prompt(WIDE, QUESTION)
    want = vlm.model(**prompt.inputs, output_attentions=True).attentions
    with torch.no_grad():
        for layer in vlm.decoder.layers:
            layer.self_attn.q_proj.weight *= 20  # so that the bound acts
    bounded = vlm.model(**prompt.inputs, output_attentions=True).attentions
    assert (bounded[1] - want[1]).abs().max() > 1e-3
    vlm.text_config._attn_implementation = 'flash_attention_2'
    rows = vlm.forward(prompt)
    assert rows.about['kernel'] == 'eager'
    for place, layer in enumerate(rows.layers):
        assert torch.allclose(rows.attn[0, place], bounded[layer][0, :, -1, prompt.columns], atol=1e-5)


# -- the images of the inputs


def test_video_inputs(qwen):
    inputs = dict(qwen.inputs, video_grid_thw=torch.ones(1, 3))
    refuse('give the frames of a video as images', lambda: qwen.record(inputs=inputs))


# -- wrapped models


class Wrapper(torch.nn.Module):
    "As DistributedDataParallel: the model is its `module`"

    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, *args, **kw):
        return self.module(*args, **kw)


@pytest.mark.filterwarnings('ignore:`is_gradient_checkpointing`:FutureWarning')  # of peft
def test_adapters_and_wrappers(llava):
    import peft

    want = llava.record()
    answer = llava.vlm.ask(WIDE, QUESTION, max_new_tokens=4)
    for wrapper in torch.nn.DataParallel(llava.model), Wrapper(Wrapper(llava.model)):
        assert torch.equal(llava.record(model=wrapper).attn, want.attn)
        assert VLM(wrapper, llava.processor).ask(WIDE, QUESTION, max_new_tokens=4) == answer
    adapted = peft.get_peft_model(
        copy.deepcopy(llava.model), peft.LoraConfig(target_modules=['q_proj', 'v_proj'])
    )
    base = adapted.get_base_model()
    for model, runner in (adapted, adapted), (adapted, base), (base, adapted):
        with torch.no_grad():
            assert len(llava.record(lambda: runner(**llava.inputs), model=model).attn) == 1


# -- models that a user has changed


def pruned(model):
    "Drop half of the image tokens before layer 2, as token pruning does"

    def less(module, args, kw):
        positions = [*range(10), *range(42, args[0].shape[1])] if args[0].shape[1] > 42 else slice(None)
        cut = tuple(
            p[:, positions] if p.shape[1] == args[0].shape[1] else p for p in kw['position_embeddings']
        )
        return (args[0][:, positions], *args[1:]), kw | dict(position_embeddings=cut, attention_mask=None)

    def shorter(module, args, kw):
        cut = tuple(p[:, -args[0].shape[1] :] for p in kw['position_embeddings'])
        return args, kw | dict(position_embeddings=cut, attention_mask=None)

    for i, layer in enumerate(model.model.language_model.layers[2:]):
        layer.register_forward_pre_hook(shorter if i else less, with_kwargs=True)


def test_dropped_tokens(folders):
    user = User(VLM.from_pretrained(folders('llava')), [WIDE])
    pruned(user.model)
    for call in user.record, lambda: Carve()(user.vlm, WIDE, QUESTION):
        refuse(r'Layer 2 reads 1 x \d+ tokens .*pruning', call)


def test_layers_cut(folders):
    vlm = VLM.from_pretrained(folders('llava'))
    decoder = vlm.model.model.language_model
    decoder.layers = decoder.layers[:4]
    for call in lambda: vlm.capture(WIDE, QUESTION), User(vlm, [WIDE]).record:
        refuse(r'Layers \[0, 1, 2, 3, 4, 5\] were to be read, and \[\[0, 1, 2, 3\]\] were', call)
    vlm.model.config.get_text_config().num_hidden_layers = 4
    assert VLM(vlm.model, vlm.processor).capture(WIDE, QUESTION).layers == [0, 1, 2, 3]


def test_layers_exchanged(folders):
    "Two layers that kept their numbers would be read under each other's name"
    vlm = VLM.from_pretrained(folders('llava'))
    layers = vlm.model.model.language_model.layers
    layers[1], layers[3] = layers[3], layers[1]
    for wanted in None, [1], [5]:
        refuse(r'Layer 2 runs after layer 3: .*layer_idx', lambda: vlm.capture(WIDE, QUESTION, layers=wanted))


def test_layers_with_fewer_heads(folders):
    vlm = VLM.from_pretrained(folders('llava'))
    attention = vlm.model.model.language_model.layers[2].self_attn
    half = attention.q_proj.out_features // 2
    for name in 'q_proj', 'k_proj', 'v_proj':
        part = getattr(attention, name)
        part.weight = torch.nn.Parameter(part.weight[: part.out_features // 2])
    attention.o_proj.weight = torch.nn.Parameter(attention.o_proj.weight[:, :half])
    refuse(r'The layers have \[4, 4, 2, 4, 4, 4\] heads', lambda: vlm.capture(WIDE, QUESTION))
    assert vlm.capture(WIDE, QUESTION, layers=[3, 4]).layers == [3, 4]


# -- what is not read, and why


def decoder(cls, **kw):
    "A LLaVA that writes with a decoder of another class, under eager"

    def make(user, path):
        config, was = copy.deepcopy(user.model.config), user.vlm.text_config
        ids = {
            name: getattr(was, name)
            for name in ('vocab_size', 'hidden_size', 'pad_token_id', 'eos_token_id', 'bos_token_id')
        }
        config.text_config = cls(**ids, num_hidden_layers=2, **kw)
        torch.manual_seed(0)
        return VLM(
            AutoModelForImageTextToText.from_config(config, attn_implementation='eager').eval(),
            user.processor,
        )

    return make


FALCON = decoder(
    FalconH1Config,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=8,
    intermediate_size=32,
    mamba_d_ssm=32,
    mamba_n_heads=4,
    mamba_d_head=8,
    mamba_d_state=8,
)
MAMBA = decoder(Mamba2Config, head_dim=8, num_heads=8, expand=2, state_size=8, n_groups=1)
GEMMA = decoder(Gemma2Config, num_attention_heads=4, num_key_value_heads=2, head_dim=8, intermediate_size=32)


def prompt_tuned(user, path):
    import peft

    config = peft.PromptTuningConfig(
        task_type='CAUSAL_LM',
        num_virtual_tokens=8,
        num_layers=6,
        token_dim=user.vlm.text_config.hidden_size,
        num_attention_heads=4,
    )
    return VLM(peft.get_peft_model(copy.deepcopy(user.model), config), user.processor)


def without_sdpa(user, path):
    GEMMA(user, path).model.save_pretrained(path)
    user.processor.save_pretrained(path)
    return VLM.from_pretrained(path)


def not_a_number(user, path):
    vlm = VLM(copy.deepcopy(user.model), user.processor)
    with torch.no_grad():
        vlm.model.lm_head.weight[0, 0] = torch.nan
    return vlm


@pytest.mark.parametrize(
    ('make', 'why'),
    [
        (MAMBA, 'writes with mamba2, and only a decoder that attends'),
        (prompt_tuned, 'an adapter'),
        (without_sdpa, r'no SDPA kernel.*VLM\(model, processor\)'),
        (not_a_number, 'are not numbers, with the model in torch.float32'),
    ],
    ids=['mamba', 'prompt_tuned', 'without_sdpa', 'not_a_number'],
)
def test_a_model_that_is_not_read(llava, tmp_path, make, why):
    "One sentence with the cause; it was an error of Python or of another library, or named a cure that is none"
    refuse(why, lambda: Lookup(query='last', max_new_tokens=2)(make(llava, tmp_path), WIDE, QUESTION))


def test_attention_beside_a_state(llava, tmp_path):
    "Falcon-H1 attends in layers of the kind 'hybrid', which were taken for layers without attention"
    vlm = FALCON(llava, tmp_path)
    inputs = vlm.prompt(WIDE, QUESTION)
    rows = vlm.forward(inputs)
    want = vlm.model(**inputs.inputs, output_attentions=True).attentions
    for place, layer in enumerate(rows.layers):
        assert torch.allclose(rows.attn[0, place], want[layer][0, :, -1, inputs.columns], atol=1e-5)


def test_words_before_the_image(load):
    "They do not see it and have no rows: said so, and not that the question does not read as English"
    messages = [dict(role='user', content=[dict(type='text', text=QUESTION), dict(type='image')])]
    vlm = load('qwen2_5_vl')
    refuse('comes before the image', lambda: Carve(query='content')(vlm, [WIDE], messages=messages))
    notes = Lookup(query='noun', max_new_tokens=2)(vlm, [WIDE], messages=messages).notes
    assert any('come before the image and do not see it' in note for note in notes)
