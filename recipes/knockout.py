"""One query token after another is cut from the image, layer by layer, or the whole image is hidden from a
layer: which answers are lost, and do they pass where attention points?

`python -m recipes.knockout MODEL [--part PART] [--n N]`: 36 minutes a model, the part `gain` 12;
`nbs/results/knockout/MODEL-KIND.jsonl.gz`."""

from functools import partial
import numpy as np
import torch
from torch import Tensor
from carve_nb.attention.edits import Edit, applying
from carve_nb.models.kernel import CACHE, recording
from carve_nb.attention.session import Session
from carve_nb.attention.vlm import VLM
from carve_nb.core.saliency import patch_cover
from carve_nb.core.text import SHORT_ANSWER, pick_words
from carve_nb.data.records import Record
from carve_nb.data.scenes import scene_records
from carve_nb.method.lookup import Lookup
from carve_nb.models.model import Answer, model_lock
from carve_nb.models.prefix_cache import keep_offset
from carve_nb.models.prompts import Prompt
from .records import Part, copies, of_question, read_up_to_images, run_parts, seed_of

# whose row, in the order of the prompt
FROM = 'before', '-1', 'word', *(f'+{k}' for k in range(1, 7)), 'last', 'later'


def row_places(
    prompt: Prompt, n: int
) -> dict:  # tokens of the answer, its end among them; -> name -> positions
    """Positions after the images: the object's word, the tokens before and after it, the last of the
    prompt, the answer's own"""
    start, N = max(s.end for s in prompt.spans), len(prompt)
    word = [prompt.question[i] for i in pick_words([prompt.tokens[i] for i in prompt.question], 'noun')]
    places = {'before': range(start, word[0] - 1), '-1': [word[0] - 1], 'word': word}
    places |= {f'+{k}': [word[-1] + k] for k in range(1, 7)}
    return places | {'last': [N - 1], 'later': range(N, N + n - 1)}


def layer_sets(n: int) -> dict:  # layers of the decoder; -> name -> layers
    "Each layer, each third of the depth, all"
    sets = {str(l): [l] for l in range(n)}
    sets |= {f'{s[0]}-{s[-1]}': s.tolist() for s in np.array_split(np.arange(n), 3)}
    return sets | {'all': [*range(n)]}


BLOCKED = 'all', 'only word', 'only last', 'word > last', 'word > behind', 'text > last'
CONTROLS = 'random', 'random > last'
PATHS = *FROM, *BLOCKED, *CONTROLS
WIDE = 'before', 'only word', 'only last'  # cut in thirds of the depth and in all layers alone


def cut_names(n: int) -> list:  # layers of the decoder; of (path, set of layers)
    "Every cut, in the order of the records"
    return [(p, s) for p in PATHS for s in layer_sets(n) if p not in WIDE or not s.isdecimal()]


def blocked_paths(
    prompt: Prompt, n: int, rng: np.random.Generator
) -> dict:  # as in `row_places`; -> name -> (rows, columns)
    "What each cut keeps from whom: a row from the images, or the last position from words"
    start, N = max(s.end for s in prompt.spans), len(prompt)
    images = prompt.columns.tolist()
    places = row_places(prompt, n)
    word = places['word']
    behind = range(start, N + n - 1)
    last = N - 1
    others = [i for i in range(start, last) if i not in word]
    drawn, other = (rng.choice(others, len(word), replace=False).tolist() for _ in CONTROLS)
    cuts = {k: (rows, images) for k, rows in places.items()}
    cuts |= {'all': (behind, images), 'only word': ([i for i in behind if i not in word], images)}
    cuts |= {'only last': (others + word, images), 'word > last': ([last], word)}
    cuts |= {
        'word > behind': (range(word[-1] + 1, N + n - 1), word),
        'text > last': ([last], range(start, last)),
    }
    return cuts | {'random': (drawn, images), 'random > last': ([last], other)}


def path_layers(n: int, path: str, rng: np.random.Generator) -> list:  # layers of the decoder; of `PATHS`
    "The sets of layers in which a path is cut; for a control as many layers drawn at random"
    sets = [layers for s, layers in layer_sets(n).items() if (path, s) in cut_names(n)]
    if path not in CONTROLS:
        return sets
    return [sorted(rng.choice(n, len(s), replace=False).tolist()) for s in sets]


def closing(
    layers: list[int], start: int, shut: Tensor, cut: Tensor
) -> Edit:  # [Q, K] bool; [B, layers] bool
    """Make the edit of rows from `start` on that hides the keys of `shut` from them, for the B of a batch in
    the layers of `cut`"""

    def hide(layer: int, scores: torch.Tensor, rows: torch.Tensor):
        hidden = (shut & cut[:, layer, None, None])[:, None]
        return scores.masked_fill(hidden.to(scores.device), torch.finfo(scores.dtype).min)

    return Edit(layers, scores=hide, after=start)


# the answer's tokens; name -> (rows, columns, sets of layers)
# name -> (rows, columns, sets of layers)
def read_under(vlm: VLM, prompt: Prompt, tokens: list[int], paths: dict) -> tuple:
    """Score the `tokens` of an answer without a cut, then under each of `cut_names`, the sets of layers of a path in one batch.

    The images are read once. Return the log-probability of the answer [1 + cuts], whether it is the most likely, and the
    attention of the tokens after the images [R, L, Nv] without a cut, mean of the heads."""
    start, images = max(s.end for s in prompt.spans), prompt.columns
    answer = torch.tensor(tokens, device=vlm.device)
    ids = torch.cat([vlm.to_device(prompt)['input_ids'][0], answer[:-1]])

    def score(n: int) -> tuple:
        "Score n copies, each after the images that were read"
        out = vlm.model(
            input_ids=ids[None, start:].expand(n, -1), **{CACHE: copies(read, n)}, logits_to_keep=len(tokens)
        )
        logits = out.logits.float()
        logp = logits.log_softmax(-1)[:, range(len(tokens)), answer]
        return logp.sum(-1), (logits.argmax(-1) == answer).all(-1)

    with model_lock(vlm.model), keep_offset(vlm.model):
        read = read_up_to_images(vlm, prompt)
        with recording(vlm.model, vlm.layers, [*range(start, len(ids))], columns=images) as rec:
            scores = [score(1)]
        for rows, columns, sets in paths.values():
            shut = torch.zeros(len(ids) - start, len(ids), dtype=torch.bool)
            shut[torch.tensor([*rows])[:, None] - start, torch.tensor([*columns])] = True
            cut = torch.zeros(len(sets), vlm.n_layers, dtype=torch.bool)
            for i, layers in enumerate(sets):
                cut[i, layers] = True
            with applying(vlm, closing(vlm.layers, start, shut, cut)):
                scores.append(score(len(sets)))
    logp, is_top = (torch.cat(of).cpu().numpy() for of in zip(*scores))
    return logp, is_top, rec.stack()[:, 0].mean(1).transpose(0, 1).numpy()


START = 940_000  # first seed of the scenes; up to 944,999 no other page uses them
KINDS = 'color', 'shape', 'exist', 'crop'  # crop: a digit, asked with the crop of `Lookup`


# of `read_under`; the target's box in each image; by `FROM`, then layers
def pointed(prompt: Prompt, n: int, rows: dict, sets: dict, boxes: list) -> str:
    "Whether the peak of each row over all images overlaps the target"
    inside = np.concatenate([patch_cover(span, box) > 0 for span, box in zip(prompt.spans, boxes)])
    start = max(s.end for s in prompt.spans)
    row_means = [rows[np.array([*at]) - start].mean(0) for at in row_places(prompt, n).values()]
    return ''.join(
        str(int(inside[a[layers].mean(0).argmax()])) for a in row_means for layers in sets.values()
    )


def answer_tokens(vlm: VLM, sample: Record, plain: Answer) -> list:
    "Return the tokens of the true answer, ended as the model ends its own"
    return [*vlm.tokenizer(sample.answers[0], add_special_tokens=False).input_ids, plain.tokens[-1]]


def look_up(vlm: VLM, sample: Record):  # -> `Result`
    "Find the crop of `Lookup`, without asking again"
    method = Lookup()
    return method.look(Session(vlm), method.asked(vlm, sample.image, sample.question))


def measure_question(vlm: VLM, sample: Record) -> dict:
    """Is the true answer given, and under each cut; what each cut takes from its log-probability, in tenths
    of a nat; pointing"""
    images, boxes, facts = [sample.image], [sample.box], {}
    if sample.kind == 'digit':
        result = look_up(vlm, sample)
        crop = result.crop
        inside = tuple((v - start) * crop.scale for v, start in zip(sample.box, crop.box[:2] * 2))
        images, boxes = [*images, crop.image], [*boxes, inside]
        facts = dict(alone=int(result.plain_answer == sample.answers[0]))
    prompt = vlm.prompt(images, sample.question, SHORT_ANSWER)
    plain = vlm.generate(prompt, 8)
    tokens = answer_tokens(vlm, sample, plain)
    rng = np.random.default_rng(seed_of(sample))
    cuts = blocked_paths(prompt, len(tokens), rng)
    paths = {path: (*cut, path_layers(vlm.n_layers, path, rng)) for path, cut in cuts.items()}
    logp, is_top, rows = read_under(vlm, prompt, tokens, paths)
    right = plain == sample.answers[0]
    facts |= dict(id=sample.id, right=int(right), same=int(right == is_top[0]), logp=round(float(logp[0]), 3))
    facts |= dict(
        kept=''.join(str(int(k)) for k in is_top[1:]),
        loss=np.rint(10 * (logp[0] - logp[1:])).astype(int).tolist(),
    )
    if sample.box is None:
        return facts
    return facts | dict(pointing=pointed(prompt, len(tokens), rows, layer_sets(vlm.n_layers), boxes))


GAIN_START = 1_130_000
POINTING_ROW = {'carve-small': 'word', 'carve-tiny': 'last'}


def measure_gain(vlm: VLM, sample: Record) -> dict:
    """Is the answer right from the image, and with the crop of `Lookup`: each plainly and with one row cut in
    all layers"""
    row = POINTING_ROW[vlm.name]
    crop = look_up(vlm, sample).crop.image
    right = {}
    for name, images in dict(image=[sample.image], crop=[sample.image, crop]).items():
        prompt = vlm.prompt(images, sample.question, SHORT_ANSWER)
        tokens = answer_tokens(vlm, sample, vlm.generate(prompt, 8))
        rows = row_places(prompt, len(tokens))[row]
        _, is_top, _ = read_under(
            vlm, prompt, tokens, {row: (rows, prompt.columns.tolist(), [[*range(vlm.n_layers)]])}
        )
        right[name], right[f'{name}-cut'] = map(int, is_top)
    return dict(id=sample.id) | right


POSITIONS = FROM[1:-1]  # those of one token


# of one kind; -> [n, each layer and all, `POSITIONS`] of 0 and 1, twice
def position_by_layer(records: list[dict]) -> tuple:
    """Does a row point there, and is the answer lost without it? Of the questions about an object that are
    answered rightly without a cut"""
    solved = [r for r in records if r['right'] and 'pointing' in r]
    depth = len(solved[0]['pointing']) // len(FROM) - len(layer_sets(3)) + 3
    sets = [*layer_sets(depth)]
    cuts = cut_names(depth)
    layers = [*map(str, range(depth)), 'all']
    pointing = [
        [[int(r['pointing'][FROM.index(p) * len(sets) + sets.index(l)]) for p in POSITIONS] for l in layers]
        for r in solved
    ]
    lost = [[[1 - int(r['kept'][cuts.index((p, l))]) for p in POSITIONS] for l in layers] for r in solved]
    return np.array(pointing), np.array(lost)


if __name__ == '__main__':
    asked = {
        kind: partial(scene_records, kinds=('digit' if kind == 'crop' else kind,), start=START)
        for kind in KINDS
    }
    parts = {
        kind: Part('{model}-' + kind, of_question(measure_question), questions, 300)
        for kind, questions in asked.items()
    }
    gain = Part('{model}-gain', of_question(measure_gain), partial(scene_records, start=GAIN_START), 600)
    run_parts(parts | dict(gain=gain), 'knockout')
