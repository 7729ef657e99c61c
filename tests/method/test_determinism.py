"The same run twice: equal answers and maps, in one process and in two, and with another number of threads."

import hashlib
from pathlib import Path
import numpy as np
import processes
import pytest
import torch
from carve_nb.data.scenes import samples
from carve_nb.method.carve import Carve

pytestmark = pytest.mark.filterwarnings('ignore:.*does not know')
CODE = """import sys, torch
sys.path.insert(0, {folder!r})
import test_determinism as t
from carve_nb import VLM
print(t.digest(t.run(VLM.from_pretrained("carve-tiny"))))"""


def run(vlm):
    "CARVE on a held-out scene"
    scene = samples('color', 1)[0]
    return Carve.official(max_new_tokens=4)(vlm, scene.image, scene.question)


def digest(result):
    "One name for answers, maps, box and crop"
    digest = hashlib.sha256(
        repr(
            (result.answer.tokens, result.answer.logprob, result.plain_answer.tokens, result.crop.box)
        ).encode()
    )
    for array in (result.saliency.values, result.rows.attn.numpy(), result.instruction_rows.attn.numpy()):
        digest.update(np.ascontiguousarray(array).tobytes())
    digest.update(result.crop.image.tobytes())
    return digest.hexdigest()


@pytest.mark.case(53)
def test_same_run(load):
    "Twice in this process, and once in another, whose hashes have other seeds: every bit is the same"
    vlm = load('carve-tiny')
    elsewhere = processes.run(
        CODE.format(folder=str(Path(__file__).parent)), work=processes.afresh
    ).stdout.split()[-1]
    assert digest(run(vlm)) == digest(run(vlm)) == elsewhere


@pytest.mark.case(53)
def test_same_with_threads(load):
    "Another number of threads: the same answers, and maps that differ by rounding at most"
    vlm, threads = load('carve-tiny'), torch.get_num_threads()
    first = run(vlm)
    try:
        torch.set_num_threads(3 - min(threads, 2))
        second = run(vlm)
    finally:
        torch.set_num_threads(threads)
    assert first.answer.tokens == second.answer.tokens and first.crop.box == second.crop.box
    np.testing.assert_allclose(
        second.saliency.values, first.saliency.values, atol=1e-4 * np.abs(first.saliency.values).max()
    )
