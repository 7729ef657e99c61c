"""The table that `carve methods` shows without torch, and the fields of each method, from the classes. Usage: python tools/methods.py"""

import json
from dataclasses import fields
from carve_nb.core.io import replace_file
from carve_nb.method.registry import method_rows, methods
from carve_nb.models.checkpoints import CHECKPOINTS

stored = dict(
    table=method_rows(methods()),
    fields=[[name, [setting.name for setting in fields(cls)]] for name, cls in methods().items()],
)
replace_file(CHECKPOINTS / 'methods.json', json.dumps(stored, indent=1) + '\n')
