"""Which word's attention points, and what `lookup` answers with it, on questions as benchmarks word them:
the last content word, or the noun?

`python -m recipes.which_word MODEL [--n 300]`: about 10 minutes a model;
`nbs/results/query_word/MODEL.jsonl.gz`."""
from dataclasses import replace
import numpy as np
from carve_nb.attention.session import Session
from carve_nb.attention.vlm import VLM
from carve_nb.core.text import pick_words, split_words
from carve_nb.data.questions import center
from carve_nb.data.records import Record
from carve_nb.data.scenes import make_scene
from carve_nb.data.scoring import score_answer
from carve_nb.method.lookup import Lookup
from .records import Part, of_question, run_parts

FIRST_SEED = 1_170_000
WORDINGS = ('What digit do you see on the {name} in the image?', 'Tell me what digit is on the {name}.',
    'What digit is on the {name} on the {side}?', 'What digit is on the {name} {relation} the {other}?',
    'On the {name}, what digit do you see?', 'Find the {name} and read the digit.')

def relation_of(a, b) -> str: # boxes
    "Return the relation of the first to the second, along the axis on which their centers lie farther apart"
    dx, dy = np.subtract(center(a), center(b))
    return ('left of', 'right of')[int(dx > 0)] if abs(dx) > abs(dy) else ('above', 'below')[int(dy > 0)]

def worded_questions(n: int) -> list[Record]:
    "Return questions for a digit, one a scene, in each wording in turn"
    found, seed = [], FIRST_SEED
    while len(found) < n:
        scene = make_scene(seed)
        seed += 1
        if len(scene.objects) < 2: continue
        order = np.random.default_rng([scene.seed, 7]).permutation(len(scene.objects))
        target, other = (scene.objects[i] for i in order[:2])
        side = ('left', 'right')[int(center(target.box)[0] > scene.image.width/2)]
        question = WORDINGS[len(found) % len(WORDINGS)].format(
            name=target.name, side=side, relation=relation_of(target.box, other.box), other=other.name)
        found.append(Record(f'{scene.name}-benchmark', scene.image, question, [str(target.digit)],
            boxes=[target.box],
                            kind='digit', image_key=scene.name))
    return found

def read_rules(question_tokens) -> dict: # rule -> the word that it reads
    "Return the words that both rules name"
    words = split_words(question_tokens)
    def word_at(place): return next(word for word, tokens in words if place in tokens)
    return dict(last=word_at(pick_words(question_tokens, 'content')[-1]),
        noun=word_at(pick_words(question_tokens, 'noun')[0]))

def measure_words(vlm: VLM, sample: Record) -> dict:
    "Return pointing and the right answer of `lookup` with each rule's word, and the baseline's"
    session = Session(vlm)
    own = Lookup().choose(vlm)[0]
    rows = session.capture(own.asked(vlm, sample.image, sample.question))
    found = dict(id=sample.id)
    for rule, word in read_rules(rows.question_tokens).items():
        result = replace(own, query=[word])(session, sample.image, sample.question)
        points = rows.saliency(query=[word], layers=own.layers).points_at(sample.box)
        found[rule] = [int(points), int(score_answer(result.answer, sample))]
    return found | dict(plain=int(score_answer(result.plain_answer, sample)))

if __name__ == '__main__':
    run_parts(dict(all=Part('{model}', of_question(measure_words), worded_questions, 300)), 'query_word')
