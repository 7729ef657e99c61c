"""Pack a run of all methods for the comparison chapter, and measure what each method costs.

    carve eval scenes --kinds digit,color,shape,exist,count,relation,twostep,describe --n 720 --methods all --out compare_out
    python tools/compare.py compare_out --out nbs/results/compare

Costs are measured one method at a time on a few calibration questions of every kind, on one thread; run it on a quiet machine.
"""
import argparse, gzip, json, platform
from pathlib import Path
import torch
from transformers.utils import logging
from carve_nb.models.vlm import VLM, weights_key
from carve_nb.controls import Oracle
from carve_nb.evaluation.method_costs import measure_aurocs, measure_costs
from carve_nb.evaluation.demo import find_sample
from carve_nb.evaluation.scene_benchmark import scene_samples
from carve_nb.baselines.registry import make_method
from carve_nb.data.questions import KINDS

KEEP = 'id', 'kind', 'method', 'status', 'score', 'answer', 'confidence', 'hit', 'touch', 'iou', 'calls'


def cost_method(name, sample):
    "A method as it is asked for a kind of question"
    kw = dict(suffix=None, max_new_tokens=64) if sample.kind == 'describe' else {}
    if name in ('random', 'centre'): return make_method(name, size_from=make_method('carve', **kw))
    if name == 'oracle': return Oracle.like(make_method('carve'), **kw)
    return make_method(name, **kw)


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument('run', type=Path, help='folder of `carve eval`')
    a.add_argument('--n', type=int, default=4, help='questions of each kind whose cost is measured')
    a.add_argument('--maps', type=int, default=150, help='questions with a true region whose maps are ranked')
    a.add_argument('--out', type=Path, required=True)
    a = a.parse_args()
    logging.disable_progress_bar()
    torch.set_num_threads(1)
    a.out.mkdir(parents=True, exist_ok=True)
    protocol = json.loads((a.run/'protocol.json').read_text())
    vlm = VLM.from_pretrained(protocol['model']['name'])
    lines = sorted((json.loads(l) for l in (a.run/'records.jsonl').read_text().splitlines()), key=lambda r: (r['at'], r['method']))
    text = ''.join(json.dumps({k: l[k] for k in KEEP if k in l}) + '\n' for l in lines if l['id'])
    with open(a.out/'records.jsonl.gz', 'wb') as f, gzip.GzipFile('', 'wb', fileobj=f, mtime=0) as z: z.write(text.encode())
    samples = [s for group in scene_samples({k: a.n for k in KINDS}, 'calibration') for s in group]
    costs = measure_costs(vlm, samples, cost_method)
    (a.out/'costs.json').write_text(json.dumps(costs, indent=1) + '\n')
    asked = [s for i in dict.fromkeys(l['id'] for l in lines if l['id']) if (s := find_sample(i)).box][:a.maps]
    (a.out/'auroc.json').write_text(json.dumps(measure_aurocs(vlm, asked), separators=(',', ':')) + '\n')
    meta = dict(model=protocol['model']['name'], weights=weights_key(vlm), data=protocol['data']['name'], n=protocol['data']['n'], seed=protocol['seed'],
                versions=protocol.get('versions'), cost_questions=len(samples), threads=1, machine=platform.machine())
    (a.out/'meta.json').write_text(json.dumps(meta, indent=1) + '\n')
    for m, c in costs.items(): print(f'{m:14} {c["seconds"]:6.2f} x  {c["tokens"]:6.0f} tokens  {c["calls"]:.1f} calls')


if __name__ == '__main__': main()
