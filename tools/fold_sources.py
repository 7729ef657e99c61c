"""Fold in JupyterLab what the site folds or hides: sources under `#| hide`, `#| echo: false` and `#| code-fold`.

Usage: python tools/fold_sources.py   (`make export` calls it)"""

import json
import re
from pathlib import Path

FOLDED = re.compile(r'^#\|\s*(hide\s*$|echo:\s*false|code-fold)', re.M)

if __name__ == '__main__':
    for path in sorted(Path('nbs').rglob('*.ipynb')):
        text = path.read_text(encoding='utf-8')
        notebook = json.loads(text)
        for cell in notebook['cells']:
            folded = cell['cell_type'] == 'code' and FOLDED.search(''.join(cell['source']))
            cell['metadata'].pop('jupyter', None)
            if folded:
                cell['metadata']['jupyter'] = dict(source_hidden=True)
        now = json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + '\n'
        if now != text:
            path.write_text(now, encoding='utf-8')
