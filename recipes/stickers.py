"""Train a sticker by gradient to draw the attention of a model, and paste it into a scene.

`python -m recipes.stickers`, and `--model carve-small --words content --layers 1,2,3,4`: minutes;
`nbs/results/stickers`."""

import json
from dataclasses import replace
from pathlib import Path
import numpy as np
import torch
from fastcore.script import call_parse
from PIL import Image
from torch.nn import functional as F
from carve_nb.method.vicrop import rows_live
from carve_nb.attention.vlm import VLM
from carve_nb.core.errors import CarveError, UnsupportedError
from carve_nb.core.image import png_bytes
from carve_nb.core.io import TINY, replace_file
from carve_nb.core.saliency import patch_cover
from carve_nb.core.text import GENERAL_INSTRUCTION, SHORT_ANSWER, pick_words
from carve_nb.data.scenes import samples
from carve_nb.method.vicrop import pixel_plane
from .records import RESULTS

def free_place(rng, side, size, target, margin=16, raster=32) -> tuple:
    """A box of this side by chance, beside the target in an image of this size, left and top multiples of
    `raster`"""
    (w, h), (W, H), (x0, y0, x1, y1) = side, size, target
    for _ in range(1000):
        x, y = (raster*int(rng.integers(room//raster + 1)) for room in (W - w, H - h))
        beside = x + w + margin <= x0 or x1 + margin <= x
        if beside or y + h + margin <= y0 or y1 + margin <= y: return x, y, x + w, y + h
    raise CarveError(f'no room for {w} x {h} pixels beside the target {tuple(target)} in {W} x {H} pixels')

def attention_share(attn, cover): # [..., Nv] weights on the image; [Nv] how much of each patch lies in a box
    "The share of the image's attention that falls into a box"
    return (attn*cover).sum(-1)/attn.sum(-1).clip(1e-30)

def pull_back(plane, size, std) -> torch.Tensor:
    "Derivatives by the pixels that the tower is shown [3, h, w], carried back to the image's own [3, H, W]"
    W, H = size
    with torch.enable_grad():
        image = torch.zeros(1, 3, H, W, requires_grad=True)
        shown = F.interpolate(image, plane.shape[1:], mode='bicubic', antialias=True)
        return torch.autograd.grad(shown/torch.tensor(std).view(3, 1, 1), image,
            plane[None].cpu().float())[0][0]

EPSILON = .01 # added to a share before its logarithm

# of the sticker in the image; None: all layers; whose rows, None or 'last': the last position's
def sticker_gradient(vlm, sample, box, layers=None, words=None) -> tuple:
    "Which pixels of the box draw more attention: derivatives [3, h, w], and the shares drawn [L]"
    prompt = vlm.prompt(sample.image, sample.question, SHORT_ANSWER)
    size = sample.image.size
    span, (x0, y0, x1, y1) = prompt.spans[0], box
    if tuple(map(round, span.box)) != (0, 0, *size):
        raise UnsupportedError(
            f'{vlm.family.name} does not see the image in one piece: no sticker can be trained')
    at = pick_words([prompt.tokens[i] for i in prompt.question], words) if words not in (None, 'last') else ()
    cover = torch.tensor(patch_cover(span, box), dtype=torch.float32, device=vlm.device)
    inputs = vlm.to_device(prompt)
    pixels = inputs['pixel_values'].detach().clone().requires_grad_()
    with rows_live(vlm, prompt, layers,
            [prompt.question[i] for i in at] or (-1,)) as want, torch.enable_grad():
        vlm.model(**inputs | dict(pixel_values=pixels, use_cache=False), logits_to_keep=1)
        shares = attention_share(want.attn.mean((1, 2)), cover)
        raw, = torch.autograd.grad((shares + EPSILON).log().mean(), pixels)
    plane = pixel_plane(raw, span.grid, vlm.model.config)
    whole = pull_back(plane, size, vlm.processor.image_processor.image_std)
    return whole[:, y0:y1, x0:x1], shares.detach().tolist()

def paste(image, sticker, box):
    "A copy of an image with a sticker on it"
    pasted = image.copy()
    pasted.paste(sticker, box[:2])
    return pasted

def sticker_key(vlm, words=None): # whose rows it draws; None: the last position's
    "The name of a sticker's files"
    return vlm.fingerprint.weights + (f'-{words}' if words else '')

# whose attention is drawn; None: all; None: the last position
def train_sticker(vlm, out='stickers', steps=300, n_scenes=4, side=64, layers=None, words=None,
        progress=False):
    """Train a sticker, each step on new calibration scenes; PNG and facts in `out` bear the key of the
    weights.

    With `words` it draws their rows ('last': the last position's), under the question and under the
    general instruction alike."""
    path = Path(out)/sticker_key(vlm, words)
    noise = np.random.default_rng(0).uniform(.4, .6, (side, side, 3))
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = torch.tensor(noise, dtype=torch.float32).permute(2, 0, 1).contiguous()
    shares = []
    adam = torch.optim.Adam([pixels], betas=(.9, .99), eps=1e-12, maximize=True)
    drawn = lambda: Image.fromarray((255*pixels).round().byte().permute(1, 2, 0).numpy())
    for k in range(steps):
        rng = np.random.default_rng([1, k])
        sticker = drawn()
        found = []
        for s in samples('digit', n_scenes, 'calibration', n_scenes*k):
            box = free_place(rng, sticker.size, s.image.size, s.box, raster=side//2)
            for text in (s.question, GENERAL_INSTRUCTION)[:2 if words else 1]:
                planted = replace(s, image=paste(s.image, sticker, box), question=text)
                found.append(sticker_gradient(vlm, planted, box, layers, words))
        pixels.grad = torch.stack([g for g, _ in found]).mean(0)
        shares.append(np.mean([share for _, share in found], 0))
        adam.param_groups[0]['lr'] = .03 if k < .6*steps else .01
        adam.step()
        pixels.clamp_(0, 1)
        if progress and not (k + 1) % 10:
            print(k + 1, *(f'{s:.3f}' for s in np.mean(shares[-10:], 0)), flush=True)
    replace_file(f'{path}.png', png_bytes(drawn()))
    model = Path(vlm.name).name if Path(vlm.name).is_dir() else vlm.name
    facts = dict(
        model=model, weights=vlm.fingerprint.weights, words=words, steps=steps, n_scenes=n_scenes, side=side,
        layers=layers,
        shares=np.mean(shares[-20:], 0).round(4).tolist())
    replace_file(f'{path}.json', json.dumps(facts, indent=1) + '\n')
    return drawn()

def find_sticker(vlm, words=None):
    "The sticker that was trained for these weights"
    return Image.open(RESULTS/'stickers'/f'{sticker_key(vlm, words)}.png').convert('RGB')

@call_parse
def run_training(
    model:str=TINY, # folder or Hub id
    out:str='stickers', # folder of the stickers
    steps:int=300, # in all
    side:int=64, # pixels
    # whose rows under both prompts: content, noun or last; none: the last position's under the question
    words:str=None,
    layers:str=None, # such as 1,2,3,4; none: all
):
    "Train a sticker that draws the attention of a model"
    read = [int(l) for l in layers.split(',')] if layers else None
    train_sticker(VLM.from_pretrained(model), out, steps, side=side, layers=read, words=words, progress=True)
