"""The model that is asked and whose attention is read, the rows it gives, and changes of them.

Open a model, ask it, capture attention rows, share what several questions have in common, edit weights, check a family.
Imports core, formulas and models."""

from .. import _front

__all__, _modules, __getattr__, __dir__ = _front(__name__, __path__[0])
