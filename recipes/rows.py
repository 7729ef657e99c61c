"""Pointing of every query token of the prompt, layer by layer.

`python -m recipes.rows MODEL`: 2 minutes; `nbs/results/rows/positions-MODEL.jsonl.gz`."""

from functools import partial
from PIL import Image
import torch
from carve_nb.attention.rows import AttentionRows
from carve_nb.attention.vlm import VLM
from carve_nb.core.text import SHORT_ANSWER
from carve_nb.data.records import Record
from carve_nb.data.scenes import samples
from .records import Part, points_at, read_words, run_parts


def rows_of_all_words(vlm: VLM, image: Image.Image, question: str) -> AttentionRows:
    "Capture the rows of the words of question and short-answer instruction, at all steps"
    return read_words(vlm, image, question, SHORT_ANSWER, steps='all', max_new_tokens=8)


HEADS_OF = dict(thing=6, last=18, bare=20)  # places among the rows below


def measure_positions(vlm: VLM, sample: Record) -> dict:  # a digit question
    """Pointing of the rows of the 18 words of question and sentence, the last position, the answer's own,
    the last of the bare question.

    Of each by layer and in all layers; of `HEADS_OF` by layer and head; lists as strings of 0 and 1."""
    full = rows_of_all_words(vlm, sample.image, sample.question)
    bare = vlm.capture(sample.image, sample.question, suffix=None, max_new_tokens=1)
    rows = torch.cat([full.question, full.attn[[0, -1]], bare.attn[:1]])
    layers = torch.cat([rows.mean(2), rows.mean((1, 2))[:, None]], 1)
    heads = rows[[*HEADS_OF.values()]]
    points = {
        name: points_at(maps, full.spans[0], sample.box)
        for name, maps in dict(pointing=layers, heads=heads).items()
    }
    return {name: ''.join(map(str, right.ravel().astype(int))) for name, right in points.items()}


if __name__ == '__main__':
    run_parts(
        dict(
            all=Part(
                'positions-{model}',
                lambda vlm, sample: dict(id=sample.id) | measure_positions(vlm, sample),
                partial(samples, 'digit'),
                300,
            )
        ),
        'rows',
    )
