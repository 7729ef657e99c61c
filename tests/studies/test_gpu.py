"What is computed of a GPU: bytes are those of a model in memory, and the page has the tables that the recipe prints."

import json
import re
import numpy as np
import pytest
import torch
from fastcore.nbio import read_nb
from processes import ROOT
from carve_nb.data.scenes import make_scene
from carve_nb.studies.paper import TABLES
from recipes.gpu import (
    BATCH,
    EVENING,
    USED,
    Shape,
    answer_batch,
    as_text,
    computed_table,
    evening_lines,
    evening_table,
    paper_table,
    peak_memory,
    run_gpu,
    shapes,
)
from recipes.records import load_trial


def test_bytes_are_exact(load):
    vlm, image, question = load('carve-small'), make_scene(145).image, 'What digit is on the orange heart?'
    prompt, shape = vlm.prompt(image, question), Shape.of(vlm.model)
    with torch.no_grad():
        cache = vlm.model(**vlm.to_device(prompt)).past_key_values
    rows = vlm.capture(image, question)
    queries, _, _, tokens = rows.attn.shape
    assert shape.weight_bytes(4) == sum(p.nbytes for p in vlm.model.parameters())
    assert shape.cache_bytes(len(prompt), 4) == sum(
        layer.keys.nbytes + layer.values.nbytes for layer in cache.layers
    )
    assert shape.row_bytes(tokens, queries) == rows.attn.nbytes


def test_a_token_reads_the_decoder_alone():
    "A tower as large as the decoder costs a pass its arithmetic, and no generated token anything"
    shape = Shape(decoder=10**9, tower=10**9, layers=1, heads=1, kv_heads=1, head_dim=1)
    seconds = [shape.answer_seconds(100, 100, generated, 1e12, 1e12) for generated in (0, 10)]
    assert seconds[1] - seconds[0] == pytest.approx(10 * 2e9 / (USED[1] * 1e12))


def test_peak_memory_of_all_devices(monkeypatch):
    "Two GPUs that held 1 and 2 bytes, and 10 and 20 at most: 27 above the start"
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 2)
    monkeypatch.setattr(torch.cuda, 'reset_peak_memory_stats', lambda device: None)
    monkeypatch.setattr(torch.cuda, 'memory_allocated', lambda device: [1, 2][device])
    monkeypatch.setattr(torch.cuda, 'max_memory_allocated', lambda device: [10, 20][device])
    with peak_memory() as peak:
        pass
    assert peak == [27]


def test_page_has_the_tables():
    "So has the sentence on how far they can be trusted: the paper's own seconds, and those of two models on a CPU"
    cells = json.loads((ROOT / 'nbs/tutorials/your_model.ipynb').read_text(encoding='utf-8'))['cells']
    page = '\n'.join(''.join(c['source']) for c in cells)
    assert as_text(computed_table()) in page and as_text(paper_table()) in page
    seconds = shapes()['LLaVA-1.5 7B'].answer_seconds(576 + 64, 576, 1, 155e12, 0.768e12)  # of an RTX A6000
    assert f'gives {seconds:.2f} s for an answer of one token' in page
    lines = load_trial('released_cost-carve-smol', ROOT / 'nbs/results/trial')[1:]
    assert f"took {np.median([line['own'] / line['small'] for line in lines]):.1f} times as long" in page


def test_page_has_the_evening():
    page = '\n'.join(cell.source for cell in read_nb(ROOT / 'nbs/tutorials/one_gpu.ipynb').cells)
    assert evening_lines() in page and as_text(evening_table()) in page


@pytest.mark.soak
def test_evening(monkeypatch, capsys):
    "Each of the evening's commands ends well with a tiny random Qwen2.5-VL in bfloat16"
    monkeypatch.setattr('carve_nb.studies.checkup.PROFILED', 2)
    monkeypatch.setattr('carve_nb.attention.vlm.room', lambda *_: 2)
    monkeypatch.setenv('CARVE_PROFILES', '')
    run_gpu(dry=True)
    printed = capsys.readouterr().out
    rows = re.findall(r'^\| (.+?) \|', printed[printed.index('| seconds |') :], re.M)
    assert [*EVENING] == rows[-4:], printed


def test_a_batch_answers_as_one(load):
    vlm = load('qwen2_5_vl')
    prompt = vlm.prompt(make_scene(0).image, 'What is in the middle?')
    one = vlm.model.generate(**vlm.to_device(prompt), max_new_tokens=4, do_sample=False)[:, len(prompt) :]
    assert answer_batch(vlm, prompt).tolist() == one.tolist() * BATCH


def test_gains_that_the_paper_prints():
    base, _, t_end, _ = TABLES['main'].printed['Qwen2.5-VL-3B-Instruct']
    gains = [round(end - plain, 1) for end, plain in zip(t_end, base)]
    page = read_nb(ROOT / 'nbs/tutorials/one_gpu.ipynb').cells[-1].source
    assert f'gains of {min(gains)} to {max(gains)} points' in page
