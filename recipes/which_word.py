"""Which word's attention is read, chosen by a list of function words or by agreement among the words of one prompt, on questions in four forms."""

from pathlib import Path
from typing import Annotated
import numpy as np
import torch
from fastcore.script import call_parse
from carve_nb.attention.session import Session
from carve_nb.attention.vlm import VLM
from carve_nb.core.text import is_word, pick_words, split_words
from carve_nb.data.questions import center, with_article
from carve_nb.data.records import Record
from carve_nb.data.scenes import make_scene
from carve_nb.data.scoring import score_answer
from carve_nb.formulas.threshold import regions
from carve_nb.method.base import as_saliency
from carve_nb.method.lookup import Lookup
from .baselines import keep
from .kinds import prompt_agreement

WORD_START = 1_170_000     # first seed of the scenes; no other page uses seeds up to 1,179,999
FORMS = dict(
    today=('What digit is on the {name}?',), pronoun=('There is {article}. What digit is on it?',),
    picture=('There is {article} in this picture. What digit is on it?',),
    benchmark=('What digit do you see on the {name} in the image?', 'Tell me what digit is on the {name}.',
        'What digit is on the {name} on the {side}?', 'What digit is on the {name} {relation} the {other}?',
        'On the {name}, what digit do you see?', 'Find the {name} and read the digit.'))

def relation_of(a, b): # boxes -> of the first to the second
    "The relation along the axis on which their centers lie farther apart"
    dx, dy = np.subtract(center(a), center(b))
    return ('left of', 'right of')[int(dx > 0)] if abs(dx) > abs(dy) else ('above', 'below')[int(dy > 0)]

def form_questions(n, form) -> list: # of `Record`s, one a scene
    "A question for a digit in one form; its wordings in turn"
    found, seed = [], WORD_START
    while len(found) < n:
        scene = make_scene(seed)
        seed += 1
        if len(scene.objects) < 2: continue
        target, other = (scene.objects[i] for i in np.random.default_rng([scene.seed,
            7]).permutation(len(scene.objects))[:2])
        side = ('left', 'right')[int(center(target.box)[0] > scene.image.width/2)]
        wordings = FORMS[form]
        question = wordings[len(found) % len(wordings)].format(name=target.name, article=with_article(target.name),
            side=side,
            relation=relation_of(target.box, other.box), other=other.name)
        found.append(Record(f'{scene.name}-{form}', scene.image, question, [str(target.digit)], boxes=[target.box],
            kind='digit', image_key=scene.name))
    return found

def phrase_ends(content) -> list: # places of words
    "The last word of each run of content words"
    return [i for i in content if i + 1 not in content]

def word_picks(words,
        agreement) -> dict: # of a question, with its signs; [words], of what is no word -inf; -> rule -> places
    "The words that each rule reads; noun: the last content word, mended: `query='noun'` as it is now"
    def most(places): return [max(places, key=lambda i: agreement[i])]
    tokens = [f' {w}' for w in words]
    content = pick_words(tokens, 'content')
    return dict(noun=content[-1:], mended=pick_words(tokens, 'noun'), content=content,
        agree_all=most(range(len(words))),
        agree_content=most(content), agree_phrases=most(phrase_ends(content)))

ANSWERED = 'noun', 'mended', 'agree_phrases'

def measure_words(vlm, sample, method) -> dict: # `Record`; `Lookup` that is settled and always asks again
    "Pointing and agreement of each word in the layers of the profile, and answers under some rules"
    session = Session(vlm, sample.image)
    rows = method.capture(session, sample.question)
    at = rows.places(method.layers)
    named = split_words(rows.question_tokens)
    words = [w for w, _ in named]
    A = rows.question.mean(2).numpy()
    A = np.stack([A[tokens].mean(0) for _, tokens in named])         # [words, L, Nv]
    real = [*map(is_word, words)]
    agreement = np.full(len(words), -np.inf)
    agreement[real] = prompt_agreement(A[real])[:, at].mean(1)
    picks = word_picks(words, agreement)
    last = rows.read(layers=method.layers).mean(0).numpy()
    maps = {str(i): A[i, at].mean(0) for i in np.flatnonzero(real)} | dict(content=A[picks['content']][:,
        at].mean((0, 1)), last=last)
    maps = {k: as_saliency(m, rows.spans[0], sample.image) for k, m in maps.items()}
    asked = {k: str(picks[k][0]) for k in ANSWERED} | ({'last': 'last'} if method.query == 'last' else {})
    right = {k: right_with(vlm, sample, method, maps[k]) for k in dict.fromkeys(asked.values())}
    return dict(id=sample.id, words=words, picks=picks, agreement=[None if np.isinf(a) else round(float(a), 4)
        for a in agreement],
        pointing={k: int(S.points_at(sample.box)) for k, S in maps.items()}, right=right,
        plain=int(score_answer(rows.answer, sample)), sure=round(float(rows.answer.confidence), 4))

def right_with(vlm, sample, method, S) -> int:
    "Is the question answered rightly with the crop of the region of a map's peak, as `lookup` shows it?"
    def show(S): return method.show(sample.image, regions(S, method.p, 1, rank='peak'))
    r = method.ask_again(Session(vlm, sample.image, shared=False),
        method.located(sample.image, sample.question, S, show))
    return int(score_answer(r.answer, sample))

@call_parse
def run_which_word(
    model:str, # name or folder
    out:Annotated[str, 'folder of the records'] = 'query_word',
    n:int = 300): # questions of each form
    "Measure every word of the questions of each form; the same command goes on where it was stopped"
    torch.set_num_threads(1)
    vlm, folder = VLM.from_pretrained(model), Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    own = Lookup().settled(vlm)
    method = Lookup(query=own.query, layers=own.layers, skip_above=1)
    for form in FORMS:
        keep(folder/f'{Path(model).name}-{form}.jsonl', form_questions(n, form),
            lambda s: measure_words(vlm, s, method))
