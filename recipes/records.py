"""Measure the questions of a recipe on a model, keep their records, and read those that are kept.

Each recipe made of parts is called in one way: `python -m recipes.NAME MODEL [--part PART] [--n N] [--out
FOLDER]`."""

import gzip
import json
import os
from argparse import ArgumentParser
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
import numpy as np
import torch
from IPython.display import Markdown
from PIL import Image
from torch import nn
from transformers import Cache
from carve_nb.attention.vlm import VLM
from carve_nb.core.image import box_size, common_box
from carve_nb.models.checkpoints import TINY
from carve_nb.core.saliency import patch_cover
from carve_nb.attention.rows import AttentionRows
from carve_nb.data.records import Record
from carve_nb.models.image_tokens import ImageSpan
from carve_nb.models.kernel import CACHE
from carve_nb.models.prefix_cache import branch
from carve_nb.models.prompts import Prompt
from carve_nb.runs.store import Run, read_records
from carve_nb.studies import measure as studies

MODELS = TINY, 'carve-small'
RESULTS = Path(__file__).parents[1] / 'nbs' / 'results'


def study_folder(name: str, model: str = TINY, root: str | Path = 'study_out') -> Path:
    "Return the folder of the records of a measurement on a model"
    short = Path(model).name
    return Path(root) / (name if short == TINY else f'{name}-{short}')


def load_records(
    name: str, root: str | Path = 'results/study', models: Sequence[str] = MODELS
) -> dict:  # model -> records
    "Read the records of a measurement on several models"
    return {m: read_records(study_folder(name, m, root))[0] for m in models}


def load_trial(name: str, root: str | Path = 'results/trial') -> list[dict]:
    "Read the packed records of a run, one question each"
    with gzip.open(Path(root) / f'{name}.jsonl.gz', 'rt') as lines:
        return [*map(json.loads, lines)]


def show_predictions(page: str) -> Markdown:
    "Show what was predicted of a page's records, folded, and what came; `page` is its path without the ending"
    written = json.loads((RESULTS / 'trial' / 'predictions.json').read_text(encoding='utf-8'))
    lines = []
    for name, entry in written.items():
        if entry['page'] == page:
            predicted = [f'*{key}*: {words}' for key, words in entry.items() if key not in ('page', 'came')]
            lines.append(f'- **{name}.** {"; ".join(predicted)}. **What came.** {entry["came"]}')
    title = '<details><summary>What was predicted, and what came</summary>'
    return Markdown('\n\n'.join([title, '\n'.join(lines), '</details>']))


def ratio_of_means(a: np.ndarray, b: np.ndarray) -> tuple[float, float, float]:
    """Return the mean of one number of each question over that of another, with its 95 % bootstrap interval,
    whose ends are NaN where a draw has none of either"""
    drawn = np.random.default_rng(0).integers(0, len(a), (5000, len(a)))
    with np.errstate(divide='ignore', invalid='ignore'):
        ends = np.quantile(a[drawn].mean(-1) / b[drawn].mean(-1), (0.025, 0.975))
    return float(a.mean() / b.mean()), *map(float, ends)


def lines_by_method(run: Run) -> dict:  # `Run` -> method -> id of a question -> its line
    "Sort the lines of a run"
    lines = {}
    for line in run.records:
        lines.setdefault(line['method'], {})[line['id']] = line
    return lines


def seed_of(sample: Record) -> int:
    "Return the seed of the scene of a question"
    return int(sample.image_key.split('-')[1])


def overlap(box: Sequence[float], crop: Sequence[float]) -> float:  # (x0, y0, x1, y1) twice
    "Return how much of a box lies in a crop"
    return np.maximum(box_size(common_box(box, crop)), 0).prod() / np.prod(box_size(box))


# [..., patches]; where they lie; (x0, y0, x1, y1) -> [...] of bool
def points_at(maps: np.ndarray, span: ImageSpan, box: Sequence[float]) -> np.ndarray:
    "Return whether the strongest patch of each map overlaps the box"
    return (patch_cover(span, box) > 0)[np.asarray(maps.argmax(-1))]


@contextmanager
def eager_kernel(model: nn.Module):
    "Inside the block the model uses the eager attention kernel, which returns its matrices"
    was = model.config._attn_implementation
    model.set_attn_implementation('eager')
    try:
        yield
    finally:
        model.set_attn_implementation(was)


# as of `VLM.forward`
def read_words(vlm: VLM, image: Image.Image, text: str, suffix: str | None = None, **kw) -> AttentionRows:
    "Capture the attention of every token of the text and of its suffix, and of the last position"
    prompt = vlm.prompt(image, text, suffix)
    words = f'{text} {suffix}' if suffix else text
    start = prompt.question[0]
    count = len(vlm.tokenizer(words, add_special_tokens=False).input_ids)
    return vlm.forward(replace(prompt, question=[*range(start, start + count)]), **kw)


def read_up_to_images(vlm: VLM, prompt: Prompt) -> Cache:
    "Read a prompt up to the end of its last image; what follows can go on from `copies` of the cache"
    start = max(span.end for span in prompt.spans)
    inputs = {
        name: value[:, :start] if value.ndim == 2 and value.shape[1] == len(prompt) else value
        for name, value in vlm.to_device(prompt).items()
    }
    return vlm.model(**inputs, use_cache=True, logits_to_keep=1)[CACHE]


def copies(cache: Cache, n: int) -> Cache:
    "Return a batch of n copies of a cache, which stays as it is"
    batch = branch(cache)
    for layer in batch.layers:
        layer.keys, layer.values = (states.expand(n, -1, -1, -1) for states in (layer.keys, layer.values))
    return batch


def run_trial(name: str, model: str, out: str, todo: list, measure: Callable):
    """Measure each item of `todo`, a line of `out/NAME.jsonl` each; lines that the file holds are not
    measured again, but for a last one that is not whole.

    `name` has `{model}` where the model's name goes; `measure(vlm, item)` returns what is kept of an
    item."""
    torch.set_num_threads(1)
    vlm = VLM.from_pretrained(model)
    path = Path(out) / f'{name.format(model=Path(model).name)}.jsonl'
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    whole, end, _ = path.read_bytes().rpartition(b'\n')
    os.truncate(path, len(whole + end))
    for item in todo[(whole + end).count(b'\n') :]:
        line = json.dumps(measure(vlm, item))
        with open(path, 'a') as f:
            print(line, file=f)


def run_study(name: str, model: str, out: str, todo: list, measure: Callable):
    "Measure each question of `todo` as `carve_nb.studies` does, in a folder of `out`"
    studies.run_study(measure, VLM.from_pretrained(model), todo, study_folder(name, model, out))


@dataclass(frozen=True)
class Part:
    "A record that a recipe makes"

    record: str  # its name; `{model}` stands for the model's
    measure: Callable  # (vlm, question) -> what is kept of it
    questions: Callable  # how many -> a list of them
    n: int  # questions, where no other number is given


def of_question(measure: Callable) -> Callable:
    "Return the function of a record that opens and measures it"
    return lambda vlm, record: measure(vlm, record.opened())


def run_parts(parts: dict[str, Part], out: str, run: Callable = run_trial):
    """Measure all parts or one on the model that the shell names; the same command goes on where it was
    stopped"""
    parser = ArgumentParser()
    parser.add_argument('model', help='name or folder')
    parser.add_argument('--part', choices=parts)
    parser.add_argument('--n', type=int, help='questions')
    parser.add_argument('--out', default=out, help='folder of the records')
    args = parser.parse_args()
    for name, part in parts.items():
        if args.part in (None, name):
            run(part.record, args.model, args.out, part.questions(args.n or part.n), part.measure)
