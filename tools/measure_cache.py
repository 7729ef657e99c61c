"""Compare ways to share a prefix: branches that share tensors and attention in two parts, or copies and PyTorch's own bias.

    python tools/measure_cache.py --out cache_kinds.json

All kinds take turns in one run, on one thread, by the clock of the process, so that other work on the machine counts in all of
them alike; each is given in plain answers of the same turn. nbs/library/models/08_prefix_cache.ipynb shows
a record.
"""
import argparse, copy, json, time, warnings
from pathlib import Path
import torch
from torch.nn.attention.bias import causal_lower_right
from torch.nn.functional import scaled_dot_product_attention
from side_by_side import carve, make_case, ten_questions
from carve_nb.models import attention_hook, prefix_cache

OURS = prefix_cache.branch, attention_hook.split_attention


def public_kernel(q, k, v, scale):
    "Attention that continues from a cache, by PyTorch's public interface"
    mask = causal_lower_right(q.shape[2], k.shape[2])
    return scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale, enable_gqa=q.shape[1] != k.shape[1])


KINDS = {
    'in use': OURS,
    'cache copied': (copy.deepcopy, OURS[1]),
    'causal_lower_right': (OURS[0], public_kernel),
    'cache copied, causal_lower_right': (copy.deepcopy, public_kernel),
}


def timed(run):
    start = time.process_time()
    value = run()
    return time.process_time() - start, value


def one_turn(case, kind):
    "CARVE, and each of ten questions without the view, in plain answers"
    prefix_cache.branch, attention_hook.split_attention = KINDS[kind]
    plain, _ = timed(lambda: case.vlm.generate(case.prompt, case.new))
    carve, (result, _) = timed(lambda: carve(case))
    ten, views = timed(lambda: ten_questions(case))
    return dict(carve=carve/plain, ten=ten*(1 - views)/len(case.questions)/plain, answer=result.answer.tokens)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--grid', type=int, default=54, help='side of the grid of image tokens')
    p.add_argument('--rounds', type=int, default=3)
    p.add_argument('--out', type=Path, required=True)
    a = p.parse_args()
    warnings.simplefilter('ignore')
    torch.set_num_threads(1)
    case, turns = make_case(a.grid), {kind: [] for kind in KINDS}
    case.vlm.generate(case.prompt, case.new)
    for i in range(a.rounds):
        for kind in list(KINDS)[::-1 if i % 2 else 1]:
            turns[kind].append(one_turn(case, kind))
            print(i, kind, turns[kind][-1], flush=True)
    tokens = len(case.prompt)
    a.out.write_text(json.dumps(dict(tokens=tokens, torch=torch.__version__, turns=turns), indent=1) + '\n')


if __name__ == '__main__': main()
