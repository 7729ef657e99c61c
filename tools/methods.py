"""The table that `carve methods` shows without torch, from the classes. Usage: python tools/methods.py"""

import json
from carve_nb.core.io import replace_file
from carve_nb.method.registry import method_rows, methods
from carve_nb.models.checkpoints import CHECKPOINTS

replace_file(CHECKPOINTS / 'methods.json', json.dumps(dict(table=method_rows(methods())), indent=1) + '\n')
