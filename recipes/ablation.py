"""Every setting of CARVE changed alone, around our default and around the paper's preset, compared to the
tables of the paper.

`python -m recipes.ablation MODEL`: about an hour; `nbs/results/study/ablation`."""

from dataclasses import replace
from functools import partial
from zlib import crc32
import numpy as np
import pandas as pd
from carve_nb.attention.session import Session
from carve_nb.core.errors import CarveError
from carve_nb.core.image import box_iou
from carve_nb.core.saliency import pick_layers
from carve_nb.core.stats import difference, holm, mean_interval, paired_test
from carve_nb.data.records import image_key_of
from carve_nb.data.scenes import samples
from carve_nb.data.scoring import score_answer
from carve_nb.method.carve import Carve
from carve_nb.method.controls import CenterCrop, DirectAnswer, InstructionOnly, Oracle, QuestionOnly, RandomCrop
from carve_nb.method.registry import make_method
from carve_nb.models.prompts import GENERAL_INSTRUCTIONS
from .records import Part, run_parts, run_study

def ask_all(vlm, sample, methods, judge) -> tuple:
    """Every method on one question: (name → answer, correct, what `judge` keeps of a `Result`; `Carve`'s
    captures).

    `methods`: name → what `make_method` takes. Equal captures and equal crops are computed once."""
    session, carve = Session(vlm), Carve(steps='all')
    made = {}
    for name, method in methods.items():
        r = make_method(method)(session, sample.image, sample.question, box=sample.box)
        made[name] = dict(answer=str(r.answer), correct=round(score_answer(r.answer, sample), 6)) | judge(r)
    return made, carve.capture_both(session, carve.asked(vlm, sample.image, sample.question))

def paired(pairs) -> pd.DataFrame: # label -> (scores, scores they are compared with), each by image
    "Scores with intervals, their change in points on the images that have both, and p, Holm over the table"
    rows = {}
    for label, (a, b) in pairs.items():
        a, both = a.dropna(), pd.concat([a, b], axis=1).dropna()
        (x, y), on = both.to_numpy().T, both.index.tolist()
        d, (p, test) = difference(x, y, clusters=on), paired_test(x, y, clusters=on)
        change = dict(zip(('change', 'lo', 'hi'), (100*v for v in d)))
        rows[label] = dict(score=mean_interval(a, clusters=a.index.tolist()), n=len(x), **change, p=p,
            test=test)
    t = pd.DataFrame.from_dict(rows, orient='index')
    return t.assign(p_holm=holm(t.p))

def show_value(v) -> str:
    "A value in the name of a setting"
    if isinstance(v, list): return str(v[0]) if len(v) == 1 else f'{v[0]}..{v[-1]}'
    return 'all' if v is None else f'{v:g}' if isinstance(v, float) else str(v)

def vary(center, method, changes) -> dict: # its name; a `Carve`; {field: value}s
    "A setting with each of the changes, one at a time: name → changed setting"
    words = lambda values: ' '.join([center, *(f'{k}={show_value(v)}' for k, v in values.items())])
    return {words(values): m for values in changes if (m := replace(method, **values)) != method}

def layer_choices(n_layers) -> list:
    "Values for `Carve.layers`: single layers, bands, the paper's band, all"
    marks = sorted({round(x) for x in np.linspace(0, n_layers - 1, 6)})
    bands = [[l] for l in marks] + [list(range(a, b + 1)) for a, b in zip(marks, marks[1:])]
    named = [pick_layers(v, n_layers) for v in ('paper', None)]
    return [v for v in bands if v not in named] + ['paper', None]

ABLATION_CHANGES = dict(
    steps=('first', 'last', 'all'), instruction=GENERAL_INSTRUCTIONS, instruction_suffix=(True, False),
    final_images=('crop', 'both'), fill=('black', 'none'), connectivity=(4, 8),
    normalize=(False, True), region_rule=('top_k', 'official'), min_side=(28, 128), square=(False, True))

def single_changes(n_layers) -> list:
    "Everything that is changed alone, {field: value}s"
    rows = [dict(query='last'), dict(query='question'), dict(query='content')]
    lam = [dict(lam=1e-8, relative=False), *(dict(lam=l, relative=True) for l in (.01, .1, 1., 10.))]
    rest = [{field: v} for field, values in ABLATION_CHANGES.items() for v in values]
    return [*(dict(layers=v) for v in layer_choices(n_layers)), *rows, *lam, *rest]

ABLATION_SHARES = (.02, .04, .1, .2, .4, .6, .8)
ABLATION_COUNTS = (1, 2, 3, 4, 5)
ABLATION_GRID = [(p, K) for p in ABLATION_SHARES for K in ABLATION_COUNTS]
CENTERS = dict(default=Carve, paper=Carve.paper)

def ablation_configs(n_layers=6, crossed=tuple(CENTERS)) -> dict: # centers around which p and K are crossed
    "The family of settings, name → `Carve`: each differs from a center in one setting, or in p and K"
    family = {}
    for name, make in CENTERS.items():
        grid = {f'{name} p={p:g} K={K}': make(p=p, K=K) for p, K in ABLATION_GRID if name in crossed}
        family |= {name: make()} | grid | vary(name, make(), single_changes(n_layers))
    return family

def ablation_controls(): # name -> method
    "What a gain must be held against"
    return {
        'none': DirectAnswer(), 'random': RandomCrop(), 'center': CenterCrop(),
        'question-only': QuestionOnly(), 'instruction-only': InstructionOnly(), 'official': Carve.official(),
        'oracle': Oracle()}

def measure_ablation(vlm, sample, configs=None, every=3) -> dict:
    """Every setting on one question; equal captures and equal crops are computed once.

    `configs`: name → method; None: the family and the controls, with p and K crossed around the paper's
    preset for one question in `every`, by a hash of its id."""
    if configs is None:
        crossed = tuple(CENTERS) if crc32(str(sample.id).encode()) % every == 0 else ('default',)
        configs = ablation_controls() | ablation_configs(vlm.n_layers, crossed)
    if sample.box is None: configs = {k: m for k, m in configs.items() if not isinstance(m, Oracle)}
    def judge(r):
        found = dict(hit=None, iou=None, box=[int(v) for v in r.crop.box])
        box = sample.box
        if box and r.saliency is not None:
            x, y = r.saliency.peak()
            found['hit'] = int(box[0] <= x < box[2] and box[1] <= y < box[3])
        if box: found['iou'] = round(float(box_iou(r.crop.box, box)), 3)
        return found
    made, _ = ask_all(vlm, sample, configs, judge)
    return dict(id=sample.id, kind=sample.kind, truth=sample.answer, made=made)

def setting_scores(records, key='correct') -> pd.DataFrame: # 'correct', 'hit' or 'iou'
    "One score: a row for each image, a column for each setting; NaN where it was not tried"
    if not records: raise CarveError('No records; run the study first.')
    notes = [{k: v[key] for k, v in r['made'].items()} for r in records]
    return pd.DataFrame(notes, map(image_key_of, records), dtype=float)

def compare_settings(records, names, base='default') -> pd.DataFrame: # of settings
    "Settings against one, on the same questions, as in `paired`"
    s = setting_scores(records)
    return paired({k: (s[k], s[base]) for k in names})

def changed_names(records, center='default') -> list: # a key of `CENTERS`
    "The settings that differ from a center in one field"
    return [k for k in setting_scores(records) if k.startswith(center + ' ')
        and not k.startswith(center + ' p=')]

if __name__ == '__main__':
    run_parts(dict(all=Part('ablation', measure_ablation, partial(samples, 'digit'), 150)), 'study_out',
        run_study)
