"""Tables and figures of a comparison: every method on the same questions, as published and tuned, at its cost."""

import argparse
import gzip
import json
import platform
import time
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import NamedTuple
import numpy as np
import pandas as pd
import torch
from carve_nb.attention.layer_masking import decoder_layers
from carve_nb.attention.vlm import VLM
from carve_nb.core.errors import CarveError
from carve_nb.core.image import open_image
from carve_nb.data.datasets import load_benchmark
from carve_nb.data.questions import KINDS
from carve_nb.method.registry import CATEGORIES, method_rows, methods, split_specs
from carve_nb.models.model import Answer
from carve_nb.models.prompts import SHORT_ANSWER
from carve_nb.runs.report import kinds_of, report
from carve_nb.runs.runner import RunConfig, run_eval
from carve_nb.runs.store import Run, read_records, read_run

GROUPS = {
    'digit': ('digit',), 'attribute': ('color', 'shape'), 'existence': ('exist',), 'counting': ('count',),
    'relation': ('relation',), 'two-step': ('twostep',), 'whole scene': ('describe',)}
class Listed(NamedTuple):
    "What the table of methods says of one"
    name: str
    category: str
    about: str
    source: str = ''
    asks: str = ''

# no longer in the package: their rows are recorded, their code is in the git history
GONE = {e.name: e for e in [
    Listed('auto', 'ours', 'decided whether to ask about crops and which answer to keep'),
    Listed('conjunction', 'ours', "CARVE's map times that of the color words"),
    Listed('vea', 'map', 'the rest of the image dimmed', 'arXiv 2510.17771'),
    Listed('attwarp', 'map', 'image warped by the marginals of the map', 'arXiv 2510.09741'),
    Listed('attwarp-chain', 'map', 'AttWarp, repeated', 'arXiv 2510.09741'),
    Listed('laser', 'map', 'crop from the layer that reacts most to the question', 'arXiv 2602.04304'),
    Listed('laser-vat', 'prompt', 'against the image without its evidence', 'arXiv 2602.04304'),
    Listed('random-map', 'control', "a map by chance, CARVE's stages"),
    Listed('shuffled', 'control', 'the map under the words in the wrong order')]}
QUERIES = {row[0]: Listed(*row) for row in method_rows(methods())[1:]} | GONE
TUNED = ' tuned'   # behind the name of a method: its second row

def entry_of(row):
    "The table's line of a method, or of its second row"
    return QUERIES[row.removesuffix(TUNED)]

def format_baseline(row, n, digits=0) -> str:
    "Behind an accuracy: the baseline's accuracy on a row's questions, where these are fewer than n"
    if row['n'] >= n or row.get('baseline') is None: return ''
    return f' (none there: {100*row["baseline"]:.{digits}f}; of {row["n"]})'

@dataclass(repr=False)
class Comparison:
    "Lines of every method on the same questions, their costs and best settings"
    records: list # of dicts
    protocol: dict = field(default_factory=dict)
    costs: dict = field(default_factory=dict) # method -> mean calls, tokens, seconds (plain answer = 1) of a question
    tuned: dict = field(default_factory=dict) # method -> its best setting on calibration questions

    def __post_init__(self):
        group = {k: g for g, kinds in GROUPS.items() for k in kinds}
        self.records = [r | dict(kind=group.get(r['kind'], r['kind'])) for r in self.records]
        self.ids = list(dict.fromkeys(r['id'] for r in self.records))
        self.reports = {}    # kind -> what `rows` returns

    def kinds(self) -> list:
        found = kinds_of(self.records)
        return [g for g in GROUPS if g in found]

    def select(self, method, kind=None) -> list: # of dicts
        return Run(self.protocol, self.records).select(method, kind)

    def rows(self, kind=None) -> dict: # method -> its numbers, as in `report`; what is not known is left out
        if kind not in self.reports:
            self.reports[kind] = {m: row.dropna().to_dict() for m, row in report(self.records, kind=kind).iterrows()}
        return self.reports[kind]

    def answered(self, kind=None) -> dict: # method -> its numbers
        "The rows with answers, by category, in the order of the registry, each with its second row behind it"
        rows, names = self.rows(kind), sorted(QUERIES, key=lambda name: CATEGORIES.index(QUERIES[name].category))
        return {m: rows[m] for name in names for m in (name, name + TUNED) if rows.get(m, {}).get('n')}

    def by_kind(self) -> pd.DataFrame:
        "Accuracy of every method by kind, marked where it differs from the baseline"
        def column(rows, n):
            gain = {m: (r.get('p_holm', 1) < .05)*np.sign(r.get('gain', 0)) for m, r in rows.items()}
            marks = {m: {1: ' +', -1: ' -'}.get(v, '') for m, v in gain.items()}
            return {m: f'{100*r["acc"]:.1f}{marks[m]}{format_baseline(r, n, 1)}' for m, r in rows.items()}
        total, table = self.answered(), {}
        table['category'] = {m: entry_of(m).category for m in total}
        table['all'] = column(total, total['none']['n'])
        table['95 %'] = {m: f'{100*r["lo"]:.1f}-{100*r["hi"]:.1f}' for m, r in total.items()}
        for k in self.kinds():
            n = max(r['n'] for r in self.answered(k).values())
            table[f'{k} ({n})'] = column(self.answered(k), n)
        return pd.DataFrame(table, index=list(total)).fillna('').rename_axis('method')

def load_comparison(folder) -> Comparison: # of records.jsonl.gz, meta.json, costs.json, auroc.json and perhaps tuned.json
    "A saved comparison of methods, with the AUROC of the true region's patches in its lines"
    read = lambda name: json.loads((Path(folder)/f'{name}.json').read_text())
    records, meta = read_records(folder)
    auroc, tuned = read('auroc'), read('tuned')['chosen'] if (Path(folder)/'tuned.json').exists() else {}
    records = [r | dict(auroc=auroc.get(r['method'], {}).get(r['id'])) for r in records]
    return Comparison(records, meta, costs=read('costs'), tuned=tuned)

EDGES = [(2, 2), (3, 3)]
GRIDS = [
    ('carve', dict(layers=[None, (2, 3)], p=[.02, .04, .08])),
    ('rel-att', dict(layers=[(l, l) for l in range(6)])),
    ('grad-att', dict(layers=[(l, l) for l in range(1, 5)])), ('grad-att', dict(layers=EDGES, base=[84])),
    ('pure-grad', dict(base=[84, 160])), ('pure-grad', dict(final_images=['crop'])),
    ('fusion-crop', dict(layers=[[0]], last=[1, 2, 3], p=[.05, .2])),
    ('fusion-mask', dict(layers=[[0]], review=[1, 2, 3], factor=[0., .1])),
    ('vrga', dict(first=[True], gamma=[.5, 2.])),
    ('gift', dict(gaze_layers=EDGES, layers=[(0., 1.)], alpha=[1., 5., 10.])),
    ('var', dict(dims=[[62]], tau=[3., 5.], rho=[0., .5, .8])),
    ('vhr', dict(alpha=[1.25, 1.5, 3.], layers=[(0., 1.), (.5, 1.)])),
    ('dual', dict(alpha=[.1, .2, .4], layers=[(.0625, 1.), (.5, 1.)])),
    ('pai', dict(alpha=[.1, .5], gamma=[1., 1.1, 1.5])),
    ('vcd', dict(alpha=[.25, .5], step=[250, 500, 750])), ('icd', dict(alpha=[.25, .5, 1.], beta=[.1, .5])),
    ('dola', dict(layers=['low', [4], [5]], top=[.1, .5]))]

def tuned_settings():
    "Method -> texts such as 'rel-att:layers=(2,2)', the published setting first"
    tried = {}
    for name, grid in GRIDS:
        specs = [':'.join([name, *(f'{k}={v!r}'.replace(' ', '') for k, v in zip(grid, vs))]) for vs in product(*grid.values())]
        tried.setdefault(name, [name]).extend(specs)
    return {name: list(dict.fromkeys(specs)) for name, specs in tried.items()}

def best_setting(scores, tried):
    "The best setting on the questions that all answered; scores: setting -> {id: score}"
    ids = sorted(set.intersection(*(set(scores[s]) for s in tried)))
    means = {s: float(np.mean([scores[s][i] for i in ids])) for s in tried}
    best = max(tried, key=means.get)
    return dict(setting=best, score=means[best], published=means[tried[0]], tried=len(tried), n=len(ids))

def choose_settings(lines):
    "Method -> its best setting, by the lines of a run"
    scores = {}
    for l in lines:
        if l['status'] == 'ok': scores.setdefault(l['method'], {})[l['id']] = l['score']
    return {name: best_setting(scores, tried) for name, specs in tuned_settings().items() if (tried := [s for s in specs if s in scores])}

@contextmanager
def counting(vlm):
    "Passes and tokens through the decoder"
    n = dict(passes=0, tokens=0)
    def count(module, args, kwargs):
        x = args[0] if args else kwargs['hidden_states']
        n['passes'] += 1
        n['tokens'] += x.shape[0]*x.shape[1]
    handle = decoder_layers(vlm.model)[0].register_forward_pre_hook(count, with_kwargs=True)
    try: yield n
    finally: handle.remove()

def run_alone(method, vlm, record):
    "A guided method runs without the plain answer, which it does not need"
    image, box = open_image(record.open()), record.boxes and record.boxes[0]
    if hasattr(method, 'guided'):
        method = copy(method)
        method.ask_plain = lambda vlm, partial: replace(partial, plain_answer=Answer('', [], 0.))
    return method(vlm, image, record.question, box=box)

def measure_costs(vlm, records):
    "Method -> mean passes, tokens and calls, and mean seconds over those of the plain answers to the same questions"
    names = [name for name, m in methods().items() if m.asks != 'model']
    config = RunConfig(tuple(names), SHORT_ANSWER)
    if vlm.fingerprint.why_whole: raise CarveError('The costs of a model that reads its prompts whole are not these.')
    costs = {}
    for r in records:
        for name in names:
            if methods()[name].asks == 'box' and not r.boxes: continue
            start = time.perf_counter()
            with counting(vlm) as n: result = run_alone(config.asked(name, r), vlm, r)
            costs.setdefault(name, {})[r.id] = dict(seconds=time.perf_counter() - start, **n, calls=result.calls)
    mean = lambda found, k, ids: float(np.mean([found[i][k] for i in ids]))
    return {m: {k: mean(c, k, c) for k in ('passes', 'tokens', 'calls')} | dict(seconds=mean(c, 'seconds', c)/mean(costs['none'], 'seconds', c), n=len(c))
            for m, c in costs.items()}

def write_facts(path, facts):
    "A JSON file"
    path.write_text(json.dumps(facts, indent=1) + '\n')

def pack(out, lines, names, chosen, vlm):
    "The lines of the questions that every row answered; the oracle is asked only where there is a true region"
    answered = {s: {l['id'] for l in lines if l['method'] == s and l['status'] == 'ok'} for s in names}
    ids = set.intersection(*(found for s, found in answered.items() if found and methods()[s.split(':')[0]].asks != 'box'))
    kept = [l | dict(method=names[l['method']]) for l in lines if l['id'] in ids and l['method'] in names and l['status'] == 'ok']
    aurocs = {}
    for l in kept:
        if l.get('auroc') is not None: aurocs.setdefault(l['method'], {})[l['id']] = l['auroc']
    (out/'records.jsonl.gz').write_bytes(gzip.compress(''.join(json.dumps(l) + '\n' for l in kept).encode(), mtime=0))
    meta = dict(model=vlm.name, weights=vlm.fingerprint.weights, data='scenes', n=len(ids), seed=0, machine=platform.machine())
    write_facts(out/'auroc.json', aurocs)
    write_facts(out/'tuned.json', dict(chosen=chosen, tried=tuned_settings()))
    write_facts(out/'meta.json', meta)

def main():
    "What the command does"
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument('--out', required=True, type=Path)
    p.add_argument('--runs', required=True, type=Path, help='folder of the two runs')
    p.add_argument('--model', default='carve-tiny')
    p.add_argument('--tune', type=int, default=8, help='calibration questions of each kind')
    p.add_argument('--n', type=int, default=90, help='held-out questions of each kind')
    p.add_argument('--costs', type=int, default=4, help='questions of each kind whose cost is measured')
    a = p.parse_args()
    torch.set_num_threads(1)
    vlm = VLM.from_pretrained(a.model)
    scenes = lambda n, split: load_benchmark('scenes', n*len(KINDS), split=split, kinds=KINDS)
    a.out.mkdir(parents=True, exist_ok=True)
    run_eval(scenes(a.tune, 'calibration'), vlm, sum(tuned_settings().values(), []), out=a.runs/'tune')
    chosen = choose_settings(read_run(a.runs/'tune')[1])
    names = {m: m for m in split_specs('all')} | {c['setting']: f'{m} tuned' for m, c in chosen.items() if c['setting'] != m}
    run_eval(scenes(a.n, 'heldout'), vlm, list(names), out=a.runs/'answer')
    pack(a.out, read_run(a.runs/'answer')[1], names, chosen, vlm)
    if a.costs: write_facts(a.out/'costs.json', measure_costs(vlm, scenes(a.costs, 'calibration')))

if __name__ == '__main__': main()
