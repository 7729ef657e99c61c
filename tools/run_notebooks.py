"""All notebooks through `nbdev-test`, as many at a time as the shell says: the libraries are imported once,
before the workers are forked, and are no matter of garbage collection, which also comes less often.
`make notebooks` runs this; for one notebook there is `nbdev-test NOTEBOOK`."""

import gc
import os
import sys
import tempfile
import matplotlib.pyplot  # noqa: F401
import nbdev.test
import carve_nb.attention.vlm
import carve_nb.runs.runner  # noqa: F401
from carve_nb.method.registry import METHODS, methods

Shell = nbdev.test.CaptureShell


def fresh_shell(*args, **kw):
    """A shell without the methods that another notebook defined; a quarter of the pixels that are stored,
    since nobody looks at these figures"""
    for name in [k for k, m in methods().items() if not m.__module__.startswith('carve_nb.')]:
        del METHODS[name]
    return Shell(*args, mpl_format='png', **kw)


nbdev.test.CaptureShell = fresh_shell

if __name__ == '__main__':  # where workers are started anew and not forked, they read this file too
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    with (
        tempfile.TemporaryDirectory() as profiles
    ):  # profiles that a notebook keeps are found by no other run
        os.environ['CARVE_PROFILES'] = profiles
        # a cell that hangs is stopped after an hour; a loaded machine needs minutes for one that takes seconds
        nbdev.test.nbdev_test(
            n_workers=int(sys.argv[1]),
            do_print=True,
            timing=True,
            skip_folder_re='^[_.]|^tutorials$',
            skip_file_re='^[_.]|^quickstart',
            cell_timeout=3600,
        )
