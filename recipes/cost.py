"""The cost of a crop, compared to a plain answer, to a pass over two images, and to our targets."""

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, replace
from datetime import date
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
import numpy as np
import pandas as pd
import torch
import transformers
from torch.nn.functional import pad
from carve_nb.models.kernel import recording
from carve_nb.attention.session import Session
from carve_nb.attention.vlm import VLM
from carve_nb.core.saliency import Saliency, pick_layers
from carve_nb.data.questions import KINDS
from carve_nb.data.scenes import make_scene, samples
from carve_nb.formulas.threshold import regions
from carve_nb.method.carve import Carve
from carve_nb.method.lookup import Lookup
from carve_nb.models.prompts import GENERAL_INSTRUCTION, SHORT_ANSWER
from .bench import eager_kernel, peak_memory
from .tiny_models import RECIPES, make_tiny_checkpoint

TARGETS = {'capture, time': (1.03, 'most'), 'capture, memory': (1.1, 'most'), 'whole CARVE': (1.3, 'most'),
    'lookup': (1.2, 'most'),
           'ten questions': (.38, 'most'), 'authors over ours': (20., 'least'),
           'maps alike': (1e-4, 'most')}  # at 3,000 tokens, small crops
QUESTIONS = [f'What is on thing number {i}?' for i in range(10)]
GRIDS = {600: 24, 1300: 36, 3000: 54}   # tokens of a prompt, nearly -> side of the grid of image tokens
PHOTOGRAPH = 124                         # the same of 12 megapixels, in tokens of 28 x 28 pixels

@dataclass
class Size:
    "Of the decoder, and the width of a tower of four layers"
    hidden: int = 768
    layers: int = 6
    heads: int = 6
    inner: int = 2048
    tower: int = 256

SMALL = Size(256, 6, 2, 768, 128)

def fixed_parts(grid, size):
    "LLaVA: configuration, processor, settings of decoder and tower; every image is shown with grid x grid tokens"
    px = 8*grid
    config, (processor,), _ = RECIPES['llava'](size.layers, size=dict(shortest_edge=px),
        crop_size=dict(height=px, width=px))
    tower = dict(num_hidden_layers=4, num_attention_heads=max(1, size.tower//64), image_size=px)
    return config, processor, dict(num_key_value_heads=size.heads), tower

def native_parts(grid, size):
    "Qwen2.5-VL: the same, with tokens of 28 x 28 pixels, as many as an image has room for"
    with TemporaryDirectory() as folder:
        tiny = VLM.from_pretrained(make_tiny_checkpoint('qwen2_5_vl', folder, layers=size.layers))
    ip, config, half = tiny.processor.image_processor, tiny.model.config, size.hidden//size.heads//2
    ip.patch_size, ip.size = 14, type(ip.size)(shortest_edge=4*28**2, longest_edge=16_384*28**2)
    rope = dict(config.text_config.rope_parameters, mrope_section=[half//4, half*3//8, half*3//8])
    tower = dict(depth=4, num_heads=max(1, size.tower//64), patch_size=14, window_size=112, fullatt_block_indexes=[3],
        out_hidden_size=size.hidden)
    return config, tiny.processor, dict(num_key_value_heads=2, rope_parameters=rope), tower

FAMILIES = dict(native=native_parts, unlimited=native_parts, fixed=fixed_parts)

def make_model(grid, size=Size(), device='cpu', dtype='float32', tokens='native'):
    "A `VLM` with random weights, always the same; an image of 28 x grid pixels becomes grid x grid tokens"
    config, processor, text, tower = FAMILIES[tokens](grid, size)
    text |= dict(hidden_size=size.hidden, intermediate_size=size.inner, num_attention_heads=size.heads,
        head_dim=size.hidden//size.heads, max_position_embeddings=32_768, initializer_range=.04)
    tower |= dict(hidden_size=size.tower, intermediate_size=2*size.tower)
    for part, values in (config.text_config, text), (config.vision_config, tower):
        for k, v in values.items(): setattr(part, k, v)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = transformers.AutoModelForImageTextToText.from_config(config, attn_implementation='sdpa',
            dtype=getattr(torch, dtype))
    vlm = VLM(model.to(device).eval(), processor, name='bench')
    if tokens == 'unlimited': vlm.image_tokens = None
    return vlm

@dataclass
class Case:
    "A model, an image and questions; what is made once is not timed with the single passes"
    vlm: VLM
    image: object
    new: int = 4   # tokens of an answer
    questions: tuple = tuple(QUESTIONS)

    @cached_property
    def method(self): return Carve.official(max_new_tokens=self.new)
    @cached_property
    def prompt(self): return self.vlm.prompt(self.image, self.questions[0], SHORT_ANSWER)
    @cached_property
    def inputs(self): return self.vlm.to_device(self.prompt)
    @cached_property
    def two_images(self): return self.vlm.to_device(self.vlm.prompt([self.image]*2, self.questions[0], SHORT_ANSWER))
    @property
    def layers(self): return pick_layers(self.method.layers, self.vlm.n_layers)
    @property
    def few(self): return min(max(sum(map(len, self.prompt.spans))//4, 144), 256)
    @property
    def lookup(self): return Lookup(query='last', max_new_tokens=self.new, tokens=None)

def make_case(grid, size=Size(), device='cpu', dtype='float32', tokens='native', **kw):
    "A case whose prompts are made already"
    image = make_scene(0).image.resize((28*grid, 28*grid))
    case = Case(make_model(grid, size, device, dtype, tokens), image, **kw)
    assert case.inputs and case.two_images
    return case

def plain(case):
    "A plain answer"
    return case.vlm.ask(case.image, case.questions[0], SHORT_ANSWER, case.new)

def prefill(case, inputs=None, **kw):
    "Logits of one pass over the whole prompt"
    with torch.no_grad(): return case.vlm.model(**(inputs or case.inputs), use_cache=False, logits_to_keep=1, **kw)

def limit(case):
    "One pass over two images: a question about [original, crop] needs both of them in the cache"
    return prefill(case, case.two_images)

def capture(case, stop=False):
    "Rows of attention of the last position: [layers, heads, 1, image tokens]"
    with recording(case.vlm.model, case.layers, columns=case.prompt.spans[0].tokens, stop=stop) as rec: prefill(case)
    return rec.stack()

def early_stop(case):
    "The same, and the pass ends behind the last wanted layer"
    return capture(case, True)

def eager(case):
    "The same rows, out of all matrices of all layers"
    with eager_kernel(case.vlm.model): every = prefill(case, output_attentions=True).attentions
    return torch.stack([every[l][:, :, -1:, case.prompt.spans[0].tokens] for l in case.layers]).float().cpu()

def carve(case, method=None):
    "`Result`, and the seconds of its stages"
    session = Session(case.vlm, case.image, shared=False)
    r, shared = (method or case.method).answer(session, case.questions[0]), session.prefixes
    s, crop = r.seconds, shared.onward
    return r, dict(image=shared.seconds, question=s['capture'] - shared.seconds, instruction=s.get('instruction', 0.),
        map=s.get('map', 0.) + s.get('region', 0.), crop=crop, answer=s['ask'] - crop)

def carve_few(case): return carve(case, replace(case.method, tokens=case.few))
def lookup(case): return carve(case, case.lookup)
def lookup_few(case): return carve(case, replace(case.lookup, tokens=case.few))

def ten_questions(case, method=None):
    "Every question about the one image; the part of the time that went into reading the crops"
    start, session = time.perf_counter(), Session(case.vlm, case.image)
    for q in case.questions: (method or case.method).answer(session, q)
    return session.prefixes.onward/(time.perf_counter() - start)

def ten_few(case): return ten_questions(case, replace(case.method, tokens=case.few))
def ten_lookup(case): return ten_questions(case, replace(case.lookup, tokens=case.few))

def slow_capture(vlm, prompt, most):
    "[T, Lall, Nv]: every token costs the tower and the whole prompt once more, and all matrices of all layers"
    inputs, new, rows = vlm.to_device(prompt), [], []
    while len(new) < most and vlm.tokenizer.eos_token_id not in new:
        ids = torch.cat([inputs['input_ids'], torch.tensor([new], dtype=torch.long, device=vlm.device)], 1)
        words = dict(input_ids=ids, attention_mask=torch.ones_like(ids))
        if 'mm_token_type_ids' in inputs: words['mm_token_type_ids'] = pad(inputs['mm_token_type_ids'], (0, len(new)))
        out = vlm.model(**inputs | words, use_cache=False, output_attentions=True)
        new.append(out.logits[0, -1].argmax().item())
        rows.append(torch.stack([a[0, :, -1].float().mean(0).cpu() for a in out.attentions])[:, prompt.spans[0].tokens])
    return torch.stack(rows)

def authors(case):
    "The published procedure, written anew from a description: two slow captures, each layer resized before it is added, eager answer"
    vlm, m, image = case.vlm, case.method, case.image
    with torch.no_grad(), eager_kernel(vlm.model):
        prompts = [vlm.prompt(image, text, SHORT_ANSWER) for text in (case.questions[0], GENERAL_INSTRUCTION)]
        A_q, A_g = (slow_capture(vlm, p, m.max_new_tokens)[:, case.layers] for p in prompts)
        span, S = prompts[0].spans[0], 0.
        for t, (Q, G) in enumerate(zip(A_q, A_g)):
            for q, g in zip(Q, G):
                S = S + (t + 1)*Saliency((q/(g + 1e-8)).reshape(span.grid), image.size,
                    span.box).to_pixels().astype(np.float64)
        crop = m.show(image, regions(S.astype(np.float32), m.p, m.K, m.connectivity, m.region_rule, m.rank))
        return S, vlm.ask([image, crop.image], case.questions[0], m.suffix, m.max_new_tokens)

MEASURES = {f.__name__: f for f in (
    plain, prefill, capture, early_stop, limit, carve, carve_few, lookup, lookup_few, eager, ten_questions, ten_few,
    ten_lookup, authors)}

TEN = 'ten_questions', 'ten_few', 'ten_lookup'
SLOW = 'eager', *TEN, 'authors'   # in fewer rounds
RATIOS = dict(capture='prefill', early_stop='prefill', eager='prefill', limit='prefill', carve='plain', authors='carve',
              ten_questions='plain', ten_without_crop='plain', carve_over_limit='limit', authors_plain='plain',
              carve_few='plain',
              lookup='plain', lookup_few='plain', ten_few='plain', ten_lookup='plain', authors_over_few='carve_few')
LABELS = dict(plain='plain answer', prefill='one pass', capture='row capture', early_stop='early stop',
    limit='pass over two images',
              eager='eager, output_attentions', carve='whole CARVE', ten_questions='ten questions, each',
              ten_without_crop='... without the crop', authors="authors' procedure",
              carve_few='whole CARVE, small crop',
              lookup='lookup', lookup_few='lookup, small crop', ten_few='ten questions, small crops, each',
              ten_lookup='ten by lookup, small crops, each')

def measured_confidence(model, n=40, start=925_000) -> dict:
    "Kind of question -> confidences of the plain answers to fresh questions"
    vlm = VLM.from_pretrained(model)
    return {kind: [vlm.ask(s.image, s.question, SHORT_ANSWER).confidence for s in samples(kind, n, 'heldout', start)]
        for kind in KINDS}

def timed(device, f, case):
    "Seconds of `f(case)`, and what it returned"
    if device.type == 'cuda': torch.cuda.synchronize(device)
    clock = time.process_time if device.type == 'cpu' and torch.get_num_threads() == 1 else time.perf_counter
    start, value = clock(), f(case)
    if device.type == 'cuda': torch.cuda.synchronize(device)
    return clock() - start, value

def middle(values):
    "Median and distance of the quartiles"
    lo, mid, hi = np.quantile(values, (.25, .5, .75))
    return float(mid), float(hi - lo)

def one_length(grid, size, rounds, slow, memory, device, dtype, tokens):
    "All that is measured with prompts of one length: row of the table, ratios"
    case, seconds, kept = make_case(grid, size, device, dtype, tokens), {k: [] for k in MEASURES}, {}
    for f in (plain, capture): f(case)
    for i in range(rounds):
        for k, f in MEASURES.items():
            if k in SLOW and i >= slow: continue
            s, value = timed(case.vlm.device, f, case)
            seconds[k].append(s)
            if k in ('carve', 'authors', 'ten_questions', 'carve_few'): kept.setdefault(k, []).append(value)
            print(f'{len(case.prompt)} tokens, round {i + 1}: {LABELS[k]} {s:.2f} s', file=sys.stderr)
    for k in TEN: seconds[k] = [s/len(case.questions) for s in seconds[k]]
    seconds['ten_without_crop'] = [s*(1 - crop) for s, crop in zip(seconds['ten_questions'], kept['ten_questions'])]
    row = {k: dict(zip(('s', 'iqr'), middle(v)), rounds=len(v)) for k, v in seconds.items()}
    (ours, _), (S, answer) = kept['carve'][0], kept['authors'][0]
    parts = [{k: v/sum(stages.values())*s for k, v in stages.items()} for (_, stages),
        s in zip(kept['carve'], seconds['carve'])]
    row |= dict(n_prompt=len(case.prompt), n_image=grid**2, stages={k: middle([p[k] for p in parts])[0]
        for k in parts[0]},
        same_answer=ours.answer.tokens == answer.tokens, answer_tokens=len(answer.tokens),
        map_error=float(np.abs(ours.saliency.to_pixels() - S).max()/np.abs(S).max()))
    ratios = {}
    for k, of in RATIOS.items():
        a = k.split('_over')[0].removesuffix('_plain')
        ratio, iqr = middle([x/y for x, y in zip(seconds[a], seconds[of])])
        ratios[k] = dict(ratio=ratio, iqr=iqr, of=f'{a}/{of}', rounds=len(seconds[a]))
    for k in memory: row[k]['mb'] = memory_of(k, grid, size, device, dtype, tokens)
    return row, ratios

def memory_of(name, grid, size, device, dtype, tokens):
    "MB above the loaded model, in a process of its own; answers of 2 tokens, 2 questions instead of ten"
    words = [sys.executable, '-m', 'recipes.cost', '--memory-of', name,
        json.dumps([grid, asdict(size), device, dtype, tokens]), '--out', '-']
    env = os.environ | dict(OMP_NUM_THREADS=str(torch.get_num_threads()), PYTHONWARNINGS='ignore')
    return float(subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True, env=env).stdout)

def judge(row, ratios):
    "Name of a target -> limit, side, value, met"
    values = (ratios['capture']['ratio'], row['capture']['mb']/row['prefill']['mb'], ratios['carve_few']['ratio'],
        ratios['lookup_few']['ratio'], ratios['ten_few']['ratio'], ratios['authors_over_few']['ratio'],
        row['map_error'])
    return {k: dict(limit=limit, side=side, value=v, met=v <= limit if side == 'most' else v >= limit)
            for (k, (limit, side)), v in zip(TARGETS.items(), values)}

LARGE = dict(native=('plain', 'prefill', 'capture', 'lookup', 'lookup_few', 'carve_few'),
    unlimited=('plain', 'lookup_few'))

def large_image(grid, size, device, dtype, tokens):
    "What an image of 28 x grid pixels a side costs, each thing done once: its row of a table"
    case = make_case(grid, size, device, dtype, tokens)
    row = dict(n_prompt=len(case.prompt), width=case.image.width, height=case.image.height)
    for k in LARGE[tokens]:
        s, _ = timed(case.vlm.device, MEASURES[k], case)
        print(f'{len(case.prompt)} tokens: {LABELS[k]} {s:.1f} s', file=sys.stderr)
        row[k] = dict(s=s, mb=memory_of(k, grid, size, device, dtype, tokens))
    return row


def show(row, targets):
    "Print a table and its targets"
    print(f'{row["n_prompt"]} tokens ({row["n_image"]} of the image), answers of {row["answer_tokens"]}')
    table = pd.DataFrame({label: row[k] for k, label in LABELS.items()}).T.reindex(columns=['s', 'iqr', 'mb'])
    print(table.assign(plain=table.s/row['plain']['s']).to_string(float_format='%.3f'),
        pd.DataFrame(targets).T.to_string(), sep='\n')

def main():
    "What the command does"
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument('--out', required=True, help='JSON file to write')
    p.add_argument('--tokens', choices=FAMILIES, default='native',
        help='of an image, as in Qwen2.5-VL, or fixed as in LLaVA')
    p.add_argument('--quick', action='store_true')
    p.add_argument('--large', action='store_true',
        help='an image of 12 megapixels in place of the three lengths, each thing once')
    p.add_argument('--device', default='cpu')
    p.add_argument('--dtype', default='float32')
    p.add_argument('--memory-of', nargs=2, help=argparse.SUPPRESS)
    a = p.parse_args()
    if a.memory_of:
        name, (grid, size, *how) = a.memory_of[0], json.loads(a.memory_of[1])
        case = make_case(grid, Size(**size), *how, new=2, questions=tuple(QUESTIONS[:2]))
        with peak_memory(case.vlm.device if how[0] != 'cpu' else None) as peak: MEASURES[name](case)
        return print(peak[-1]/1e6)
    size, grids = (SMALL, [GRIDS[600]]) if a.quick else (Size(), GRIDS.values())
    meta = dict(date=str(date.today()), device=a.device, dtype=a.dtype, threads=torch.get_num_threads(),
        torch=torch.__version__,
        transformers=transformers.__version__, model=asdict(size), tokens=a.tokens, weights='random')
    if a.large:
        rows = {tokens: large_image(PHOTOGRAPH, size, a.device, a.dtype, tokens) for tokens in LARGE}
        Path(a.out).write_text(json.dumps(dict(rows=rows, meta=meta), indent=1) + '\n')
        return
    tokens, ratios = {}, {}
    for grid in grids:
        rounds = (5, 2) if a.quick else (5, 3) if grid < 50 else (4, 1)      # of all measures, and of the slow ones
        memory = MEASURES if grid == max(grids) else ('prefill', 'capture')
        row, ratio = one_length(grid, size, *rounds, memory, a.device, a.dtype, a.tokens)
        name, targets = str(row['n_prompt']), judge(row, ratio)
        tokens[name], ratios[name] = row, ratio
        show(row, targets)
    Path(a.out).write_text(json.dumps(dict(tokens=tokens, ratios=ratios, targets=targets, meta=meta), indent=1) + '\n')

if __name__ == '__main__': main()
