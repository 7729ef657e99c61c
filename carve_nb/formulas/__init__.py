"""The formulas of the book, each exported from the chapter that explains it.

Contrast two maps, fuse layers and steps, keep regions, and measure clutter, spread and agreement.
Imports core."""
from .. import _front

__all__, _modules, __getattr__, __dir__ = _front(__name__, __path__[0])
