"The user's own model, inputs and wrong use, around a stock `generate`: what a user starts, and the one sentence that answers."
import copy
import json
import pickle
import re
import threading
import warnings
from dataclasses import dataclass, replace
import pytest
import torch
from IPython.core.formatters import DisplayFormatter
from PIL import Image, ImageOps
from tiny import KW, QUESTION, TALL, WIDE, User, cell_box, refuse, settings
from transformers import AttentionInterface, AttentionMaskInterface, StoppingCriteriaList, TextIteratorStreamer
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask
from transformers.models.llama import modeling_llama
from carve_nb import VLM, Carve
from carve_nb.attention.intervention import Edit, raise_scores
from carve_nb.attention.stock_recording import record_attention
from carve_nb.core.errors import CarveError
from carve_nb.data.datasets import load_benchmark
from carve_nb.method.stock_models import editing
from carve_nb.models.hooks import CACHE
from carve_nb.models.prompts import remember
from carve_nb.models.video import open_video
from recipes.tiny_models import HERE

pytestmark = pytest.mark.filterwarnings('ignore::UserWarning')


@pytest.fixture
def llava(load): return User(load('llava'))


@pytest.fixture
def qwen(load): return User(load('qwen2_5_vl'))


# -- shown

def shown(thing):
    "Every form in which IPython shows a thing; an error is raised, where IPython prints it"
    formatters = DisplayFormatter().formatters
    return {kind: type(f).__call__.__wrapped__(f, thing) for kind, f in formatters.items()}


def test_rows_in_a_notebook(llava):
    forms = shown(llava.record())
    assert 'layer 0' in forms['text/html'] and 'AttentionRows(3 steps' in forms['text/plain']


def test_rows_and_edits_inside_the_block(llava):
    with record_attention(llava.model, llava.processor, llava.inputs, llava.images) as rows:
        assert 'nothing read yet' in repr(rows) and 'nothing read yet' in shown(rows)['text/html']
        with pytest.raises(CarveError, match='when the block ends'): rows.saliency()
        llava.model.generate(**llava.inputs, **KW)
    assert rows.saliency().values.shape
    change = Edit(list(llava.vlm.layers), scores=raise_scores(torch.arange(1), 1.))
    with editing(llava.model, llava.processor, llava.inputs, change, llava.images) as done:
        assert 'nothing edited yet' in repr(done)
        llava.model.generate(**llava.inputs, **KW)
    assert repr(done) == repr([change])


def test_guiding_by_settings(llava):
    "`generate` stays the model's own, and is given what guides it; forgotten settings are refused, another thread is joined"
    plain = llava.model.generate(**llava.inputs, **KW)
    for name in 'pai', 'vcd', 'dola':
        refuse(f'{name} guides by logits processors, which `generate` was not given', lambda: llava.edit(edit=name))
        said = []
        for thread in False, True:
            with editing(llava.model, llava.processor, llava.inputs, name, llava.images) as g, record_attention(llava.model, llava.processor, llava.inputs, llava.images) as rows:
                assert 'generate' not in vars(llava.model) and llava.model.generate.__func__ is type(llava.model).generate
                work = threading.Thread(target=lambda: said.append(llava.model.generate(**llava.inputs, **KW, **g.settings)))
                (work.start if thread else work.run)()
                if thread: work.join(300)
            assert g[0].method == name and rows.tokens == said[-1][0, -len(rows.tokens):].tolist()
        assert torch.equal(*said)
    assert torch.equal(llava.model.generate(**llava.inputs, **KW), plain)
    refuse('one generation', lambda: llava.record(lambda: [llava.model.generate(**llava.inputs, **KW) for _ in range(2)]))


# -- the kernel attends as softmax times v

def sharp(kernel):
    "A kernel with queries three times as large in the decoder, as a user may register it or put it in a model's file"
    def run(module, query, *args, **kw): return kernel(module, query*(3 if hasattr(module, 'layer_idx') else 1), *args, **kw)
    return run


@pytest.fixture(params=['own name', 'own name, half precision', 'over sdpa', 'eager patched'])
def changed(request, folders, monkeypatch):
    "A model whose kernel changes scores"
    vlm = VLM.from_pretrained(folders('llava'), dtype='bfloat16' if 'half' in request.param else 'float32')
    if 'own name' in request.param:
        AttentionInterface.register('my_sdpa', sharp(sdpa_attention_forward))
        AttentionMaskInterface.register('my_sdpa', sdpa_mask)
        vlm.model.set_attn_implementation({'text_config': 'my_sdpa'})
    elif request.param == 'over sdpa': AttentionInterface.register('sdpa', sharp(sdpa_attention_forward))
    else:
        vlm.model.set_attn_implementation('eager')
        monkeypatch.setattr(modeling_llama, 'eager_attention_forward', sharp(modeling_llama.eager_attention_forward))
    yield User(vlm, [WIDE])
    AttentionInterface.register('sdpa', sdpa_attention_forward)


def test_kernel_that_changes_scores(changed):
    "Its rows are refused with the layer and both numbers, whatever its name; plain answers are as ever, and nothing is left"
    plain = changed.vlm.ask(WIDE, QUESTION, max_new_tokens=2)    # transformers hangs hooks of its own on a model that runs
    before = settings(changed.vlm)
    for call in changed.record, changed.edit, lambda: Carve()(changed.vlm, WIDE, QUESTION), lambda: changed.vlm.capture(WIDE, QUESTION, layers=[3]):
        refuse(r"changes attention: in layer [03] .* differs by \d+\.\d% from softmax times v in float32, .*within 0\.\d%", call)
    assert settings(changed.vlm) == before and changed.vlm.ask(WIDE, QUESTION, max_new_tokens=2) == plain


def test_kernel_of_any_name(folders, llava):
    "A kernel of one's own that attends as the stock ones is read, given the mask of a stock one or none"
    vlm = VLM.from_pretrained(folders('llava'))
    for name, mask in (('mine', sdpa_mask), ('mine_without_mask', None)):
        AttentionInterface.register(name, sdpa_attention_forward)
        if mask: AttentionMaskInterface.register(name, mask)
        vlm.model.set_attn_implementation({'text_config': name})
        assert torch.equal(User(vlm).record().attn, llava.record().attn)


def test_mask_of_an_unknown_form(folders):
    def flat(*args, **kw): return torch.ones(1, 3, 3)
    def run(module, q, k, v, mask, **kw): return sdpa_attention_forward(module, q, k, v, None, **kw)
    AttentionInterface.register('flat', run)
    AttentionMaskInterface.register('flat', flat)
    vlm = VLM.from_pretrained(folders('llava'))
    vlm.model.set_attn_implementation({'text_config': 'flat'})
    refuse('mask of an unknown form, a tensor of 3 dimensions', User(vlm).record)


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16', 'float16'])
@pytest.mark.parametrize('kernel', ['sdpa', 'eager'])
def test_large_scores(kernel, dtype, folders):
    "3,000 keys, scores of sd 15: stock kernels are read, with a note where half precision rounds more than that"
    vlm = VLM.from_pretrained(folders('llava'), dtype=dtype)
    vlm.model.set_attn_implementation(kernel)
    vlm.text_config.max_position_embeddings = 4000
    with torch.no_grad():
        for layer in vlm.model.base_model.language_model.layers: layer.self_attn.q_proj.weight *= 8
    rows = vlm.capture(WIDE, QUESTION*600, layers=[0], question_rows=False)
    finite = rows.attn[0, 0][rows.attn[0, 0] > 0]
    assert rows.meta['n_prompt'] > 3000 and finite.log().std() > 12
    note = "without the rounding of the kernel: in layer 0 the output of 'eager' differs by"
    assert (note in repr(rows)) == ((kernel, dtype) == ('eager', 'bfloat16'))
    if note in repr(rows):
        assert re.search(r'differs by [1-9]\.\d% from softmax times v in float32, and by 0\.\d% from it in torch.bfloat16', repr(rows))
        assert any(note in n for n in Carve(max_new_tokens=1)(vlm, WIDE, QUESTION).notes)


def test_attention_dropout(folders):
    "In training mode the attention is that before dropout, and says so"
    vlm = VLM.from_pretrained(folders('llava'))
    for layer in vlm.model.base_model.language_model.layers: layer.self_attn.attention_dropout = .5
    user = User(vlm, [WIDE])
    def forward(): user.model(**user.inputs)
    plain = user.record(forward)
    user.model.train()
    assert 'dropout of 0.5 is on: weights are those before it' in repr(user.record(forward)) and 'dropout' not in repr(plain)


# -- the images are those of the inputs

@pytest.mark.parametrize('name', ['qwen2_5_vl', 'qwen3_vl', 'llava_next', 'llava_onevision', 'internvl', 'smolvlm', 'idefics3', 'llava', 'gemma3', 'paligemma', 'mllama'])
def test_images_in_the_wrong_order(name, load):
    wide = WIDE.resize((200, 200) if name == 'internvl' else (300, 100))   # others are cut into as many tiles as TALL
    user = User(load(name), (wide, TALL))
    assert len(user.record().spans) >= 2
    for call in user.record, user.edit: refuse('same order', lambda: call(images=[TALL, wide]))
    square = [WIDE.resize((200, 200)), TALL.resize((200, 200))]     # on a fixed grid sizes tell nothing, but pixels do
    if name in ('llava', 'gemma3', 'paligemma', 'mllama', 'internvl'): refuse('same order', lambda: User(load(name), square).record(images=square[::-1]))


def test_image_of_the_wrong_size(qwen, load):
    refuse('same order and size', lambda: qwen.record(images=[WIDE.resize((180, 260)), TALL]))
    refuse('same order and size', lambda: User(load('llava_next')).record(images=[WIDE.resize((255, 180)), TALL]))


@pytest.mark.parametrize('name', ['llava_next', 'llava_onevision', 'internvl', 'idefics3', 'smolvlm'])
def test_attention_on_a_tile(name, load):
    "All attention on one token of a tile: the map is not empty, and its peak lies in the token's box"
    rows = User(load(name), [WIDE]).record()
    for i in range(1, len(rows.spans)):
        s, at = rows.spans[i], len(rows.spans[i])//2
        planted = replace(rows, attn=torch.zeros_like(rows.attn))
        planted.attn[..., rows.span(i)][..., at] = 1
        (x, y), (x0, y0, x1, y1) = planted.saliency().peak(), cell_box(s, at)
        assert x0 <= x <= x1 and y0 <= y <= y1 and planted.saliency().entropy() < .1
        assert not planted.saliency(tiles='thumbnail').values.any() and planted.tiles_note('thumbnail')[0].startswith('the map shows 0%')


@pytest.mark.filterwarnings('ignore:Passing `min_pixels`:FutureWarning')     # as a user passes them today
def test_limits_of_one_call(load):
    "The processor was told another limit in the call: the grid is another, the image the same, where it remembers"
    qwen = User(load('qwen2_5_vl'), [WIDE])
    for pixels in 28*28*4, 28*28*16, 28*28*64:
        qwen.inputs = same_inputs(qwen.vlm, [WIDE], max_pixels=pixels, min_pixels=28*28)
        refuse(r'on another grid .* `processor = remember\(processor\)`', qwen.record)
        qwen.inputs = same_inputs(qwen.vlm, [WIDE], make=remember, max_pixels=pixels, min_pixels=28*28)
        assert qwen.record().spans[0].box == qwen.record(images=None).spans[0].box == (0, 0, *WIDE.size)


def same_inputs(vlm, images, text=None, make=lambda processor: processor, **kw):
    "What the processor makes of images and a chat, with settings of this call"
    text = text or vlm.prompt([im if isinstance(im, Image.Image) else WIDE for im in images], QUESTION).text
    return make(vlm.processor)(images=[list(images)], text=[text], return_tensors='pt', **kw)


def mirrored(images): return [ImageOps.mirror(im) for im in images]


def family_user(load, name):
    vlm = load(name)
    return User(vlm, [WIDE] if 'several images' in vlm.family.why_not else [WIDE, TALL])


@pytest.mark.parametrize('name', HERE)
def test_other_images_of_the_same_size(name, load):
    user = family_user(load, name)
    other = mirrored(user.images)
    for call in user.record, user.edit: refuse("pixels='changed'", lambda: call(images=other))
    rows = user.record(images=other, pixels='changed')
    assert rows.meta['pixels'] == 'changed' and 'pixels changed' in repr(rows)
    plain = user.record()
    assert 'pixels' not in plain.meta and 'pixels' not in repr(plain) and torch.equal(rows.attn, plain.attn)
    for dtype in torch.bfloat16, torch.float16:
        low = {k: v.to(dtype) if v.is_floating_point() else v for k, v in user.inputs.items()}
        assert torch.equal(user.record(inputs=low).attn, plain.attn)
        refuse("pixels='changed'", lambda: user.record(inputs=low, images=other))


@pytest.mark.parametrize('name', ['idefics3', 'smolvlm'])
def test_tiles_in_another_order(name, load):
    "Two images that fill as many tokens, one wide and one tall, are told apart by their tiles where pixels are not compared"
    wide = WIDE.resize((600, 150))
    user = User(load(name), [wide, wide.transpose(Image.Transpose.ROTATE_90)])
    with pytest.raises(CarveError, match='same order and size|other tiles'):
        user.record(images=user.images[::-1], pixels='changed')


def test_pixels_changed_on_purpose(llava):
    torch.manual_seed(0)
    noisy = dict(llava.inputs, pixel_values=llava.inputs['pixel_values'] + .1*torch.randn_like(llava.inputs['pixel_values']))
    def record(**kw): return llava.record(lambda: llava.model.generate(**noisy, **KW), inputs=noisy, **kw)
    refuse("pixels='changed'", record)
    assert record(pixels='changed').spans[0].box == llava.record().spans[0].box
    refuse("pixels='noise': use 'changed'", lambda: record(pixels='noise'))


@pytest.mark.parametrize('name', ['llava', 'qwen2_5_vl', 'gemma3'])
def test_very_large_image(name, load, monkeypatch):
    "A processor shows it whole, also where a `VLM` would show it reduced"
    monkeypatch.setattr('carve_nb.core.image.RASTER', 4000)
    user = User(load(name), [WIDE])
    user.inputs = same_inputs(user.vlm, [WIDE])
    assert user.record().spans[0].box[2:] >= (220, 180)
    refuse("pixels='changed'", lambda: user.record(images=mirrored([WIDE])))


@pytest.fixture
def photo(tmp_path):
    "A telephone's photo: 120 x 80 pixels, to be turned"
    exif, path = Image.Exif(), tmp_path/'photo.jpg'
    exif[0x0112] = 6
    WIDE.resize((120, 80)).save(path, exif=exif)
    return path


@pytest.mark.parametrize('name', ['llava', 'gemma3', 'internvl', 'mllama', 'qwen2_5_vl', 'smolvlm'])
def test_photo_by_path_and_opened(name, load, photo):
    "The processor turns a file, and leaves what was opened before; the block reads either as the processor does"
    user, boxes = User(load(name)), {}
    for way, given in dict(turned=str(photo), upright=ImageOps.exif_transpose(Image.open(photo)), lying=Image.open(photo)).items():
        user.inputs = same_inputs(user.vlm, [given])
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter('always')
            rows = user.record(images=[given])
            assert user.edit(images=[given])
        assert any('lying on its side' in str(w.message) for w in told) == (way == 'lying')
        boxes[way] = rows.meta['sizes'], [(s.grid, s.box) for s in rows.spans]
    assert boxes['turned'] == boxes['upright'] != boxes['lying']
    assert boxes['upright'][0] == [(80, 120)] and boxes['lying'][0] == [(120, 80)]
    refuse('same order and size', lambda: user.record(images=[photo]))


@pytest.mark.parametrize('name', ['llava', 'qwen2_5_vl', 'idefics3'])
def test_images_of_other_modes(name, load, tmp_path):
    "Transparency, palettes and gray, by path and opened: the processor reads a file in another way than an opened image"
    clear = WIDE.convert('RGBA')
    clear.putalpha(WIDE.convert('L'))
    for i, im in enumerate((clear, WIDE.quantize(32), WIDE.convert('L'), WIDE.convert('LA'))):
        im.save(path := tmp_path/f'{i}.png')
        for given in str(path), Image.open(path):
            user = User(load(name))
            user.inputs = same_inputs(user.vlm, [given])
            assert len(user.record(images=[given]).attn)


# name, settings of the call, size of the image -> (view, box) of its spans
CALLS = [
    ('llava', dict(do_center_crop=False, size=dict(height=64, width=64)), (300, 200), [('base', (0, 0, 300, 200))]),
    ('llava', dict(size=dict(shortest_edge=32)), (300, 200), [('base', (-50, -100, 350, 300))]),
    ('internvl', dict(crop_to_patches=False), (260, 180), [('base', (0, 0, 260, 180))]),
    ('internvl', dict(max_patches=2), (300, 100), [('base', (0, 0, 300, 100)), ('tile 0,0', (0, 0, 150, 100)), ('tile 0,1', (150, 0, 300, 100))]),
    ('smolvlm', dict(do_image_splitting=False), (260, 180), [('base', (0, 0, 260, 180))]),
    ('idefics3', dict(size=dict(longest_edge=64)), (200, 100), [('base', (0, 0, 200, 100)), ('tile 0,0', (0, 0, 100, 100)), ('tile 0,1', (100, 0, 200, 100))]),
    ('gemma3', dict(do_pan_and_scan=True), (1200, 300), [('base', (0, 0, 1200, 300)), *((f'crop {i}', (300*i, 0, 300*i + 300, 300)) for i in range(4))]),
    ('gemma3', dict(do_pan_and_scan=True, pan_and_scan_min_crop_size=16), (500, 100), [('base', (0, 0, 500, 100)), *((f'crop {i}', (125*i, 0, 125*i + 125, 100)) for i in range(4))]),
    ('qwen2_5_vl', dict(size=dict(shortest_edge=256*100, longest_edge=256*102)), (260, 180), [('base', (0, 0, 260, 180))]),
]


@pytest.mark.parametrize('name, kw, size, want', CALLS)
def test_settings_given_at_the_call(name, kw, size, want, load):
    "Grid and box are those of the call where the processor remembers it, and of no other image; else the error says how"
    vlm, image = load(name), WIDE.resize(size)
    user = User(vlm, [image])
    user.inputs = same_inputs(vlm, [image], **kw)
    refuse(r'Settings given at its call .* `processor = remember\(processor\)`', user.record)
    user.inputs = same_inputs(vlm, [image], make=remember, **kw)
    for images in [image], None: assert [(s.view, s.box) for s in user.record(images=images).spans] == want
    assert user.edit(images=None)
    refuse('not those that the processor got', lambda: user.record(images=mirrored([image])))
    user.inputs = dict(user.inputs)
    refuse(r'remember\(processor\)`, and give them as it returns them', user.record)


@pytest.mark.parametrize('name', HERE)
def test_remember(name, load):
    "What a processor was given stays through a chat template that tokenizes, and through pickling; other images are refused"
    user = family_user(load, name)
    processor, want = remember(user.processor), user.record(question=QUESTION)
    chat = [dict(role='user', content=[*(dict(type='image', image=im) for im in user.images), dict(type='text', text=QUESTION)])]
    pickled = [pickle.loads(pickle.dumps(processor))] if name == 'llava' else []    # others are put together here, without torchvision
    for own in processor, copy.deepcopy(processor), *pickled:
        inputs = own.apply_chat_template(chat, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors='pt')
        for user.inputs in inputs, inputs.to('cpu'), pickle.loads(pickle.dumps(inputs)):
            rows = user.record(images=None, question=QUESTION)
            assert torch.equal(rows.attn, want.attn) and ''.join(rows.question_tokens).strip() == QUESTION
            assert [(s.view, s.box) for s in rows.spans] == [(s.view, s.box) for s in want.spans] and 'pixels' not in rows.meta
    refuse('not those that the processor got', lambda: user.record(images=mirrored(user.images)))
    if len(user.images) > 1: refuse('not those that the processor got.* same order', lambda: user.record(images=user.images[::-1]))
    user.inputs['pixel_values'] = user.inputs['pixel_values'].flip(-1)
    refuse("pixels='changed'", lambda: user.record(images=None))
    assert user.record(images=None, pixels='changed').meta['pixels'] == 'changed'


def test_settings_changed_after_the_call(load):
    user, processor = User(load('llava'), [WIDE]), remember(copy.deepcopy(load('llava').processor))
    user.inputs = processor(images=[[WIDE]], text=[user.vlm.prompt(WIDE, QUESTION).text], return_tensors='pt')
    processor.image_processor.do_center_crop = False
    refuse('another shape or on another grid', lambda: user.record(processor=processor))


def test_settings_on_the_processor(load):
    vlm, processor = load('llava'), copy.deepcopy(load('llava').processor)
    ip = processor.image_processor
    ip.do_center_crop, ip.size = False, type(ip.size)(height=64, width=64)
    user = User(vlm, [WIDE])
    user.inputs = processor(images=[[WIDE]], text=[vlm.prompt(WIDE, QUESTION).text], return_tensors='pt')
    assert user.record(processor=processor).spans[0].box == (0, 0, *WIDE.size)


@pytest.mark.parametrize('name', HERE)
def test_batch_of_three_sizes(name, load):
    "Two images in the first prompt, one in the second, in one list or one for each prompt"
    vlm = load(name)
    if 'several images' in vlm.family.why_not: return
    vlm.processor.tokenizer.padding_side = 'left'
    chats, square = [vlm.prompt([WIDE, TALL], QUESTION).text, vlm.prompt([WIDE], 'Why?').text], ImageOps.mirror(WIDE).resize((90, 90))
    user = User(vlm)
    def forward():
        with torch.no_grad(): vlm.model(**inputs)
    for processor, more in (vlm.processor, ()), (remember(vlm.processor), [None]):
        inputs = processor(images=[[WIDE, TALL], [square]], text=chats, padding=True, return_tensors='pt')
        for images in [WIDE, TALL, square], [[WIDE, TALL], [square]], *more:
            first, second = user.record(forward, inputs=inputs, images=images, question=[QUESTION, 'Why?'])
            assert (first.meta['sizes'], second.meta['sizes']) == ([WIDE.size, TALL.size], [square.size])
            assert [''.join(rows.question_tokens).strip() for rows in (first, second)] == [QUESTION, 'Why?']
        refuse('same order', lambda: user.record(forward, inputs=inputs, images=[square, TALL, WIDE]))
        refuse('same order', lambda: user.record(forward, inputs=inputs, images=[WIDE, TALL, ImageOps.mirror(square)]))


def test_two_images_for_a_prompt_of_one(load):
    user = User(load('instructblip'), [WIDE])
    refuse('which these images do not fill', lambda: user.record(images=[WIDE, TALL]))


def test_box_outside_a_turned_photo(photo, tmp_path):
    row = dict(image=photo.name, question='What?', answer='a', box=[90, 10, 110, 30])
    (tmp_path/'questions.jsonl').write_text(json.dumps(row))
    record, = load_benchmark(str(tmp_path)).records
    refuse(r'image of 80 x 120 pixels, which is stored as 120 x 80 and turned upright', record.open)


@pytest.mark.parametrize('name', ['llava', 'qwen2_5_vl', 'internvl'])
def test_too_many_images(name, load):
    user = User(load(name))
    for call in user.record, user.edit: refuse('images', lambda: call(images=[WIDE, TALL, WIDE]))


def test_video_inputs(qwen):
    frames = [WIDE]*4
    inputs = qwen.vlm.prompt(open_video(frames), QUESTION).inputs
    refuse('ask_video', lambda: qwen.record(inputs=inputs, images=frames))


# -- what runs inside the block is of the inputs

def test_generate_however_it_is_called(llava):
    "Bound before the block, or the class's own: what the block refuses is named, and its tokens are kept"
    before, by_class = llava.model.generate, type(llava.model).generate
    for bad, why in (dict(num_beams=2), 'num_beams=2: beams'), (dict(num_return_sequences=2, do_sample=True), 'would have several answers'):
        refuse(why, lambda: llava.record(lambda: before(**llava.inputs, **KW | bad)))
        refuse(why, lambda: llava.record(lambda: by_class(llava.model, **llava.inputs, **KW | bad)))
    other = llava.vlm.prompt(WIDE, 'Why?').inputs
    refuse('other inputs', lambda: llava.record(lambda: before(**other, **KW)))
    rows = llava.record(lambda: before(**llava.inputs, **KW))
    assert len(rows.attn) == 3 and rows.tokens == llava.record().tokens


@dataclass
class Agent:
    "Code of one's own around `generate`, under the same name"
    user: User
    def generate(self, **kw): return self.user.model.generate(**self.user.inputs, **KW, **kw)


def test_generate_of_ones_own(llava):
    "A class with a `generate` is not taken for the model; a loop that tells nobody of its tokens is refused, and no list is changed"
    want, mine = llava.record(), StoppingCriteriaList()
    rows = llava.record(lambda: Agent(llava).generate(stopping_criteria=mine))
    assert rows.tokens == want.tokens and torch.equal(rows.attn, want.attn) and not mine
    def loop(model, input_ids, cache=None, **kw): return model(**llava.inputs).logits[:, -1:].argmax(-1)
    with torch.no_grad(): refuse('1 forward passes for 0 generated tokens', lambda: llava.record(lambda: Agent(llava).generate(custom_generate=loop)))
    assert not mine


def hooks(model): return [[*m._forward_pre_hooks, *m._forward_hooks] for m in model.modules()]


@pytest.mark.parametrize('name', HERE)
def test_pass_of_other_inputs_of_the_same_length(name, load):
    "A forward pass, and a `generate` bound before the block, of other pixels or words: as `generate` inside it"
    user = family_user(load, name)
    model, generate = user.model, user.model.generate
    def forward(inputs):
        with torch.no_grad(): model(**inputs)
    forward(user.inputs)    # stock models hang hooks of their own at their first pass
    before, ids = (settings(user.vlm), hooks(model)), user.inputs['input_ids'].clone()
    ids[0, -1] = user.processor.tokenizer('x').input_ids[-1]
    others = dict(pixel_values=dict(user.vlm.prompt(mirrored(user.images), QUESTION).inputs), input_ids=dict(user.inputs, input_ids=ids))
    for kind, inputs in others.items():
        assert inputs['input_ids'].shape == ids.shape
        for run in forward, lambda i: generate(**i, **KW), lambda i: model.generate(**i, **KW):
            refuse(f'of other inputs .*{kind} differ', lambda: user.record(lambda: run(inputs)))
    for run in forward, lambda i: generate(**i, **KW): assert len(user.record(lambda: run(user.inputs)).attn) in (1, 3)
    assert (settings(user.vlm), hooks(model)) == before


def test_pass_of_other_inputs_by_position_and_inside(llava):
    other = dict(llava.inputs, pixel_values=llava.inputs['pixel_values'].flip(0))
    def by_position(inputs):
        with torch.no_grad(): llava.model(*(inputs[k] for k in ('input_ids', 'pixel_values', 'attention_mask')))
    def inside(inputs):
        with torch.no_grad(): llava.model.model(**inputs)
    def embedded(inputs):
        words = llava.model.get_input_embeddings()(inputs['input_ids'])
        with torch.no_grad(): llava.model(inputs_embeds=words, **{k: inputs[k] for k in ('pixel_values', 'attention_mask')})
    for run in by_position, inside, embedded:
        refuse('pixel_values differ', lambda: llava.record(lambda: run(other)))
        assert len(llava.record(lambda: run(llava.inputs)).attn) == 1


def test_two_threads_with_a_block_each(llava):
    "What one thread runs is not compared with the inputs of the other's block"
    other = User(llava.vlm, mirrored(llava.images))
    want, found, gate = [u.record().attn for u in (llava, other)], {}, threading.Barrier(2, timeout=300)
    def work(i, user):
        def run():
            gate.wait()
            user.model.generate(**user.inputs, **KW)
            gate.wait()
        found[i] = user.record(run)
    threads = [threading.Thread(target=work, args=pair) for pair in enumerate((llava, other))]
    for t in threads: t.start()
    for t in threads: t.join()
    assert all(torch.equal(found[i].attn, w) for i, w in enumerate(want))


def test_question_of_a_cached_turn(load):
    "Its rows were made in that turn"
    user = User(load('llava_next'), [WIDE])
    out = user.model.generate(**user.inputs, **KW, return_dict_in_generate=True)
    more = user.processor.tokenizer(' And now?', add_special_tokens=False, return_tensors='pt').input_ids
    ids = torch.cat([out.sequences, more], 1)
    second = dict(input_ids=ids, attention_mask=torch.ones_like(ids))
    def run(): user.model.generate(**second, **KW, **{CACHE: copy.deepcopy(out[CACHE])})
    refuse('in an earlier turn, which the cache holds', lambda: user.record(run, inputs=second, question=QUESTION))
    rows = user.record(run, inputs=second, question='And now?')
    assert len(rows.question) == len(rows.question_tokens) > 0 and rows.meta['pixels'] == 'not compared'


def test_rounded_pixels(llava):
    rounded = dict(llava.inputs, pixel_values=llava.inputs['pixel_values'].bfloat16().float())
    assert len(llava.record(lambda: llava.model.generate(**rounded, **KW)).attn) == 3


def test_block_that_ends_before_its_thread(llava):
    started, go = threading.Event(), threading.Event()
    def wait(ids, scores):
        started.set()
        go.wait(300)
        return scores
    threads = []
    def run():
        kw = dict(llava.inputs, **KW, logits_processor=[wait])
        threads.append(threading.Thread(target=llava.model.generate, kwargs=kw))
        threads[0].start()
        started.wait(300)
    try: refuse('join', lambda: llava.record(run))
    finally:
        go.set()
        threads[0].join()
    streamer = TextIteratorStreamer(llava.processor.tokenizer)
    def stream():
        thread = threading.Thread(target=llava.model.generate, kwargs=dict(llava.inputs, **KW, streamer=streamer))
        thread.start()
        thread.join()
    assert len(llava.record(stream).tokens) == 3


# -- wrapped models

class Wrapper(torch.nn.Module):
    "As DistributedDataParallel: the model is its `module`"
    def __init__(self, module):
        super().__init__()
        self.module = module
    def forward(self, *args, **kw): return self.module(*args, **kw)


def test_wrapped_models(llava):
    want, plain, said = llava.record(), llava.edit(), llava.vlm.ask(WIDE, QUESTION, max_new_tokens=4)
    for wrapper in torch.nn.DataParallel(llava.model), Wrapper(llava.model), Wrapper(Wrapper(llava.model)):
        assert torch.equal(llava.record(model=wrapper).attn, want.attn) and len(llava.edit(model=wrapper)) == len(plain) == 1
        assert VLM(wrapper, llava.processor).ask(WIDE, QUESTION, max_new_tokens=4) == said
        with torch.no_grad(): first = llava.record(lambda: wrapper(**llava.inputs), model=wrapper)
        assert torch.allclose(first.attn, want.attn[:1], atol=1e-6)


@pytest.mark.filterwarnings('ignore:`is_gradient_checkpointing`:FutureWarning')     # of peft
def test_wrapped_models_and_other_inputs(llava):
    peft = pytest.importorskip('peft')
    adapted = peft.get_peft_model(copy.deepcopy(llava.model), peft.LoraConfig(target_modules=['q_proj', 'v_proj']))
    base, other = adapted.get_base_model(), dict(llava.inputs, pixel_values=llava.inputs['pixel_values'].flip(0))
    pairs = [(m, m) for m in (adapted, torch.nn.DataParallel(llava.model), Wrapper(Wrapper(llava.model)))]
    for model, runner in [*pairs, (adapted, base), (base, adapted)]:
        def run(inputs):
            with torch.no_grad(): runner(**inputs)
        before = hooks(model)
        refuse('pixel_values differ', lambda: llava.record(lambda: run(other), model=model))
        assert len(llava.record(lambda: run(llava.inputs), model=model).attn) == 1 and hooks(model) == before


@pytest.mark.parametrize('way', ['cpu_offload', 'disk_offload'])
@pytest.mark.parametrize('name', ['llava', 'qwen2_5_vl'])
def test_offloaded(name, way, folders, tmp_path):
    accelerate = pytest.importorskip('accelerate')
    user = User(VLM.from_pretrained(folders(name)))
    def ask(): return user.vlm.ask(WIDE, QUESTION, max_new_tokens=4).tokens, user.vlm.capture(WIDE, QUESTION).attn
    want, (said, rows) = user.record(), ask()
    where = dict(offload_dir=tmp_path) if way == 'disk_offload' else {}
    getattr(accelerate, way)(user.model, execution_device=torch.device('cpu'), **where)
    assert torch.allclose(user.record().attn, want.attn, atol=1e-6) and len(user.edit()) == 1
    assert user.model.device.type == 'meta' and user.vlm.device.type == 'cpu'
    assert ask()[0] == said and torch.allclose(ask()[1], rows, atol=1e-6)


@pytest.mark.parametrize('name', HERE)
def test_embeds_of_another_image(name, load):
    "A pass of `inputs_embeds` alone could be of any image: it is refused, and a pass of ids is not"
    user = family_user(load, name)
    if user.vlm.family.cross or user.vlm.family.bridge: return    # which do not take the image as embeddings
    decoder, seen = next(m for m in user.model.modules() if vars(m).get('config') is user.vlm.text_config), []
    hook = decoder.register_forward_pre_hook(lambda m, args, kw: seen.append(kw), with_kwargs=True)
    with hook, torch.no_grad(): user.model(**user.inputs)
    embeds = seen[0]['inputs_embeds']
    def forward():
        with torch.no_grad(): user.model(inputs_embeds=embeds, attention_mask=user.inputs['attention_mask'])
    try: forward()
    except Exception: return    # a family that needs the ids beside them
    refuse('neither input_ids nor pixels, .* call `model\\(\\*\\*inputs\\)`', lambda: user.record(forward))


def test_copy_made_inside_a_block(folders):
    "It answers by its own weights, inside the block and after it"
    user, copies = User(VLM.from_pretrained(folders('llava')), [WIDE]), []
    def run():
        copies.append(copy.deepcopy(user.model))
        with torch.no_grad(): copies[0].lm_head.weight.copy_(copies[0].lm_head.weight.flip(0))
        copies.append(copies[0].generate(**user.inputs, **KW))
        copies.append(torch.optim.swa_utils.AveragedModel(user.model).module)
        user.model.generate(**user.inputs, **KW)
    rows = user.record(run)
    kernels = [{vars(m)['config']._attn_implementation for m in own.modules() if 'config' in vars(m)} for own in (user.model, copies[0], copies[2])]
    assert kernels == [{'sdpa'}]*3
    want = type(user.model).generate(copies[0], **user.inputs, **KW)
    assert torch.equal(copies[1], want) and torch.equal(copies[0].generate(**user.inputs, **KW), want)
    assert rows.tokens == user.record().tokens != want[0, -len(rows.tokens):].tolist()


def test_assistant_is_not_printed(llava):
    refuse('assistant_model=LlavaForConditionalGeneration: drafted', lambda: llava.record(
        lambda: llava.model.generate(**llava.inputs, **KW, assistant_model=llava.model)))


# -- slips

def test_slips(llava):
    for call in llava.record, llava.edit:
        refuse('a NoneType: give the processor', lambda: call(processor=None))
        refuse('Tokenizer.*: give the processor', lambda: call(processor=llava.processor.tokenizer))
        refuse('give the model of transformers', lambda: call(model=llava.processor, processor=llava.model))
    for layers in [-1], [6], [], 'all': refuse('layers', lambda: llava.record(layers=layers))
    assert [llava.record(layers=layers).layers for layers in (3, (.5, .7))] == [[3], [3, 4]]
    llava.processor.tokenizer.padding_side = 'left'
    chat = llava.vlm.prompt(WIDE, QUESTION).text
    both = llava.processor(images=[WIDE, TALL], text=[chat, chat], padding=True, return_tensors='pt')
    refuse('1 questions for 2 prompts', lambda: llava.record(inputs=both, question=[QUESTION]))
    assert len(llava.record(lambda: llava.model.generate(**both, **KW), inputs=both, question=QUESTION)) == 2
