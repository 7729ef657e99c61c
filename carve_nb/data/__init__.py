"""Questions about images: scenes that are drawn, tables and known sets that are read, and scores of answers.

Draw a scene, load a benchmark as records, score an answer, and test how small an object a model reads.
Imports core, formulas, models and attention."""

from .. import _front

__all__, _modules, __getattr__, __dir__ = _front(__name__, __path__[0])
