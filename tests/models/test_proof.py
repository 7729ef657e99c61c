"A proof holds for what it is used on."
import shutil
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import KW, QUESTION, WIDE, User, refuse
from carve_nb import VLM, Carve
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


def test_read_both_ways_once(load):
    "The probe, and each prompt over twice as long as any before; no other"
    vlm = load('llava')
    vlm.forget()
    lengths = []
    prove = vlm.fingerprint.prove
    vlm.fingerprint.prove = lambda prompt: lengths.append(len(prompt)) or prove(prompt)
    for words in 1, 20, 20, 60, 1: Carve(max_new_tokens=1)(vlm, WIDE, f'{QUESTION} '*words)
    assert len(lengths) >= 2 and all(b > 2*a for a, b in zip(lengths, lengths[1:])), lengths


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
