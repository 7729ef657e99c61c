"""What captured rows and the whole method cost, side by side with a plain answer, eager attention and the authors' procedure.

    python -m tools.side_by_side --out bench.json          # prompts of about 600, 1,300 and 3,000 tokens: a quarter of an hour
    python -m tools.side_by_side --quick --out bench.json  # 600 tokens and a smaller model

The model has random weights: costs depend on sizes, not on what was learned. In every round each thing is done once, so that a
disturbance hits all alike; ratios are taken within a round. On one thread of a CPU the clock is that of the process, which other
jobs do not move. The page on cost (nbs/notes/cost.ipynb) shows a stored run. `carve bench` measures a model of one's own.
"""
import argparse, json, os, subprocess, sys, time
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import date
from functools import cached_property
from pathlib import Path
import numpy as np, pandas as pd, torch, transformers
from carve_nb.attention.cache import AttentionCache
from carve_nb.runs.demo import peak_memory
from carve_nb.attention.capture import recording
from carve_nb.method.carve import Carve
from carve_nb.core.saliency import Saliency, pick_layers
from carve_nb.data.scenes import make_scene
from carve_nb.models.prompts import GENERAL_INSTRUCTION, SHORT_ANSWER
from recipes.tiny_models import RECIPES
from carve_nb.models.vlm import VLM
from carve_nb.formulas.regions import regions

TARGETS = {'capture, time': (1.05, 'most'), 'capture, memory': (1.1, 'most'), 'whole CARVE': (2.2, 'most'),
           'ten questions': (.3, 'most'), 'authors over ours': (8., 'least'), 'maps alike': (1e-4, 'most')}  # at 3,000 tokens
QUESTIONS = [f'What is on thing number {i}?' for i in range(10)]
GRIDS = {600: 24, 1300: 36, 3000: 54}   # tokens of a prompt, nearly -> side of the grid of image tokens


@dataclass
class Size:
    "Of the decoder, and the width of a tower of four layers"
    hidden: int = 768
    layers: int = 6
    heads: int = 6
    inner: int = 2048
    tower: int = 256

SMALL = Size(256, 6, 2, 768, 128)


def make_model(grid, size=Size(), device='cpu', dtype='float32'):
    "A `VLM` with random weights, always the same; a picture becomes grid x grid tokens"
    px, (recipe, *_) = 8*grid, RECIPES.values()
    config, (processor,), _ = recipe(size.layers, size=dict(shortest_edge=px), crop_size=dict(height=px, width=px))
    text = dict(hidden_size=size.hidden, intermediate_size=size.inner, num_attention_heads=size.heads,
        num_key_value_heads=size.heads, head_dim=size.hidden//size.heads, max_position_embeddings=16_384, initializer_range=.04)
    tower = dict(hidden_size=size.tower, intermediate_size=2*size.tower, num_hidden_layers=4,
        num_attention_heads=max(1, size.tower//64), image_size=px)
    for part, values in (config.text_config, text), (config.vision_config, tower):
        for k, v in values.items(): setattr(part, k, v)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = transformers.AutoModelForImageTextToText.from_config(config, attn_implementation='sdpa', dtype=getattr(torch, dtype))
    return VLM(model.to(device).eval(), processor, name='bench')


@dataclass
class Case:
    "A model, a picture and questions; what is made once is not timed with the single passes"
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


def make_case(grid, size=Size(), device='cpu', dtype='float32', **kw):
    case = Case(make_model(grid, size, device, dtype), make_scene(0).image, **kw)
    assert case.inputs and case.two_images
    return case


def plain(case): return case.vlm.ask(case.image, case.questions[0], SHORT_ANSWER, case.new)


def prefill(case, inputs=None, **kw):
    with torch.no_grad(): return case.vlm.model(**(inputs or case.inputs), use_cache=False, logits_to_keep=1, **kw)


def limit(case):
    "One pass over two pictures: a question about [original, view] needs both of them in the cache"
    return prefill(case, case.two_images)


def capture(case, stop=False):
    with recording(case.vlm.model, case.layers, columns=case.prompt.spans[0].tokens, stop=stop) as rec: prefill(case)
    return rec.stack()


def early_stop(case): return capture(case, True)


@contextmanager
def eager_kernel(vlm):
    vlm.model.set_attn_implementation('eager')
    try: yield
    finally: vlm.model.set_attn_implementation('sdpa')


def eager(case):
    "The same rows, out of all matrices of all layers"
    with eager_kernel(case.vlm): every = prefill(case, output_attentions=True).attentions
    return torch.stack([every[l][:, :, -1:, case.prompt.spans[0].tokens] for l in case.layers]).float().cpu()


def carve(case):
    "`Result`, and the seconds of its stages"
    with case.vlm.sharing() as shared: r = case.method(case.vlm, case.image, case.questions[0])
    s, view = r.seconds, shared.onward
    return r, dict(picture=shared.seconds, question=s['capture'] - shared.seconds, instruction=s['instruction'],
        map=s['map'] + s['region'], view=view, answer=s['ask'] - view)


def ten_questions(case):
    "Every question about the one picture; the part of the time that went into reading the views"
    cache, start = AttentionCache(), time.perf_counter()
    with case.vlm.sharing() as shared:
        for q in case.questions: case.method(case.vlm, case.image, q, cache=cache)
    return shared.onward/(time.perf_counter() - start)


def slow_capture(vlm, prompt, most):
    "[T, Lall, Nv]: every token costs the tower and the whole prompt once more, and all matrices of all layers"
    inputs, new, rows = vlm.to_device(prompt), [], []
    while len(new) < most and vlm.tokenizer.eos_token_id not in new:
        ids = torch.cat([inputs['input_ids'], torch.tensor([new], dtype=torch.long, device=vlm.device)], 1)
        out = vlm.model(**inputs | dict(input_ids=ids, attention_mask=torch.ones_like(ids)), use_cache=False, output_attentions=True)
        new.append(out.logits[0, -1].argmax().item())
        rows.append(torch.stack([a[0, :, -1].float().mean(0).cpu() for a in out.attentions])[:, prompt.spans[0].tokens])
    return torch.stack(rows)


def authors(case):
    "The published procedure, written anew from a description: two slow captures, each layer resized before it is added, eager answer"
    vlm, m, image = case.vlm, case.method, case.image
    with torch.no_grad(), eager_kernel(vlm):
        prompts = [vlm.prompt(image, text, SHORT_ANSWER) for text in (case.questions[0], GENERAL_INSTRUCTION)]
        A_q, A_g = (slow_capture(vlm, p, m.max_new_tokens)[:, case.layers] for p in prompts)
        span, S = prompts[0].spans[0], 0.
        for t, (Q, G) in enumerate(zip(A_q, A_g)):
            for q, g in zip(Q, G):
                S = S + (t + 1)*Saliency((q/(g + 1e-8)).reshape(span.grid), image.size, span.box).to_pixels().astype(np.float64)
        view = m.show(image, regions(S.astype(np.float32), m.p, m.K, **vars(m.region)))
        return S, vlm.ask([image, view.image], case.questions[0], m.suffix, m.max_new_tokens)


MEASURES = {f.__name__: f for f in (plain, prefill, capture, early_stop, limit, carve, eager, ten_questions, authors)}
SLOW = 'eager', 'ten_questions', 'authors'   # in fewer rounds
RATIOS = dict(capture='prefill', early_stop='prefill', eager='prefill', limit='prefill', carve='plain', authors='carve',
              ten_questions='plain', ten_without_view='plain', carve_over_limit='limit', authors_plain='plain')
LABELS = dict(plain='plain answer', prefill='one pass', capture='row capture', early_stop='early stop', limit='pass over two pictures',
              eager='eager, output_attentions', carve='whole CARVE', ten_questions='ten questions, each',
              ten_without_view='... without the view', authors="authors' procedure")


def timed(device, f, case):
    if device.type == 'cuda': torch.cuda.synchronize(device)
    clock = time.process_time if device.type == 'cpu' and torch.get_num_threads() == 1 else time.perf_counter
    start, value = clock(), f(case)
    if device.type == 'cuda': torch.cuda.synchronize(device)
    return clock() - start, value


def middle(values):
    lo, mid, hi = np.quantile(values, (.25, .5, .75))
    return float(mid), float(hi - lo)


def one_length(grid, size, rounds, slow, memory, device, dtype):
    "All that is measured with prompts of one length: row of the table, ratios"
    case, seconds, kept = make_case(grid, size, device, dtype), {k: [] for k in MEASURES}, {}
    for f in (plain, capture): f(case)
    for i in range(rounds):
        for k, f in MEASURES.items():
            if k in SLOW and i >= slow: continue
            s, value = timed(case.vlm.device, f, case)
            seconds[k].append(s)
            if k in ('carve', 'authors', 'ten_questions'): kept.setdefault(k, []).append(value)
            print(f'{len(case.prompt)} tokens, round {i + 1}: {LABELS[k]} {s:.2f} s', file=sys.stderr)
    seconds['ten_questions'] = [s/len(case.questions) for s in seconds['ten_questions']]
    seconds['ten_without_view'] = [s*(1 - view) for s, view in zip(seconds['ten_questions'], kept['ten_questions'])]
    row = {k: dict(zip(('s', 'iqr'), middle(v)), rounds=len(v)) for k, v in seconds.items()}
    (ours, _), (S, answer) = kept['carve'][0], kept['authors'][0]
    parts = [{k: v/sum(stages.values())*s for k, v in stages.items()} for (_, stages), s in zip(kept['carve'], seconds['carve'])]
    row |= dict(n_prompt=len(case.prompt), n_image=grid**2, stages={k: middle([p[k] for p in parts])[0] for k in parts[0]},
        same_answer=ours.answer.tokens == answer.tokens, answer_tokens=len(answer.tokens),
        map_error=float(np.abs(ours.saliency.to_pixels() - S).max()/np.abs(S).max()))
    ratios = {}
    for k, of in RATIOS.items():
        a = k.split('_over')[0].removesuffix('_plain')
        ratio, iqr = middle([x/y for x, y in zip(seconds[a], seconds[of])])
        ratios[k] = dict(ratio=ratio, iqr=iqr, of=f'{a}/{of}', rounds=len(seconds[a]))
    for k in memory: row[k]['mb'] = memory_of(k, grid, size, device, dtype)
    return row, ratios


def memory_of(name, grid, size, device, dtype):
    "MB above the loaded model, in a process of its own; answers of 2 tokens, 2 questions instead of ten"
    words = [sys.executable, '-m', 'tools.side_by_side', '--memory-of', name, json.dumps([grid, asdict(size), device, dtype]), '--out', '-']
    env = os.environ | dict(OMP_NUM_THREADS=str(torch.get_num_threads()), PYTHONWARNINGS='ignore')
    return float(subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True, env=env).stdout)


def judge(row, ratios):
    "Name of a target -> limit, side, value, met"
    values = (ratios['capture']['ratio'], row['capture']['mb']/row['prefill']['mb'], ratios['carve']['ratio'],
        ratios['ten_without_view']['ratio'], ratios['authors']['ratio'], row['map_error'])
    return {k: dict(limit=limit, side=side, value=v, met=v <= limit if side == 'most' else v >= limit)
            for (k, (limit, side)), v in zip(TARGETS.items(), values)}


def show(row, targets):
    print(f'{row["n_prompt"]} tokens ({row["n_image"]} of the picture), answers of {row["answer_tokens"]}')
    table = pd.DataFrame({label: row[k] for k, label in LABELS.items()}).T.reindex(columns=['s', 'iqr', 'mb'])
    print(table.assign(plain=table.s/row['plain']['s']).to_string(float_format='%.3f'), pd.DataFrame(targets).T.to_string(), sep='\n')


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--out', required=True, help='JSON file to write')
    p.add_argument('--quick', action='store_true')
    p.add_argument('--device', default='cpu')
    p.add_argument('--dtype', default='float32')
    p.add_argument('--memory-of', nargs=2, help=argparse.SUPPRESS)
    a = p.parse_args()
    if a.memory_of:
        name, (grid, size, device, dtype) = a.memory_of[0], json.loads(a.memory_of[1])
        case = make_case(grid, Size(**size), device, dtype, new=2, questions=tuple(QUESTIONS[:2]))
        with peak_memory(case.vlm.device if device != 'cpu' else None) as peak: MEASURES[name](case)
        return print(peak[-1]/1e6)
    size, grids = (SMALL, [GRIDS[600]]) if a.quick else (Size(), GRIDS.values())
    tokens, ratios = {}, {}
    for grid in grids:
        rounds = (5, 2) if a.quick else (5, 3) if grid < 50 else (4, 1)      # of all measures, and of the slow ones
        memory = MEASURES if grid == max(grids) else ('prefill', 'capture')
        row, ratio = one_length(grid, size, *rounds, memory, a.device, a.dtype)
        name, targets = str(row['n_prompt']), judge(row, ratio)
        tokens[name], ratios[name] = row, ratio
        show(row, targets)
    meta = dict(date=str(date.today()), device=a.device, dtype=a.dtype, threads=torch.get_num_threads(), torch=torch.__version__,
        transformers=transformers.__version__, model=asdict(size), weights='random')
    Path(a.out).write_text(json.dumps(dict(tokens=tokens, ratios=ratios, targets=targets, meta=meta), indent=1) + '\n')


if __name__ == '__main__': main()
