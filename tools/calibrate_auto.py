"""Calibrate `CarveAuto` for a model on calibration scenes: layers, then thresholds within a budget.

    python tools/calibrate_auto.py --out nbs/results/auto.json

The held-out scenes are not touched. What is chosen for the reference VLM stands in the defaults of `CarveAuto`;
nbs/library/studies/19_model_profile.ipynb tests that they are equal. The collected cases are kept beside the result, so that other budgets can be
tried without the model.
"""
import argparse, gzip, json, time
from dataclasses import asdict, replace
from pathlib import Path
import torch
from transformers.utils import logging
from carve_nb.method.adaptive import CarveAuto
from carve_nb.studies.model_profile import choose_thresholds, collect_case, profile_model
from carve_nb.models.vlm import VLM, weights_key
from carve_nb.data.datasets import scene_records
from carve_nb.data.metrics import score

COUNTS = dict(digit=120, color=60, shape=60, exist=100, count=100, relation=100, twostep=100, describe=50)
FIELDS = 'layers', 'sinks', 'skip_above', 'spread', 'min_confidence', 'stop_below', 'accept_above', 'K', 'min_gain'


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument('--model', default='carve-tiny')
    a.add_argument('--budget', type=float, default=1.6, help='largest mean cost, plain answer = 1')
    a.add_argument('--harm', type=float, default=.02, help='largest loss of any kind of question')
    a.add_argument('--out', type=Path, required=True)
    a = a.parse_args()
    logging.disable_progress_bar()
    torch.set_num_threads(1)
    vlm, start = VLM.from_pretrained(a.model), time.perf_counter()
    samples = [s.opened() for k, n in COUNTS.items() for s in scene_records(n, (k,), 'calibration')]
    long = lambda s: dict(suffix=None, max_new_tokens=64) if s.kind == 'describe' else {}
    method = CarveAuto(K=2)
    method = replace(method, layers=profile_model(vlm, [s for s in samples if s.box is not None][:60], method=method).layers)
    cases = [collect_case(replace(method, **long(s)), vlm, s, lambda x, s: score(x, s.answer, s.kind)) for s in samples]
    with open(a.out.with_suffix('.cases.jsonl.gz'), 'wb') as f, gzip.GzipFile('', 'wb', fileobj=f, mtime=0) as z:
        z.write(''.join(json.dumps(c) + '\n' for c in cases).encode())
    method, scores = choose_thresholds(method, cases, a.budget, a.harm)
    if method is None: raise SystemExit(f'No thresholds cost at most {a.budget} plain answers and harm no kind by more than {a.harm}.')
    found = dict(model=a.model, weights=weights_key(vlm), split='calibration', counts=COUNTS, budget=a.budget, harm=a.harm,
                 best={k: asdict(method)[k] for k in FIELDS}, told=scores)
    a.out.write_text(json.dumps(found, indent=1) + '\n')
    print(json.dumps(found, indent=1), f'{time.perf_counter()-start:.0f} s', sep='\n')


if __name__ == '__main__': main()
