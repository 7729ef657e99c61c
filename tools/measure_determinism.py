"""Measure what changes an answer or a map, when question and picture stay the same: held-out scenes, the reference VLM.

    python tools/measure_determinism.py --out nbs/results/determinism.json

Compared with one question at a time, in float32, with the SDPA kernel and one thread: the same again, another process, two
threads, batches of eight, bfloat16, the eager kernel, FlexAttention, a shared beginning; and with a second picture: a shared
beginning with the stock kernel and with the one in two parts. nbs/notes/determinism.ipynb shows the figures.
"""
import argparse, json, os, subprocess, sys, tempfile, warnings
from contextlib import contextmanager
from pathlib import Path
import numpy as np, torch
from scipy.stats import spearmanr
from carve_nb.models import attention_hook
from carve_nb.models.vlm import VLM
from carve_nb.models.prompts import GENERAL_INSTRUCTION, SHORT_ANSWER
from carve_nb.method.carve import Carve
from carve_nb.core.image import open_image
from carve_nb.data.questions import KINDS
from carve_nb.data.scenes import samples

CARVE = Carve()


def scenes(n):
    "As many held-out scenes, kinds in turns"
    kinds = [samples(k, -(-n//len(KINDS)), split='heldout') for k in KINDS]
    return [(open_image(s.image), s.question) for group in zip(*kinds) for s in group][:n]


def fused(vlm, image, rows_q, rows_g):
    "CARVE's map, [Nv]"
    return CARVE.fuse(*CARVE.maps(rows_q, rows_g), rows_q.spans[0], image).values.ravel()


def found(answer, values): return dict(answer=answer.text, logprob=answer.logprob, map=None if values is None else np.asarray(values, np.float32))


def singly(vlm, pairs):
    "One look after the other"
    for image, q in pairs:
        rows = vlm.capture(image, q, steps='all')
        yield found(rows.answer, fused(vlm, image, rows, vlm.capture(image, GENERAL_INSTRUCTION, steps='first')))


def shared(vlm, pairs):
    "Both looks go on from one beginning"
    for pair in pairs:
        with vlm.sharing(): yield from singly(vlm, [pair])


def batched(vlm, pairs, size=8):
    "Looks in batches"
    rows, general = vlm.capture_many(pairs, steps='all', size=size), vlm.capture_many([(im, GENERAL_INSTRUCTION) for im, _ in pairs], steps='first', size=size)
    for (image, _), q, g in zip(pairs, rows, general): yield found(q.answer, fused(vlm, image, q, g))


@contextmanager
def kernel_of(vlm, name):
    "The model with another kernel"
    vlm.model.set_attn_implementation(name)
    try: yield
    finally: vlm.model.set_attn_implementation('sdpa')


def eager_row(vlm, image, text, like):
    "`AttentionRows` of the last position, from the matrices that the eager kernel returns"
    p = vlm.prompt(image, text, SHORT_ANSWER)
    with torch.no_grad(): every = vlm.model(**vlm.to_device(p), use_cache=False, output_attentions=True, logits_to_keep=1).attentions
    a = torch.stack([w[0, :, -1, p.spans[0].tokens] for w in every]).float()
    return type(like)(a[None], list(range(vlm.n_layers)), a.sum(-1)[None], [], p.spans, meta=like.meta | dict(steps='first'))


def eager(vlm, pairs):
    "The kernel that returns its matrices"
    for image, q in pairs:
        like = vlm.capture(image, q, steps='first')
        with kernel_of(vlm, 'eager'): yield found(vlm.ask(image, q), fused(vlm, image, eager_row(vlm, image, q, like), eager_row(vlm, image, GENERAL_INSTRUCTION, like)))


def flex(vlm, pairs):
    "FlexAttention; rows are not read beside it"
    with kernel_of(vlm, 'flex_attention'):
        for image, q in pairs: yield found(vlm.ask(image, q), None)


def both(vlm, pairs):
    "Picture and its middle in one question; the map is that of the question's last row over both"
    for image, q in pairs:
        w, h = image.size
        rows = vlm.capture([image, image.crop((w//4, h//4, 3*w//4, 3*h//4))], q, steps='all')
        yield found(rows.answer, rows.attn[0].mean((0, 1)))


def both_shared(vlm, pairs):
    "The same, the first picture from a shared beginning"
    for image, q in pairs:
        with vlm.sharing():
            vlm.capture(image, q, steps='first')
            yield from both(vlm, [(image, q)])


def both_stock(vlm, pairs):
    "The same, with the stock kernel for the second picture"
    was, attention_hook.may_split = attention_hook.may_split, lambda *a, **kw: False
    try: yield from both_shared(vlm, pairs)
    finally: attention_hook.may_split = was


def compare(name, to, base, now):
    "One row of the record"
    maps = [(a['map'], b['map']) for a, b in zip(base, now) if a['map'] is not None and b['map'] is not None]
    far = [float(np.abs(a-b).max()/np.abs(a).max()) for a, b in maps]
    rank = [float(spearmanr(a, b).statistic) for a, b in maps]
    row = dict(name=name, to=to, scenes=len(now), changed=sum(a['answer'] != b['answer'] for a, b in zip(base, now)),
               same_bits=sum(bool((a == b).all()) for a, b in maps) if maps else None, map=max(far) if far else None, map_median=float(np.median(far)) if far else None,
               rank=min(rank) if rank else None, rank_median=float(np.median(rank)) if rank else None, same_peak=sum(int(a.argmax() == b.argmax()) for a, b in maps) if maps else None,
               logprob=max(abs(a['logprob'] - b['logprob']) for a, b in zip(base, now) if a['answer'] == b['answer']))
    print(row, flush=True)
    return row


def elsewhere(n, threads):
    "The same in another process"
    with tempfile.TemporaryDirectory() as place:
        out, env = Path(place)/'found.npz', dict(os.environ, OMP_NUM_THREADS=str(threads), OMP_WAIT_POLICY='passive')
        subprocess.run([sys.executable, __file__, '--n', str(n), '--threads', str(threads), '--child', str(out)], check=True, env=env)
        with np.load(out) as f: return [dict(answer=str(a), logprob=float(l), map=m) for a, l, m in zip(f['answer'], f['logprob'], f['map'])]


def measure(n, n_flex):
    "All rows"
    vlm, half, pairs = VLM.from_pretrained(), VLM.from_pretrained(dtype='bfloat16'), scenes(n)
    base, alone = list(singly(vlm, pairs)), 'one at a time'
    rows = [compare('the same again', alone, base, list(singly(vlm, pairs)))]
    for name, now in (('another process', lambda: elsewhere(n, 1)), ('two threads', lambda: elsewhere(n, 2)), ('batches of 8', lambda: batched(vlm, pairs)),
                      ('a shared beginning', lambda: shared(vlm, pairs)), ('eager kernel', lambda: eager(vlm, pairs)), ('bfloat16', lambda: singly(half, pairs))):
        rows.append(compare(name, alone, base, list(now())))
    if n_flex: rows.append(compare('FlexAttention', alone, base, list(flex(vlm, pairs[:n_flex]))))
    two = list(both(vlm, pairs))
    rows.append(compare('two pictures, a shared beginning, stock kernel', 'two pictures at once', two, list(both_stock(vlm, pairs))))
    rows.append(compare('two pictures, a shared beginning, kernel in two parts', 'two pictures at once', two, list(both_shared(vlm, pairs))))
    return rows


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--n', type=int, default=200, help='scenes')
    p.add_argument('--flex', type=int, default=20, help='scenes with FlexAttention, which compiles; 0 for none')
    p.add_argument('--threads', type=int, default=1)
    p.add_argument('--child', type=Path, help='only find, and keep it in this file')
    p.add_argument('--out', type=Path)
    a = p.parse_args()
    warnings.simplefilter('ignore')
    torch.set_num_threads(a.threads)
    if a.child:
        now = list(singly(VLM.from_pretrained(), scenes(a.n)))
        return np.savez(a.child, **{k: np.array([o[k] for o in now]) for k in ('answer', 'logprob', 'map')})
    rows = measure(a.n, a.flex)
    a.out.write_text(json.dumps(dict(model='carve-tiny', scenes=a.n, torch=torch.__version__, rows=rows), indent=1) + '\n')


if __name__ == '__main__': main()
