"""Pointing of every query token of the prompt, layer by layer.

`python -m recipes.rows MODEL`: 2 minutes; `nbs/results/rows/positions-MODEL.jsonl.gz`."""
from dataclasses import replace
import torch
from carve_nb.data.scenes import samples
from carve_nb.models.prompts import SHORT_ANSWER
from .records import points_at, run_questions

HEADS_OF = dict(thing=6, last=18, bare=20)   # places among the rows below

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

if __name__ == '__main__':
    run_questions('positions-{model}', lambda vlm, s: dict(id=s.id) | measure_positions(vlm, s), lambda n: samples('digit', n), 300, 'rows')
