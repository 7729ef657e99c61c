"The same run twice: equal answers and maps, in one process, in two, and with another number of threads."
import hashlib
import json
from pathlib import Path
import numpy as np
import processes
import pytest
import torch
from carve_nb.data.scenes import samples
from carve_nb.method.carve import Carve

CODE = """import sys, torch
sys.path.insert(0, {folder!r})
import test_determinism as t
from carve_nb import VLM
print(t.digest(t.run(VLM.from_pretrained("carve-tiny"))))"""


def run(vlm, methods=(Carve(), Carve.official(max_new_tokens=4))):
    "Answers and maps of CARVE on a held-out scene"
    s = samples('color', 1)[0]
    return [m(vlm, s.image, s.question) for m in methods]


def digest(results):
    "One name for all answers, maps, boxes and crops"
    h = hashlib.sha256()
    for r in results:
        h.update(json.dumps([r.answer.tokens, r.answer.logprob, r.plain_answer.tokens, r.crop.box]).encode())
        for a in (r.saliency.values, r.saliency.to_pixels(), r.rows.attn.numpy(),
                r.instruction_rows.attn.numpy()):
            h.update(np.ascontiguousarray(a).tobytes())
        h.update(r.crop.image.tobytes())
    return h.hexdigest()


def elsewhere():
    "The digest that another process finds, whose hashes have other seeds"
    return processes.run(CODE.format(folder=str(Path(__file__).parent)), work=processes.afresh).stdout.split()[-1]


@pytest.fixture(scope='module')
def vlm(load): return load('carve-tiny')


@pytest.mark.case(53)
@pytest.mark.filterwarnings('ignore:.*does not know')
def test_same_run(vlm):
    "Twice in this process, and once in another with as many threads: every bit is the same"
    once, again = run(vlm), run(vlm)
    assert digest(once) == digest(again)
    assert digest(once) == elsewhere()


@pytest.mark.case(53)
@pytest.mark.filterwarnings('ignore:.*does not know')
def test_same_with_threads(vlm):
    "Another number of threads: the same answers, and maps that differ by rounding at most"
    was = torch.get_num_threads()
    first = run(vlm, (Carve(),))
    try:
        torch.set_num_threads(3 - min(was, 2))
        second = run(vlm, (Carve(),))
    finally: torch.set_num_threads(was)
    for a, b in zip(first, second):
        assert a.answer.tokens == b.answer.tokens and a.crop.box == b.crop.box
        assert np.abs(a.saliency.values - b.saliency.values).max() <= 1e-4*np.abs(a.saliency.values).max()
