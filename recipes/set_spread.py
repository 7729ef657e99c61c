"""Set the spread of attention on the image instead of observing it: do answers follow?

`python -m recipes.set_spread MODEL`: about 15 minutes a model;
`nbs/results/trial/set_spread-MODEL.jsonl.gz`."""
from collections.abc import Callable
import numpy as np
import torch
from torch import Tensor
from carve_nb.attention.edits import Edit, applying
from carve_nb.attention.session import Session
from carve_nb.attention.vlm import VLM
from carve_nb.core.text import SHORT_ANSWER
from carve_nb.data.scoring import score_answer
from carve_nb.formulas.clutter import entropy
from carve_nb.models.prompts import Ask
from .records import Part, run_parts
from .clutter import ask_scene

FIRST_SEED, KINDS = 1_610_000, ('digit', 'exist', 'color')
FACTORS = .6, 2., 0.      # of the scores: wider, narrower, flat
LAYERS = {     # name -> layers whose attention is set
    'carve-tiny': {'paper': [3, 4], 'pointing': [1, 2, 3], 'all': [*range(6)]},
    'carve-small': {'paper': [6, 7], 'widened': [3, 4, 5], 'early': [1, 2], 'all': [*range(10)]}}

def scale_scores(columns: Tensor, factor: float, bits: dict) -> Callable:
    """Return the change of scores [1, H, R, K] that multiplies those of the image `columns` and keeps their
    share.

    `bits` is filled: layer -> entropy of the last position's changed attention on the image, mean over
    heads."""
    def scaled(layer: int, scores: Tensor, rows: list) -> Tensor:
        image = scores[..., columns]
        hidden = image < torch.finfo(image.dtype).min/2
        def total(x): return torch.logsumexp(x.masked_fill(hidden, -1e9), -1, keepdim=True)
        changed = image*factor
        changed = torch.where(hidden, image, changed - total(changed) + total(image))
        new = scores.index_copy(-1, columns, changed)
        attention = new[0, :, -1].softmax(-1)[:, columns].mean(0)
        bits.setdefault(layer, round(float(entropy(attention)), 2))
        return new
    return scaled

def ask_edited(session: Session, sample, layers: list[int], factor: float) -> dict:
    """Return the answer with a set spread, and the spread in the layers where it is set; `factor` 1 changes
    nothing"""
    prompt = session.prompt(Ask((sample.image,), sample.question, SHORT_ANSWER))
    bits = {}
    columns = torch.as_tensor(np.asarray(prompt.spans[0].tokens))
    edit = Edit(layers, scores=scale_scores(columns, factor, bits), after=int(columns.max()) + 1)
    with applying(session.vlm, edit): answer = session.generate(prompt, 8)
    return dict(answer=str(answer), right=int(score_answer(answer, sample)), bits=[bits[l] for l in layers])

def measure_spread(vlm: VLM, sample) -> dict:
    "Return the answers to one question with the spread as it is (factor 1), and as it is set"
    session = Session(vlm)
    made = {'as it is': ask_edited(session, sample, vlm.layers, 1.)}
    for name, layers in LAYERS[vlm.name].items():
        for factor in FACTORS: made[f'{name}, {factor:g}'] = ask_edited(session, sample, layers, factor)
    return dict(id=sample.id, kind=sample.kind, truth=sample.answers[0], made=made)

def busy_questions(n: int) -> list[tuple[int, str]]:
    "Return the seed of each scene and the kind of its one question, n of each kind"
    return [(FIRST_SEED + i, KINDS[i % len(KINDS)]) for i in range(n*len(KINDS))]

def measure_busy(vlm: VLM, asked: tuple[int, str]) -> dict:
    "Return the same of a scene on the busiest background"
    return measure_spread(vlm, ask_scene(*asked, 1., .5))

if __name__ == '__main__':
    run_parts(dict(busy=Part('set_spread-{model}', measure_busy, busy_questions, 200)), 'trial')
