"Hostile and unusual images, each built here as bytes"

import functools
import struct
import zlib
from io import BytesIO
import numpy as np
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

SCRIPT = '<script>alert("carve")</script>'
MARK = (40, 20, 70, 50)  # the red box in `photo`
SIDE = 160, 100


def photo(size=SIDE):
    """An image with a red box at `MARK`: ramps of green and blue, so that a turn or an exchange of channels
    is seen"""
    y, x = np.mgrid[: size[1], : size[0]]
    a = np.stack([np.full(x.shape, 40), 60 + x * 120 // size[0], 60 + y * 120 // size[1]], -1).astype(
        np.uint8
    )
    a[MARK[1] : MARK[3], MARK[0] : MARK[2]] = 250, 10, 10
    return Image.fromarray(a)


def packed(img, fmt='PNG', **kw):
    "An image as the bytes of a file"
    f = BytesIO()
    img.save(f, fmt, **kw)
    return f.getvalue()


def chunk(kind, body):
    return struct.pack('>I', len(body)) + kind + body + struct.pack('>I', zlib.crc32(kind + body))


def bomb(w=20_000, h=20_000):
    "A valid PNG of black pixels, one bit each: 400 million in some 50 kB"
    rows, line = zlib.compressobj(9), bytes(-(-w // 8) + 1)
    data = b''.join(rows.compress(line) for _ in range(h)) + rows.flush()
    header = chunk(b'IHDR', struct.pack('>IIBBBBB', w, h, 1, 0, 0, 0, 0))
    return b'\x89PNG\r\n\x1a\n' + header + chunk(b'IDAT', data) + chunk(b'IEND', b'')


def gif_bomb(w=65_000, h=65_000):
    return (
        b'GIF89a'
        + struct.pack('<HHBBB', w, h, 0x80, 0, 0)
        + bytes(6)
        + b','
        + struct.pack('<HHHHB', 0, 0, 1, 1, 0)
        + b'\2\2D\1\0;'
    )


# Formats that are not opened; all but the text are valid
def eps():
    return b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 20 20\n%%EndComments\n0 0 20 20 rectfill\nshowpage\n%%EOF\n'


def psd():
    return b'8BPS\0\1' + bytes(6) + struct.pack('>HIIHH', 3, 4, 4, 8, 3) + bytes(12) + b'\0\0' + bytes(48)


def card(s):
    return s.ljust(80).encode()


def fits():
    return b''.join(
        map(
            card,
            (
                'SIMPLE  =                    T',
                'BITPIX  =                    8',
                'NAXIS   =                    2',
                'NAXIS1  =                    4',
                'NAXIS2  =                    4',
                'END',
            ),
        )
    ).ljust(2880) + bytes(2880)


def text():
    return b'Dear reader,\nthis is no image.\n'


def svg():
    return f'<svg xmlns="http://www.w3.org/2000/svg">{SCRIPT}</svg>'.encode()


def avif():
    return b'\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf' + bytes(40)


FOREIGN = dict(
    eps=eps,
    psd=psd,
    fits=fits,
    text=text,
    empty=bytes,
    svg=svg,
    avif=avif,
    ppm=lambda: packed(photo(), 'PPM'),
    ico=lambda: packed(photo(), 'ICO'),
    pdf=lambda: packed(photo(), 'PDF'),
)


def turned(fmt):
    "The photo as a sensor lay, and the turn that makes it upright in its EXIF"
    exif = Image.Exif()
    exif[0x0112] = 6
    return packed(photo().transpose(Image.Transpose.ROTATE_90), fmt, exif=exif)


def moving(fmt, n=3):
    "n frames, each the photo turned by another half turn"
    frames = [photo().rotate(180 * (i % 2)) for i in range(n)]
    return packed(
        frames[0],
        fmt,
        save_all=True,
        append_images=frames[1:],
        **dict(lossless=True) if fmt == 'WEBP' else {},
    )


def marked(fmt='PNG'):
    "An image with a script wherever its format has room for words"
    exif = Image.Exif()
    for tag in (0x010E, 0x013B, 0x8298, 0x9286):
        exif[tag] = SCRIPT
    notes = PngImagePlugin.PngInfo()
    notes.add_text(SCRIPT, SCRIPT)
    notes.add_itxt('XML:com.adobe.xmp', SCRIPT)
    by_format = dict(
        PNG=dict(pnginfo=notes),
        JPEG=dict(comment=SCRIPT, xmp=SCRIPT.encode()),
        WEBP=dict(xmp=SCRIPT.encode(), lossless=True),
    )
    return packed(photo(), fmt, exif=exif, icc_profile=SCRIPT.encode(), **by_format.get(fmt, {}))


@functools.cache
def corpus():
    "name → bytes: one of each"
    files = {f'false_{k}.jpg': make() for k, make in FOREIGN.items()}
    for fmt in 'JPEG', 'PNG', 'WEBP', 'BMP', 'GIF', 'TIFF':
        files[f'photo.{fmt.lower()}'] = packed(photo(), fmt)
    for fmt in 'JPEG', 'PNG', 'WEBP', 'TIFF':
        files |= {f'turned.{fmt.lower()}': turned(fmt), f'script.{fmt.lower()}': marked(fmt)}
    for fmt in 'GIF', 'WEBP', 'PNG', 'TIFF':
        files[f'moving.{fmt.lower()}'] = moving(fmt)
    deep = Image.fromarray((np.arange(256).reshape(16, 16) * 257).astype(np.uint16))
    return files | {
        'bomb.png': bomb(),
        'bomb.gif': gif_bomb(),
        'deep.png': packed(deep),
        'deep.tiff': packed(deep, 'TIFF'),
        'cmyk.jpg': packed(photo().convert('CMYK'), 'JPEG'),
        'progressive.jpg': packed(photo(), 'JPEG', progressive=True),
        'previews.jpg': packed(photo(), 'MPO', save_all=True, append_images=[photo().rotate(180)]),
        'fax.tiff': packed(photo().convert('1'), 'TIFF', compression='group4'),
    }


# of a part of a file that says how long it is
LENGTHS = [0, 1, 2, 7, 0x7F, 0xFF, 0x100, 0x7FFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]


@st.composite
def mutated(draw, data):
    "Some bytes changed, cut out, doubled or put in, also at the beginning, or a length that is not so"
    data = bytearray(data)
    for _ in range(draw(st.integers(1, 4))):
        start, end = sorted(
            draw(st.tuples(*[st.integers(0, len(data)) | st.integers(0, min(len(data), 64))] * 2))
        )
        how = draw(st.sampled_from(('change', 'cut', 'double', 'insert', 'length')))
        if how == 'change':
            data[start : start + 1] = draw(st.binary(min_size=1, max_size=1))
        elif how == 'cut':
            del data[start:end]
        elif how == 'double':
            data[start:start] = data[start:end]
        elif how == 'insert':
            data[start:start] = draw(st.binary(max_size=64))
        else:
            data[start : start + 4] = struct.pack(
                draw(st.sampled_from('<>')) + 'I', draw(st.sampled_from(LENGTHS))
            )
    return bytes(data)
