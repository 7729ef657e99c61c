"""Tools that know no model: images, maps over them, words of a question, statistics by image, figures and errors.

Open an image, put a map over it, pick the query tokens of a question, and give a number its interval.
Imports no other room."""

from .. import _front

__all__, _modules, __getattr__, __dir__ = _front(__name__, __path__[0])
