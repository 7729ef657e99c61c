"""The comparison of all methods (nbs/results/compare): each as published, and with the setting that is best on calibration questions.

    python tools/compare_methods.py --out nbs/results/compare --runs compare_runs     # each part goes on where it was stopped

Every setting below answers the calibration questions; the best of each method and all published ones answer the held-out
questions; then records, choices, costs (passes, tokens, seconds) and how well each map finds the true region are written.
"""
import argparse, gzip, json, platform, time
from contextlib import contextmanager
from dataclasses import replace
from itertools import product
from pathlib import Path
import numpy as np, torch
from carve_nb.attention.layer_masking import decoder_layers
from carve_nb.method.registry import ENTRIES, split_specs
from carve_nb.core.image import open_image
from carve_nb.data.datasets import load_benchmark
from carve_nb.data.questions import KINDS
from carve_nb.runs.store import read_run
from carve_nb.runs.runner import RunConfig, make_methods, run_eval
from carve_nb.models.prompts import SHORT_ANSWER
from carve_nb.models.vlm import VLM, Answer, weights_key

EDGES = [(2, 2), (3, 3)]
GRIDS = [
    ('carve', dict(layers=[None, (2, 3)], p=[.02, .04, .08])),
    ('auto', dict(skip_above=[.7, .9], min_gain=[0., .1, .2])),
    ('conjunction', dict(p=[.02, .08], word_weight=[.25, .45, .6])),
    ('rel-att', dict(layers=[(l, l) for l in range(6)])),
    ('grad-att', dict(layers=[(l, l) for l in range(1, 5)])), ('grad-att', dict(layers=EDGES, base=[84])),
    ('pure-grad', dict(base=[84, 160])), ('pure-grad', dict(final_images=['view'])),
    ('fusion-crop', dict(layers=[[0]], last=[1, 2, 3], p=[.05, .2])),
    ('vea', dict(layers=[(2, 3)], sigma=[.05, .15, .5], alpha=[0., .5])),
    ('attwarp', dict(layers=EDGES, gain=[2., 10.])), ('attwarp', dict(layers=EDGES, final_images=['both'])),
    ('attwarp-chain', dict(layers=EDGES, gain=[2.], chain=[2])),
    ('laser', dict(layers=[None, (2, 3)], min_side=[84, 112], most=[.25])), ('laser', dict(layers=[(2, 3)], min_side=[112, 224])),
    ('fusion-mask', dict(layers=[[0]], review=[1, 2, 3], factor=[0., .1])),
    ('vrga', dict(first=[True], reading=['code', 'paper'], gamma=[.5, 2.])),
    ('gift', dict(gaze_layers=EDGES, layers=[(0., 1.)], alpha=[1., 5., 10.])),
    ('var', dict(dims=[[62]], tau=[3., 5.], rho=[0., .5, .8])),
    ('vhr', dict(alpha=[1.25, 1.5, 3.], layers=[(0., 1.), (.5, 1.)])),
    ('dual', dict(alpha=[.1, .2, .4], layers=[(.0625, 1.), (.5, 1.)])),
    ('pai', dict(alpha=[.1, .5], gamma=[1., 1.1, 1.5])),
    ('vcd', dict(alpha=[.25, .5], step=[250, 500, 750])), ('icd', dict(alpha=[.25, .5, 1.], beta=[.1, .5])),
    ('dola', dict(layers=['low', [4], [5]], top=[.1, .5])),
    ('laser-vat', dict(layers=[None, (2, 3)], alpha=[.25, .5])), ('laser-vat', dict(alpha=[.25, 1.], beta=[.1]))]


def tuned_settings():
    "Method -> texts such as 'rel-att:layers=(2,2)', the published setting first; methods that are gone are left out"
    tried = {}
    for name, grid in GRIDS:
        if name not in ENTRIES: continue
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
    if not method.guides: return method(vlm, image, record.question, box=box)
    with vlm.sharing():
        partial, state = method.prepare(vlm, image, record.question)
        return method.generate(vlm, replace(partial, plain_answer=partial.plain_answer or Answer('', [], 0.)), state)


def measure_costs(vlm, records):
    "Method -> mean passes, tokens and calls, and mean seconds over those of the plain answers to the same questions"
    names = [e.name for e in ENTRIES.values() if e.asks != 'model']
    sets = {wordy: make_methods(RunConfig(tuple(names), SHORT_ANSWER), wordy) for wordy in (False, True)}
    costs = {}
    for r in records:
        for name in names:
            if ENTRIES[name].asks == 'box' and not r.boxes: continue
            start = time.perf_counter()
            with counting(vlm) as n: result = run_alone(sets[r.describes][name], vlm, r)
            costs.setdefault(name, {})[r.id] = dict(seconds=time.perf_counter() - start, **n, calls=result.calls)
    mean = lambda found, k, ids: float(np.mean([found[i][k] for i in ids]))
    return {m: {k: mean(c, k, c) for k in ('passes', 'tokens', 'calls')} | dict(seconds=mean(c, 'seconds', c)/mean(costs['none'], 'seconds', c), n=len(c))
            for m, c in costs.items()}


def write_facts(path, facts): path.write_text(json.dumps(facts, indent=1) + '\n')


def pack(out, lines, names, chosen, vlm):
    "The lines of the questions that every row answered; the oracle is asked only where there is a true region"
    answered = {s: {l['id'] for l in lines if l['method'] == s and l['status'] == 'ok'} for s in names}
    ids = set.intersection(*(found for s, found in answered.items() if found and ENTRIES[s.split(':')[0]].asks != 'box'))
    kept = [l | dict(method=names[l['method']]) for l in lines if l['id'] in ids and l['method'] in names and l['status'] == 'ok']
    aurocs = {}
    for l in kept:
        if l.get('auroc') is not None: aurocs.setdefault(l['method'], {})[l['id']] = l['auroc']
    (out/'records.jsonl.gz').write_bytes(gzip.compress(''.join(json.dumps(l) + '\n' for l in kept).encode(), mtime=0))
    meta = dict(model=vlm.name, weights=weights_key(vlm), data='scenes', n=len(ids), seed=0, machine=platform.machine())
    write_facts(out/'auroc.json', aurocs)
    write_facts(out/'tuned.json', dict(chosen=chosen, tried=tuned_settings()))
    write_facts(out/'meta.json', meta)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
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
