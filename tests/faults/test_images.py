"""Images, as files, bytes, PIL images and arrays.
What may come, and what must happen:

1. Path does not exist, or is a folder => `FileNotFoundError` / `IsADirectoryError` with the path as given
2. Zero-byte file, text file named `.jpg` => "not an image"; nothing decoded
3. Truncated JPEG => error; global truncation flag stays off (asserted)
4. PNG with a broken checksum => error, not a partly gray image
5. Decompression bomb: 20,000 x 20,000 PNG of 50 kB => refused *before* decoding, on header size; memory stays flat
    (measured). So is a comment of many megabytes. (A JPEG of endless passes and a line of millions of rows are no
    longer looked for: images are the user's own)
6. Between Pillow's warning and error limit => refused too (the warning is an error here); limit is a parameter
7. Format outside the allow-list (EPS, PSD, FITS), also under a false extension => refused by magic bytes; Ghostscript
    never started
8. EXIF orientation 1 to 8 => pixels rotated once, tag removed; the box maps back to displayed coordinates for all
    eight
9. RGBA with transparency => composited on a documented background (white), warning-free; transparent pixels do not
    turn black by accident
10. Palette with transparency, LA, L, 1 => converted to RGB, result equal to a reference
11. CMYK JPEG (also inverted Adobe) => converted to RGB, colors within tolerance of a reference
12. 16-bit or 32-bit grayscale, float TIFF => scaled to 8 bit by the documented rule (no wrap-around, no clipping to
    white), or refused with a hint; NaN refused
13. Animated GIF / WebP / APNG => first frame, notice that n frames were ignored
14. Multi-page TIFF => first page, notice
15. Width or height 0 (array input) => error
16. 1 x 1, and smaller than one merged patch (28 px) => enlarged by every family, down to one pixel: an answer and a
    map over the image (Qwen raised, see QwenLM/Qwen3-VL#220)
17. Aspect ratio over 200 : 1, for example 690 x 15,420 => 690 x 15,420 is answered; over 200 : 1 a refusal in the
    same words for every family; never a zero side (QwenLM/Qwen3-VL#2121)
18. The *crop* is degenerate: 1-pixel-wide region => grown to the minimum crop size inside the image before the
    re-query
19. Very large but legal image (100 MP) => refused by default, with what decoding would take; once opened with a
    higher limit: down-scaled for the model, map on a bounded raster, crop taken from the original pixels, peak above
    the image as for 24 MP (measured)
20. Array: float 0..1, float 0..255, uint8, channels first, BGR => documented acceptance (H x W x 3 uint8, or float
    0..1); everything else refused
21. Malicious metadata (script text in EXIF or PNG text) => not shown, not saved; written images carry no EXIF
22. The same image as path, bytes, PIL, array => identical map, bit for bit"""
import os
import runpy
import subprocess
import sys
import warnings
from contextlib import contextmanager
from dataclasses import replace
from io import BytesIO
from pathlib import Path
import numpy as np
import pytest
from PIL import EpsImagePlugin, Image, ImageFile, ImageOps
from processes import ROOT
from scipy import ndimage
from carve_nb.core import image as door
from carve_nb.core.errors import ImageError
from carve_nb.core.image import open_image, png_bytes
from . import hostile

WORDS = 'What digit is on the red star?'
LINUX = pytest.mark.skipif(not Path('/proc/self/clear_refs').exists(), reason='peaks of memory are read from Linux')


@pytest.fixture(scope='module')
def vlm():
    "The shipped model"
    from carve_nb.attention.vlm import VLM
    return VLM.from_pretrained('carve-tiny')


def pixels(src, **kw): return np.asarray(open_image(src, **kw)).astype(int)
def ways(data, folder, name='a.jpg'):
    "One file in every way in"
    path = Path(folder)/name
    path.write_bytes(data)
    return [str(path), path, data, bytearray(data), memoryview(data)]


@contextmanager
def quiet():
    "No warning may come"
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        yield


@pytest.fixture
def sealed(monkeypatch):
    "Nothing may be decoded, and no program started"
    def never(*a, **kw): raise AssertionError('decoded or started')
    for owner, name in ((ImageFile.ImageFile, 'load'), (EpsImagePlugin, 'Ghostscript'), (subprocess, 'Popen'), (os, 'system')): monkeypatch.setattr(owner, name, never)


def run(code, *args, limit=120):
    "What a fresh process prints"
    env = dict(os.environ, PYTHONPATH=os.pathsep.join([str(ROOT), str(ROOT/'tests')]), OMP_NUM_THREADS='1', HF_HUB_OFFLINE='1')
    out = subprocess.run([sys.executable, '-c', code, *map(str, args)], capture_output=True, text=True, env=env, timeout=limit)
    assert out.returncode == 0, out.stderr[-2000:]
    return out.stdout


@pytest.mark.case(1)
def test_no_such_file(tmp_path):
    with pytest.raises(FileNotFoundError, match='no/such/image.png'): open_image('no/such/image.png')
    with pytest.raises(IsADirectoryError, match=tmp_path.name): open_image(tmp_path)
    (tmp_path/'here').write_bytes(b''), (tmp_path/'link.png').symlink_to(tmp_path/'gone.png')
    with pytest.raises(FileNotFoundError, match='link.png'): open_image(tmp_path/'link.png')
    with pytest.raises(NotADirectoryError): open_image(tmp_path/'here'/'a.png')
    with pytest.raises(ImageError, match='null'): open_image('a.png\0.jpg')


@pytest.mark.case(2, 7)
@pytest.mark.parametrize('kind', hostile.FOREIGN)
def test_foreign_formats(kind, tmp_path, sealed):
    "Refused by what they are, whatever they are called; not decoded, no program started"
    make = hostile.FOREIGN[kind]
    for way in [*ways(make(), tmp_path, 'a.jpg'), *ways(make(), tmp_path, f'a.{kind}')]:
        with pytest.raises(ImageError, match='Not an image that can be read'): open_image(way)


@pytest.mark.case(7)
@pytest.mark.parametrize('kind', ['eps', 'psd', 'fits', 'ppm'])
def test_foreign_lazy(kind, tmp_path, sealed):
    "Opened by the caller, not decoded yet: not decoded by us either"
    make = hostile.FOREIGN[kind]
    (tmp_path/'a.jpg').write_bytes(make())
    for src in (BytesIO(make()), tmp_path/'a.jpg'):
        with pytest.raises(ImageError, match=f'of format {kind.upper()}.*img.copy()'): open_image(Image.open(src))


def test_foreign_decoded():
    "Decoded by the caller, who trusts it: an image like any other"
    assert open_image(Image.open(BytesIO(hostile.FOREIGN['ppm']())).copy()) == hostile.photo()


@pytest.mark.case(3)
@pytest.mark.parametrize('fmt', door.FORMATS)
def test_truncated(fmt, tmp_path):
    whole = hostile.packed(hostile.photo(), fmt)
    assert open_image(whole).size == hostile.SIDE
    for part in (.02, .3, .5, .9):
        for way in ways(hostile.truncated(fmt, part), tmp_path):
            with pytest.raises(ImageError): open_image(way)
    for part in (.5, .9):
        try: lazy = Image.open(BytesIO(hostile.truncated(fmt, part)))
        except OSError: continue  # not even a header
        with pytest.raises(ImageError, match='damaged or cut short'): open_image(lazy)
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False and Image.MAX_IMAGE_PIXELS == door.MAX_PIXELS


@pytest.mark.case(4)
@pytest.mark.parametrize('which', ['data', 'head'])
def test_checksum(which, tmp_path):
    for way in ways(hostile.broken_png(which), tmp_path):
        with pytest.raises(ImageError): open_image(way)


@pytest.mark.case(4)
@pytest.mark.parametrize('level', [0, 9])
def test_flipped_bits(level):
    "One bit of the pixel data, anywhere: an error, also for an image that the caller opened; never other pixels"
    whole = hostile.packed(hostile.photo((40, 30)), compress_level=level)
    lo, hi = whole.index(b'IDAT') + 4, whole.index(b'IEND') - 8
    for at in np.linspace(lo, hi - 1, 40).astype(int):
        bad = bytearray(whole)
        bad[at] ^= 1 << at % 8
        with pytest.raises(ImageError): open_image(bad)
        with pytest.raises(ImageError): open_image(Image.open(BytesIO(bad)))


PEAK = '''
import sys, warnings
from io import BytesIO
from PIL import Image
from carve_nb.core.image import ImageError, open_image
from faults import hostile
def now(what): return next(int(l.split()[1])/1024 for l in open('/proc/self/status') if l.startswith(what))
warnings.simplefilter('ignore')
'''
BOMB = PEAK + '''
data, small = hostile.bomb(), hostile.bomb(6000, 6000)
open(sys.argv[1], 'wb').write(data)
open_image(hostile.packed(hostile.photo()))
before = now('VmHWM')
for src in (data, sys.argv[1], hostile.gif_bomb()):
    try: open_image(src)
    except ImageError as e: assert 'refused before decoding' in str(e)
    else: raise SystemExit('opened')
refused = now('VmHWM') - before
open_image(small)
print(len(data), refused, now('VmHWM') - before)
'''


@pytest.mark.case(5)
def test_bomb(sealed):
    "Refused by its header, before anything is decoded"
    for src in (hostile.bomb(), hostile.gif_bomb()):
        with pytest.raises(ImageError, match='refused before decoding: Image size .[0-9]+ pixels. exceeds limit'): open_image(src)


@pytest.mark.case(5)
@LINUX
def test_bomb_memory(tmp_path, figure):
    "In a fresh process; a legal image shows that the measure works"
    size, refused, legal = map(float, run(BOMB, tmp_path/'bomb.png').split())
    figure('MB that a refused bomb of 400 megapixels takes', round(refused, 1))
    assert size < 60_000 and refused < 8 and legal > 100


@pytest.mark.case(5)
def test_text_bomb():
    "A comment of 64 MB in a file of 65 kB is not unpacked"
    with pytest.raises(ImageError): open_image(hostile.text_bomb())


@pytest.mark.case(6)
def test_between_limits(sealed):
    "Pillow only warns between its limit and twice that; here it is an error, for each way in"
    w = h = 10_000
    assert door.MAX_PIXELS < w*h < 2*door.MAX_PIXELS
    data = hostile.bomb(w, h)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', Image.DecompressionBombWarning)
        lazy = Image.open(BytesIO(data))
        for src in (data, lazy):
            with pytest.raises(ImageError, match='over the limit of 89,478,485.*`max_pixels`.*400 MB'): open_image(src)
            with pytest.raises(ImageError, match='over the limit of 5,000'): open_image(hostile.packed(hostile.photo()), max_pixels=5000)
        with pytest.raises(ImageError, match='decoded or started'): open_image(data, max_pixels=w*h)  # the limit is a parameter: now it would be
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        with pytest.raises(ImageError, match='refused before decoding'): open_image(data)


@pytest.mark.case(6)
def test_limit_in_memory():
    "What is in memory has cost its memory: only a limit that is given holds for it"
    for src in (hostile.photo(), np.asarray(hostile.photo())):
        assert open_image(src).size == hostile.SIDE
        with pytest.raises(ImageError, match='over the limit of 5,000'): open_image(src, max_pixels=5000)


@pytest.mark.case(8)
@pytest.mark.parametrize('fmt', ['PNG', 'JPEG', 'TIFF', 'WEBP'])
@pytest.mark.parametrize('orientation', range(1, 9))
def test_orientation(orientation, fmt, tmp_path):
    "Turned once, the tag is gone, and the mark is where a reader sees it, whoever opened the file"
    data = hostile.turned(orientation, fmt)
    stored = Image.open(BytesIO(data))
    assert stored.getexif()[0x0112] == orientation and (fmt == 'TIFF' or stored.size == (hostile.SIDE if orientation < 5 else hostile.SIDE[::-1]))
    for src in (*ways(data, tmp_path), stored):
        img = open_image(src)
        assert img.size == hostile.SIDE and not dict(img.getexif()) and not img.info
        assert open_image(img) == img and np.array_equal(img, ImageOps.exif_transpose(Image.open(BytesIO(data))).convert('RGB'))
        a = np.asarray(img).astype(int)
        y, x = np.nonzero(a[..., 0] - a[..., 1] > 120)
        found = x.min(), y.min(), x.max() + 1, y.max() + 1
        assert np.abs(np.subtract(found, hostile.MARK)).max() <= (1 if fmt == 'JPEG' else 0)


@pytest.mark.case(8)
@pytest.mark.parametrize('orientation', range(1, 9))
def test_orientation_of_boxes(orientation, vlm):
    "Map, box and crop of a turned file are those of the upright image: displayed coordinates"
    from carve_nb.method.carve import Carve
    ask = Carve(max_new_tokens=2)
    want = ask(vlm, hostile.photo(), WORDS)
    got = ask(vlm, hostile.turned(orientation), WORDS)
    assert got.saliency.size == hostile.SIDE and got.crop.box == want.crop.box
    assert np.array_equal(got.saliency.values, want.saliency.values) and np.array_equal(got.crop.image, want.crop.image)
    x0, y0, x1, y1 = got.crop.box
    assert np.array_equal(np.asarray(got.image)[y0:y1, x0:x1], np.asarray(hostile.photo())[y0:y1, x0:x1])


@pytest.mark.case(8)
@pytest.mark.parametrize('value', [0, 9, 77, 65535])
def test_orientation_unknown(value):
    exif = Image.Exif()
    exif[0x0112] = value
    assert open_image(hostile.packed(hostile.photo(), exif=exif)).size == hostile.SIDE


@pytest.mark.case(9)
@pytest.mark.parametrize('fmt', ['PNG', 'WEBP', 'TIFF'])
@pytest.mark.parametrize('ink', [0, 200])
def test_transparent(fmt, ink):
    "White where it is clear, whatever color hides there; no warning"
    data = hostile.packed(hostile.clear('RGBA', ink), fmt, **dict(lossless=True, exact=True) if fmt == 'WEBP' else {})
    with quiet():
        assert (pixels(data)[:, :80] == 255).all() and (pixels(data)[:, 80:] == pixels(hostile.photo())[:, 80:]).all()
        assert (pixels(Image.open(BytesIO(data))) == pixels(data)).all() and (pixels(hostile.clear('RGBA', ink)) == pixels(data)).all()


@pytest.mark.case(9)
def test_half_transparent():
    ramp = np.zeros((1, 256, 4), np.uint8)
    ramp[..., 0], ramp[..., 3] = 255, np.arange(256)
    want = np.round(255 - np.arange(256)[None]*1.)  # of green and blue: white shows through
    with quiet(): a = pixels(hostile.packed(Image.fromarray(ramp)))
    assert (a[..., 0] == 255).all() and np.abs(a[..., 1] - want).max() <= 1


@pytest.mark.case(10)
def test_modes():
    "Palette with a clear entry, LA, L and 1, against a reference by hand"
    photo = hostile.photo()
    with quiet():
        file, index, entry = hostile.clear_palette()
        a, plain = pixels(file), np.asarray(Image.open(BytesIO(file)).convert('P').convert('RGB')).astype(int)
        assert (a[index == entry] == 255).all() and (a[index != entry] == plain[index != entry]).all() and (index == entry).any()
        for fmt in ('PNG', 'TIFF'):
            light = np.asarray(photo.convert('L')).astype(int)[..., None]
            assert (pixels(hostile.packed(photo.convert('L'), fmt)) == light).all()
            la = pixels(hostile.packed(hostile.clear('LA'), fmt))
            assert (la[:, :80] == 255).all() and (la[:, 80:] == light[:, 80:]).all()
            bit = photo.convert('1')
            assert (pixels(hostile.packed(bit, fmt)) == np.asarray(bit).astype(int)[..., None]*255).all()
        gif = hostile.packed(photo.quantize(16), 'GIF', transparency=3)
        assert (pixels(gif)[index == 3] == 255).all()


@pytest.mark.case(11)
@pytest.mark.parametrize('marker', [True, False])
def test_cmyk(marker):
    "Four inks, inverted as Adobe writes them: the colors come back, with and without the marker"
    data = hostile.cmyk(marker)
    assert (b'\xff\xee\0\x0eAdobe' in data) is marker and Image.open(BytesIO(data)).mode == 'CMYK'
    with quiet(): assert np.abs(pixels(data) - pixels(hostile.photo())).mean() < 3
    assert np.abs(pixels(hostile.packed(hostile.photo().convert('CMYK'), 'TIFF')) - pixels(hostile.photo())).max() <= 1


@pytest.mark.case(12)
@pytest.mark.parametrize('fmt', ['PNG', 'TIFF'])
def test_deep(fmt):
    "16 bits by their full range: no wrap-around, no clipping, the order of the values kept"
    ramp = np.arange(256).reshape(16, 16, 1)
    assert (pixels(hostile.packed(hostile.gray('u16'), fmt)) == ramp).all()
    with BytesIO(hostile.packed(hostile.gray('u16'), fmt)) as f: assert (pixels(Image.open(f)) == ramp).all()


@pytest.mark.case(12)
def test_deep_others():
    assert (pixels(hostile.packed(hostile.gray('unit'), 'TIFF')) == np.arange(256).reshape(16, 16, 1)).all()
    assert (pixels(hostile.rgb16())[..., 0] == np.arange(256).reshape(16, 16)).all()
    big = Image.fromarray((np.arange(256).reshape(16, 16)*257).astype('>u2'))
    assert (pixels(hostile.packed(big, 'TIFF')) == np.arange(256).reshape(16, 16, 1)).all()
    for kind, hint in (('i32', 'full scale is unknown'), ('wide', 'ranges from 0 to 255; divide'), ('nan', 'from nan to nan'), ('inf', 'to inf')):
        for src in (hostile.packed(hostile.gray(kind), 'TIFF'), hostile.gray(kind)):
            with pytest.raises(ImageError, match=hint): open_image(src)


@pytest.mark.case(13, 14)
@pytest.mark.parametrize('fmt', ['GIF', 'WEBP', 'PNG', 'TIFF'])
def test_frames(fmt, tmp_path):
    "The first one, and a notice of how many were ignored"
    data = hostile.moving(fmt)
    for src in (*ways(data, tmp_path), Image.open(BytesIO(data))):
        with pytest.warns(UserWarning, match=f'{fmt} file has 3 frames; only frame 0 is used, 2 ignored') as w: a = pixels(src)
        assert len(w) == 1 and np.abs(a - pixels(hostile.photo())).mean() < (8 if fmt == 'GIF' else .1)


@pytest.mark.case(15)
def test_no_pixels():
    for shape in ((0, 5, 3), (5, 0, 3), (0, 0, 3), (0, 5), (5, 0)):
        for kind in (np.uint8, np.float32):
            with pytest.raises(ImageError, match='has no pixels'): open_image(np.zeros(shape, kind))
    for size in ((0, 3), (3, 0)):
        with pytest.raises(ImageError, match='has no pixels'): open_image(Image.new('RGB', size))
        with pytest.raises(ImageError): open_image(hostile.header(*size) + hostile.chunk(b'IDAT', b'') + hostile.chunk(b'IEND', b''))


def family_names():
    from recipes.tiny_models import HERE
    return sorted(HERE)


@pytest.mark.case(16)
@pytest.mark.parametrize('family', family_names())
def test_small(family, load):
    "From one pixel on: enlarged by every family, the grid covers the image, and there is an answer and a map"
    from carve_nb.method.carve import Carve
    m = load(family)
    for size in ((1, 1), (27, 27), (5, 3)):
        p = m.prompt(hostile.photo(size), 'What is it?')
        x0, y0, x1, y1 = p.spans[0].box
        assert min(p.spans[0].grid) >= 1 and x0 < 1 and y0 < 1 and x1 > size[0]/2 and y1 > size[1]/2
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        rows = m.capture(hostile.photo((1, 1)), 'What is it?', steps='all', max_new_tokens=1)
        r = Carve(max_new_tokens=1)(m, hostile.photo((1, 1)), 'What is it?')
    assert rows.answer.tokens and rows.attn.isfinite().all() and (rows.attn.sum(-1) > 0).all() and rows.attn.shape[-1] == sum(map(len, rows.spans))
    assert r.answer.tokens and r.saliency.size == r.crop.image.size == (1, 1) and np.isfinite(r.saliency.values).all() and r.saliency.values.shape == rows.raster().grid


@pytest.mark.case(16)
@pytest.mark.parametrize('size', [(1, 1), (27, 9), (2, 90)])
def test_small_methods(size, vlm):
    from carve_nb.method.carve import Carve
    for make in (Carve, Carve.paper, Carve.official):
        r = make(max_new_tokens=2)(vlm, hostile.photo(size), WORDS)
        x0, y0, x1, y1 = r.crop.box
        assert 0 <= x0 < x1 <= size[0] and 0 <= y0 < y1 <= size[1] and r.saliency.size == size and min(r.crop.image.size) >= 1


@pytest.mark.case(17)
@pytest.mark.parametrize('family', family_names())
def test_strips(family, load):
    "A long strip has a grid without an empty side; beyond 200 : 1 all families refuse with the same words"
    m = load(family)
    for size in ((69, 1542), (1542, 69), (3, 28), (28, 3)):
        p = m.prompt(hostile.photo(size), 'What is it?')
        assert min(p.spans[0].grid) >= 1 and len(p.spans[0]) == p.spans[0].grid[0]*p.spans[0].grid[1]
    for size in ((3, 601), (601, 3)):
        with pytest.raises(ValueError, match=f'An image of {size[0]} x {size[1]} pixels is over 200 times longer than wide'): m.prompt(hostile.photo(size), 'What?')


@pytest.mark.case(17)
@pytest.mark.parametrize('family', family_names())
@pytest.mark.parametrize('size', [(690, 15_420), (15_420, 690)])
def test_long_page(family, size, load):
    "The size of the report, to the answer"
    m = load(family)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        rows = m.capture(Image.new('RGB', size, 'red'), 'What is it?', steps='all', max_new_tokens=1)
    assert len(rows.answer.tokens) == 1 and np.isfinite(rows.answer.logprob) and rows.attn.isfinite().all()
    assert min(rows.spans[0].grid) >= 1 and len(rows.spans[0]) == rows.attn[..., rows.span(0)].shape[-1]
    assert rows.saliency().values.shape == rows.raster().grid


@pytest.mark.case(18)
@pytest.mark.parametrize('at', [(0, 0), (80, 50), (159, 99)])
def test_thin_crop(at, vlm, monkeypatch):
    "A region one pixel wide, in the corners and in the middle: the crop has the least side, inside the image, with the region in it"
    from carve_nb.attention.session import Session
    from carve_nb.formulas.threshold import Region
    from carve_nb.method import carve as module
    (x, y), session = at, Session(vlm, hostile.photo())
    for w, h in ((1, 1), (1, 40), (40, 1)):
        box = min(x, 160-w), min(y, 100-h), min(x, 160-w) + w, min(y, 100-h) + h
        monkeypatch.setattr(module, 'regions', lambda *a, **kw: [Region(box, 1., w*h, np.ones((h, w), bool))])
        for method, least in ((module.Carve(max_new_tokens=1), 96), (module.Carve.paper(max_new_tokens=1), 28), (module.Carve.official(max_new_tokens=1, pad=.5), 28)):
            r = method.answer(session, WORDS)
            x0, y0, x1, y1 = r.crop.box
            assert 0 <= x0 <= box[0] < box[2] <= x1 <= 160 and 0 <= y0 <= box[1] < box[3] <= y1 <= 100
            assert min(x1-x0, y1-y0) >= least and r.calls == 3 and min(r.crop.image.size) >= least
            assert np.asarray(r.crop.image).any()  # what was added shows image, not black


def speckled(size):
    "An image with detail in every pixel"
    noise = np.random.default_rng(0).integers(0, 256, (400, 300, 3), np.uint8)
    return Image.fromarray(np.tile(noise, (-(-size[1]//400), -(-size[0]//300), 1))[:size[1], :size[0]])


@pytest.mark.case(19)
@pytest.mark.parametrize('preset', ['ours', 'paper', 'official'])
def test_large(preset, vlm, monkeypatch):
    "Above the raster (set low here): reduced for the model, boxes in original pixels, the crop cut from the original pixels"
    from carve_nb.core.plotting import keep_mask
    from carve_nb.formulas.threshold import regions
    from carve_nb.method.carve import Carve
    method = dict(ours=Carve, paper=Carve.paper, official=Carve.official)[preset](max_new_tokens=2)
    size, seen, fill = (1200, 900), [], type(vlm.processor).__call__
    img = speckled(size)
    img.paste(hostile.photo((600, 450)), (300, 200))
    fine = method(vlm, img, WORDS)
    monkeypatch.setattr(door, 'RASTER', 120_000)
    monkeypatch.setattr(type(vlm.processor), '__call__', lambda self, images, **kw: seen.extend(im.size for own in images for im in own) or fill(self, images=images, **kw))
    r = method(vlm, img, WORDS)
    assert seen and all(w*h <= 120_000 for w, h in seen) and seen[0] == (400, 300)
    assert r.saliency.size == size and r.rows.spans[0].box == pytest.approx((0, 0, 1200, 900)) and r.image is img
    x0, y0, x1, y1 = r.crop.box
    assert 0 <= x0 < x1 <= 1200 and 0 <= y0 < y1 <= 900
    shown, want = np.asarray(r.crop.image), np.asarray(img.crop(r.crop.box).resize(r.crop.image.size, Image.LANCZOS))
    if not r.crop.masked: assert np.array_equal(shown, want)
    else:  # as far as the filter sees nothing of what is black
        reach = int(np.ceil(4*r.crop.scale))
        whole = ndimage.minimum_filter(np.asarray(Image.fromarray(keep_mask(r.regions, img.size, r.crop.box)).resize(r.crop.image.size, Image.NEAREST)), 2*reach + 1, mode='nearest')
        assert whole.mean() > .05 and np.array_equal(shown[whole], want[whole]) and not np.array_equal(shown, want)
    # the same map on the coarse raster: each end within a pixel of it, of the box on the fine one
    args = method.p, method.K, method.connectivity, method.region_rule, method.rank
    exact, coarse = regions(r.saliency.to_pixels(), *args), regions(r.saliency, *args)
    step = 1200/door.raster_size(size)[0]
    assert len(exact) == len(coarse) and max(np.abs(np.subtract(a.box, b.box)).max() for a, b in zip(exact, coarse)) <= step + 1
    assert np.corrcoef(r.saliency.values.ravel(), fine.saliency.values.ravel())[0, 1] > .95
    said = replace(r, answer=fine.answer, plain_answer=fine.plain_answer)     # a less sure answer takes a line more
    assert np.abs(np.subtract(said.plot(100).size, fine.plot(100).size)).max() <= 2   # the two crops differ by a pixel of the raster


LARGE = PEAK + '''
import torch
torch.set_num_threads(1)
from carve_nb.method.carve import Carve
from carve_nb.formulas.clutter import complexity
from carve_nb.attention.vlm import VLM
def cost(f):
    "MB that a call needs above what was there, at its worst"
    before = now('VmRSS')
    open('/proc/self/clear_refs', 'w').write('5')
    f()
    return now('VmHWM') - before
vlm, ask = VLM.from_pretrained('carve-tiny'), 'What digit is on the red star?'
Carve()(vlm, hostile.photo(), ask)
w, h = round((float(sys.argv[1])*4/3)**.5*1000), round((float(sys.argv[1])*3/4)**.5*1000)
data = hostile.bomb(w, h)
opened = cost(lambda: open_image(data, max_pixels=10**9))
img = Image.effect_noise((400, 300), 60).convert('RGB').resize((w, h))
todo = dict(ask=lambda: vlm.ask(img, ask), carve=lambda: Carve(max_new_tokens=4)(vlm, img, ask), official=lambda: Carve.official(max_new_tokens=4)(vlm, img, ask),
            complexity=lambda: complexity(img))
print(w*h/1e6, opened, *(cost(f) for f in todo.values()))
'''


@pytest.mark.soak
@pytest.mark.case(19)
@LINUX
def test_large_memory(figure):
    "100 megapixels need no more above the image itself than 24 do"
    names = 'megapixels', 'opening', 'an ask', 'CARVE', 'CARVE (official)', 'complexity'
    small, large = (dict(zip(names, map(float, run(LARGE, mp, limit=600).split()))) for mp in (24, 100))
    for k in names[1:]: figure(f'MB for {k} at {large["megapixels"]:.0f} (at {small["megapixels"]:.0f}) megapixels', [round(large[k]), round(small[k])])
    assert large['an ask'] < 1.25*small['an ask'] + 20 and large['CARVE'] < 1.25*small['CARVE'] + 20
    assert large['CARVE (official)'] < small['CARVE (official)'] + 7*(large['megapixels'] - small['megapixels'])  # its crop may be half of the image
    assert large['complexity'] < small['complexity'] + 3*(large['megapixels'] - small['megapixels']) and large['opening'] < 9.5*large['megapixels']


@pytest.mark.case(20)
def test_arrays():
    a = np.asarray(hostile.photo())
    for given in (a, a/255, (a/255).astype(np.float32), (a/255).astype(np.float16), np.asfortranarray(a), a[::-1][::-1], a[..., :1].repeat(3, -1)*0 + a):
        assert np.array_equal(open_image(given), a)
    assert np.array_equal(open_image(a[..., 0]), a[..., :1].repeat(3, -1)) and np.array_equal(open_image(a[..., 0]/255), a[..., :1].repeat(3, -1))
    assert np.array_equal(open_image(a[..., ::-1]), a[..., ::-1])  # blue-green-red cannot be seen: taken as it stands, as documented
    refused = {'ranges from 10 to 250; divide by its full scale': a.astype(float), 'channels first': a.transpose(2, 0, 1), r'\(100, 160, 4\)': np.zeros((100, 160, 4), np.uint8),
               'int64': a.astype(int), 'uint16': a.astype(np.uint16), 'int8': a.astype(np.int8), 'bool': a > 3, 'complex': a*1j, 'object': a.astype(object), 'ranges from nan': a*np.nan,
               'ranges from inf': np.full((3, 3), np.inf), 'ranges from -0.9': a/255 - 1, r'\(1, 100, 160, 3\)': a[None], r'\(160,\)': a[0, :, 0], r'\(\)': np.array(3)}
    for why, given in refused.items():
        with pytest.raises(ImageError, match=why): open_image(given)
    for given in (None, 3, [[0, 1]], a.tolist(), object()):
        with pytest.raises(ImageError, match='is not an image; pass'): open_image(given)


@pytest.mark.case(21)
@pytest.mark.parametrize('fmt', ['PNG', 'JPEG', 'WEBP', 'TIFF'])
def test_metadata(fmt, vlm, tmp_path):
    "Words in a file are not shown and not saved: only pixels come in"
    from carve_nb.method.carve import Carve
    data, word = hostile.marked(fmt), b'script'
    assert word in data or fmt == 'PNG'
    (tmp_path/'a.png').write_bytes(data)
    for src in (data, Image.open(BytesIO(data))):
        img = open_image(src)
        assert not img.info and not dict(img.getexif()) and type(img) is Image.Image
        for out in door.FORMATS: assert word not in hostile.packed(img, out) and b'Exif' not in hostile.packed(img, out)
        r = Carve(max_new_tokens=2)(vlm, src, WORDS)
        shown = [repr(r), str(r), '\n'.join(r.summary()), repr(r.saliency), repr(r.crop)]
        assert not any('script' in s for s in shown) and word not in ''.join(o._repr_html_() for o in (r, r.crop, r.saliency)).encode() + png_bytes(Image.open(BytesIO(data)))
        for part in (r.image, r.crop.image, r.saliency.plot(), r.plot()): assert not part.info and not dict(part.getexif())


@pytest.mark.case(22)
def test_same_map(vlm, tmp_path):
    "Path, bytes, PIL, array: the same pixels, map, box and answer"
    from carve_nb.method.carve import Carve
    photo = hostile.photo()
    data = hostile.packed(photo)
    srcs = [*ways(data, tmp_path), photo, photo.copy(), Image.open(BytesIO(data)), Image.open(tmp_path/'a.jpg'), np.asarray(photo), np.asarray(photo)/255]
    for method, some in ((Carve(max_new_tokens=2), srcs), (Carve.official(max_new_tokens=2), srcs[1::4])):
        first, *others = (method(vlm, src, WORDS) for src in some)
        for o in others:
            assert o.saliency.values.tobytes() == first.saliency.values.tobytes() and o.crop.box == first.crop.box and o.answer == first.answer
            assert o.answer.logprob == first.answer.logprob and np.array_equal(o.crop.image, first.crop.image)


@pytest.mark.parametrize('kind', ['PIL', 'array'])
def test_callers_image(kind, vlm):
    "What the caller does to an image afterwards, as with a frame that is filled again, changes no result"
    from carve_nb.method.carve import Carve
    src = hostile.photo() if kind == 'PIL' else np.array(hostile.photo())
    whole, r = Carve(p=1., max_new_tokens=1)(vlm, src, WORDS), Carve(max_new_tokens=1)(vlm, src, WORDS)
    assert whole.crop.box == (0, 0, *hostile.SIDE)
    before = [np.array(im) for o in (whole, r) for im in (o.image, o.crop.image, o.plot())]
    if kind == 'PIL': src.paste((0, 0, 0), (0, 0, *src.size))
    else: src[:] = 0
    assert all(np.array_equal(a, im) for a, im in zip(before, (im for o in (whole, r) for im in (o.image, o.crop.image, o.plot()))))
    assert (np.asarray(open_image(src)) == 0).all()


def test_corpus(tmp_path, monkeypatch):
    "The script writes its corpus, and each file opens or is refused by the documented errors"
    monkeypatch.setattr(sys, 'argv', [hostile.__file__, str(tmp_path/'all')])
    runpy.run_path(hostile.__file__, run_name='__main__')
    files = sorted((tmp_path/'all').iterdir())
    assert len(files) == len(hostile.corpus()) > 60
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        for f in files:
            try: assert open_image(f).mode == 'RGB'
            except ImageError: pass
