"""Runs: methods on many questions, a line on disk for each, with a protocol, tables and a server.

Measure methods, resume and read a run, compare methods with intervals, answer at an address.
Imports every room before it and the test of methods."""

from .. import _front

__all__, _modules, __getattr__, __dir__ = _front(__name__, __path__[0])
