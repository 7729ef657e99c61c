"The image door, given anything: a plain image within the limit, or the documented error; never another, never more memory"
import functools
import os
import re
import struct
import subprocess
import sys
import warnings
import numpy as np
import pytest
from faults import hostile
from fuzz import door
from hypothesis import given, settings, strategies as st
from PIL import Image
from processes import ROOT
from carve_nb.core.image import open_image, raster_size, scale_box

LENGTHS = [0, 1, 2, 7, 0x7f, 0xff, 0x100, 0x7fff, 0xffff, 0x10000, 0x7fffffff, 0x80000000, 0xffffffff]


@functools.cache
def files():
    "Small valid files of every format, mode and turn, and those that are hostile already"
    small = {f'{f}.{m}': hostile.packed(hostile.photo((24, 16)).convert(m), f)
        for f in ('PNG', 'TIFF', 'BMP', 'GIF', 'WEBP', 'JPEG')
             for m in ('RGB', 'L', '1', 'P', 'RGBA', 'CMYK') if not (f == 'JPEG' and m in ('P', 'RGBA'))
             and not (m == 'CMYK' and f not in ('JPEG', 'TIFF')) and not (f == 'WEBP' and m not in ('RGB', 'RGBA'))}
    small |= {f'tiff.{c}': hostile.packed(hostile.photo((24, 16)), 'TIFF', compression=c)
        for c in ('tiff_lzw', 'tiff_adobe_deflate', 'packbits', 'jpeg')}
    return {**small, **{k: v for k, v in hostile.corpus().items() if 0 < len(v) < 8000}}


@st.composite
def edited(draw):
    "A valid file with flips, cuts, splices, insertions and lengths that are not so"
    data = bytearray(files()[draw(st.sampled_from(sorted(files())))])
    for kind in draw(st.lists(st.sampled_from(['flip', 'cut', 'splice', 'insert', 'length', 'double']), min_size=1,
            max_size=4)):
        if len(data) < 4: break
        at = draw(st.integers(0, len(data) - 1) | st.integers(0, min(len(data) - 1, 64)))
        if kind == 'flip': data[at] ^= draw(st.integers(1, 255))
        elif kind == 'cut': del data[at:at + draw(st.integers(1, len(data)))]
        elif kind == 'insert': data[at:at] = draw(st.binary(min_size=1, max_size=64))
        elif kind == 'double': data += data[at:]
        elif kind == 'splice':
            other = files()[draw(st.sampled_from(sorted(files())))]
            data[at:] = other[draw(st.integers(0, len(other))):]
        else:
            size, end = draw(st.sampled_from([(2, 'H'), (4, 'I')])), draw(st.sampled_from('<>'))
            data[at:at + size[0]] = struct.pack(end + size[1], draw(st.sampled_from(LENGTHS)) & (256**size[0] - 1))
    return bytes(data)


@given(st.sampled_from([b'', b'\xff\xd8\xff', b'\x89PNG\r\n\x1a\n', b'GIF89a', b'BM', b'II*\0', b'MM\0*',
    b'II+\0\x08\0\0\0', b'RIFF\x40\0\0\0WEBPVP8 ', b'RIFF\x40\0\0\0WEBPVP8X']), st.binary(max_size=200))
def test_random_behind_magic(magic, data): door.one(magic + data)


@given(edited())
def test_edited_files(data): door.one(data)


@settings(max_examples=settings().max_examples//5)
@given(edited(), st.sampled_from(['a.png', 'a.jpg', 'a.tiff']))
def test_edited_paths(tmp_path_factory, data, name):
    "As a file, also under a false name: pixels or error are those of the bytes"
    path = tmp_path_factory.getbasetemp()/name
    path.write_bytes(data)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        a, b = door.check(path), door.check(data)
    assert a == b


@settings(max_examples=settings().max_examples//2)
@given(st.integers(1, 60), st.integers(1, 60), st.sampled_from(['RGB', 'L', 'RGBA', 'LA', '1', 'P']), st.integers(1, 8),
    st.sampled_from(['PNG', 'TIFF']))
def test_valid_files(w, h, mode, orientation, fmt):
    "What is valid opens: upright, and through every format that loses nothing the same"
    img, exif = hostile.photo((w, h)).convert(mode), Image.Exif()
    exif[0x0112] = orientation
    out = open_image(hostile.packed(img, fmt, exif=exif))
    assert out.size == ((w, h) if orientation < 5 else (h, w))
    assert sorted(np.asarray(out).reshape(-1, 3).tolist()) == sorted(np.asarray(open_image(img)).reshape(-1,
        3).tolist())
    assert open_image(out) == out and open_image(np.asarray(out)) == out


@given(st.integers(1, 10**9), st.integers(1, 10**9), st.integers(0, 10**4), st.integers(0, 10**4),
    st.integers(1, 10**4), st.integers(1, 10**4))
def test_raster(W, H, x, y, w, h):
    "The raster is bounded and never empty; a box on it covers the box, and comes back to within a pixel of it"
    if W*H > 10**12: return
    w2, h2 = raster_size((W, H))
    assert 1 <= w2 <= W and 1 <= h2 <= H and (w2*h2 <= 2**24 or (w2, h2) == (W, H) or min(w2, h2) == 1)
    box = min(x, W-1), min(y, H-1), min(x + w, W), min(y + h, H)
    small = scale_box(box, (W, H), (w2, h2))
    assert small[0] < small[2] and small[1] < small[3] and 0 <= small[0] and small[2] <= w2 + 1 and small[3] <= h2 + 1
    back = scale_box(small, (w2, h2), (W, H))
    assert all(a <= b for a, b in zip(back[:2], box[:2])) and all(a >= b for a, b in zip(back[2:], box[2:]))
    assert all(abs(a-b) <= 2*s/t + 2 for a, b, s, t in zip(back, box, (W, H)*2, (w2, h2)*2))


def child(*args, **kw):
    env = dict(os.environ, PYTHONPATH=os.pathsep.join([str(ROOT), str(ROOT/'tests')]), OMP_NUM_THREADS='1')
    return subprocess.run([sys.executable, *map(str, args)], capture_output=True, text=True, errors='replace', env=env,
        cwd=ROOT, **kw)


@pytest.mark.soak
def test_fuzz(tmp_path, figure):
    "atheris, guided by the branches that an input reaches"
    pytest.importorskip('atheris', reason='`make soak` on Linux or macOS runs it')
    seconds = int(os.environ.get('CARVE_FUZZ', 120))
    out = child('tests/fuzz/door.py', '--seconds', seconds, '--findings', tmp_path, timeout=seconds + 300)
    stat = {k: int(v) for k, v in re.findall(r'stat::(\w+):\s+(\d+)', out.stderr)}
    found = sorted(p.name for p in tmp_path.iterdir())
    figure('door fuzzing: seconds, inputs, inputs per second',
        [seconds, stat.get('number_of_executed_units', 0), stat.get('average_exec_per_sec', 0)])
    figure('door fuzzing: peak MB, findings', [stat.get('peak_rss_mb', 0), len(found)])
    assert out.returncode == 0 and not found, out.stderr[-3000:]
    assert stat['number_of_executed_units'] > 10*seconds
