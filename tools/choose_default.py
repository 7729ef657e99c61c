"""How `Carve()` got its defaults: sweeps on the calibration split, saved for the notebook.

Usage: python tools/choose_default.py [--n 120] [--model carve-tiny] [--out nbs/results/default.json]

Three steps, each on calibration scenes only: which rows and layers give the map whose peak lies in the true box most often;
which mask, view and way of asking then answers most digits; and which of the settings that are about as good does least harm
to the other kinds of question."""
import argparse, json, warnings
from itertools import product
from pathlib import Path
from carve_nb.models.vlm import VLM
from carve_nb.models.prompts import GENERAL_INSTRUCTION, SHORT_ANSWER
from carve_nb.method.carve import Carve, change
from carve_nb.baselines.controls import QuestionOnly
from carve_nb.data.metrics import score
from carve_nb.attention.cache import AnswerCache, timed_capture
from carve_nb.data.scenes import samples

OTHERS = ('color', 'shape', 'exist', 'count', 'relation', 'twostep')

def looks(vlm, s):
    "Rows of all layers and steps under the question and under the general instruction."
    return [timed_capture(vlm, s.image, q, layers=None, steps='all', question_rows=True, suffix=SHORT_ANSWER, max_new_tokens=8) for q in (s.question, GENERAL_INSTRUCTION)]

def hit(method, vlm, found):
    "Share of samples whose map peaks in the true box."
    return sum(method.fuse(*method.maps(q, g), q.spans[0], s.image).hit(s.box) for s, (q, g) in found)/len(found)

def accuracy(method, vlms, found):
    "Mean score over samples, from looks already taken."
    return sum(score(method.ask_again(v, method.locate(s.image, s.question, q, g)).answer, s.answer, s.kind) for v, (s, (q, g)) in zip(vlms, found))/len(found)

def map_settings(depth):
    "Whose rows, which layers, which λ."
    bands = [None] + [[l] for l in range(depth)] + [[l, l + 1] for l in range(depth - 1)]
    rows = [dict(query='last', steps=t) for t in ('first', 'last')] + [dict(query='question', words=w) for w in ('all', 'content')]
    lams = [dict(lam=1e-8)] + [dict(lam=l, relative=True) for l in (.1, .3, 1., 3.)]
    return [dict(layers=b, **r, **l) for b, r, l in product(bands, rows, lams)]

def view_settings():
    "What is kept, how it is shown, how the model is asked again."
    shown = [dict(p=p, K=K, min_side=m, join=j, fill='none') for p, K, m, j in product((.04, .1), (1, 2), (96, 128), ('view', 'both'))]
    return [dict(v, region_rule='top_k', square=True) for v in shown + [dict(p=.1, K=1, min_side=128, join=j, fill='black') for j in ('view', 'both')]]

def choose(a, vlm):
    "The sweeps, from maps to views to harm; writes the file."
    found = [(s, looks(vlm, s)) for s in samples('digit', a.n, 'calibration')]
    maps = [dict(m, hit=hit(change(Carve(), **m), vlm, found), task=hit(change(QuestionOnly(), **m), vlm, found)) for m in map_settings(vlm.n_layers)]
    maps.sort(key=lambda m: -m['hit'])
    # all layers mean the same in a model of any depth, so they are taken unless some band is clearly better
    whole = next(m for m in maps if m['layers'] is None)
    chosen = whole if whole['hit'] >= maps[0]['hit'] - .03 else maps[0]
    best = {k: v for k, v in chosen.items() if k not in ('hit', 'task')}
    print('best maps', *maps[:8], sep='\n  ')
    once = [AnswerCache(vlm) for _ in found]
    views = [dict(v, digit=accuracy(change(Carve(), **best, **v), once, found)) for v in view_settings()]
    views.sort(key=lambda v: -v['digit']); good = [v for v in views if v['digit'] >= views[0]['digit'] - .03][:5]
    print('best views', *views[:12], sep='\n  ')
    few = {k: [(s, looks(vlm, s)) for s in samples(k, max(20, a.n//3), 'calibration')] for k in OTHERS}
    base = {k: sum(score(vlm.ask(s.image, s.question).text, s.answer, k) for s, _ in f)/len(f) for k, f in few.items()}
    for v in good:
        m = change(Carve(), **best, **{k: x for k, x in v.items() if k != 'digit'})
        v['others'] = {k: accuracy(m, [AnswerCache(vlm) for _ in f], f) for k, f in few.items()}
        v['mean'] = sum(v['others'].values())/len(few)
    good.sort(key=lambda v: -v['mean'])
    print('alone', base); print('least harm', *good, sep='\n  ')
    best = best | {k: x for k, x in good[0].items() if k not in ('digit', 'others', 'mean')}
    m = change(Carve(), **best); first = [bool(m.saliency_only(vlm, s.image, s.question).hit(s.box)) for s, _ in found[:20]]
    out = dict(n=a.n, split='calibration', model=a.model, best=best, first=first,
               maps=maps, views=views, harm=good, alone=base)
    Path(a.out).parent.mkdir(parents=True, exist_ok=True); Path(a.out).write_text(json.dumps(out, indent=1) + '\n')

def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument('--n', type=int, default=120); a.add_argument('--model', default='carve-tiny'); a.add_argument('--out', default='nbs/results/default.json')
    a = a.parse_args(); warnings.simplefilter('ignore')
    vlm = VLM.from_pretrained(a.model)
    with vlm.sharing(size=2*a.n): choose(a, vlm)

if __name__ == '__main__': main()
