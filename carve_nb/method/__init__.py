"""Methods: ask, look where attention points, crop, ask again; CARVE and its peers in one interface, and their controls.

Call a method on a model, an image and a question, make one by its name, or write your own on one of the base classes.
Imports core, formulas, models and attention."""

from .. import _front

__all__, _modules, __getattr__, __dir__ = _front(__name__, __path__[0])
