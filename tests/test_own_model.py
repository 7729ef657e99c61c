"The user's own model, inputs and wrong use, around a stock `generate`: what a user starts, and the one sentence that answers."
import threading
from dataclasses import replace
import pytest, torch
from IPython.core.formatters import DisplayFormatter
from transformers import TextIteratorStreamer
from carve_nb.attention.intervention import Edit, raise_scores
from carve_nb.attention.stock_recording import record_attention
from carve_nb.baselines.stock_models import editing
from carve_nb.core.errors import CarveError
from carve_nb.models.video import open_video
from test_families import QUESTION, TALL, WIDE, cell_box

pytestmark = pytest.mark.filterwarnings('ignore')
KW = dict(max_new_tokens=3, do_sample=False)


class User:
    "A model of a family, and the inputs of two pictures that its processor made"
    def __init__(self, vlm, images=(WIDE, TALL)):
        self.vlm, self.model, self.processor, self.images = vlm, vlm.model, vlm.processor, list(images)
        self.inputs = dict(vlm.prompt(self.images, QUESTION).inputs)
    def record(self, run=None, **kw):
        run = run or (lambda: self.model.generate(**self.inputs, **KW))
        given = dict(model=self.model, processor=self.processor, inputs=self.inputs, images=self.images) | kw
        with record_attention(**given) as rows: run()
        return rows
    def edit(self, **kw):
        change = Edit(list(self.vlm.layers), scores=raise_scores(torch.arange(1), 1.))
        given = dict(model=self.model, processor=self.processor, inputs=self.inputs, images=self.images, edit=change) | kw
        with editing(**given) as done: self.model.generate(**self.inputs, **KW)
        return done


@pytest.fixture
def llava(load): return User(load('llava'))


@pytest.fixture
def qwen(load): return User(load('qwen2_5_vl'))


def refuse(words, call):
    with pytest.raises(CarveError, match=words) as e: call()
    assert len(str(e.value)) < 500 and '\n' not in str(e.value)


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


# -- the pictures are those of the inputs

@pytest.mark.parametrize('name', ['qwen2_5_vl', 'qwen3_vl', 'llava_next', 'llava_onevision', 'internvl', 'smolvlm', 'idefics3'])
def test_pictures_in_the_wrong_order(name, load):
    wide = WIDE.resize((200, 200) if name == 'internvl' else (300, 100))   # others are cut into as many tiles as TALL
    user = User(load(name), (wide, TALL))
    assert len(user.record().spans) >= 2
    for call in user.record, user.edit: refuse('same order', lambda: call(images=[TALL, wide]))


def test_picture_of_the_wrong_size(qwen, load):
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


def test_limits_of_one_call(load):
    "The processor was told another limit in the call: the grid is another, the picture the same"
    qwen = load('qwen2_5_vl')
    text = qwen.prompt(WIDE, QUESTION).text
    for pixels in 28*28*4, 28*28*16, 28*28*64:
        inputs = qwen.processor(images=[WIDE], text=[text], return_tensors='pt', max_pixels=pixels, min_pixels=28*28)
        with record_attention(qwen.model, qwen.processor, inputs, WIDE) as rows: qwen.model.generate(**inputs, **KW)
        assert rows.spans[0].box == (0, 0, *WIDE.size)


@pytest.mark.parametrize('name', ['llava', 'qwen2_5_vl', 'internvl'])
def test_too_many_pictures(name, load):
    user = User(load(name))
    for call in user.record, user.edit: refuse('pictures', lambda: call(images=[WIDE, TALL, WIDE]))


def test_video_inputs(qwen):
    frames = [WIDE]*4
    inputs = qwen.vlm.video_prompt(open_video(frames), QUESTION).inputs
    refuse('ask_video', lambda: qwen.record(inputs=inputs, images=frames))


# -- what runs inside the block is of the inputs

def test_generate_that_the_block_cannot_see(llava):
    before, by_class = llava.model.generate, type(llava.model).generate
    for bad in dict(num_beams=2), dict(num_return_sequences=2, do_sample=True):
        refuse('such as beams', lambda: llava.record(lambda: before(**llava.inputs, **KW | bad)))
        refuse('such as beams', lambda: llava.record(lambda: by_class(llava.model, **llava.inputs, **KW | bad)))
    other = llava.vlm.prompt(WIDE, 'Why?').inputs
    refuse('other inputs', lambda: llava.record(lambda: before(**other, **KW)))
    assert len(llava.record(lambda: before(**llava.inputs, **KW)).attn) == 3


def test_forward_of_other_inputs(llava):
    other = llava.vlm.prompt(WIDE, 'Why?').inputs
    def forward(inputs):
        with torch.no_grad(): llava.model(**inputs)
    refuse('other inputs', lambda: llava.record(lambda: forward(other)))
    assert len(llava.record(lambda: forward(llava.inputs)).attn) == 1


def test_other_pixels_with_the_same_words(llava):
    other = dict(llava.inputs, pixel_values=llava.inputs['pixel_values'].flip(0))
    refuse('pixel_values differ', lambda: llava.record(lambda: llava.model.generate(**other, **KW)))
    rounded = dict(llava.inputs, pixel_values=llava.inputs['pixel_values'].bfloat16().float())
    assert len(llava.record(lambda: llava.model.generate(**rounded, **KW)).attn) == 3


def test_block_that_ends_before_its_thread(llava):
    started, go = threading.Event(), threading.Event()
    def wait(ids, scores):
        started.set()
        go.wait(20)
        return scores
    threads = []
    def run():
        kw = dict(llava.inputs, **KW, logits_processor=[wait])
        threads.append(threading.Thread(target=llava.model.generate, kwargs=kw))
        threads[0].start()
        started.wait(20)
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
    want, plain = llava.record(), llava.edit()
    for wrapper in torch.nn.DataParallel(llava.model), Wrapper(llava.model), Wrapper(Wrapper(llava.model)):
        assert torch.equal(llava.record(model=wrapper).attn, want.attn) and len(llava.edit(model=wrapper)) == len(plain) == 1
        with torch.no_grad(): first = llava.record(lambda: wrapper(**llava.inputs), model=wrapper)
        assert torch.allclose(first.attn, want.attn[:1], atol=1e-6)


@pytest.mark.parametrize('way', ['cpu_offload', 'disk_offload'])
def test_offloaded(way, folders, tmp_path):
    accelerate = pytest.importorskip('accelerate')
    from carve_nb.models.vlm import VLM
    user = User(VLM.from_pretrained(folders('llava')))
    want = user.record()
    where = dict(offload_dir=tmp_path) if way == 'disk_offload' else {}
    getattr(accelerate, way)(user.model, execution_device=torch.device('cpu'), **where)
    assert torch.allclose(user.record().attn, want.attn, atol=1e-6) and len(user.edit()) == 1


def test_gradient_checkpointing(load, folders):
    from carve_nb.models.vlm import VLM
    user = User(VLM.from_pretrained(folders('llava')))
    user.model.train()
    user.model.gradient_checkpointing_enable()
    def step(): user.model(**user.inputs).logits.sum().backward()
    refuse('Gradient checkpointing', lambda: user.record(step))
    user.model.gradient_checkpointing_disable()
    assert len(user.record(step).attn) == 1


def test_assistant_is_not_printed(llava):
    refuse('assistant_model=LlavaForConditionalGeneration: drafted', lambda: llava.record(
        lambda: llava.model.generate(**llava.inputs, **KW, assistant_model=llava.model)))


# -- slips

def test_slips(llava):
    for call in llava.record, llava.edit:
        refuse('a NoneType: give the processor', lambda: call(processor=None))
        refuse('Tokenizer.*: give the processor', lambda: call(processor=llava.processor.tokenizer))
        refuse('give the model of transformers', lambda: call(model=llava.processor, processor=llava.model))
    refuse(r'layers=3: give a list', lambda: llava.record(layers=3))
    for layers in (.5, .8), [-1]: refuse('saliency', lambda: llava.record(layers=layers))
    llava.processor.tokenizer.padding_side = 'left'
    chat = llava.vlm.prompt(WIDE, QUESTION).text
    both = llava.processor(images=[WIDE, TALL], text=[chat, chat], padding=True, return_tensors='pt')
    refuse('1 questions for 2 prompts', lambda: llava.record(inputs=both, question=[QUESTION]))
    assert len(llava.record(lambda: llava.model.generate(**both, **KW), inputs=both, question=QUESTION)) == 2
