"Steps and turns around a stock model: each row is that of eager `output_attentions` at its own position, or refused in one sentence."
import copy
import pytest
import torch
from tiny import KW, User, columns, refuse, stock
from transformers import AutoModelForImageTextToText, DynamicCache, GptOssConfig, StaticCache
from carve_nb.attention.vlm import VLM, record_attention
from carve_nb.models.kernel import CACHE

pytestmark = pytest.mark.filterwarnings('ignore::UserWarning')
TOLERANCE = 1e-5


def eager_row(model, inputs, rows):
    "The last row of a forward pass of the eager model, without a cache, in the layers and columns of some rows: [L, H, Nv]"
    with torch.no_grad(): out = model(**inputs, use_cache=False, output_attentions=True)
    found = out.attentions if len(out.attentions) == len(rows.layers) else [out.attentions[l] for l in rows.layers]
    return torch.stack([a[0, :, -1] for a in found])[..., columns(rows)]


def longer(inputs, tokens):
    "Inputs with some tokens behind them"
    more = {}
    for k, v in inputs.items():
        if v.shape[:2] == inputs['input_ids'].shape:
            new = tokens if k == 'input_ids' else v[:, -1:].expand(-1, tokens.shape[1], *v.shape[2:])
            more[k] = torch.cat([v, new], 1)
    return dict(inputs) | more


def new_tokens(user, out): return out[:, user.inputs['input_ids'].shape[1]:]


def far(rows, want): return (rows.attn - torch.stack(want)).abs().max().item()


# -- steps

STEPS = ['llava', 'qwen2_5_vl', 'internvl', 'gemma3']


@pytest.mark.parametrize('name', STEPS)
def test_tokens_taken_back(name, load, folders):
    "Candidates scored one after another on one cache, of one token and of three"
    user, eager = User(load(name)), stock(folders(name), 'eager')
    words = user.vlm.tokenizer('It is an old cat.', add_special_tokens=False, return_tensors='pt').input_ids
    one, other, three = words[:, :1], words[:, 1:2], words[:, 1:4]
    with record_attention(user.model, user.processor, user.inputs, user.images) as rows, torch.no_grad():
        past = DynamicCache(config=user.model.config.get_text_config())
        past.activate_past_recording()                           # without it a layer with a window takes nothing back
        user.model(**user.inputs, **{CACHE: past})
        for tokens in one, other, three, one:
            user.model(input_ids=tokens, **{CACHE: past})
            past.crop(-tokens.shape[1])
        user.model(input_ids=three, **{CACHE: past})
        past.crop(-2)                                            # a tree: from its first token on
        user.model(input_ids=other, **{CACHE: past})
    branches = [user.inputs, *(longer(user.inputs, t) for t in (one, other, three, one, three,
        torch.cat([three[:, :1], other], 1)))]
    assert far(rows, [eager_row(eager, i, rows) for i in branches]) < TOLERANCE


@pytest.mark.parametrize('name', STEPS)
def test_candidates_without_a_cache(name, load, folders):
    user, eager = User(load(name)), stock(folders(name), 'eager')
    branches = [user.inputs, *(longer(user.inputs, torch.tensor([[t]])) for t in (7, 9))]
    with record_attention(user.model, user.processor, user.inputs, user.images) as rows, torch.no_grad():
        for i in branches: user.model(**i, use_cache=False)
    assert far(rows, [eager_row(eager, i, rows) for i in branches]) < TOLERANCE


@pytest.mark.parametrize('name', ['llava', 'qwen2_5_vl'])
def test_prompt_read_twice(name, load):
    "Each forward pass is a row; a batch of candidates is refused"
    user = User(load(name))
    def read(n=1):
        with torch.no_grad(): return [user.model(**user.inputs) for _ in range(n)][-1]
    def candidates():
        past = read()[CACHE]
        past.batch_repeat_interleave(2)
        with torch.no_grad(): user.model(input_ids=torch.tensor([[7], [9]]), **{CACHE: past})
    refuse('A forward pass inside the block reads 2 x', lambda: user.record(candidates))
    one, two = (user.record(lambda: read(n)).attn for n in (1, 2))
    assert len(one) == 1 and torch.equal(two, torch.cat([one, one]))


def static(user):
    return StaticCache(user.model.config.get_text_config(), max_cache_len=user.inputs['input_ids'].shape[1] + 8)


CACHES = {
    'static': lambda user: dict(cache_implementation='static'), 'StaticCache': lambda user: {CACHE: static(user)},
    'none': lambda user: dict(use_cache=False),
    'dynamic': lambda user: {CACHE: DynamicCache(config=user.model.config.get_text_config())}}


@pytest.mark.parametrize('kind', list(CACHES))
@pytest.mark.parametrize('name', ['llava', 'qwen2_5_vl', 'qwen3_5', 'gemma3'])
def test_kinds_of_cache(kind, name, load, folders):
    "Full, with a window, hybrid: under each cache that a call can name"
    user, eager = User(load(name)), stock(folders(name), 'eager')
    with record_attention(user.model, user.processor, user.inputs, user.images) as rows:
        said = new_tokens(user, user.model.generate(**user.inputs, **KW, **CACHES[kind](user)))
    held = [user.inputs, *(longer(user.inputs, said[:, :n]) for n in (1, 2))]
    assert far(rows, [eager_row(eager, i, rows) for i in held]) < TOLERANCE


@pytest.mark.parametrize('part', ['model', 'forward', 'decoder', 'layers'])
def test_compiled(part, folders):
    user = User(VLM.from_pretrained(folders('llava')))
    want, inner = user.record(), user.model.model
    compiled = lambda f: torch.compile(f, backend='eager')
    if part == 'forward': user.model.forward = compiled(user.model.forward)
    if part == 'decoder': inner.language_model = compiled(inner.language_model)
    if part == 'layers':
        for layer in inner.language_model.layers: layer.compile(backend='eager')
    rows = user.record(model=compiled(user.model) if part == 'model' else user.model)
    assert (rows.attn - want.attn).abs().max() < TOLERANCE


def test_models_of_one_config(load):
    "Teacher and student: what the other one runs is not recorded"
    user = User(load('llava'))
    other = type(user.model)(user.model.config).eval()
    assert other.config is user.model.config
    def both():
        other.generate(**user.inputs, **KW)
        out = user.model.generate(**user.inputs, **KW)
        with torch.no_grad(): other(**user.inputs)
        return out
    want, rows = user.record(), user.record(both)
    assert torch.equal(rows.attn, want.attn)
    with torch.no_grad(): refuse('no forward pass of this model', lambda: user.record(lambda: other(**user.inputs)))


@pytest.mark.parametrize('sink', [0., 2., 4.])
def test_sinks_of_the_kernel(sink, load):
    "InternVL with a GPT-OSS decoder: what a sink takes is not shared out to the image"
    user = User(load('internvl'))
    config, was = copy.deepcopy(user.model.config), user.model.config.text_config
    config.text_config = GptOssConfig(
        vocab_size=was.vocab_size, hidden_size=was.hidden_size, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16, intermediate_size=32, num_local_experts=2, num_experts_per_tok=1, sliding_window=16,
        pad_token_id=was.pad_token_id, eos_token_id=was.eos_token_id, bos_token_id=was.bos_token_id)
    torch.manual_seed(0)
    user.model = AutoModelForImageTextToText.from_config(config, attn_implementation='eager').eval()
    with torch.no_grad():
        for layer in user.model.base_model.language_model.layers: layer.self_attn.sinks.fill_(sink)
    said, rows = new_tokens(user, user.model.generate(**user.inputs, **KW)), user.record()
    held = [user.inputs, *(longer(user.inputs, said[:, :n]) for n in (1, 2))]
    assert far(rows, [eager_row(user.model, i, rows) for i in held]) < TOLERANCE


def test_checkpointing_in_train_mode(folders):
    "Without a cache, and with a backward pass, the rows are those of eval mode"
    user = User(VLM.from_pretrained(folders('llava')))
    want = user.record()
    user.model.train()
    getattr(user.model, 'activation_checkpointing_enable',
        user.model.gradient_checkpointing_enable)()    # the second name ends with transformers 6
    rows = user.record(lambda: user.model.generate(**user.inputs, **KW, use_cache=False))
    assert (rows.attn - want.attn).abs().max() < TOLERANCE
    def step(): user.model(**user.inputs).logits.sum().backward()
    assert (user.record(step).attn - want.attn[:1]).abs().max() < TOLERANCE
    user.model.eval()
    assert torch.equal(user.record().attn, want.attn)
