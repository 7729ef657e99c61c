"""Keep stored images of notebooks small: at most 1,230 px wide, one and a half times as wide as the site
shows them, and 80 kB each, 200 in the book.

Usage: python tools/shrink.py NOTEBOOK..."""

import base64
import io
import sys
from pathlib import Path
from fastcore.nbio import read_nb, write_nb
from PIL import Image, ImageChops
from carve_nb.core.plotting import round_colors

LIMIT, BOOK, WIDTH = 80_000, 200_000, 1230


def reduce_colors(img, colors):
    """A palette where it changes no pixel visibly, as in charts; else each channel in steps, as rare colors
    would turn into others"""
    reduced = img.quantize(colors, method=Image.Quantize.MEDIANCUT, kmeans=1, dither=Image.Dither.NONE)
    change = ImageChops.difference(img, reduced.convert('RGB')).getextrema()
    visible = max(most for _, most in change) > 32
    return round_colors(img, 3072 // colors) if visible else reduced


def limit_pixels(b64: str, limit=LIMIT) -> str:
    "A PNG as base64, made small; one that is small already stays as it is."
    raw = base64.b64decode(b64)
    im = Image.open(io.BytesIO(raw))
    im.load()
    if len(raw) <= limit and im.width <= WIDTH:
        return b64
    for width, colors in ((WIDTH, 255), (WIDTH, 128), (1040, 128), (820, 128), (520, 128), (360, 64)):
        small, out = im.convert('RGB'), io.BytesIO()
        small.thumbnail((width, 10 * width), Image.LANCZOS)
        if colors:
            small = reduce_colors(small, colors)
        small.save(out, 'PNG', optimize=True)
        if out.tell() <= limit:
            break
    return base64.b64encode(out.getvalue()).decode()


def main(paths):
    for path in map(Path, paths):
        limit = BOOK if path.resolve().parent.name == 'nbs' else LIMIT
        notebook = read_nb(path)
        for output in (o for cell in notebook.cells for o in cell.get('outputs', [])):
            data = output.get('data', {})
            if 'image/png' in data:
                data['image/png'] = limit_pixels(data['image/png'], limit)
                data.pop('image/jpeg', None)
        write_nb(notebook, path)


if __name__ == '__main__':
    main(sys.argv[1:])
