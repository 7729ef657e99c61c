"""Images, as files, bytes, PIL images and arrays. What may come, and what must happen:

1. Path does not exist => `FileNotFoundError` with the path as given; it is a folder => refused with the path
2. Zero-byte file, text file named `.jpg` => "not an image"; nothing decoded
3. Truncated JPEG => error; global truncation flag stays off (asserted)
4. A file of any format that was cut in half => error, not a partly gray image
5. Decompression bomb: 20,000 x 20,000 PNG of 50 kB => refused *before* decoding, on header size; memory
    stays flat (measured)
6. Between Pillow's warning and error limit => opened with Pillow's warning; an array or image without pixels
    => refused
7. Format outside the allow-list (EPS, PSD, FITS), also under a false extension => refused by magic bytes;
    Ghostscript never started
8. EXIF orientation 1 to 8 => pixels rotated once, tag removed; the box maps back to displayed coordinates
    for all eight
9. RGBA with transparency => composited on a documented background (white), warning-free; transparent
    pixels do not turn black by accident
10. Palette with transparency, LA, L, 1 => converted to RGB, result equal to a reference
11. CMYK JPEG (also inverted Adobe) => converted to RGB, colors within tolerance of a reference
12. 16-bit grayscale => scaled to 8 bit from its full range (no wrap-around, no clipping to white); 32-bit
    integers and floats => refused with a hint
13. Animated GIF / WebP / APNG => first frame, notice that n frames were ignored
14. Multi-page TIFF => first page, notice
15. Width or height 0 (array input) => error
16. 1 x 1, and smaller than one merged patch (28 px) => enlarged by every family, down to one pixel: an
    answer and a map over the image (Qwen raised, see QwenLM/Qwen3-VL#220)
17. Aspect ratio over 200 : 1, for example 690 x 15,420 => 690 x 15,420 is answered; over 200 : 1 a
    refusal in the same words for every family; never a zero side (QwenLM/Qwen3-VL#2121)
18. The *crop* is degenerate: 1-pixel-wide region => grown to the minimum crop size inside the image
    before the re-query
19. Very large but legal image (100 MP) => opened with Pillow's warning; down-scaled for the model, map on a bounded raster, crop taken from the original
    pixels, peak above the image as for 24 MP (measured)
20. Array: float, uint8, channels first => H x W x 3 or H x W of uint8 accepted; everything else refused
21. Malicious metadata (script text in EXIF or PNG text) => not shown, not saved; written images carry no
    EXIF
22. The same image as path, bytes, PIL, array => identical map, bit for bit"""

import subprocess
import warnings
from pathlib import Path
import numpy as np
import pytest
from PIL import EpsImagePlugin, Image, ImageFile
from processes import python
from carve_nb.core.errors import ImageError
from carve_nb.core.image import open_image
from recipes.tiny_models import HERE
from . import hostile

WORDS = 'What digit is on the red star?'
LINUX = pytest.mark.skipif(
    not Path('/proc/self/clear_refs').exists(), reason='`make pytest` on Linux runs it'
)


@pytest.fixture(scope='module')
def vlm(load):
    return load('carve-tiny')


def ways(data, folder, name='a.jpg'):
    "One file in every way in"
    path = Path(folder) / name
    path.write_bytes(data)
    return [str(path), path, data, bytearray(data), memoryview(data)]


@pytest.mark.case(2, 7)
@pytest.mark.parametrize('kind', hostile.FOREIGN)
def test_foreign_formats(kind, tmp_path, monkeypatch):
    "Refused by what they are, whatever they are called; not decoded, no program started"

    def never(*a, **kw):
        raise AssertionError('decoded or started')

    for owner, name in (
        (ImageFile.ImageFile, 'load'),
        (EpsImagePlugin, 'Ghostscript'),
        (subprocess, 'Popen'),
    ):
        monkeypatch.setattr(owner, name, never)
    data = hostile.FOREIGN[kind]()
    for way in [*ways(data, tmp_path, 'a.jpg'), *ways(data, tmp_path, f'a.{kind}')]:
        with pytest.raises(ImageError, match='is not an image of JPEG, PNG'):
            open_image(way)


PEAK = '''
import sys, warnings
from io import BytesIO
from PIL import Image
from carve_nb.core.image import ImageError, open_image
from faults import hostile
def now(what): return next(int(l.split()[1])/1024 for l in open('/proc/self/status') if l.startswith(what))
warnings.simplefilter('ignore')
'''
BOMB = (
    PEAK
    + '''
data, small = hostile.bomb(), hostile.bomb(6000, 6000)
open(sys.argv[1], 'wb').write(data)
open_image(hostile.packed(hostile.photo()))
before = now('VmHWM')
for src in (data, sys.argv[1], hostile.gif_bomb()):
    try: open_image(src)
    except ImageError as e: assert 'exceeds limit of 178956970 pixels' in str(e)
    else: raise SystemExit('opened')
refused = now('VmHWM') - before
open_image(small)
print(len(data), refused, now('VmHWM') - before)
'''
)


@pytest.mark.case(5)
@LINUX
def test_bomb_memory(tmp_path, figure):
    "In a fresh process; a legal image shows that the measure works"
    size, refused, legal = map(float, python('-c', BOMB, tmp_path / 'bomb.png').split())
    figure('MB that a refused bomb of 400 megapixels takes', round(refused, 1))
    assert size < 60_000
    assert refused < 8
    assert legal > 100


SMALL = (1, 1), (27, 27), (5, 3)
STRIPS = (69, 1542), (1542, 69), (3, 28), (28, 3)
PAGE = 690, 15_420  # of the report


@pytest.mark.case(16, 17)
@pytest.mark.parametrize('family', sorted(HERE))
def test_sizes(family, load):
    "Every family enlarges one pixel, and lays a strip on a grid without an empty side: an answer, and a map over the image"
    vlm = load(family)
    for size in (*SMALL, *STRIPS):
        span = vlm.prompt(hostile.photo(size), 'What is it?').spans[0]
        x0, y0, x1, y1 = span.box
        assert min(span.grid) >= 1 and len(span) == span.grid[0] * span.grid[1]
        if size in SMALL:
            assert x0 < 1
            assert y0 < 1
            assert x1 > size[0] / 2
            assert y1 > size[1] / 2
    for size in ((1, 1), PAGE):
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            rows = vlm.capture(Image.new('RGB', size, 'red'), 'What is it?', steps='all', max_new_tokens=1)
        assert len(rows.answer.tokens) == 1
        assert rows.attn.isfinite().all()
        assert (rows.attn.sum(-1) > 0).all()
        assert rows.saliency().values.shape == rows.raster().grid and rows.saliency().size == size


def speckled(size):
    "An image with detail in every pixel"
    noise = np.random.default_rng(0).integers(0, 256, (400, 300, 3), np.uint8)
    return Image.fromarray(np.tile(noise, (-(-size[1] // 400), -(-size[0] // 300), 1))[: size[1], : size[0]])


LARGE = (
    PEAK
    + '''
import torch
torch.set_num_threads(1)
from carve_nb.formulas.clutter import complexity
from carve_nb.formulas.threshold import regions
from carve_nb.method.base import CropMethod
from carve_nb.method.carve import Carve
from carve_nb.method.results import Look
from carve_nb.attention.vlm import VLM
def cost(f):
    "MB that a call needs above what was there, at its worst"
    before = now('VmRSS')
    open('/proc/self/clear_refs', 'w').write('5')
    f()
    return now('VmHWM') - before
class Own(CropMethod):
    "A method as a newcomer writes it: the regions of the pixels of a map"
    name = 'own-of-pixels'
    def locate(self, session, ask): return Look(saliency=session.capture(ask).saliency())
    def select(self, S, vlm): return regions(S.to_pixels(), .04, 1)
vlm, ask = VLM.from_pretrained('carve-tiny'), 'What digit is on the red star?'
Carve()(vlm, hostile.photo(), ask)
w, h = round((float(sys.argv[1])*4/3)**.5*1000), round((float(sys.argv[1])*3/4)**.5*1000)
data = hostile.bomb(w, h)
opened = cost(lambda: open_image(data))
img = Image.effect_noise((400, 300), 60).convert('RGB').resize((w, h))
todo = dict(ask=lambda: vlm.ask(img, ask), carve=lambda: Carve(max_new_tokens=4)(vlm, img, ask), own=lambda: Own(max_new_tokens=4)(vlm, img, ask),
            official=lambda: Carve.official(max_new_tokens=4)(vlm, img, ask), complexity=lambda: complexity(img))
print(w*h/1e6, opened, *(cost(f) for f in todo.values()))
'''
)


@pytest.mark.soak
@pytest.mark.case(19)
@LINUX
def test_large_memory(figure):
    """Memory grows with the pixels: a question takes the processor's copies of the image, ten bytes a pixel, and little
    else; what is computed for each pixel is computed on a raster"""
    names = (
        'megapixels',
        'opening',
        'an ask',
        'CARVE',
        'a method of your own',
        'CARVE (official)',
        'complexity',
    )
    small, large = (dict(zip(names, map(float, python('-c', LARGE, mp).split()))) for mp in (24, 100))
    for k in names[1:]:
        figure(
            f'MB for {k} at {large["megapixels"]:.0f} (at {small["megapixels"]:.0f}) megapixels',
            [round(large[k]), round(small[k])],
        )
    for name in 'an ask', 'CARVE', 'a method of your own', 'CARVE (official)':
        assert large[name] < 10 * large['megapixels'] + 50
    assert small['complexity'] < 600
    assert large['complexity'] < small['complexity'] + 3 * (large['megapixels'] - small['megapixels'])
    assert large['opening'] < 9.5 * large['megapixels']
