"""Coverage-guided fuzzing of the image door: `python tests/fuzz/door.py --seconds 300 [--findings FOLDER]`
(needs `pip install atheris`)"""
import argparse
import sys
import tempfile
import warnings
from io import BytesIO
from pathlib import Path
from unittest.mock import patch

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS), str(TESTS.parent)]
LIMIT = 2**20  # pixels: what an image may have here, so that a blow-up shows as one


def check(src, **kw):
    "What comes is a plain image within the limit, or one of the documented errors"
    from carve_nb.core.errors import ImageError
    from carve_nb.core.image import open_image
    try: img = open_image(src, **kw)
    except ImageError as e:
        assert str(e)
        return None
    assert img.mode == 'RGB'
    assert img.info == {}
    assert not dict(img.getexif())
    assert 0 < img.width*img.height <= 2*LIMIT
    assert open_image(img) == img
    return img


def lazily(data):
    "The same bytes as the caller's own `Image.open` gives them; what that refuses is not ours"
    from PIL import Image
    try: img = Image.open(BytesIO(data))
    except Exception: return
    check(img)


def one(data):
    "One input through the door, by both ways"
    from PIL import Image
    with warnings.catch_warnings(), patch.object(Image, 'MAX_IMAGE_PIXELS', LIMIT):
        warnings.simplefilter('ignore')
        check(data)
        lazily(data)


def seeds(folder):
    "The corpus, without what is only large"
    from faults import hostile
    for name, data in hostile.corpus().items():
        if len(data) < 20_000: (folder/name).write_bytes(data)



def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument('--seconds', type=int, default=60), p.add_argument('--findings',
        default='findings'), p.add_argument('--megabytes', type=int, default=1500)
    a = p.parse_args()
    try:
        import atheris
    except ImportError: sys.exit('atheris is not installed: pip install -e ".[fuzz]" (Linux and macOS)')
    with atheris.instrument_imports(include=['PIL', 'carve_nb.core.image']):
        from PIL import (  # noqa: F401
            BmpImagePlugin,
            GifImagePlugin,
            Image,
            ImageFile,
            JpegImagePlugin,
            MpoImagePlugin,
            PngImagePlugin,
            TiffImagePlugin,
            WebPImagePlugin,
        )
        import carve_nb.core.image  # noqa: F401
    Path(a.findings).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as corpus:
        seeds(Path(corpus))
        options = [f'-max_total_time={a.seconds}', f'-artifact_prefix={Path(a.findings).resolve()}/',
            f'-rss_limit_mb={a.megabytes}', '-timeout=20', '-max_len=20000',
                   '-print_final_stats=1', '-verbosity=0', '-seed=1']
        atheris.Setup([sys.argv[0], *options, corpus], one)
        atheris.Fuzz()


if __name__ == '__main__': main()
