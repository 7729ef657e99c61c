"""Notebooks to recipes/, beside the package: `#| recipe NAME` names the module, `#| export-recipe` marks the cells that it is made of.

Usage: python tools/export_recipes.py   (`make export` and `make drift` call it; from the root of the repository)"""
from pathlib import Path
from nbdev.maker import ModuleMaker
from nbdev.process import NBProcessor


def export(path):
    "Write the recipe of a notebook, if it has one"
    cells = NBProcessor(path).nb.cells
    name = next((c.directives_['recipe'] for c in cells if 'recipe' in c.directives_), None)
    if name is None: return
    code = [c for c in cells if 'export-recipe' in c.directives_]
    title = [c for c in cells if c.cell_type == 'markdown'][:1]
    ModuleMaker('recipes', name, path).make(title + code, code, 'recipes')


if __name__ == '__main__':
    for path in sorted(Path('nbs').rglob('*.ipynb')): export(path)
