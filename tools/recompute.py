"""The numbers of the prose, recomputed from the records. docs/numbers.toml has one entry a sentence: its
page, the words as they stand, and an expression for each number in them, or the reason why it has none (a
constant, a figure of others).

Usage: python tools/recompute.py [PAGE ...]   lists numbers that differ and decimals and percentages that
no entry has; exits with 1 if there is one"""
import json
import re
import sys
import tomllib
from functools import cache
from pathlib import Path
import numpy as np
import pandas as pd
from carve_nb.core.io import CHECKPOINTS
from carve_nb.core.stats import difference, holm, mcnemar
from carve_nb.data.scenes import scene_objects, scene_records
from carve_nb.runs.report import results_table
from carve_nb.runs.store import read_records, read_run
from recipes.ablation import paired
from recipes.records import load_trial

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT/'nbs'/'results'
ANY = re.compile(r'(?<![\w.])(?:\d+(?:[.,]\d+)*|\.\d+)')
# decimals and percentages; no versions, no numbers of papers
OWED = re.compile(r'(?<![\w./:-])(?:\d*\.\d+(?![\w.]*[\w/])|\d+(?= ?%))')
# what a corrected p above .05 does not allow
CLAIM = re.compile(r'\b(costs?|gain(s|ed)?|loses?|lost|ahead|behind|leads?|harms?|helps?)\b')
T, S = 'carve-tiny', 'carve-small'
ZOOM = 'zoom-eye:existence=Is there a {cue}?:answering=Is there a {cue}?:bias=1.:root=False:final_images=crop:smallest=112'


# What expressions are made of

@cache
def run(name): return read_run(RESULTS/name)

def record(name, *keys):
    "A value in a JSON file"
    value = json.loads((RESULTS/name).read_text())
    for k in keys: value = value[k]
    return value

def parameters(model):
    "Of a shipped model, from its weights; what is tied counts once"
    from safetensors import safe_open
    with safe_open(next((CHECKPOINTS/model).glob('*.safetensors')), 'pt') as f:
        return sum(np.prod(f.get_slice(k).get_shape()) for k in f.keys())

@cache
def lines(model):
    return pd.concat([results_table(run(f'{r}-{model[6:]}').records)
        for r in ('switches', 'ablation', 'peers')])

@cache
def right(model): return lines(model).pivot_table('score', 'id', 'method', sort=False)

def acc(model, method): return 100*right(model)[method].mean()
@cache
def today(model):
    "Scores with today's defaults; most of the book was measured with crops as large as the image"
    asked = results_table(run({T: 'demo', S: 'demo-carve-small'}[model]).records).query('kind == "digit"')
    return asked.pivot_table('score', 'id', 'method', sort=False)

def acc_today(method, model=S): return 100*today(model)[method].mean()

def ahead(model, a, b):
    "Points that method `a` is ahead of `b` with today's defaults: (change, lower, upper)"
    return tuple(paired({'': (today(model)[a], today(model)[b])}).iloc[0][['change', 'lo', 'hi']])

@cache
def json_lines(name): return load_trial(name, RESULTS)

def trial(name): return json_lines(f'trial/{name}')

def wording(model, way):
    "Pointing of the last position where question and instruction are put that way"
    return 100*np.mean([r['read'][way]['points'] for r in trial(f'question_last-{model}')])

def turned_right(model, way):
    return 100*np.mean([r['made'][way]['right'] for r in trial(f'question_last-{model}')])

def points(a, b):
    "Points that the first answers are ahead of the second: (mean, lower, upper)"
    return tuple(100*v for v in difference(np.asarray(a, float), np.asarray(b, float)))

def digits(text): return [*map(int, text)]

def by_crop(model, crop, over='none', of='other_crops'):
    "Points gained by a crop over no crop, or over another crop"
    asked = [r['right'] for r in trial(f'{of}-{model}') if crop in r['right'] and over in r['right']]
    return points([r[crop] for r in asked], [r[over] for r in asked])

def front(model, method): return [r['made'][method]['right'] for r in trial(f'front_page-{model}')]

def front_ahead(model, a, b):
    "Points between two methods on the 1,200 questions of the front page"
    return points(front(model, a), front(model, b))

def unpaired():
    "Points that the true region, after the image, brings a decoder that saw no pairs"
    asked = [r['right'] for r in trial('worlds-answer-unpaired')]
    return points([r['both'] for r in asked], [r['none'] for r in asked])

def on_terms(model, method, of='0'):
    "Right answers of a method in the comparison on equal terms"
    return digits(record(f'equal/{model}-{of}.json', 'methods', f'{method}:tokens=144:square=True:limit=1792',
        'right'))

def equal(model, method, sink=0): return 100*np.mean(on_terms(model, method, f'{sink:g}'))

def sink_gain(): return points(on_terms(S, 'carve', '0.3'), on_terms(S, 'question-only', '0.3'))

def searched(model):
    return 100*np.mean(digits(record(f'equal/{model}-0-search.json', 'methods', ZOOM, 'right')))

def behind(model):
    """Points that `zoom-eye` is behind `lookup`, the crop alone shown for both, their interval, and McNemar's
    p"""
    search = digits(record(f'equal/{model}-0-search.json', 'methods', ZOOM, 'right'))
    row = on_terms(model, 'lookup:skip_above=1:final_images=crop', '0-search')
    return *points(row, search), mcnemar(row, search)

def pointing(model, method): return 100*lines(model).query('method == @method').pointing.mean()
def against(model, a, b):
    "Change, interval and p of method `a` over `b`"
    return paired({'': (right(model)[a], right(model)[b])}).iloc[0]

def gain(model, a, b): return against(model, a, b).change
def p(model, a, b): return against(model, a, b).p

EIGHT = [(m, end) for m in (T, S) for end in ('', ':suffix=None', ':query=noun', ':query=noun:suffix=None')]

def contrast_holm(model, end):
    "Holm's p of contrast against raw attention in right answers, over the eight pairs of chapter 5"
    return holm([p(m, 'carve' + e, 'question-only' + e) for m, e in EIGHT])[EIGHT.index((model, end))]

def pointing_p(model, end):
    "McNemar's p of contrast against raw attention in pointing"
    t = lines(model).pivot_table('pointing', 'id', 'method', sort=False)
    return mcnemar(t['carve' + end], t['question-only' + end])

# of chapter 8's first table
CONTROLS = 'none', 'random', 'center', 'question-only', 'carve', 'lookup', 'oracle'

def holm_of(model, method, others):
    "Holm's p of a method against the baseline, among others, with today's defaults"
    return paired({k: (today(model)[k], today(model)['none']) for k in others}).p_holm[method]

@cache
def places(model):
    """What the crop of `Carve()` shows of the true region of each question: 'shown', 'cut' or 'wrong place',
    as chapter 8 has it"""
    table = lines(model)
    whole = table[table.method == 'none'].drop_duplicates('id').set_index('id')
    found = table[table.method == 'carve'].drop_duplicates('id').set_index('id')
    area = lambda box: (box[2] - box[0])*(box[3] - box[1])
    true = whole.iou*whole.box.map(lambda b: area(json.loads(b)))
    part = found.iou*(found.box.map(lambda b: area(json.loads(b))) + true)/(1 + found.iou)/true
    return part.map(lambda x: 'wrong place' if x < .05 else 'cut' if x < .95 else 'shown')

def turned(model, place):
    "Questions at such a place that the crop of `Carve()` loses and wins, and McNemar's p"
    t = right(model)[places(model) == place]
    return (int((t['none'] > t.carve).sum()), int((t['none'] < t.carve).sum()),
        paired({'': (t.carve, t['none'])}).p.item())

def enlarged(model, method):
    "How often larger a crop shows its region than the image of 448 pixels: the median"
    boxes = lines(model).query('method == @method').box.map(json.loads)
    return np.median([448/max(x1 - x0, y1 - y0) for x0, y0, x1, y1 in boxes])

def acc_at(model, place, method): return 100*right(model)[places(model) == place][method].mean()


@cache
def study(name):
    return read_records(RESULTS/'study'/name)[0]

def own_share(model):
    "How much of the general map's variance is the image's or the place's, in %"
    from recipes.invariance import image_share
    return 100*np.mean(image_share(study('invariance' + ('-' + model)*(model == S)), 'general'))

def among_twins(model, letter='T'):
    """Share in % of the questions among twins whose map, by the query token and layers of agreement, points
    at the target (T), or at an object of its shape (S)"""
    records = json_lines(f'seeds/{model}')
    own = json.loads((RESULTS/f'seeds/{model}.json').read_text())
    twins = [r['maps'][own['query']] for r in records if '-twins-' in r['id']]
    return 100*np.mean([[letters[own['read'].index(layer)] == letter for layer in own['layers']]
        for letters in twins])

def twins(model, method):
    "Right answers among twins"
    return 100*np.mean([line['made'][method]['right'] for line in json_lines(f'twins/{model}-tries')])

def shapes(model, method, unique):
    "Right answers with today's defaults where the target's shape is unique in its scene, or where it is not"
    return 100*np.mean([today(model)[method][r.id] for r in scene_records(300) if
        (sum(o.shape == r.question.rstrip('?').split()[-1] for o in scene_objects(r.image.seed)) == 1)
        == unique])

def misread(model):
    """How often a wrong answer without a crop is another object's digit, and how often a wrong digit at
    random would be"""
    wrong = lines(model).query('method == "none" and score == 0').drop_duplicates('id')
    others = [{str(o.digit) for o in scene_objects(int(i.split('-')[1]))} - {t}
        for i, t in zip(wrong.id, wrong.truth)]
    return (100*np.mean([a in o for a, o in zip(wrong.answer, others)]),
        100*np.mean([len(o)/9 for o in others]))

def existence(model=T, truth=None):
    """Points that `lookup` with its gate gains on 1,500 questions for existence, or on those with one true
    answer"""
    found = pd.DataFrame(json_lines(f'gate/{model}-existence'))
    if truth: found = found[found.answer == truth]
    return points(found.again.where(found.confidence <= .95, found.plain), found.plain)

def answer_fixed(model, truth):
    """Log-odds of a right answer per standard deviation of the contrast's entropy at the first step, in
    questions for existence with that true answer: (value, lower, upper)"""
    from recipes.clutter import to_dataframe
    from recipes.correlation import logistic
    t = to_dataframe(study('entropy' + ('-' + model)*(model == S)), 'first')
    t = t[(t.kind == 'exist') & (t.truth == truth)]
    return tuple(logistic(t.contrast, t.correct.astype(float), clusters=t.image_key.tolist()))[:3]

AGAIN, OTHERS, EQUAL = ('crop_tokens/again', 'crop_tokens/others',
    'equal/carve-small-0')    # fresh questions of carve-small

def fresh(method, *names):
    "Scores of a method with crops of 144 tokens, or of the baseline, on fresh questions"
    def scores(name):
        spec = {'none': 'none', 'carve': 'carve:tokens=144' + ':square=True:limit=1792'*(name == EQUAL)}.get(
            method,
            method)
        found = record(f'{name}.json', 'methods', spec)
        return digits(found.get('right') or found['score'])
    return np.concatenate([scores(n) for n in names]).astype(float)

def fresh_gain(*names, method='carve', over='none'):
    "Baseline and accuracy in %, points gained with their interval, and McNemar's p"
    a, b = fresh(method, *names), fresh(over, *names)
    return 100*b.mean(), 100*a.mean(), *points(a, b), mcnemar(a, b)

def box_writer(method):
    "Right answers of the variant that writes boxes"
    found = record('box-writer.json', 'methods')
    return 100*np.mean(digits(next(of['right']
        for name, of in found.items() if name.split(':')[0] == method)))

def older(method):
    "Right answers of carve-small with crops as large as the image"
    return 100*np.mean([r['score'] for r in run('demo-carve-small-full').select(method, 'digit')])

def blind(model):
    "Right answers about a gray image"
    asked = lines(model).query('method == "none"').drop_duplicates('id')
    return 100*np.mean([record('blind.json', model, q) == a for q, a in zip(asked.question, asked.truth)])

def commonest():
    return 100*lines(S).query('method == "none"').drop_duplicates('id').truth.value_counts(
        normalize=True).max()


# The prose

def prose(page):
    """Markdown cells of a page, or of its section after a #; digits of code, links, images, comments, numbers
    of figures and the level of intervals do not count. What cells display is computed there"""
    path, _, section = page.partition('#')
    cells = json.loads((ROOT/'nbs'/f'{path}.ipynb').read_text(encoding='utf-8'))['cells']
    texts = [''.join(c['source']) for c in cells if c['cell_type'] == 'markdown']
    if section:
        texts = re.findall(rf'^## {re.escape(section)}\n(.*?)(?=^## |\Z)', '\n\n'.join(texts), re.M | re.S)
    return re.sub(
        r'```.*?```|<!--.*?-->|!\[[^\]]*\]\([^)]*\)|(?<=\])\([^)]*\)|\$[^$\n]*\$|`[^`\n]*`|Figure \d+\.\d+|95 % (?=interval|band)', lambda m: re.sub(r'\d', '#', m[0]), ' '.join('\n\n'.join(texts).split()), flags=re.S)

def agrees(said, value):
    "Is a number what a value is when it is rounded to as many places?"
    places = len(said.partition('.')[2])
    return abs(float(said.replace(',', '')) - abs(value)) <= .5*10**-places + 1e-9

def check(entries, pages):
    "Sentences about numbers that differ, that are gone or that have no entry"
    for page in pages:
        text = prose(page)
        own = [e for e in entries if e['page'] == page]
        covered = np.zeros(len(text), bool)
        for e in own:
            at = text.find(e['says'])
            if at < 0: yield f'{page}: is no longer there: {e["says"]}'
            covered[max(at, 0):at + len(e['says'])] = True
            if 'why' in e: continue
            values = eval(f'[{", ".join(e["is"])}]', globals())
            said = ANY.findall(e['says'])
            if len(said) != len(values):
                yield f'{page}: {len(said)} numbers and {len(values)} expressions: {e["says"]}'
            if 'p' in e and (claim := CLAIM.search(e['says'])) and (
                    corrected := eval(e['p'], globals())) > .05:
                yield f'{page}: says {claim[0]!r} with a corrected p of {corrected:.2f}: {e["says"]}'
            for number, value in zip(said, values):
                if not agrees(number, value):
                    yield f'{page}: says {number}, the record {value:.4g}: {e["says"]}'
        for m in OWED.finditer(text):
            if not covered[m.start()]:
                yield f'{page}: no entry: {" ".join(text[max(0, m.start() - 60):m.end() + 30].split())}'


def main(argv):
    entries = tomllib.loads((ROOT/'docs/numbers.toml').read_text(encoding='utf-8'))['number']
    found = list(check(entries, argv or dict.fromkeys(e['page'] for e in entries)))
    print('\n'.join(found)
        or f'{sum(len(e.get("is", ())) for e in entries)} numbers agree with their records')
    return bool(found)


if __name__ == '__main__': sys.exit(main(sys.argv[1:]))
