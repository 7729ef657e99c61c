"A proof holds for what it is used on."
import shutil
from functools import partial
from types import MethodType
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import KW, QUESTION, WIDE, User, refuse
from transformers.models.qwen2_5_vl import modeling_qwen2_5_vl as qwen
from carve_nb import VLM, Carve, Lookup
from carve_nb.core.io import CHECKPOINTS
from carve_nb.models.identity import own_code
from carve_nb.runs.runner import run_eval

pytestmark = pytest.mark.filterwarnings('ignore::UserWarning')

@pytest.mark.parametrize('family', ['qwen2_5_vl', 'gemma3', 'llava'])
def test_drafts_are_refused(load, family):
    "Passes that read several drafted tokens have rows of other places than one a token: refused, and not recorded as such"
    user = User(load(family))
    def run(): user.generate(max_new_tokens=8, prompt_lookup_num_tokens=4)
    refuse('(?i)draft', lambda: user.record(run))


@pytest.mark.parametrize(('family', 'name'), [('qwen2_5_vl', 'mm_token_type_ids'), ('gemma3', 'token_type_ids')])
def test_types_of_tokens_that_are_not_the_processors(load, family, name):
    "Other marks move positions and masks, so the rows are of another prompt: zeroed or left out they are noted"
    user = User(load(family))
    def notes(inputs): return user.record(lambda: user.model.generate(**inputs, **KW), inputs=inputs).meta.get('notes', [])
    assert not notes(user.inputs)
    zeroed = user.inputs | {name: torch.zeros_like(user.inputs[name])}
    left_out = {key: value for key, value in user.inputs.items() if key != name}
    for inputs in zeroed, left_out: assert notes(inputs) == [f'the {name} are not those of the processor']


# -- prompts that are read in two parts, after a change between two questions

def decoder(vlm): return vlm.model.model.language_model
def less_mean(out, over): return out - .5*out.mean(1, keepdim=True) if out.shape[1] > over else out


def by_length(over):
    "A forward of a layer that acts in passes of more than so many tokens"
    stock = qwen.Qwen2_5_VLDecoderLayer.forward
    def forward(self, *args, **kw): return less_mean(stock(self, *args, **kw), over)
    return forward


def onto(make):
    "Set a method on one module"
    def change(vlm, patch):
        layer = decoder(vlm).layers[1]
        patch.setattr(layer, 'forward', make(by_length(60), layer), raising=False)
    return change


def class_of_layers(vlm, patch): patch.setattr(qwen.Qwen2_5_VLDecoderLayer, 'forward', by_length(60))


def own_class(vlm, patch):
    "A module whose class is of no library"
    layer = decoder(vlm).layers[1]
    layer.__class__ = type('Mine', (type(layer),), dict(forward=by_length(40)))    # the probe has 48


def hook(vlm, patch): decoder(vlm).layers[1].register_forward_hook(lambda module, args, out: less_mean(out, 1))


def int8(vlm, patch): torch.ao.quantization.quantize_dynamic(vlm.model, {torch.nn.Linear}, inplace=True)


def rope(vlm, patch):
    "Another rope, as one is put into a loaded model"
    half = vlm.text_config.hidden_size//vlm.text_config.num_attention_heads//2
    patch.setattr(vlm.text_config, 'rope_parameters', dict(
        vlm.text_config.rope_parameters, rope_type='longrope', short_factor=[1.]*half, long_factor=[4.]*half,
        original_max_position_embeddings=80, factor=25.))
    decoder(vlm).rotary_emb = qwen.Qwen2_5_VLRotaryEmbedding(vlm.text_config)


def static(vlm, patch): patch.setattr(vlm.model.generation_config, 'cache_implementation', 'static')


LATER = dict(    # name -> change, and why prompts are read whole
    hook=(hook, 'hooks'), int8=(int8, 'quantized'), rope=(rope, 'positions'), static=(static, 'static cache'),
    method=(onto(MethodType), 'methods of your own'), partly=(onto(partial), 'methods of your own'),
    function=(onto(lambda forward, layer: lambda *args, **kw: forward(layer, *args, **kw)), 'methods of your own'),
    own_class=(own_class, 'in two parts'))


@pytest.mark.parametrize('name', LATER)
def test_a_change_after_the_first_question(name, folders, monkeypatch):
    "Single calls see it: answer and rows are those of the prompt read whole, and a note says why"
    change, why = LATER[name]
    vlm = VLM.from_pretrained(folders('qwen2_5_vl'))
    for method in Carve(max_new_tokens=4), Lookup(query='last', max_new_tokens=4): method(vlm, WIDE, QUESTION)
    change(vlm, monkeypatch)
    same_answers(vlm, why)


def same_answers(vlm, why='', question=QUESTION):
    for method in Carve(max_new_tokens=4), Lookup(query='last', max_new_tokens=4):
        r = method(vlm, WIDE, question)
        whole = vlm.forward(vlm.prompt(WIDE, question, method.suffix), steps='all', max_new_tokens=4)
        assert r.plain_answer.tokens == whole.answer.tokens
        assert torch.allclose(r.rows.attn[0], whole.attn[0, r.rows.layers], atol=1e-5)
        assert [why in n for n in r.notes if n.startswith('every prompt is read whole')] == [True]*bool(why)


def test_a_class_that_acts_on_long_passes(folders, monkeypatch):
    "Over twice as long as the probe a prompt is read both ways once, and it is found; unpatched nothing is said"
    vlm = VLM.from_pretrained(folders('qwen2_5_vl'))
    long = f'{QUESTION} '*4
    same_answers(vlm, '', long)
    class_of_layers(vlm, monkeypatch)
    vlm.forget()
    assert not vlm.fingerprint.why_not_shared
    same_answers(vlm, 'in two parts', long)


def test_read_both_ways_once(load):
    "The probe, and each prompt over twice as long as any before; no other"
    vlm = load('llava')
    vlm.forget()
    lengths = []
    prove = vlm.fingerprint.prove
    vlm.fingerprint.prove = lambda prompt: lengths.append(len(prompt)) or prove(prompt)
    for words in 1, 20, 20, 60, 1: Carve(max_new_tokens=1)(vlm, WIDE, f'{QUESTION} '*words)
    assert len(lengths) >= 2 and all(b > 2*a for a, b in zip(lengths, lengths[1:])), lengths


def test_a_function_of_torch_is_not_ones_own(folders):
    "A `partial` of a function that has no code, as an activation is stored"
    vlm = VLM.from_pretrained(folders('llava'))
    decoder(vlm).layers[1].act = partial(torch._C._nn.gelu, approximate='tanh')
    assert not vlm.fingerprint.why_not_shared


# -- what a model is known by

def test_weights_of_a_folder(tmp_path):
    """One number among those that no sample meets makes another model; a moved folder is the same, one written
    over is not known"""
    shutil.copytree(CHECKPOINTS/'carve-small', tmp_path/'a'/'M')
    shutil.copytree(tmp_path/'a', tmp_path/'b')
    tensors = load_file(tmp_path/'b'/'M'/'model.safetensors')
    large = max(tensors, key=lambda name: tensors[name].numel())
    assert tensors[large].numel() > 2*65536
    tensors[large].view(-1)[1] += 1e-3
    save_file(tensors, tmp_path/'b'/'M'/'model.safetensors', metadata=dict(format='pt'))
    shutil.copytree(tmp_path/'a', tmp_path/'c')
    a, b, c = (VLM.from_pretrained(tmp_path/name/'M') for name in 'abc')
    assert a.fingerprint.weights == b.fingerprint.weights
    assert a.fingerprint.files == c.fingerprint.files != b.fingerprint.files
    run_eval('scenes', a, 'none', n=1, out=tmp_path/'run', max_new_tokens=1, progress=False)
    run_eval('scenes', c, 'none', n=2, out=tmp_path/'run', max_new_tokens=1, progress=False)
    refuse('holds another run: .*model.files is', lambda: run_eval(
        'scenes', b, 'none', n=3, out=tmp_path/'run', max_new_tokens=1, progress=False))
    shutil.copy(tmp_path/'b'/'M'/'model.safetensors', tmp_path/'a'/'M'/'model.safetensors')
    a.forget()
    assert a.fingerprint.files is None


def test_code_with_other_names():
    "Two functions that differ in a name or a constant alone"
    codes = {own_code(function) for function in (
        lambda x: x.sin(), lambda x: x.cos(), lambda x: x in (1, 2), lambda x: x in (1, 3))}
    assert len(codes) == 4
