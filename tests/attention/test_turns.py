"""Steps and turns around a stock model: each row is that of eager `output_attentions` at its own position, or
refused in one sentence."""

import copy
import pytest
import torch
from tiny import User, refuse, stock
from transformers import AutoModelForImageTextToText, DynamicCache, GptOssConfig, StaticCache
from carve_nb.attention.vlm import VLM, record_attention
from carve_nb.models.kernel import CACHE
from recipes.tiny_models import HERE as NAMES

pytestmark = pytest.mark.filterwarnings('ignore::UserWarning')
TOLERANCE = 1e-5


def eager_row(model, inputs, rows):
    """The last row of a forward pass of the eager model, without a cache, in the layers and columns of some
    rows: [L, H, Nv]"""
    with torch.no_grad():
        out = model(**inputs, use_cache=False, output_attentions=True)
    attentions = (
        out.attentions
        if len(out.attentions) == len(rows.layers)
        else [out.attentions[l] for l in rows.layers]
    )
    return torch.stack([a[0, :, -1] for a in attentions])[
        ..., torch.cat([span.tokens for span in rows.spans])
    ]


def longer(inputs, tokens):
    "Inputs with some tokens behind them"
    more = {}
    for k, v in inputs.items():
        if v.shape[:2] == inputs['input_ids'].shape:
            new = tokens if k == 'input_ids' else v[:, -1:].expand(-1, tokens.shape[1], *v.shape[2:])
            # attention both ways, which ends with the prompt
            prefix = k == 'token_type_ids' and not v.any()
            more[k] = torch.cat([v, torch.ones_like(new) if prefix else new], 1)
    return dict(inputs) | more


def new_tokens(user, out):
    return out[:, user.inputs['input_ids'].shape[1] :]


def far(rows, want):
    return (rows.attn - torch.stack(want)).abs().max().item()


@pytest.mark.parametrize('name', ['llava', 'qwen2_5_vl'])
def test_prompt_read_twice(name, load):
    "It is refused"
    user = User(load(name))

    def read(n=1, **kw):
        with torch.no_grad():
            return [user.model(**user.inputs, **kw) for _ in range(n)][-1]

    for kw in {}, dict(use_cache=False):
        refuse('reads the prompt again', lambda: user.record(lambda: read(2, **kw)))
    assert len(user.record(read).attn) == 1


def static(user):
    return StaticCache(
        user.model.config.get_text_config(), max_cache_len=user.inputs['input_ids'].shape[1] + 8
    )


CACHES = {
    'StaticCache': lambda user: {CACHE: static(user)},
    'none': lambda user: dict(use_cache=False),
    'dynamic': lambda user: {CACHE: DynamicCache(config=user.model.config.get_text_config())},
}


KINDS = 'llava', 'qwen3_5', 'gemma3'  # full attention, hybrid, with a window


@pytest.mark.parametrize(
    'name, kind',
    [
        *((name, 'dynamic') for name in NAMES),
        *((name, kind) for name in KINDS for kind in CACHES if kind != 'dynamic'),
    ],
)
def test_kinds_of_cache(kind, name, load, folders):
    "Each family's steps, and those of three under each cache that a call can name"
    user = User(load(name))
    eager = stock(folders(name), 'eager')
    with record_attention(user.model, user.processor, user.inputs, user.images) as rows:
        tokens = new_tokens(user, user.generate(**CACHES[kind](user)))
    held = [user.inputs, *(longer(user.inputs, tokens[:, :n]) for n in (1, 2))]
    assert far(rows, [eager_row(eager, i, rows) for i in held]) < TOLERANCE


def test_sinks_of_the_kernel(load):
    "InternVL with a GPT-OSS decoder: what a sink takes is not shared out to the image"
    user = User(load('internvl'))
    config = copy.deepcopy(user.model.config)
    was = user.model.config.text_config
    config.text_config = GptOssConfig(
        vocab_size=was.vocab_size,
        hidden_size=was.hidden_size,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        intermediate_size=32,
        num_local_experts=2,
        num_experts_per_tok=1,
        sliding_window=16,
        pad_token_id=was.pad_token_id,
        eos_token_id=was.eos_token_id,
        bos_token_id=was.bos_token_id,
    )
    torch.manual_seed(0)
    user.model = AutoModelForImageTextToText.from_config(config, attn_implementation='eager').eval()
    with torch.no_grad():
        for layer in user.model.base_model.language_model.layers:
            layer.self_attn.sinks.fill_(2.0)
    tokens = new_tokens(user, user.generate())
    rows = user.record()
    held = [user.inputs, *(longer(user.inputs, tokens[:, :n]) for n in (1, 2))]
    assert far(rows, [eager_row(user.model, i, rows) for i in held]) < TOLERANCE


def test_checkpointing_in_train_mode(folders):
    "Without a cache, and with a backward pass, the rows are those of eval mode"
    user = User(VLM.from_pretrained(folders('llava')))
    want = user.record()
    user.model.train()
    getattr(
        user.model, 'activation_checkpointing_enable', user.model.gradient_checkpointing_enable
    )()  # the second name ends with transformers 6
    rows = user.record(lambda: user.generate(use_cache=False))
    assert (rows.attn - want.attn).abs().max() < TOLERANCE

    def step():
        user.model(**user.inputs).logits.sum().backward()

    assert (user.record(step).attn - want.attn[:1]).abs().max() < TOLERANCE
    user.model.eval()
    assert torch.equal(user.record().attn, want.attn)


def test_drafts_are_refused(load):
    "Passes that read several drafted tokens have rows of other places than one a token: refused, and not recorded as such"
    user = User(load('qwen2_5_vl'))
    refuse(
        '(?i)draft', lambda: user.record(lambda: user.generate(max_new_tokens=8, prompt_lookup_num_tokens=4))
    )
