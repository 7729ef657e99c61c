"""How the reference model and CARVE do on scenes painted in other styles than those of the training.

`python -m recipes.generalization MODEL`: 34 minutes; `nbs/results/study/generalization`."""

from dataclasses import dataclass, replace
import pandas as pd
from PIL import Image, ImageOps
from carve_nb.data.drawing import FONT, PHOTOS, _photo_crop, background, sprite
from carve_nb.data.scenes import Scene, _blobs, _lay_out, _reading_order, _rng, make_scene, to_sample
from .ablation import ask_all, paired
from .records import Part, run_parts, run_study

@dataclass(frozen=True)
class Style:
    "How a scene is painted; its objects and questions stay the same"
    fonts: tuple = (FONT,) # of matplotlib; each digit has one of them
    filled: bool = True    # filled shapes with a rim, else outlines in the color
    turn: float = 0        # degrees by which an object may be turned to either side
    photo: bool = False    # a photograph as background, else a pattern with two knobs
    border: int = 0        # pixels of white around the image
    scale: int = 1         # times the side of the image; objects keep their size

    def place(self, box) -> tuple: # (x0, y0, x1, y1)
        "Return the box of an object in a scene of this style"
        x, y = (v*self.scale + self.border for v in box[:2])
        return x, y, x + box[2] - box[0], y + box[3] - box[1]

STYLES = dict(
    own=Style(), fonts=Style(fonts=('DejaVuSerif-Bold', 'DejaVuSansMono-Bold', 'STIXGeneralBol', 'cmb10')),
    outlines=Style(filled=False), turned=Style(turn=40), photographs=Style(photo=True),
    border=Style(border=64),
    large=Style(scale=2))

def styled_scene(seed, style, split='heldout') -> Scene: # one of `STYLES`
    "Paint the scene of a seed in a style, bit-identical each time; in its own style as `make_scene` does"
    how = STYLES[style]
    scene = make_scene(seed, split)
    rng = _rng(split, seed, 2)
    paint_rng = _rng(split, seed, 3)
    painted = [(replace(o, box=how.place(o.box)), rgb, dark) for o, rgb, dark in _lay_out(seed, split)]
    if how.photo: image = _photo_crop(rng, PHOTOS[split]).convert('RGB')
    else:
        image = Image.fromarray(background(rng, scene.texture, scene.color, PHOTOS[split]))
        _blobs(image, rng, int(24*scene.texture))
    image = ImageOps.expand(ImageOps.scale(image, how.scale), how.border, 'white')
    for o, rgb, dark in painted:
        font = how.fonts[paint_rng.integers(len(how.fonts))]
        turn = paint_rng.uniform(-how.turn, how.turn)
        px = o.box[2] - o.box[0]
        drawn = sprite(rgb, o.shape, o.digit, px, dark, font, how.filled)
        if turn: drawn = drawn.rotate(turn, Image.BICUBIC, expand=True).resize((px, px), Image.LANCZOS)
        image.paste(drawn, o.box[:2], drawn)
    return replace(scene, image=image, objects=_reading_order(painted))

def generalization_samples(n, start=0):
    "Held-out digit questions, each in every style, those of one seed in turn"
    styles = list(STYLES)
    for i in range(n):
        style = styles[i % len(styles)]
        scene = styled_scene(start + i//len(styles), styles[i % len(styles)])
        name = scene.name if style == 'own' else f'{scene.name}-{style}'
        sample = to_sample(scene, 'digit')
        yield replace(sample, id=f'{name}-digit', image_key=name)

STYLE_METHODS = 'none', 'carve', 'oracle'

def judge(result, sample) -> dict:
    "What is kept of the map of a `Result`, if it has one"
    return {} if result.saliency is None else dict(points=int(result.saliency.points_at(sample.box)))

def measure_generalization(vlm, sample, methods=STYLE_METHODS) -> dict: # of `generalization_samples`
    "Every method on one question"
    style = sample.id.split('-')[2]
    return dict(id=sample.id, style=style if style in STYLES else 'own', truth=sample.answer,
        made=ask_all(vlm, sample, {k: k for k in methods}, lambda r: judge(r, sample))[0])

def style_scores(records, key='correct') -> pd.DataFrame: # of `measure_generalization`; or 'points'
    "A row for each seed, a column for each (style, method) that has this score"
    cells = {(r['id'].split('-')[1], r['style'], m): got[key] for r in records
        for m, got in r['made'].items() if key in got}
    return pd.Series(cells).unstack([1, 2])

def style_gains(records) -> pd.DataFrame:
    "The gain of every method over the baseline in every style"
    right = style_scores(records)
    return paired({(style, m): (right[style, m], right[style, 'none']) for style, m in right if m != 'none'})

def compare_with_own(records) -> tuple:
    """The baseline, and CARVE's gain, in each style against our own, seed by seed; seeds that a style lacks
    do not count"""
    right = style_scores(records).dropna()
    plain = right.xs('none', axis=1, level=1)
    gain = right.xs('carve', axis=1, level=1) - plain
    return tuple(paired({k: (t[k], t.own) for k in STYLES if k != 'own'}) for t in (plain, gain))

if __name__ == '__main__':
    run_parts(dict(all=Part('generalization', measure_generalization, generalization_samples, 1050)),
        'study_out', run_study)
