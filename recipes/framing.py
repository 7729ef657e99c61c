"""One question in four framings, each with the short-answer instruction and without: mass on the image, spread, pointing and answers; and whether mass goes with spread, by layer and by head."""

from pathlib import Path
from typing import Annotated
import numpy as np
import torch
from fastcore.script import call_parse
from carve_nb.attention.session import Session
from carve_nb.attention.vlm import VLM
from carve_nb.core.text import SHORT_ANSWER
from carve_nb.data.questions import absent_name
from carve_nb.data.scenes import scene_records
from carve_nb.formulas.clutter import entropy
from carve_nb.method.controls import Oracle
from carve_nb.method.lookup import Lookup
from .baselines import keep
from .binding import asked_object

FRAMED, FRAMINGS = 1_190_000, dict(   # first seed; words, and the answer: of the digit, or of the second word as often as the first
    open='What digit is on the {name}?', exists='Is there a {name}?', checks='Is the digit on the {name} {digit}?',
    cue='{name}')
WAYS = {f'{framing}{", short answer"*bool(suffix)}': (framing, suffix) for framing in FRAMINGS
    for suffix in (None, SHORT_ANSWER)}

def framed(sample, target) -> dict: # framing -> (words, answer)
    "One question in several framings; for every second seed the digit that is checked is the next one"
    false = int(sample.image_key.split('-')[1]) % 2
    asked = (int(target.digit) + false) % 10
    answers = dict(open=str(target.digit), exists='yes', checks='no' if false else 'yes', cue=str(target.digit))
    return {k: (words.format(name=target.name, digit=asked), answers[k]) for k, words in FRAMINGS.items()}

def spread_of(A): # [..., Nv] head-mean rows
    "Mass on the image, and its entropy in bits, rounded"
    A = A.double()
    return A.sum(-1).numpy().round(4).tolist(), entropy(A).numpy().round(3).tolist()

def read_token(rows, query, sample, own) -> dict: # 'last' or [word]; the settled `Lookup`
    "Mass, entropy and pointing by layer, and entropy and pointing of the map of the layers of the profile"
    A, S = rows.read(query=query), rows.saliency(layers=own.layers, query=query)
    mass, bits = spread_of(A)
    points = ''.join(str(int(rows.saliency(layers=l, query=query).points_at(sample.box))) for l in rows.layers)
    return dict(mass=mass, bits=bits, points=points, whole=[round(float(S.entropy()), 3), int(S.points_at(sample.box))])

def measure_framings(vlm, sample) -> dict: # a question for a digit
    "Every framing of one question: both query tokens, the answer, and the answer with the true region"
    own, target = Lookup().settled(vlm), asked_object(sample)
    oracle, texts, ways = Oracle.like(own), framed(sample, target), {}
    crop = oracle.cut(sample.image, sample.box).image
    absent = f'Is there a {absent_name(sample.objects, np.random.default_rng(int(sample.image_key.split("-")[1])))}?'
    session = Session(vlm, sample.image, shared=False)
    for way, (framing, suffix) in WAYS.items():
        text, truth = texts[framing]
        rows = session.capture(text, steps='all', suffix=suffix, max_new_tokens=8)
        limits = own.limits(vlm, 2, rows.answer)[0]
        def right(images, text, truth, limits=()): return int(session.ask(text, suffix, 8, images, limits) == truth)
        both = [sample.image, crop]
        found = dict(right=int(rows.answer == truth), oracle=right(both, text, truth, limits))
        if framing == 'exists':
            found |= dict(absent=right([sample.image], absent, 'no'), absent_oracle=right(both, absent, 'no', limits))
        tokens = {k: read_token(rows, query, sample, own) for k,
            query in dict(last='last', word=[target.shape]).items()}
        if way == 'open, short answer': found['heads'] = spread_of(rows.attn[0])
        ways[way] = found | tokens | dict(answer=str(rows.answer))
    return dict(id=sample.id, ways=ways)

@call_parse
def run_framing(
    model:str, # name or folder
    out:Annotated[str, 'folder of the records'] = 'framing',
    n:int = 150, # scenes
):
    "Ask every question in every framing; the same command goes on where it was stopped"
    torch.set_num_threads(1)
    vlm, folder = VLM.from_pretrained(model), Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    keep(folder/f'{Path(model).name}.jsonl', scene_records(n, start=FRAMED),
        lambda r: measure_framings(vlm, r.opened()))
