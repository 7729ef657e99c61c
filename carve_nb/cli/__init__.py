"""The shell: `carve ask`, `carve eval` and what `carve --help` lists.

Run a command's words from Python.
Imports every other room, each command what it needs."""

from .. import _front

__all__, _modules, __getattr__, __dir__ = _front(__name__, __path__[0])
