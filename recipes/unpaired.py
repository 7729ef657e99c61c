"""Train a decoder that never sees an image with its crop, and ask it with the true region.

`python -m recipes.unpaired train --stop 950`: 20 minutes on one free core; `python -m recipes.unpaired
answer`, or `answer --model carve-tiny`, which is measured beside it: 5 minutes;
`nbs/results/trial/worlds-answer-MODEL.jsonl.gz`. `crops` asks it with another digit's crop and with `lookup`:
`unpaired-crops-MODEL.jsonl.gz`."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated
import torch
from fastcore.script import call_parse
from torch import nn
from transformers import LlavaForConditionalGeneration
from carve_nb.attention.session import Session
from carve_nb.attention.vlm import VLM
from carve_nb.data.records import Record
from carve_nb.models.checkpoints import CHECKPOINTS
from carve_nb.data.scenes import samples
from carve_nb.data.scoring import score_answer
from carve_nb.method.controls import Oracle
from carve_nb.method.lookup import Lookup
from .curriculum import make_batch
from .models import batch_loss, new_model
from .other_crops import other_objects
from .recipe import TINY
from .records import run_trial
from .train import save_model
from .training_loop import train

PHASES = [
    p | dict(stages={replace(s, pairs=False): n for s, n in p['stages'].items()})
    for p in TINY.scaled(0.28).phases[1:]
]
FIRST_SEED, CROPS_SEED = 1_650_000, 4_130_000


def new_decoder() -> LlavaForConditionalGeneration:
    "Return `carve-tiny` with new layers of its decoder, which alone learn, in single precision"
    model = LlavaForConditionalGeneration.from_pretrained(CHECKPOINTS / 'carve-tiny', dtype=torch.float32)
    decoder = model.model.language_model
    new = new_model(seed=0).model.language_model
    decoder.layers.load_state_dict(new.layers.state_dict())
    decoder.norm.load_state_dict(new.norm.state_dict())
    for name, p in model.named_parameters():
        p.requires_grad_('language_model' in name)
    return model.eval()


def train_unpaired(out: Path, stop: int | None = None):
    "Train the decoder, or go on from its checkpoint, and pack the model"
    model = new_decoder()

    def make(s, seed, i, step):
        return make_batch(s, seed, i)

    train(
        out,
        'training',
        nn.ModuleDict(dict(vlm=model)),
        partial(batch_loss, model),
        make,
        PHASES,
        TINY.parts,
        every=50,
        stop=stop,
        workers=0,
    )
    save_model(model, out / 'model')


def measure_region(vlm: VLM, sample: Record) -> dict:
    "Return right answers without a crop, and with the true region alone and after the image"
    what = Session(vlm), sample.image, sample.question, sample.box
    both = Oracle()(*what)
    alone = Oracle(final_images='crop')(*what)
    answers = dict(none=both.plain_answer, alone=alone.answer, both=both.answer)
    return dict(id=sample.id, right={k: int(score_answer(a, sample)) for k, a in answers.items()})


def measure_crops(vlm: VLM, sample: Record) -> dict:
    """Return the answers without a crop, with another digit's crop and with the crop of `lookup`, each alone and
    after the image; the true digit and the other"""
    session = Session(vlm)
    ways = {
        'alone': Lookup(query='last', layers=None, final_images='crop'),
        'both': Lookup(query='last', layers=None),
    }
    other, answers = other_objects(sample)['another digit'], {}
    for name, lookup in ways.items():
        result = lookup(session, sample.image, sample.question)
        answers |= {'none': str(result.plain_answer), f'lookup, {name}': str(result.answer)}
        if other:
            answers[f'wrong, {name}'] = str(
                Oracle(final_images=lookup.final_images)(
                    session, sample.image, sample.question, other.box
                ).answer
            )
    return dict(id=sample.id, truth=sample.answers[0], other=other and str(other.digit), answers=answers)


@call_parse
def run_unpaired(
    verb: Annotated[str, 'what to do', dict(choices=['train', 'answer', 'crops'])],
    model: str = 'unpaired',  # who answers
    out: str = 'trial',  # folder of the model and the records
    n: int = 300,  # questions
    stop: int | None = None,  # train up to this step
):
    "Train the decoder, or ask; the same command goes on where it was stopped"
    torch.set_num_threads(1)
    folder = Path(out) / 'unpaired'
    if verb == 'train':
        return train_unpaired(folder, stop)
    record, start, measure = dict(
        answer=('worlds-answer', FIRST_SEED, measure_region),
        crops=('unpaired-crops', CROPS_SEED, measure_crops),
    )[verb]
    run_trial(
        f'{record}-{model}',
        str(folder / 'model') if model == 'unpaired' else model,
        out,
        samples('digit', n, start=start),
        measure,
    )
