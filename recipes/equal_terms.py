"""All crops with one crop, one calibration and the same fresh questions, on one model, with or without a
sink.

`python -m recipes.equal_terms MODEL [--share .3] [--search]`: one to two hours each, in the root of a
clone; `nbs/results/equal/MODEL-SHARE.json`, and `-calibration`, `-search`."""

import json
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated
import numpy as np
import torch
from fastcore.script import call_parse
from carve_nb.attention.vlm import VLM
from carve_nb.data.datasets import DataSet
from carve_nb.data.scenes import samples
from carve_nb.method.crop import box_regions
from carve_nb.method.lookup import Lookup
from carve_nb.method.base import tower_side
from carve_nb.method.vicrop import search_box
from carve_nb.runs.runner import run_eval
from .baselines import SHARES, sink
from .records import lines_by_method

@dataclass(repr=False)
class RowByViCrop(Lookup):
    "`lookup`'s map, cut by the box search of ViCrop"
    name = 'row-vicrop'
    def select(self, S, vlm):
        "Return the box of the sharpest window"
        box = search_box(S, tower_side(vlm))
        return box_regions([box], S.size) if box else super().select(S, vlm)

CROP = 'tokens=144:square=True:limit=1792'   # the crop of all crops
# each with the layer that answers best on the calibration questions
TUNED = 'carve', 'question-only', 'rel-att', 'grad-att', 'hide'
ALWAYS = 'skip_above=1'   # asked again, however sure the baseline answer
CROPS = ('lookup', f'lookup:{ALWAYS}', f'lookup:{ALWAYS}:subtract=others', 'pure-grad', 'fusion-crop',
    'ask-box', f'row-vicrop:{ALWAYS}',
    'random', 'center', 'oracle', *TUNED)
UNLIKE = f'lookup:{ALWAYS}:tokens=None', 'paper', 'official'   # with crops of their own
# in words that ours know
ZOOM = 'zoom-eye:existence=Is there a {cue}?:answering=Is there a {cue}?:bias=1.:root=False:final_images=crop:smallest=112'
START = dict(calibration=954_000, heldout=955_000)   # first seeds
TRIED, ASKED = 60, 300   # questions about digits

def with_crop(method): # as a run names it
    """With the crop of all; a packed layout, the parts of a search and crops as large as CARVE's keep their
    form"""
    return (f'{method}:tokens=144' if method.startswith(('hide', 'zoom-eye', 'random', 'center'))
        else f'{method}:{CROP}')

def summarize_run(run) -> dict:
    """Of a run: right answers and points at, a digit a question, and the median of the seconds over those of
    the baseline"""
    lines = lines_by_method(run)
    ids = [*lines['none']]
    digits = lambda of, key: ''.join(str(int(of[i][key] or 0)) for i in ids)
    cost = lambda of: round(float(np.median([of[i]['seconds']/lines['none'][i]['seconds'] for i in ids])), 2)
    return dict(ids=ids, methods={
        m: dict(right=digits(of, 'score'), pointing=digits(of, 'pointing'), cost=cost(of))
        for m, of in lines.items()})

def ask_all(vlm, split, n, methods, share, out) -> dict:
    "What is kept of a run under a sink"
    data = DataSet('digits', samples('digit', n, split, start=START[split]))
    bias = json.loads(Path(f'nbs/results/sinks/{vlm.name}-biases.json').read_text())[SHARES.index(share)]
    with sink(vlm, bias) if share else nullcontext():
        return summarize_run(run_eval(data, vlm, ['none', *methods], out=out, progress=False))

def settings_of(method, layers) -> list:
    "As published, and with each layer alone"
    return [with_crop(method), *(with_crop(f'{method}:layers=[{layer}]') for layer in layers)]

def best_setting(found, method, layers) -> str: # of `ask_all`
    "The setting with most right answers, as published where none is better"
    return max(settings_of(method, layers), key=lambda m: found['methods'][m]['right'].count('1'))

@call_parse
def run_equal_terms(
    model:str, # name
    out:Annotated[str, 'folder of the runs and summaries'] = 'equal_terms',
    share:Annotated[float, 'of the first patch in the row that `lookup` reads', dict(choices=SHARES)] = 0,
    search:bool = False): # ask with `zoom-eye` alone
    """Choose layers on the calibration questions, ask the fresh ones; the same command goes on where it was
    stopped"""
    torch.set_num_threads(1)
    vlm = VLM.from_pretrained(model)
    name = f'{model}-{share}'
    def ask(part, split, n, methods):
        found = ask_all(vlm, split, n, methods, share, Path(out)/f'{name}-{part}')
        (Path(out)/f'{name}-{part}.json').write_text(json.dumps(found))
        return found
    if search: return ask('search', 'heldout', ASKED, [ZOOM, f'lookup:{ALWAYS}:final_images=crop:{CROP}'])
    found = ask('calibration', 'calibration', TRIED, [s for m in TUNED for s in settings_of(m, vlm.layers)])
    ask('fresh', 'heldout', ASKED,
        dict.fromkeys([*map(with_crop, CROPS), *UNLIKE,
            *(best_setting(found, m, vlm.layers) for m in TUNED)]))
