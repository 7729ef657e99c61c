"""Stock models of transformers: families, loading, prompts, the kernel that shows its rows, and other models' answers.

Describe a family, write what a model is asked, record the rows of a pass, and ask a model behind an address.
Imports core and formulas."""

from .. import _front

__all__, _modules, __getattr__, __dir__ = _front(__name__, __path__[0])
