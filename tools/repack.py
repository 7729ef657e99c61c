"""Make what was built depend on the commit alone: `python tools/repack.py dist` gives each file of a source
distribution the date SOURCE_DATE_EPOCH, no owner and its place by name; setuptools does so for wheels
only. A wheel over 35 MB is refused."""

import gzip
import io
import os
import sys
import tarfile
from pathlib import Path

LARGEST = 35_000_000  # bytes of a wheel


def repack(path, date):
    "Write a .tar.gz again, in the same bytes for the same files"
    with tarfile.open(path) as old:
        files = [
            (m, old.extractfile(m).read() if m.isfile() else b'')
            for m in sorted(old.getmembers(), key=lambda m: m.name)
        ]
    with (
        open(path, 'wb') as raw,
        gzip.GzipFile('', 'wb', mtime=date, fileobj=raw) as packed,
        tarfile.open(fileobj=packed, mode='w') as new,
    ):
        for m, data in files:
            m.mtime, m.uid, m.gid, m.uname, m.gname, m.pax_headers = date, 0, 0, '', '', {}
            m.mode = 0o755 if m.isdir() or m.mode & 0o100 else 0o644
            new.addfile(m, io.BytesIO(data))


if __name__ == '__main__':
    for path in Path(sys.argv[1]).glob('*.tar.gz'):
        repack(path, int(os.environ['SOURCE_DATE_EPOCH']))
    large = [
        f'{p} has {p.stat().st_size / 1e6:.1f} MB, more than {LARGEST / 1e6:.0f}'
        for p in Path(sys.argv[1]).glob('*.whl')
        if p.stat().st_size > LARGEST
    ]
    sys.exit('\n'.join(large) or 0)
