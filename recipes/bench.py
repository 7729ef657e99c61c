"""What a plain answer, captured rows, eager attention and CARVE cost with one model: seconds, and memory above what the model needs."""

import gc
import json
import re
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from time import perf_counter
import pandas as pd
import torch
from fastcore.script import call_parse
from tqdm import tqdm
from carve_nb.attention.vlm import VLM
from carve_nb.core.image import ImageLike
from carve_nb.core.io import TINY, replace_file
from carve_nb.core.saliency import pick_layers
from carve_nb.data.scenes import make_scene
from carve_nb.method.carve import Carve
from carve_nb.models.prefix_cache import greedy

@contextmanager
def peak_memory(device=None):    # of CUDA; None: the process, on Linux
    "Measure the peak memory of a block, in bytes above its start: the last item of the list, after the block"
    gc.collect()
    def resident(name): return 1024*int(re.search(rf'{name}:\s+(\d+)', Path('/proc/self/status').read_text())[1])
    clear = Path('/proc/self/clear_refs')
    needed = []
    if device is not None:
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        most = lambda: torch.cuda.max_memory_allocated(device)
    elif clear.exists():
        clear.write_text('5')    # the mark of the highest level goes down to the present one
        before = resident('VmRSS')
        most = lambda: resident('VmHWM')
    else: before, most = float('nan'), lambda: 0
    try: yield needed
    finally: needed.append(max(0, most() - before))

@contextmanager
def eager_kernel(model):
    "Inside the block the model uses the eager attention kernel, which returns its matrices"
    was = model.config._attn_implementation
    model.set_attn_implementation('eager')
    try: yield
    finally: model.set_attn_implementation(was)

def bench(vlm: VLM, image: ImageLike, question: str, rounds: int = 3, max_new_tokens: int = 8,
          progress: bool = True) -> pd.DataFrame:
    "Medians of seconds and of their ratios to a plain answer, and MB above what the loaded model needs, for each way to answer"
    method = Carve(max_new_tokens=max_new_tokens)
    prompt = vlm.prompt(image, question, method.suffix)
    layers = pick_layers(method.layers, vlm.n_layers)
    card = vlm.device if vlm.device.type == 'cuda' else None

    def eager():
        with eager_kernel(vlm.model), torch.no_grad():
            vlm.model.generate(**vlm.to_device(prompt), generation_config=greedy(vlm.model, max_new_tokens),
                output_attentions=True, return_dict_in_generate=True)

    ways = {
        'plain answer': partial(vlm.generate, prompt, max_new_tokens),
        'rows captured': partial(vlm.forward, prompt, layers, 'all', False, max_new_tokens),
        'eager attention': eager, 'whole CARVE': partial(method, vlm, image, question)}

    def seconds(way):
        if card: torch.cuda.synchronize(card)
        start = perf_counter()
        way()
        if card: torch.cuda.synchronize(card)
        return perf_counter() - start

    memory = {}
    ways['plain answer']()                   # what is made at the first call is not counted
    for name, way in ways.items():           # a round that is not timed
        with peak_memory(card) as peak: way()
        memory[name] = peak[-1]/1e6
    over = tqdm(range(rounds), leave=False, disable=not progress, unit='round')
    table = pd.DataFrame([{name: seconds(way) for name, way in ways.items()} for _ in over])
    ratio = table.div(table['plain answer'], axis=0)
    return pd.DataFrame({'seconds': table.median(), '/ plain': ratio.median(), 'least': ratio.min(),
        'most': ratio.max(),
        'MB': pd.Series(memory)}).rename_axis(f'{len(prompt)} tokens')

@call_parse
def measure_cost(
    model: str = TINY, # folder, Hub id or a model of this package
    image: str = '', # image file; a scene of colored shapes by default
    question: str = 'What is in the middle?',
    rounds: int = 3, # of all measurements
    max_new_tokens: int = 8, # longest answer
    out: str = '', # JSON file of the table
):
    "Print what a plain answer, captured rows, eager attention and CARVE cost with one model"
    vlm = VLM.from_pretrained(model)
    table = bench(vlm, image or make_scene(0).image, question, rounds, max_new_tokens)
    print(f'{vlm}\n{table.to_string(float_format="{:.2f}".format)}')
    if out: replace_file(out, json.dumps(dict(model=vlm.name, **table.to_dict()), indent=1) + '\n')
