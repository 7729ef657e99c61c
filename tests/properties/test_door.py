"""The image door, given anything: a plain image within the limit, or the documented error; never another,
never more memory"""
import functools
import os
import re
import subprocess
import sys
import numpy as np
import pytest
from faults import hostile
from fuzz import door
from hypothesis import given, strategies as st
from processes import ROOT
from carve_nb.core.image import raster_size, scale_box

@functools.cache
def files():
    "Small valid files of every format, mode and turn, and those that are hostile already"
    small = {f'{f}.{m}': hostile.packed(hostile.photo((24, 16)).convert(m), f)
        for f in ('PNG', 'TIFF', 'BMP', 'GIF', 'WEBP', 'JPEG')
             for m in ('RGB', 'L', '1', 'P', 'RGBA', 'CMYK') if not (f == 'JPEG' and m in ('P', 'RGBA'))
             and not (m == 'CMYK' and f not in ('JPEG', 'TIFF'))
             and not (f == 'WEBP' and m not in ('RGB', 'RGBA'))}
    small |= {f'tiff.{c}': hostile.packed(hostile.photo((24, 16)), 'TIFF', compression=c)
        for c in ('tiff_lzw', 'tiff_adobe_deflate', 'packbits', 'jpeg')}
    return {**small, **{k: v for k, v in hostile.corpus().items() if 0 < len(v) < 8000}}


@given(st.sampled_from([b'', b'\xff\xd8\xff', b'\x89PNG\r\n\x1a\n', b'GIF89a', b'BM', b'II*\0', b'MM\0*',
    b'II+\0\x08\0\0\0', b'RIFF\x40\0\0\0WEBPVP8 ', b'RIFF\x40\0\0\0WEBPVP8X']), st.binary(max_size=200))
def test_random_behind_magic(magic, data): door.one(magic + data)


@given(st.sampled_from(sorted(files())).flatmap(lambda name: hostile.mutated(files()[name])))
def test_edited_files(data): door.one(data)


@given(st.tuples(*[st.integers(1, 10**6)]*2), st.tuples(*[st.integers(0, 10**4)]*2),
    st.tuples(*[st.integers(1, 10**4)]*2))
def test_raster(size, corner, sides):
    """The raster is bounded and never empty; a box on it covers the box, and comes back to within a pixel of
    it"""
    raster = w, h = raster_size(size)
    assert 1 <= w <= size[0] and 1 <= h <= size[1] and (w*h <= 2**24 or raster == size or min(raster) == 1)
    start = np.minimum(corner, np.subtract(size, 1))
    box = np.stack([start, np.minimum(start + sides, size)])
    small = np.reshape(scale_box(box.ravel().tolist(), size, raster), (2, 2))
    assert (0 <= small[0]).all() and (small[0] < small[1]).all() and (small[1] <= np.add(raster, 1)).all()
    grown = (np.reshape(scale_box(small.ravel().tolist(), raster, size), (2, 2)) - box)*[[-1], [1]]
    assert (0 <= grown).all() and (grown <= 2*np.divide(size, raster) + 2).all()


@pytest.mark.soak
def test_fuzz(tmp_path, figure):
    "atheris, guided by the branches that an input reaches"
    pytest.importorskip('atheris', reason='`make soak` on Linux or macOS runs it')
    seconds = int(os.environ.get('CARVE_FUZZ', 120))
    env = dict(os.environ, PYTHONPATH=os.pathsep.join([str(ROOT), str(ROOT/'tests')]), OMP_NUM_THREADS='1')
    words = sys.executable, 'tests/fuzz/door.py', '--seconds', str(seconds), '--findings', tmp_path
    out = subprocess.run(words, capture_output=True, text=True, errors='replace', env=env, cwd=ROOT, timeout=seconds + 300)
    stat = {k: int(v) for k, v in re.findall(r'stat::(\w+):\s+(\d+)', out.stderr)}
    found = sorted(p.name for p in tmp_path.iterdir())
    figure('door fuzzing: seconds, inputs, inputs per second',
        [seconds, stat.get('number_of_executed_units', 0), stat.get('average_exec_per_sec', 0)])
    figure('door fuzzing: peak MB, findings', [stat.get('peak_rss_mb', 0), len(found)])
    assert out.returncode == 0 and not found, out.stderr[-3000:]
    assert stat['number_of_executed_units'] > 10*seconds
