"""The numbers of the prose, recomputed from the records. docs/numbers.toml has one entry a sentence: its
page, the words as they stand, and an expression for each number in them, or the reason why it has none (a
constant, a figure of others).

Usage: python tools/recompute.py [PAGE ...]   lists numbers that differ and decimals and percentages that
no entry has; exits with 1 if there is one
       python tools/recompute.py --controls   lists the controls that net near zero, with what they win and
lose"""
import json
import re
import sys
import tomllib
from functools import cache
from pathlib import Path
import numpy as np
import pandas as pd
from carve_nb.core.io import CHECKPOINTS
from carve_nb.core.stats import difference, holm, mcnemar, paired_effect
from carve_nb.data.scenes import scene_objects, scene_records
from carve_nb.runs.report import report, results_table
from carve_nb.runs.store import read_records, read_run
from recipes.ablation import compare_settings, paired, setting_scores
from recipes.equal_terms import START, ZOOM
from recipes.power import detectable  # noqa: F401 (of an expression)
from recipes.records import load_trial, ratio_of_means
from recipes.replay import lost_answers, share_passed, to_dataframe

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT/'nbs'/'results'
ANY = re.compile(r'(?<![\w.])(?:\d+(?:[.,]\d+)*|\.\d+)')
# decimals and percentages; no versions, no numbers of papers
OWED = re.compile(r'(?<![\w./:-])(?:\d*\.\d+(?![\w.]*[\w/])|\d+(?= ?%))')
# what a corrected p above .05 does not allow
CLAIM = re.compile(r'\b(costs?|gain(s|ed)?|loses?|lost|ahead|behind|leads?|harms?|helps?)\b')
T, S = 'carve-tiny', 'carve-small'
ALWAYS = 'lookup:skip_above=1'
ALONE = ALWAYS + ':final_images=crop'
HIDE = 'hide:words=Write a general description of the image. {}:sigma=1.'


# What expressions are made of

@cache
def run(name): return read_run(RESULTS/name)

@cache
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
def asked_today(model):
    return results_table(run({T: 'demo', S: 'demo-carve-small'}[model]).records).query('kind == "digit"')

@cache
def today(model):
    "Scores with today's defaults; most of the book was measured with crops as large as the image"
    return asked_today(model).pivot_table('score', 'id', 'method', sort=False)

def acc_today(method, model=S): return 100*today(model)[method].mean()

@cache
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

def by_crops(model, crop, over='none', of='other_crops'):
    "Right answers with a crop and with another or none, where a question has both"
    asked = [r['right'] for r in trial(f'{of}-{model}') if crop in r['right'] and over in r['right']]
    return np.array([[r[crop], r[over]] for r in asked]).T

def by_crop(model, crop, over='none', of='other_crops'):
    "Points gained by a crop over no crop, or over another crop"
    return points(*by_crops(model, crop, over, of))

CROPS = 'target', 'same digit', 'center', 'black', 'any object', 'another digit'

def crop_row(model, crop):
    "Points gained by a crop with their interval, questions won and lost, and Holm's p over all crops"
    first, second = by_crops(model, crop)
    p = holm([mcnemar(*by_crops(model, other)) for other in CROPS])[CROPS.index(crop)]
    return *points(first, second), (first > second).sum(), (first < second).sum(), small(p)

def copied(model, arm):
    "How often, in %, the digit of the other object is the answer, with its crop or without one (`none`)"
    asked = [r for r in trial(f'other_crops-copied-{model}') if r['other']]
    return 100*np.mean([r[arm].strip(' .') == r['other'] for r in asked])

def central(model, above, most):
    "Scenes whose central crop shows so much of the target, and right answers in % without and with it"
    asked = [r['right'] for r in trial(f'other_crops-{model}') if above < r['shown']['center'] <= most]
    return len(asked), *(100*np.mean([r[crop] for r in asked]) for crop in ('none', 'center'))

def front(model, method): return [r['made'][method]['right'] for r in trial(f'front_page-{model}')]

def front_ahead(model, a, b):
    "Points between two methods on the 1,200 questions of the front page"
    return points(front(model, a), front(model, b))

def at_profile(model):
    """Right answers in % of `carve` at the query token, layers and crop of the profile, and of `lookup` on the
    same questions; the difference"""
    right, other = [r['right'] for r in trial(f'front_page-profile-{model}')], front(model, 'lookup')
    return 100*np.mean(right), 100*np.mean(other), *points(right, other)

def paper_form(model):
    "Right answers in % of the same crop at a random place, and of the paper's; the difference"
    placed, paper = ([r['right'][way] for r in trial(f'front_page-paper-{model}')] for way in ('random', 'paper'))
    return 100*np.mean(placed), 100*np.mean(paper), *points(paper, placed)

def unpaired():
    "Points that the true region, after the image, brings a decoder that saw no pairs"
    asked = [r['right'] for r in trial('worlds-answer-unpaired')]
    return points([r['both'] for r in asked], [r['none'] for r in asked])

def terms(model, method, of='0'):
    "Read what the comparison on equal terms keeps of a method; `of`: the sink, and -search for `SEARCH`"
    methods = record(f'equal/{model}-{of}.json', 'methods')
    ends = ':tokens=144:square=True:limit=1792', ':tokens=144', ''
    return next(methods[method + end] for end in ends if method + end in methods)

def on_terms(model, method, of='0'):
    "Right answers of a method in the comparison on equal terms"
    return digits(terms(model, method, of)['right'])

def equal(model, method, of='0'): return 100*np.mean(on_terms(model, method, of))

def equal_ahead(model, a, b, of='0', of_b=None):
    "Points that method `a` is ahead of `b` on equal terms, their interval, and McNemar's p"
    first, second = on_terms(model, a, of), on_terms(model, b, of_b or of)
    return *points(first, second), mcnemar(first, second)

def pointing(model, method): return 100*lines(model).query('method == @method').pointing.mean()
@cache
def against(model, a, b):
    "Change, interval and p of method `a` over `b`"
    return paired({'': (right(model)[a], right(model)[b])}).iloc[0]

def small(p):
    "The p that prose writes: what is below .001 as .001"
    return max(p, .001)

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

@cache
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

def right_twins(model, method):
    return [line['made'][method]['right'] for line in json_lines(f'twins/{model}-tries')]

def twins(model, method):
    "Right answers among twins"
    return 100*np.mean(right_twins(model, method))

@cache
def book(**start):
    "The 300 questions of the book or, from another seed on, those on equal terms"
    return scene_records(300, **start)

def unique_shapes(records):
    "Tell of each question whether the target's shape is unique in its scene"
    def count(r):
        asked = r.question.rstrip('?').split()[-1]
        return sum(o.shape == asked for o in scene_objects(r.image.seed))
    return np.array([count(r) == 1 for r in records])

def shapes(model, method, unique, column='score'):
    "Right answers or pointing in % with today's defaults where the target's shape is unique, or is not"
    table = asked_today(model).pivot_table(column, 'id', 'method', sort=False)[method]
    scores = np.array([table[r.id] for r in book()], float)
    return 100*scores[unique_shapes(book()) == unique].mean()

def shape_row(unique, *sets):
    "Questions, baseline and `lookup` in %, and points gained, in sets of (records, baseline, `lookup`)"
    alone, again = (np.concatenate([np.asarray(of[i], float)[unique_shapes(of[0]) == unique] for of in sets])
        for i in (1, 2))
    return len(alone), 100*alone.mean(), 100*again.mean(), *points(again, alone), mcnemar(again, alone)

def shape_set(model):
    "The questions of the book, with the baseline's and `lookup`'s right answers"
    return book(), *([today(model)[m][r.id] for r in book()] for m in ('none', 'lookup'))

def fresh_shapes():
    "The same of `carve-tiny` on equal terms"
    return book(start=START['heldout']), on_terms(T, 'none'), on_terms(T, 'lookup')

def misread(model):
    """How often a wrong answer without a crop is another object's digit, and how often a wrong digit at
    random would be"""
    wrong = lines(model).query('method == "none" and score == 0').drop_duplicates('id')
    others = [{str(o.digit) for o in scene_objects(int(i.split('-')[1]))} - {t}
        for i, t in zip(wrong.id, wrong.truth)]
    return (100*np.mean([a in o for a, o in zip(wrong.answer, others)]),
        100*np.mean([len(o)/9 for o in others]))

def gated(model, part='existence', truth=None, bar=.95, kind='exist'):
    "Right answers of `lookup` with a confidence threshold, and of the baseline"
    found = pd.DataFrame(json_lines(f'gate/{model}-{part}'))
    found = found[found.id.str.endswith(kind)]
    if truth: found = found[found.answer == truth]
    return found.again.where(found.confidence <= bar, found.plain), found.plain

def existence(model=T, truth=None, bar=.95):
    "Points that `lookup` gains on 1,500 questions for existence, or on those with one true answer"
    return points(*gated(model, truth=truth, bar=bar))

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

def box_writing(method, key='right'):
    "What is kept of a method of the variant that writes boxes: a digit a question, or its cost"
    found = record('box-writer.json', 'methods')
    kept = next(of[key] for name, of in found.items() if name.split(':')[0] == method)
    return digits(kept) if isinstance(kept, str) else kept

def box_writer(method):
    "Right answers of the variant that writes boxes"
    return 100*np.mean(box_writing(method))

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


# of notes/results and notes/what_the_map_finds

@cache
def rivals():
    "Holm's p of each rival against `lookup` on equal terms, `carve-tiny`, over all of them"
    ends = re.compile(r':tokens=144.*')
    names = [ends.sub('', name) for name in record(f'equal/{T}-0.json', 'methods')]
    p = {name: equal_ahead(T, name, 'lookup')[3] for name in names
        if not name.startswith(('none', 'random', 'center', 'oracle', 'lookup'))}
    p[ZOOM] = equal_ahead(T, ZOOM, 'lookup', '0-search', '0')[3]
    return dict(zip(p, holm([*p.values()])))

def general_bound():
    "The paper's error bound at the mean difference of two instructions"
    delta = np.mean([r['delta'] for r in study('invariance')])
    return delta/(1 - delta)

def best_bar():
    "The threshold that answers best on both models' calibration questions, and the least within two points"
    def score(bar):
        digits = [gated(m, 'calibration', bar=bar, kind='digit')[0].mean() for m in (T, S)]
        absent = [gated(m, 'calibration', 'no', bar)[0].mean() for m in (T, S)]
        return round(sum(digits + absent), 6)
    bars = 0, .5, .6, .7, .8, .85, .9, .95, .98, .99, 1.
    scores = [score(bar) for bar in bars]
    best = max(scores)
    return bars[scores.index(best)], next(b for b, total in zip(bars, scores) if total > best - .02)

@cache
def compared(**kind):
    "The 720 questions of every kind, as the sources run the methods"
    return report(study('../compare'), **kind)

@cache
def setting(name, base):
    "Points between two settings of the ablation"
    return tuple(compare_settings(study('ablation'), [name], base).iloc[0][['change', 'lo', 'hi']])

def lambdas():
    "McNemar's p of our λ and of four others against ours"
    ends = '1e-08 relative=False', '0.01 relative=True', '0.1 relative=True', '10 relative=True'
    names = [f'default lam={end}' for end in ends]
    scores = setting_scores(study('ablation')).dropna(subset=names)
    return [mcnemar(scores[name], scores['default']) for name in names]

def won(a, b):
    "Questions that the first scores win and lose"
    return (np.asarray(a) > b).sum(), (np.asarray(a) < b).sum()

def knocked(model):
    "Scores of `recipes.knockout`'s part `gain`, as a table"
    return pd.DataFrame(json_lines(f'knockout/{model}-gain')).set_index('id').astype(float)

def cut_row(model):
    "Accuracy in % without and with a crop, token kept and cut; difference of gains; wrong answers fixed"
    t = knocked(model)
    fixed = [100*t['crop' + end][t['image' + end] == 0].mean() for end in ('', '-cut')]
    return (*(100*t[['image', 'crop', 'image-cut', 'crop-cut']].mean()),
        *points(t.crop - t.image, t['crop-cut'] - t['image-cut']), *fixed)

def fixed_cut(model):
    "Points between crops, token kept and cut, where both are wrong without one"
    t = knocked(model)
    wrong = t[t[['image', 'image-cut']].sum(axis=1) == 0]
    return points(wrong.crop, wrong['crop-cut'])

def sized(part, tokens, method='lookup:skip_above=1'):
    "Right answers in % of `carve-small` with crops of so many tokens"
    methods = record(f'crop_tokens/{part}.json', 'methods')
    return 100*np.mean(methods['none' if tokens == 0 else f'{method}:tokens={tokens}']['score'])

@cache
def masked():
    "Right answers with the image (plain), without (none), without it from a layer on (number)"
    return pd.DataFrame([dict(plain=r['plain'], none=r['none']) | dict(enumerate(r['onward']))
        for r in study('masking')])

def masked_p(layer):
    "Holm's p of hiding the image from a layer on, over the six"
    found = masked()
    return holm([paired_effect(found.plain, found[i]).p for i in range(6)])[layer]

def shown(model, way):
    "Crops in % that show the target beside a sticker that is shared"
    return 100*np.mean([r['made'][way]['shown'] for r in study('shared' + ('-' + model)*(model == S))])

def gain_share():
    "How much of the true region's gain asking for the box brings, in %, with its bootstrap interval"
    asked, oracle, plain = (np.array(box_writing(method)) for method in ('ask-box', 'oracle', 'none'))
    return tuple(100*v for v in ratio_of_means(asked - plain, oracle - plain))

@cache
def zoomed(model):
    "Scores of `zoom-eye` and the methods beside it, sixty questions"
    table = results_table(run(f'rivals-{model[6:]}').records)
    return table.pivot_table(['score', 'calls'], 'id', 'method', sort=False)

def kept_of(name, key, way):
    "What a trial keeps of each question, as an array"
    return np.array([r[key][way] for r in trial(name)], float)

def dots(count, place, model=S):
    "Does the last position (0) or the last dot (1) point, with so many dots after the question?"
    return np.array([r['points'] for r in trial(f'controls-dots-{model}')], float)[:, count, place]

def worded(rule, i):
    "Does a word point (0), and is the answer right with its crop (1)? On `carve-small`"
    return np.array([r[rule][i] for r in json_lines(f'query_word/{S}')], float)

def under_sink(model, share, less):
    "Pointing under a sink of a share, of the row (0) and of the row minus the other words' (1)"
    return np.array([int(r[str(share)]['pointing'][less]) for r in json_lines(f'sinks/{model}-fresh')], float)

@cache
def replays(model): return to_dataframe(trial(f'replay-{model}'))

def lost(model):
    "The questions that a model answers rightly on the calm background and wrongly on the busy one"
    return lost_answers(replays(model))

def changed(model, part):
    "How much of the attention on the image that part of the calm map moves, where the answers differ"
    return np.mean([r['moved busy'][part] for r in trial(f'replay-{model}') if 'moved busy' in r])

def passed(model): return tuple(100*v for v in share_passed(replays(model)))

def replayed(model, arm):
    "How many of them come back with that part of the calm attention"
    return lost(model)[f'{arm}, into busy'].sum()

# of notes/cost and notes/robustness

def baseline_answers(prompt, asked):
    "Seconds of an answer at a length of the prompt, in baseline answers"
    found = record('bench.json', 'tokens', prompt)
    return found[asked]['s']/found['plain']['s']

def stage(prompt, name):
    "Share in % of a stage of CARVE in its seconds"
    stages = record('bench.json', 'tokens', prompt, 'stages')
    return 100*stages[name]/sum(stages.values())

def texture_effect(model):
    "Rank correlation of texture with the entropy of the contrasted map at the last step: (value, lower, upper)"
    from recipes.clutter import associate, to_dataframe
    return tuple(associate(to_dataframe(study('entropy' + ('-' + model)*(model == S))), 'T_c', 'contrast')[1])[:3]

def changed_answers(name):
    "Answers in % that such a change of the machine changes"
    row = next(row for row in record('determinism.json', 'rows') if row['name'] == name)
    return 100*row['changed']/row['scenes']


# Controls

def control_arms():
    "Each arm that was asked beside no crop: its name, its right answers and those without a crop"
    for record in 'other_crops', 'controls-shown', 'front_page':
        for model in T, S:
            asked = [r.get('right') or {name: made['right'] for name, made in r['made'].items()}
                for r in trial(f'{record}-{model}')]
            for arm in dict.fromkeys(name for right in asked for name in right if name != 'none'):
                both = [(right[arm], right['none']) for right in asked if arm in right]
                yield f'{record}, {model}, {arm}', *np.array(both).T

def near_zero(most=3):
    "Lines on the controls that change right answers by less than so many points, with what they win and lose"
    for name, right, plain in control_arms():
        gained, lost = won(right, plain)
        net = 100*(gained - lost)/len(right)
        if abs(net) < most: yield f'{name}: {net:+.1f} points net, {gained} won, {lost} lost of {len(right)}'


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
    if argv == ['--controls']: return print('\n'.join(near_zero()))
    entries = tomllib.loads((ROOT/'docs/numbers.toml').read_text(encoding='utf-8'))['number']
    found = list(check(entries, argv or dict.fromkeys(e['page'] for e in entries)))
    print('\n'.join(found)
        or f'{sum(len(e.get("is", ())) for e in entries)} numbers agree with their records')
    return bool(found)


if __name__ == '__main__': sys.exit(main(sys.argv[1:]))
