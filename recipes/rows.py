"""Pointing of every query token of the prompt, and of the last position as the instruction grows word by word.

`python -m recipes.rows MODEL positions`, or `behind`: 2 minutes each; `nbs/results/rows/PART-MODEL.jsonl.gz`."""
from dataclasses import replace
from typing import Annotated
import torch
from fastcore.script import call_parse
from carve_nb.attention.session import Session
from carve_nb.data.scenes import samples
from carve_nb.models.prompts import SHORT_ANSWER
from .records import points_at, run_trial

HEADS_OF = dict(thing=6, last=18, bare=20)   # places among the rows below
BEHIND = {k: ' '.join(SHORT_ANSWER[:-1].split()[:k])
    for k in range(10)} | {10: SHORT_ANSWER}   # words -> text behind the question

def rows_of_all_words(vlm, image, question): # `AttentionRows`
    "The rows of the question's words and of the sentence behind it, at all steps"
    prompt = vlm.prompt(image, question, SHORT_ANSWER)
    words = vlm.tokenizer(f'{question} {SHORT_ANSWER}', add_special_tokens=False).input_ids
    start = prompt.question[0]
    return vlm.forward(replace(prompt, question=list(range(start, start + len(words)))), steps='all', max_new_tokens=8)

def measure_positions(vlm, sample) -> dict: # a digit question
    """Pointing of the rows of the 18 words of question and sentence, the last position, the answer's own, the last of the bare question.

    Of each by layer and in all layers; of `HEADS_OF` by layer and head; lists as strings of 0 and 1."""
    full = rows_of_all_words(vlm, sample.image, sample.question)
    bare = vlm.capture(sample.image, sample.question, suffix=None, max_new_tokens=1)
    rows = torch.cat([full.question, full.attn[[0, -1]], bare.attn[:1]])
    layers = torch.cat([rows.mean(2), rows.mean((1, 2))[:, None]], 1)
    heads = rows[[*HEADS_OF.values()]]
    found = {name: points_at(maps, full.spans[0], sample.box) for name, maps in dict(pointing=layers, heads=heads).items()}
    return {name: ''.join(map(str, right.ravel().astype(int))) for name, right in found.items()}

def measure_behind(vlm, sample) -> dict: # number of words of the sentence behind the question -> 0 or 1
    "Pointing of the last position, mean of all layers"
    session = Session(vlm, sample.image, shared=False)
    rows = {k: session.capture(sample.question, suffix=text or None, max_new_tokens=1) for k, text in BEHIND.items()}
    return {str(k): int(points_at(r.attn[0].mean((0, 1)), r.spans[0], sample.box)) for k, r in rows.items()}

PARTS = dict(positions=measure_positions, behind=measure_behind)

@call_parse
def run_rows(
    model:str, # name or folder
    part:Annotated[str, 'what to measure', dict(choices=[*PARTS])],
    out:str='rows', # folder of the records
    n:int=300, # questions
):
    "Measure one part on one model; the same command goes on where it was stopped"
    asked = samples('digit', n, 'heldout')
    run_trial(part + '-{model}', model, out, asked, lambda vlm, s: dict(id=s.id) | PARTS[part](vlm, s))
