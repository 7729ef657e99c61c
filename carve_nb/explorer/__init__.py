"""The explorer: a page on which an image is asked about, and map and crop follow each word.

Open it in a notebook with `explore()`, in a shell with `carve explore`.
Imports every room before it."""

from .. import _front

__all__, _modules, __getattr__, __dir__ = _front(__name__, __path__[0])
