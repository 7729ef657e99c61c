"""The image door, given anything: a plain image within the limit, or the documented error; never another,
never more memory"""

import functools
import warnings
from io import BytesIO
from unittest.mock import patch
import numpy as np
from faults import hostile
from hypothesis import given, strategies as st
from PIL import Image
from carve_nb.core.errors import ImageError
from carve_nb.core.image import open_image, raster_size, scale_box

LIMIT = 2**20  # pixels: what an image may have here, so that a blow-up shows as one


def check_opened(src):
    "What is opened is a plain image within the limit, or one of the documented errors"
    try:
        img = open_image(src)
    except ImageError as e:
        assert str(e)
        return
    assert img.mode == 'RGB'
    assert img.info == {}
    assert not dict(img.getexif())
    assert 0 < img.width * img.height <= 2 * LIMIT and open_image(img) == img


def open_both_ways(data):
    "One input as bytes, and as the caller's own `Image.open` gives it"
    with warnings.catch_warnings(), patch.object(Image, 'MAX_IMAGE_PIXELS', LIMIT):
        warnings.simplefilter('ignore')
        check_opened(data)
        try:
            img = Image.open(BytesIO(data))
        except Exception:
            return  # what Pillow refuses is not ours
        check_opened(img)


@functools.cache
def files():
    "Small valid files of every format, mode and turn, and those that are hostile already"
    small = {
        f'{f}.{m}': hostile.packed(hostile.photo((24, 16)).convert(m), f)
        for f in ('PNG', 'TIFF', 'BMP', 'GIF', 'WEBP', 'JPEG')
        for m in ('RGB', 'L', '1', 'P', 'RGBA', 'CMYK')
        if not (f == 'JPEG' and m in ('P', 'RGBA'))
        and not (m == 'CMYK' and f not in ('JPEG', 'TIFF'))
        and not (f == 'WEBP' and m not in ('RGB', 'RGBA'))
    }
    small |= {
        f'tiff.{c}': hostile.packed(hostile.photo((24, 16)), 'TIFF', compression=c)
        for c in ('tiff_lzw', 'tiff_adobe_deflate', 'packbits', 'jpeg')
    }
    return {**small, **{k: v for k, v in hostile.corpus().items() if 0 < len(v) < 8000}}


@given(
    st.sampled_from(
        [
            b'',
            b'\xff\xd8\xff',
            b'\x89PNG\r\n\x1a\n',
            b'GIF89a',
            b'BM',
            b'II*\0',
            b'MM\0*',
            b'II+\0\x08\0\0\0',
            b'RIFF\x40\0\0\0WEBPVP8 ',
            b'RIFF\x40\0\0\0WEBPVP8X',
        ]
    ),
    st.binary(max_size=200),
)
def test_random_behind_magic(magic, data):
    open_both_ways(magic + data)


def edited():
    "Some bytes of one of the files changed"
    return st.sampled_from(sorted(files())).flatmap(lambda name: hostile.mutated(files()[name]))


@given(st.deferred(edited))
def test_edited_files(data):
    open_both_ways(data)


@given(
    st.tuples(*[st.integers(1, 10**6)] * 2),
    st.tuples(*[st.integers(0, 10**4)] * 2),
    st.tuples(*[st.integers(1, 10**4)] * 2),
)
def test_raster(size, corner, sides):
    """The raster is bounded and never empty; a box on it covers the box, and comes back to within a pixel of
    it"""
    raster = w, h = raster_size(size)
    assert 1 <= w <= size[0]
    assert 1 <= h <= size[1]
    assert w * h <= 2**24 or raster == size or min(raster) == 1
    start = np.minimum(corner, np.subtract(size, 1))
    box = np.stack([start, np.minimum(start + sides, size)])
    small = np.reshape(scale_box(box.ravel().tolist(), size, raster), (2, 2))
    assert (0 <= small[0]).all()
    assert (small[0] < small[1]).all()
    assert (small[1] <= np.add(raster, 1)).all()
    grown = (np.reshape(scale_box(small.ravel().tolist(), raster, size), (2, 2)) - box) * [[-1], [1]]
    assert (0 <= grown).all() and (grown <= 2 * np.divide(size, raster) + 2).all()
