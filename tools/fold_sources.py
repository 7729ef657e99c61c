"""Fold in JupyterLab what the site folds or hides: sources under `#| hide`, `#| echo: false` and `#| code-fold`.

Usage: python tools/fold_sources.py   (`make export` calls it)"""

import re
from pathlib import Path
from fastcore.nbio import read_nb, write_nb

FOLDED = re.compile(r'^#\|\s*(hide\s*$|echo:\s*false|code-fold)', re.M)

if __name__ == '__main__':
    for path in sorted(Path('nbs').rglob('*.ipynb')):
        notebook = read_nb(path)
        for cell in notebook.cells:
            cell.metadata.pop('jupyter', None)
            if cell.cell_type == 'code' and FOLDED.search(cell.source):
                cell.metadata['jupyter'] = dict(source_hidden=True)
        write_nb(notebook, path)
