"Hostile and unusual images, each built here as bytes"
import functools
import struct
import zlib
from io import BytesIO
import numpy as np
from PIL import Image, PngImagePlugin

SCRIPT = '<script>alert("carve")</script>'
MARK = (40, 20, 70, 50)  # the red box in `photo`
SIDE = 160, 100


def photo(size=SIDE):
    "An image with a red box at `MARK`: ramps of green and blue, so that a turn or an exchange of channels is seen"
    y, x = np.mgrid[:size[1], :size[0]]
    a = np.stack([np.full(x.shape, 40), 60 + x*120//size[0], 60 + y*120//size[1]], -1).astype(np.uint8)
    a[MARK[1]:MARK[3], MARK[0]:MARK[2]] = 250, 10, 10
    return Image.fromarray(a)


def packed(img, fmt='PNG', **kw):
    "An image as the bytes of a file"
    f = BytesIO()
    img.save(f, fmt, **kw)
    return f.getvalue()


# Cut short, changed, too large
def truncated(fmt='JPEG', part=.5): return (whole := packed(photo(), fmt))[:int(len(whole)*part)]
def chunk(kind, body): return struct.pack('>I', len(body)) + kind + body + struct.pack('>I', zlib.crc32(kind + body))
def header(w, h, bits=8, color=2):
    return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', struct.pack('>IIBBBBB', w, h, bits, color, 0, 0, 0))


def broken_png(which='data'):
    "PNG with a wrong checksum, of the data of its pixels or of its header"
    b = bytearray(packed(photo()))
    at = b.index(b'IDAT') if which == 'data' else b.index(b'IHDR')
    length, = struct.unpack('>I', b[at-4:at])
    b[at+4+length] ^= 255
    return bytes(b)


def bomb(w=20_000, h=20_000):
    "A valid PNG of black pixels, one bit each: 400 million in some 50 kB"
    rows, line = zlib.compressobj(9), bytes(-(-w//8) + 1)
    data = b''.join(rows.compress(line) for _ in range(h)) + rows.flush()
    return header(w, h, 1, 0) + chunk(b'IDAT', data) + chunk(b'IEND', b'')


def text_bomb(megabytes=64):
    "PNG with a compressed comment that unpacks to many megabytes"
    note = chunk(b'zTXt', b'Comment\0\0' + zlib.compress(bytes(megabytes << 20), 9))
    whole = packed(photo())
    return whole[:33] + note + whole[33:]


def gif_bomb(w=65_000, h=65_000):
    return b'GIF89a' + struct.pack('<HHBBB', w, h, 0x80, 0, 0) + bytes(6) + b',' + struct.pack('<HHHHB', 0, 0, 1, 1,
        0) + b'\2\2D\1\0;'


# Formats that are not opened; all but the text are valid
def eps():
    return b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 20 20\n%%EndComments\n0 0 20 20 rectfill\nshowpage\n%%EOF\n'
def psd(): return b'8BPS\0\1' + bytes(6) + struct.pack('>HIIHH', 3, 4, 4, 8, 3) + bytes(12) + b'\0\0' + bytes(48)
def card(s): return s.ljust(80).encode()
def fits():
    return b''.join(map(card, ('SIMPLE  =                    T', 'BITPIX  =                    8',
        'NAXIS   =                    2',
    'NAXIS1  =                    4', 'NAXIS2  =                    4', 'END'))).ljust(2880) + bytes(2880)
def text(): return b'Dear reader,\nthis is no image.\n'
def svg(): return f'<svg xmlns="http://www.w3.org/2000/svg">{SCRIPT}</svg>'.encode()
def avif(): return b'\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf' + bytes(40)
FOREIGN = dict(eps=eps, psd=psd, fits=fits, text=text, empty=bytes, svg=svg, avif=avif,
    ppm=lambda: packed(photo(), 'PPM'),
               ico=lambda: packed(photo(), 'ICO'), pdf=lambda: packed(photo(), 'PDF'))


# Orientation
UNDO = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # orientation → `Image.Transpose` that lays the image down


def turned(orientation, fmt='PNG'):
    "The photo as a sensor lay, and the turn that makes it upright in its EXIF"
    exif, img = Image.Exif(), photo()
    exif[0x0112] = orientation
    if orientation in UNDO: img = img.transpose(Image.Transpose(UNDO[orientation]))
    return packed(img, fmt, exif=exif, **dict(quality=95, subsampling=0) if fmt == 'JPEG' else dict(lossless=True)
        if fmt == 'WEBP' else {})


# Modes
def clear(mode='RGBA', ink=0):
    "Left half transparent over `ink` (black, that nobody was meant to see), right half the photo"
    img = photo().convert('RGB' if mode == 'RGBA' else 'L').convert(mode)
    a = np.array(img)
    a[:, :80] = ink
    a[:, :80, -1] = 0
    return Image.fromarray(a, mode)


def clear_palette():
    "Palette with one transparent entry, as a GIF and an 8-bit PNG have it: (file, indices, entry)"
    img = photo().quantize(16)
    return packed(img, transparency=3), np.asarray(img), 3


def cmyk(marker=True):
    "JPEG of four inks, inverted as Adobe writes them, with or without Adobe's marker"
    b = packed(photo().convert('CMYK'), 'JPEG', quality=95, subsampling=0)
    at = b.index(b'\xff\xee')
    return b if marker else b[:at] + b[at + 2 + struct.unpack('>H', b[at+2:at+4])[0]:]


def gray(kind):
    "A ramp of 256 values in a type of more than eight bits"
    ramp = np.arange(256).reshape(16, 16)
    made = dict(u16=(ramp*257).astype(np.uint16), i32=(ramp*65537).astype(np.int32), unit=(ramp/255).astype(np.float32),
        wide=ramp.astype(np.float32),
        nan=np.where(ramp == 7, np.nan, ramp/255).astype(np.float32),
        inf=np.where(ramp == 7, np.inf, ramp/255).astype(np.float32))
    return Image.fromarray(made[kind])


def rgb16():
    "PNG of three colors with 16 bits each, values v·257"
    a = np.arange(256, dtype='>u2').reshape(16, 16)*257
    rows = b''.join(b'\0' + np.stack([r, r[::-1], r], -1).astype('>u2').tobytes() for r in a)
    return header(16, 16, 16, 2) + chunk(b'IDAT', zlib.compress(rows)) + chunk(b'IEND', b'')


def moving(fmt, n=3):
    "n frames, each the photo turned by another half turn"
    frames = [photo().rotate(180*(i % 2)) for i in range(n)]
    return packed(frames[0], fmt, save_all=True, append_images=frames[1:],
        **dict(lossless=True) if fmt == 'WEBP' else {})


def marked(fmt='PNG'):
    "An image with a script wherever its format has room for words"
    exif = Image.Exif()
    for tag in (0x010e, 0x013b, 0x8298, 0x9286): exif[tag] = SCRIPT
    notes = PngImagePlugin.PngInfo()
    notes.add_text(SCRIPT, SCRIPT); notes.add_itxt('XML:com.adobe.xmp', SCRIPT)
    own = dict(PNG=dict(pnginfo=notes), JPEG=dict(comment=SCRIPT, xmp=SCRIPT.encode()),
        WEBP=dict(xmp=SCRIPT.encode(), lossless=True))
    return packed(photo(), fmt, exif=exif, icc_profile=SCRIPT.encode(), **own.get(fmt, {}))


@functools.cache
def corpus():
    "name → bytes: one of each"
    files = {f'photo.{f.lower()}': packed(photo(), f) for f in ('JPEG', 'PNG', 'WEBP', 'BMP', 'GIF', 'TIFF')}
    files |= {f'cut.{f.lower()}': truncated(f) for f in ('JPEG', 'PNG', 'WEBP', 'BMP', 'GIF', 'TIFF')}
    files |= {f'false_{k}.jpg': make() for k, make in FOREIGN.items()}
    files |= {f'turned_{i}.{f.lower()}': turned(i, f) for i in range(1, 9) for f in ('JPEG', 'PNG', 'TIFF')}
    files |= {f'moving.{f.lower()}': moving(f) for f in ('GIF', 'WEBP', 'PNG',
        'TIFF')} | {f'script.{f.lower()}': marked(f) for f in ('PNG', 'JPEG', 'WEBP', 'TIFF')}
    files |= {f'{m.lower()}.{f.lower()}': packed(clear(m), f) for m in ('RGBA', 'LA') for f in ('PNG', 'WEBP', 'TIFF')}
    files |= {f'gray_{k}.tiff': packed(gray(k), 'TIFF') for k in ('u16', 'i32', 'unit', 'wide', 'nan', 'inf')}
    files |= {f'tiff_{c}.tiff': packed(photo(), 'TIFF', compression=c)
        for c in ('tiff_lzw', 'tiff_adobe_deflate', 'packbits', 'jpeg')}
    files |= {'broken_data.png': broken_png(), 'broken_head.png': broken_png('head'), 'bomb.png': bomb(),
        'bomb.gif': gif_bomb(), 'note_bomb.png': text_bomb(),
              'cmyk.jpg': cmyk(), 'cmyk_bare.jpg': cmyk(False), 'palette.png': clear_palette()[0], 'rgb16.png': rgb16(),
              'gray_u16.png': packed(gray('u16')), 'bit.png': packed(photo().convert('1')),
              'progressive.jpg': packed(photo(), 'JPEG', progressive=True),
              'previews.jpg': packed(photo(), 'MPO', save_all=True, append_images=[photo().rotate(180)]),
              'fax.tiff': packed(photo().convert('1'), 'TIFF', compression='group4')}
    return files
