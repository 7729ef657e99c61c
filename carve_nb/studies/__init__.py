"""Studies of one model: spread of attention, layers, masking, the profile, the checkup and the paper's tables.

Measure where a model points and what a method gains on it, and put numbers beside those of the paper.
Imports every room before it."""

from .. import _front

__all__, _modules, __getattr__, __dir__ = _front(__name__, __path__[0])
