"Steps and turns around a stock model: each row is that of eager `output_attentions` at its own position, or refused in one sentence."
import copy
import threading
import pytest
import torch
from tiny import KW, QUESTION, TALL, WIDE, User, columns, note, refuse, stock
from torch.nn.functional import pad
from transformers import AutoModelForImageTextToText, DynamicCache, GptOssConfig, StaticCache
from carve_nb.attention.intervention import Edit
from carve_nb.attention.stock_recording import record_attention
from carve_nb.method.stock_models import editing
from carve_nb.models.hooks import CACHE
from recipes.tiny_models import HERE as NAMES

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


def test_images_taken_back(load):
    "Where the images lie in layers of their own, `crop` takes them too: the model itself has lost a part of them"
    user = User(load('mllama'))
    def run():
        with torch.no_grad(): past = user.model(**user.inputs)[CACHE]
        past.crop(-1)
        with torch.no_grad(): user.model(input_ids=torch.tensor([[7]]), **{CACHE: past})
    refuse('Of the images layer 1 holds only .* keys any more: `crop`', lambda: user.record(run))


@pytest.mark.parametrize('name', STEPS)
def test_candidates_without_a_cache(name, load, folders):
    user, eager = User(load(name)), stock(folders(name), 'eager')
    branches = [user.inputs, *(longer(user.inputs, torch.tensor([[t]])) for t in (7, 9))]
    with record_attention(user.model, user.processor, user.inputs, user.images) as rows, torch.no_grad():
        for i in branches: user.model(**i, use_cache=False)
    assert far(rows, [eager_row(eager, i, rows) for i in branches]) < TOLERANCE


@pytest.mark.parametrize('name', ['llava', 'qwen2_5_vl'])
def test_prompt_read_twice(name, load):
    user = User(load(name))
    def read(n=2, **kw):
        with torch.no_grad(): return [user.model(**user.inputs, **kw) for _ in range(n)][-1]
    refuse('goes on from no cache', lambda: user.record(read))
    refuse('goes on from no cache', lambda: user.record(lambda: read(use_cache=False)))
    def candidates():
        past = read(1)[CACHE]
        past.batch_repeat_interleave(2)
        with torch.no_grad(): user.model(input_ids=torch.tensor([[7], [9]]), **{CACHE: past})
    refuse('A later forward pass inside the block reads 2 x', lambda: user.record(candidates))
    assert len(user.record(lambda: read(1)).attn) == 1


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
        user.model.generate(**user.inputs, **KW, **CACHES[kind](user))
    held = [user.inputs, *(longer(user.inputs, torch.tensor([rows.tokens[:n]])) for n in (1, 2))]
    assert far(rows, [eager_row(eager, i, rows) for i in held]) < TOLERANCE


@pytest.mark.parametrize('part', ['model', 'forward', 'decoder', 'layers'])
def test_compiled(part, folders):
    from carve_nb.attention.vlm import VLM
    user = User(VLM.from_pretrained(folders('llava')))
    want, inner = user.record(), user.model.model
    compiled = lambda f: torch.compile(f, backend='eager')
    if part == 'forward': user.model.forward = compiled(user.model.forward)
    if part == 'decoder': inner.language_model = compiled(inner.language_model)
    if part == 'layers':
        for layer in inner.language_model.layers: layer.compile(backend='eager')
    rows = user.record(model=compiled(user.model) if part == 'model' else user.model)
    assert (rows.attn - want.attn).abs().max() < TOLERANCE and rows.tokens == want.tokens


def test_models_of_one_config(load):
    "Teacher and student: what the other one runs is not recorded, nor edited"
    user = User(load('llava'))
    other = type(user.model)(user.model.config).eval()
    assert other.config is user.model.config
    def both():
        other.generate(**user.inputs, **KW)
        out = user.model.generate(**user.inputs, **KW)
        with torch.no_grad(): other(**user.inputs)
        return out
    want, rows = user.record(), user.record(both)
    assert torch.equal(rows.attn, want.attn) and rows.tokens == want.tokens
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
    rows = user.record()
    held = [user.inputs, *(longer(user.inputs, torch.tensor([rows.tokens[:n]])) for n in (1, 2))]
    assert far(rows, [eager_row(user.model, i, rows) for i in held]) < TOLERANCE
    def scores():
        return torch.stack(user.model.generate(**user.inputs, **KW, return_dict_in_generate=True,
            output_logits=True).logits)
    plain, same = scores(), Edit([0, 1, 2], weights=lambda layer, w, rows: w)
    with editing(user.model, user.processor, user.inputs, same, user.images):
        assert (scores() - plain).abs().max() < TOLERANCE


def test_copies_in_a_thread(load):
    user = User(load('llava'))
    def run():
        thread = threading.Thread(target=user.model.generate,
            kwargs={k: v.clone() for k, v in user.inputs.items()} | KW)
        thread.start()
        thread.join()
    refuse('in another thread.*not a copy', lambda: user.record(run))


def test_checkpointing_in_train_mode(folders):
    "A cache that is not kept is named; without one, and with a backward pass, the rows are those of eval mode"
    from carve_nb.attention.vlm import VLM
    user = User(VLM.from_pretrained(folders('llava')))
    want = user.record()
    user.model.train()
    getattr(user.model, 'activation_checkpointing_enable',
        user.model.gradient_checkpointing_enable)()    # the second name ends with transformers 6
    refuse('keeps no cache.*model.eval', user.record)
    rows = user.record(lambda: user.model.generate(**user.inputs, **KW, use_cache=False))
    assert rows.tokens == want.tokens and (rows.attn - want.attn).abs().max() < TOLERANCE
    def step(): user.model(**user.inputs).logits.sum().backward()
    assert (user.record(step).attn - want.attn[:1]).abs().max() < TOLERANCE
    user.model.eval()
    assert torch.equal(user.record().attn, want.attn)


# -- the second turn

class Turns:
    "A first turn with its answer, and the inputs of the second: all of them, and what `generate` wants beside the cache"
    def __init__(self, vlm):
        self.vlm, self.model, self.processor = vlm, vlm.model, vlm.processor
        self.first = vlm.to_device(vlm.prompt(WIDE, QUESTION))
        said = self.model.generate(**self.first, **KW, min_new_tokens=3)[:, -3:]
        words = vlm.tokenizer(' And is it old?', add_special_tokens=False, return_tensors='pt').input_ids
        self.said, self.ids = said, torch.cat([self.first['input_ids'], said, words], 1)
        self.second = dict(input_ids=self.ids, attention_mask=torch.ones_like(self.ids))
        # a Q-Former reads image and question at each turn; without its mask the sdpa kernel takes cross-attention for causal
        kept = self.first if vlm.family.bridge else {'cross_attention_mask'} & set(self.first)
        self.second |= {k: self.first[k] for k in kept if k not in self.second}

    def hold(self, tokens):
        "For `generate`: the answer is these tokens"
        left = list(tokens)
        def held(ids, scores): return torch.full_like(scores, -torch.inf).index_fill(1, torch.tensor([left.pop(0)]), 0.)
        return dict(max_new_tokens=len(tokens), min_new_tokens=len(tokens), do_sample=False, logits_processor=[held])

    def cache(self, model):
        "Keys and values after the first turn"
        return model.generate(**self.first, **self.hold(self.said[0].tolist()), return_dict_in_generate=True)[CACHE]

    def eager(self, model, layers, columns, tokens):
        "Rows of the second turn under eager attention, from a cache that the eager model filled: [T, L, H, Nv]"
        kw = self.second | self.hold(tokens) | {CACHE: self.cache(model)}
        out = model.generate(**kw, output_attentions=True, return_dict_in_generate=True)
        steps = [[a[0, :, -1] for a in (step if len(step) == len(layers) else [step[l] for l in layers])]
            for step in out.attentions]
        if self.vlm.family.bridge:
            with torch.no_grad():
                seen = model.get_image_features(*(self.first[k]
                    for k in ('pixel_values', 'qformer_input_ids', 'qformer_attention_mask')), output_attentions=True)
            between = (self.ids[0] == model.config.image_token_id).nonzero()[:, 0]
            onward = seen.qformer_outputs.cross_attentions[2][0].mean(0)
            steps = [[row[:, between] @ onward for row in step] for step in steps]
        elif not self.vlm.family.cross:   # keys behind a window have no weight
            steps = [[pad(row, (self.ids.shape[1] + t - row.shape[1], 0)) for row in step] for t,
                step in enumerate(steps)]
        return [torch.stack([row[:, columns] for row in step]) for step in steps]


@pytest.mark.parametrize('name', NAMES)
def test_second_turn(name, load, folders):
    "With the cache and without pixels, as stock `generate` wants it: the rows of eager attention"
    turns = Turns(load(name))
    cache = turns.cache(turns.model)
    with record_attention(turns.model, turns.processor, turns.second, [WIDE], question='is it old?') as rows:
        out = turns.model.generate(**turns.second, **{CACHE: cache}, **KW)
    assert out[0, -len(rows.tokens):].tolist() == rows.tokens and len(rows.attn) == len(rows.tokens)
    assert len(rows.question)
    worst = far(rows, turns.eager(stock(folders(name), 'eager'), rows.layers, columns(rows), rows.tokens))
    assert worst < TOLERANCE
    note(turns.vlm, turn=worst)


@pytest.mark.parametrize('name', [n for n in NAMES if n != 'instructblip'])
def test_block_for_the_whole_prompt(name, load):
    "The block gets the pixels, `generate` the cache"
    turns = Turns(load(name))
    whole = turns.second | {k: v for k, v in turns.first.items() if k not in turns.second}
    cache = turns.cache(turns.model)
    with record_attention(turns.model, turns.processor, whole, [WIDE]) as rows:
        turns.model.generate(**turns.second, **{CACHE: cache}, **KW)
    cache = turns.cache(turns.model)
    with record_attention(turns.model, turns.processor, turns.second, [WIDE]) as bare:
        turns.model.generate(**turns.second, **{CACHE: cache}, **KW)
    assert torch.equal(rows.attn, bare.attn) and [s.box for s in rows.spans] == [s.box for s in bare.spans]


@pytest.mark.parametrize('name', ['llava', 'llava_onevision', 'qwen2_5_vl', 'internvl'])
def test_second_turn_of_two_images(name, load):
    user = User(load(name), (WIDE, TALL))
    out = user.model.generate(**user.inputs, **KW, return_dict_in_generate=True)
    more = user.vlm.tokenizer(' And is it old?', add_special_tokens=False, return_tensors='pt').input_ids
    ids = torch.cat([out.sequences, more], 1)
    second = dict(input_ids=ids, attention_mask=torch.ones_like(ids))
    first = user.record()
    rows = user.record(lambda: user.model.generate(**second, **{CACHE: out[CACHE]}, **KW), inputs=second)
    assert [(s.grid, s.box) for s in rows.spans] == [(s.grid, s.box) for s in first.spans] and len(rows.attn) == 3
    refuse('do not fill', lambda: user.record(inputs=second, images=[WIDE]))


def test_neither_pixels_nor_cache(load):
    turns = Turns(load('llava'))
    def read(cache=None):
        with record_attention(turns.model, turns.processor, turns.second, [WIDE]):
            turns.model.generate(**turns.second, **{CACHE: cache}, **KW)
    refuse('no pixels, and the cache holds 0 tokens', read)
    whole = turns.second | turns.first | dict(input_ids=turns.ids, attention_mask=torch.ones_like(turns.ids))
    def record(inputs, run):
        with record_attention(turns.model, turns.processor, inputs, [WIDE]): turns.model.generate(**run, **KW)
    refuse('given no pixels', lambda: record(whole, turns.second))
    refuse('no pixels', lambda: record(turns.second, whole))
    def forward():
        with record_attention(turns.model, turns.processor, turns.second, [WIDE]), torch.no_grad():
            turns.model(**turns.second)
    refuse('no pixels, and the cache holds 0 tokens', forward)
