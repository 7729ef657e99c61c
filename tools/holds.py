"""Does behavior hold? `python tools/holds.py record` writes tests/holds.json; `check` compares, and ends
with 1 where it differs.

It holds a rebuild: the answers, boxes and maps of every method and of the fields that stay, on twenty
scenes of both models; the pixels of scenes; the table of a small run. Where a change is meant, `record`
again in the commit that means it. What is new is told and is no failure. Numbers may differ by the
rounding of another machine, answers may not."""

import base64
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
FILE = ROOT / 'tests' / 'holds.json'
MODELS = 'carve-tiny', 'carve-small'
# held out, of each model; every third asks whether something is there, the others for a digit
SCENES = 20
FEW = {'zoom-eye': 1, 'pure-grad': 3, 'grad-att': 6}  # scenes of slow methods
FIELDS = (  # that stay, each on two scenes
    'carve:query=noun',
    'carve:query=question',
    'carve:query=content',
    "carve:query=['{word}']",
    'carve:query=?',
    'carve:steps=last',
    'carve:steps=all',
    'carve:lam=.1:relative=False',
    'carve:p=.2:K=2',
    'carve:layers=[3,4]',
    'carve:layers=(.5,.8)',
    'carve:heads=max',
    'carve:normalize=True',
    'carve:rank=peak',
    'carve:final_images=crop',
    'carve:min_side=48',
    'carve:suffix=None',
    'carve:square=False:pad=.3',
    'carve:tokens=None',
    'carve:max_new_tokens=1',
    'lookup:query=noun',
    "lookup:query=['{word}']",
    'lookup:query=noun:subtract=others',
    'lookup:query=noun:pad=.3',
    'lookup:query=noun:p=.1:min_side=48',
    'lookup:query=noun:skip_above=.5',
    'official:p=.4',
    'paper:K=3',
    'rel-att:base=112',
    'fusion-crop:p=.1',
    'gift:alpha=2',
    'vhr:alpha=1.5',
    'var:rho=.5',
    'vrga:gamma=.2',
    'fusion-mask:share=.4',
    'oracle:min_side=200',
)
RUN = 'eval scenes --model carve-tiny --n 6 --methods none,carve,lookup --out run'
ROUND = dict(total=1e-3, coarse=1, box=1, sure=0.005)  # relative; of 255; pixels; of 1
TIES = {'gift carve-tiny 3': 0.02}  # `sure`, where rounding on another machine breaks a tie of heads


def sha(data):
    return hashlib.sha256(data).hexdigest()[:12]


def read(r):
    "What is held of a result: the one place that knows the names of its fields"
    return dict(
        answer=str(r.answer),
        plain=None if r.plain_answer is None else str(r.plain_answer),
        calls=r.calls,
        sure=round(float(r.answer.confidence), 4),
        crop=r.crop and [round(float(v), 1) for v in r.crop.box],
        map=None if r.saliency is None else map_facts(np.asarray(r.saliency.values)),
    )


def map_facts(values):
    """A digest of three significant digits, the sum, and what tells rounding from a change: 7 x 7 sums, on a
    scale to 255"""
    h, w = values.shape
    rows, columns = ([n * i // min(n, 7) for i in range(min(n, 7))] for n in (h, w))
    parts = np.add.reduceat(np.add.reduceat(values.astype(float), rows, 0), columns, 1)
    coarse = np.rint(127.5 + 127.5 * parts / max(abs(parts).max(), 1e-30)).astype(np.uint8)
    return dict(
        sha=sha(' '.join(f'{v:.3g}' for v in values.ravel()).encode()),
        shape=[h, w],
        total=float(f'{values.sum():.6g}'),
        coarse=base64.b85encode(coarse.tobytes()).decode(),
    )


def same(what, a, b, sure=ROUND['sure']):
    "Are two facts equal, but for rounding?"
    if a == b or a is None or b is None:
        return a == b
    if what in ('crop', 'sure'):
        return np.allclose(a, b, rtol=0, atol=ROUND['box'] if what == 'crop' else sure)
    if what != 'map':
        return False
    if a['sha'] == b['sha']:
        return True
    parts = [np.frombuffer(base64.b85decode(o['coarse']), np.uint8).astype(int) for o in (a, b)]
    return (
        a['shape'] == b['shape']
        and abs(a['total'] - b['total']) <= ROUND['total'] * max(abs(a['total']), 1e-3)
        and abs(parts[0] - parts[1]).max() <= ROUND['coarse']
    )


def differences(key, a, b):
    "Lines on what differs beyond rounding"
    if isinstance(a, list) and key.startswith('scenes'):
        a = a[: len(b)]  # fewer are measured by a test
    if not (isinstance(a, dict) and isinstance(b, dict)):
        return [] if a == b else [f'{key}: {a} -> {b}']
    return [
        f'{key}: {k}: {a.get(k)} -> {b.get(k)}'
        for k in sorted({*a, *b})
        if not same(k, a.get(k), b.get(k), TIES.get(key, ROUND['sure']))
    ]


def facts(spec, vlm, image, query):
    "What a method says, shows and costs; or that it does not"
    from carve_nb import CarveError, make_method

    try:
        return read(make_method(spec)(vlm, image, query.question, box=query.box))
    except CarveError:
        return 'refused'


def table(folder):
    "The table of a run through the shell; it has no seconds"
    subprocess.run(
        [sys.executable, '-m', 'carve_nb', *RUN.split()], cwd=folder, check=True, stdout=subprocess.DEVNULL
    )
    return [
        line
        for line in Path(folder, 'run', 'table.md').read_text(encoding='utf-8').splitlines()
        if line.startswith('|')
    ]


def measure(scenes=SCENES, only=None, run=True):
    """Everything that is held: 'spec model scene' -> facts; of some methods and scenes where a test wants no
    more"""
    from carve_nb import VLM, make_scene, methods

    out = {
        f'scenes {split}': [sha(make_scene(seed, split).image.tobytes()) for seed in range(scenes)]
        for split in ('train', 'calibration', 'heldout')
    }
    asks = {
        name: min(scenes, FEW.get(name, SCENES))
        for name, entry in methods().items()
        if 'model' not in entry.needs and (not only or name in only)
    }
    if not only:
        asks |= dict.fromkeys(FIELDS, 2)
    for model in MODELS:
        vlm = VLM.from_pretrained(model)
        for seed in range(scenes):
            scene = make_scene(seed)
            query = scene.question('exist' if seed % 3 == 1 else 'digit')
            for spec, n in asks.items():
                if seed >= n or spec.startswith('oracle') and not query.box:
                    continue
                out[f'{spec} {model} {seed}'] = facts(
                    spec.format(word=query.question.rstrip('?').split()[-1]), vlm, scene.image, query
                )
    if run:
        with tempfile.TemporaryDirectory() as folder:
            out['table'] = table(folder)
    return out


def compare(old, new):
    "Lines on what is new, and lines on what differs"
    before, after = ({key.split()[0] for key in held} for held in (old, new))
    added = [f'new: {n}' for n in sorted(after - before)]
    return added, [line for key in old for line in differences(key, old[key], new.get(key))]


def main(command):
    sys.path.insert(0, str(ROOT))
    with tempfile.TemporaryDirectory() as profiles:  # empty: no profile of this machine decides
        os.environ |= dict(
            PYTHONPATH=str(ROOT), CARVE_PROFILES=profiles, OMP_NUM_THREADS='1', HF_HUB_OFFLINE='1'
        )
        new = measure()
    if command == 'record':
        lines = ',\n'.join(f'{json.dumps(k)}: {json.dumps(new[k], ensure_ascii=False)}' for k in sorted(new))
        FILE.write_text(f'{{\n{lines}\n}}\n', encoding='utf-8')
        return 0
    added, wrong = compare(json.loads(FILE.read_text(encoding='utf-8')), new)
    print(*added, *wrong, f'{len(new)} held, {len(wrong)} differences', sep='\n')
    return int(bool(wrong))


if __name__ == '__main__':
    if sys.argv[1:] not in (['record'], ['check']):
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1]))
