"""Measure what questions need: one fresh process for each figure, one thread.

    python tools/measure_memory.py --out nbs/results/memory.json

A random model with prompts of three lengths, asked, looked at, and through CARVE; the reference VLM with photographs of
three sizes. Each figure is taken twice: with pages of its own for every larger tensor (what the tensors need), and as usual
(what the process takes). nbs/04c_memory.ipynb compares them with its estimates.
"""
import argparse, json, warnings
from pathlib import Path
import torch
from side_by_side import make_model
from carve_nb.attention.peak_memory import child_peak
from carve_nb.data.scenes import make_scene
from carve_nb.models.prompts import SHORT_ANSWER
from carve_nb.models.vlm import VLM

QUESTION, NEW = 'What is on thing number 1?', 2
SETUP = f'''
import io
from carve_nb.method.carve import Carve
from tools.side_by_side import make_model, Size
from carve_nb.data.scenes import make_scene
from carve_nb.models.vlm import VLM
from carve_nb.attention.batching import VLM
image, question, new = make_scene(0).image, {QUESTION!r}, dict(max_new_tokens={NEW})
small = make_model(4, Size(64, 2, 2, 64, 64))
small.ask(image, question, **new); Carve.official(**new)(small, image, question)
'''
CALLS = dict(ask='vlm.ask(image, question, **new)', capture="r = vlm.capture(image, question, steps='all', **new)", carve='r = Carve.official(**new)(vlm, image, question)')
PICTURE = '''
vlm, out = VLM.from_pretrained('carve-tiny'), io.BytesIO()
vlm.ask(image, question, **new)
image.resize(({0}, {0})).save(out, 'JPEG')
image = out.getvalue()
'''


def measured(what, setup, vlm, image, **case):
    "One row of the record"
    tokens = len(vlm.prompt(image, QUESTION, SHORT_ANSWER))
    pages, usual = (child_peak(SETUP + setup, CALLS[what], pages=p) for p in (True, False))
    row = dict(case, what=what, tokens=tokens, pages=pages, usual=usual)
    print(row, flush=True)
    return row


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--grids', type=int, nargs='+', default=[24, 36, 54], help='sides of the grid of image tokens')
    p.add_argument('--sizes', type=int, nargs='+', default=[1000, 2000, 5000], help='sides of the photographs, pixels')
    p.add_argument('--out', type=Path, required=True)
    a = p.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter('ignore')
    rows, image = [], make_scene(0).image
    for grid in a.grids:
        vlm = make_model(grid)
        rows += [measured(what, f'vlm = make_model({grid})', vlm, image, grid=grid) for what in CALLS]
    vlm = VLM.from_pretrained('carve-tiny')
    for side in a.sizes:
        rows += [measured(what, PICTURE.format(side), vlm, image.resize((side, side)), side=side) for what in ('ask', 'carve')]
    setup = SETUP + f'vlm = make_model({a.grids[-1]})'
    second = child_peak(setup, CALLS['ask'], pages=True, threads=2) - child_peak(setup, CALLS['ask'], pages=True)
    found = dict(question=QUESTION, new_tokens=NEW, threads=1, torch=torch.__version__, rows=rows, second_thread=second)
    a.out.write_text(json.dumps(found, indent=1) + '\n')


if __name__ == '__main__': main()
