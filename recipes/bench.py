"""What a crop costs beside a baseline answer: seconds, and memory above the loaded model, of each way to
answer.

`python -m recipes.bench --out bench.json`: random models and prompts of three lengths, a quarter of an
hour on one free core; `nbs/results/bench.json`. `python -m recipes.bench --model M --image photo.jpg
--question Q`: your own model and prompt."""
import gc
import json
import re
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
import numpy as np
import pandas as pd
import torch
import transformers
from fastcore.script import call_parse
from torch.nn.functional import pad
from carve_nb.models.kernel import recording
from carve_nb.attention.session import Session
from carve_nb.attention.vlm import VLM
from carve_nb.core.image import open_image
from carve_nb.core.io import replace_file
from carve_nb.core.saliency import Saliency, pick_layers
from carve_nb.core.text import GENERAL_INSTRUCTION, SHORT_ANSWER
from carve_nb.data.scenes import make_scene
from carve_nb.formulas.threshold import regions
from carve_nb.method.carve import Carve
from carve_nb.method.lookup import Lookup
from .records import eager_kernel
from .tiny_models import make_tiny_checkpoint

QUESTIONS = [f'What is on thing number {i}?' for i in range(10)]
GRIDS = 24, 36, 54      # sides of the grid of image tokens: prompts of 622, 1,342 and 2,962 tokens
LABELS = dict(plain='plain answer', capture='row capture', limit='pass over two images',
    lookup_few='lookup, small crop',
    carve_few='whole CARVE, small crop', lookup='lookup', carve='whole CARVE',
    ten_lookup='ten by lookup, small crops, each',
    ten_questions='ten questions, each', authors="authors' procedure")

def make_model(grid) -> VLM:
    """A Qwen2.5-VL with random weights, always the same, 768 wide; an image of 28 x grid pixels becomes grid
    x grid tokens"""
    with TemporaryDirectory() as folder:
        tiny = VLM.from_pretrained(make_tiny_checkpoint('qwen2_5_vl', folder, layers=6))
    config, processor = tiny.model.config, tiny.processor
    ip = processor.image_processor
    ip.patch_size, ip.size = 14, type(ip.size)(shortest_edge=4*28**2, longest_edge=16_384*28**2)
    rope = dict(config.text_config.rope_parameters, mrope_section=[16, 24, 24])
    text = dict(hidden_size=768, intermediate_size=2048, num_attention_heads=6, num_key_value_heads=2,
        head_dim=128,
        max_position_embeddings=32_768, initializer_range=.04, rope_parameters=rope)
    tower = dict(hidden_size=256, intermediate_size=512, depth=4, num_heads=4, patch_size=14, window_size=112,
        fullatt_block_indexes=[3], out_hidden_size=768)
    for part, values in (config.text_config, text), (config.vision_config, tower):
        for k, v in values.items(): setattr(part, k, v)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = transformers.AutoModelForImageTextToText.from_config(config, attn_implementation='sdpa',
            dtype=torch.float32)
    return VLM(model.eval(), processor, name='bench')

@contextmanager
def peak_memory(device): # of the model; on a CPU the process, on Linux
    "Measure the peak memory of a block, in bytes above its start: the last item of the list, after the block"
    gc.collect()
    def resident(name):
        return 1024*int(re.search(rf'{name}:\s+(\d+)', Path('/proc/self/status').read_text())[1])
    clear = Path('/proc/self/clear_refs')
    needed = []
    if device.type == 'cuda':
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

def slow_capture(vlm, prompt, most):
    """[T, Lall, Nv]: every token costs the tower and the whole prompt once more, and all matrices of all
    layers"""
    inputs, new, rows = vlm.to_device(prompt), [], []
    while len(new) < most and vlm.tokenizer.eos_token_id not in new:
        ids = torch.cat([inputs['input_ids'], torch.tensor([new], dtype=torch.long, device=vlm.device)], 1)
        words = dict(input_ids=ids, attention_mask=torch.ones_like(ids))
        if 'mm_token_type_ids' in inputs:
            words['mm_token_type_ids'] = pad(inputs['mm_token_type_ids'], (0, len(new)))
        out = vlm.model(**inputs | words, use_cache=False, output_attentions=True)
        new.append(out.logits[0, -1].argmax().item())
        rows.append(torch.stack([a[0, :, -1].float().mean(0).cpu()
            for a in out.attentions])[:, prompt.spans[0].tokens])
    return torch.stack(rows)

def authors(vlm, image, question, m): # `Carve.official`
    """The published procedure, written anew from a description: two slow captures, each layer resized before
    it is added, eager answer"""
    with torch.no_grad(), eager_kernel(vlm.model):
        prompts = [vlm.prompt(image, text, SHORT_ANSWER) for text in (question, GENERAL_INSTRUCTION)]
        A_q, A_g = (slow_capture(vlm, p, m.max_new_tokens)[:, pick_layers(m.layers, vlm.n_layers)]
            for p in prompts)
        span, S = prompts[0].spans[0], 0.
        for t, (Q, G) in enumerate(zip(A_q, A_g)):
            for q, g in zip(Q, G):
                added = Saliency((q/(g + 1e-8)).reshape(span.grid), image.size, span.box).to_pixels()
                S = S + (t + 1)*added.astype(np.float64)
        crop = m.show(image, regions(S.astype(np.float32), m.p, m.K, m.connectivity, m.region_rule, m.rank))
        vlm.ask([image, crop.image], question, m.suffix, m.max_new_tokens)

def ways(vlm, image, questions, new=4) -> dict: # tokens of an answer
    """What is timed: name of `LABELS` -> function; a small crop has a quarter of the image's tokens, at least
    144 and at most 256"""
    prompt = vlm.prompt(image, questions[0], SHORT_ANSWER)
    inputs = vlm.to_device(prompt)
    two = vlm.to_device(vlm.prompt([image]*2, questions[0], SHORT_ANSWER))
    few = min(max(sum(map(len, prompt.spans))//4, 144), 256)
    carve = Carve.official(max_new_tokens=new)
    lookup = Lookup(query='last', max_new_tokens=new, tokens=None)
    def one_pass(inputs):
        with torch.no_grad(): vlm.model(**inputs, use_cache=False, logits_to_keep=1)
    def capture():
        layers = pick_layers(carve.layers, vlm.n_layers)
        with recording(vlm.model, layers, columns=prompt.spans[0].tokens): one_pass(inputs)
    def ask(method):
        session = Session(vlm)
        return method(session, image, questions[0]), session.prefixes
    def ask_ten(method):
        session = Session(vlm)
        for q in questions: method(session, image, q)
    return dict(plain=partial(vlm.ask, image, questions[0], SHORT_ANSWER, new), capture=capture,
        limit=partial(one_pass, two),
        lookup_few=partial(ask, replace(lookup, tokens=few)),
        carve_few=partial(ask, replace(carve, tokens=few)),
        lookup=partial(ask, lookup), carve=partial(ask, carve),
        ten_lookup=partial(ask_ten, replace(lookup, tokens=few)),
        ten_questions=partial(ask_ten, carve), authors=partial(authors, vlm, image, questions[0], carve))

def stages(result, shared) -> dict: # a `Result`; the `prefixes` of its session
    "Seconds of the stages of CARVE: the images' own passes stand alone"
    question, instruction = (rows.meta['seconds'] for rows in (result.rows, result.instruction_rows))
    return dict(image=shared.seconds, question=question - shared.seconds, instruction=instruction,
        map=result.seconds['look'] - question - instruction, answer=result.seconds['ask'])

def measure_ways(vlm, image, questions, names, rounds) -> dict:
    """Medians of the seconds of each way, memory of a round that is not timed, the stages of CARVE: a row of
    the table"""
    row = dict(n_prompt=len(vlm.prompt(image, questions[0], SHORT_ANSWER)))
    timed = ways(vlm, image, questions)
    def seconds(way):
        if vlm.device.type == 'cuda': torch.cuda.synchronize(vlm.device)
        clock = (time.process_time if vlm.device.type == 'cpu' and torch.get_num_threads() == 1
            else time.perf_counter)
        start, value = clock(), way()
        if vlm.device.type == 'cuda': torch.cuda.synchronize(vlm.device)
        return clock() - start, value
    for name in names:
        with peak_memory(vlm.device) as peak: timed[name]()
        found, values = zip(*(seconds(timed[name]) for _ in range(rounds)))
        row[name] = dict(s=float(np.median(found))/(len(questions) if name.startswith('ten') else 1),
            mb=peak[-1]/1e6)
        print(f'{row["n_prompt"]} tokens: {LABELS[name]} {row[name]["s"]:.2f} s', file=sys.stderr)
        if name == 'carve':
            parts = pd.DataFrame([stages(*v) for v in values])
            row['stages'] = (parts.div(parts.sum(axis=1), axis=0).median()*row[name]['s']).to_dict()
    return row

@call_parse
def run_bench(
    model: str = '', # folder, Hub id or a model of this package; random models of three sizes by default
    image: str = '', # image file; a scene of colored shapes by default
    question: str = 'What is in the middle?', # to a named model
    rounds: int = 3, # of all measurements
    out: str = '', # JSON file of the table
):
    "Print what each way to answer costs"
    if model:
        shown = open_image(image) if image else make_scene(0).image
        rows = [measure_ways(VLM.from_pretrained(model), shown, [question],
            [k for k in LABELS if not k.startswith('ten')], rounds)]
    else:
        rows = [measure_ways(make_model(g), make_scene(0).image.resize((28*g, 28*g)), QUESTIONS, LABELS,
            rounds) for g in GRIDS]
    for row in rows:
        table = pd.DataFrame({LABELS[k]: row[k] for k in LABELS if k in row}).T
        print(f'{row["n_prompt"]} tokens\n{table.assign(plain=table.s/row["plain"]["s"]).to_string(float_format="%.2f")}')
    meta = dict(threads=torch.get_num_threads(), torch=torch.__version__,
        transformers=transformers.__version__, model=model or 'random')
    if out:
        replace_file(out, json.dumps(dict(tokens={str(r['n_prompt']): r for r in rows}, meta=meta), indent=1)
            + '\n')
