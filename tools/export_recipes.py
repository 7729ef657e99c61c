"""Notebooks to recipes/, beside the package: `#| recipe NAME` begins a module, the cells with `#|
export-recipe` behind it are what it is made of.

Usage: python tools/export_recipes.py   (`make export` and `make drift` call it; from the root of the
repository)"""

import re
from copy import copy
from pathlib import Path
from nbdev.maker import ModuleMaker
from nbdev.process import NBProcessor


def export(path):
    """Write the recipes of a notebook; the sentence below the first heading behind `#| recipe` becomes the
    docstring"""
    cells = NBProcessor(path).nb.cells
    starts = [i for i, c in enumerate(cells) if 'recipe' in c.directives_]
    for start, end in zip(starts, [*starts[1:], len(cells)]):
        code = [c for c in cells[start:end] if 'export-recipe' in c.directives_]
        heading = next(copy(c) for c in cells[start:end] if c.cell_type == 'markdown')
        heading.source = re.sub('^#+', '#', heading.source)
        ModuleMaker('recipes', cells[start].directives_['recipe'], path).make(
            [heading, *code], code, 'recipes'
        )


if __name__ == '__main__':
    for path in sorted(Path('nbs').rglob('*.ipynb')):
        export(path)
