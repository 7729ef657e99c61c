"""How large the package is, room by room: a table of lines, syntax nodes and functions for CONTRIBUTING.md. How long the book is to read.

Usage: python tools/anatomy.py   (writes the table between the marks, prints the minutes and the size of git's pack; nothing fails by it, a reviewer looks at it)"""
import ast
import json
import re
import subprocess
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COLUMNS = 'modules', 'lines', 'nodes', 'functions'


def sizes():
    "Counts of each room; the modules at the top are the book"
    rooms = {}
    for path in sorted((ROOT/'carve_nb').rglob('*.py')):
        if path.name == '_modidx.py': continue
        parts, text = path.relative_to(ROOT/'carve_nb').parts, path.read_text(encoding='utf-8')
        nodes = list(ast.walk(ast.parse(text)))
        functions = sum(isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef)) for n in nodes)
        room = rooms.setdefault(parts[0] if len(parts) > 1 else 'the book', Counter())
        room.update(modules=1, lines=text.count('\n'), nodes=len(nodes), functions=functions)
    return rooms


def table(rooms):
    total = sum(rooms.values(), Counter())
    lines = [f'| {name} | ' + ' | '.join(f'{c[k]:,}' for k in COLUMNS) + ' |' for name,
        c in [*rooms.items(), ('all', total)]]
    return '\n'.join(['| room | ' + ' | '.join(COLUMNS) + ' |', '|---|' + '--:|'*len(COLUMNS), *lines])


FOLDED = re.compile(r'#\|\s*(hide|code-fold|echo:\s*false|include:\s*false)')

def reading(page):
    "Words, open lines of code, figures, and the minutes they take: 200 words a minute, 4 seconds a line, half a minute a figure"
    words, lines, figures = 0, 0, 0
    for cell in json.loads(page.read_text(encoding='utf-8'))['cells']:
        source = ''.join(cell['source'])
        if cell['cell_type'] == 'markdown': words += len(source.split())
        elif not FOLDED.search(source):
            lines += sum(bool(line.strip()) and not line.startswith('#|') for line in source.split('\n'))
        figures += any(kind.startswith('image/') for o in cell.get('outputs', ()) for kind in o.get('data', ()))
    return words, lines, figures, words/200 + lines/15 + figures/2

def print_book():
    "The pages of the book, and their sum"
    pages = [ROOT/'nbs/index.ipynb', ROOT/'nbs/quickstart.ipynb', *sorted((ROOT/'nbs').glob('[0-9]*.ipynb'))]
    read = [reading(page) for page in pages]
    print(f'{"page":20}{"words":>8}{"open lines":>12}{"figures":>9}{"minutes":>9}')
    for name, found in [*zip((page.stem for page in pages), read), ('all', [*map(sum, zip(*read))])]:
        print(f'{name:20}{found[0]:8,}{found[1]:12}{found[2]:9}{found[3]:9.1f}')


if __name__ == '__main__':
    path = ROOT/'CONTRIBUTING.md'
    text = path.read_text(encoding='utf-8')
    path.write_text(re.sub(r'(?<=<!-- sizes -->\n).*?(?=\n<!-- end -->)', lambda m: table(sizes()), text, flags=re.S),
        encoding='utf-8')
    print_book()
    print(*re.findall('size-pack: .*', subprocess.check_output(['git', 'count-objects', '-vH'], cwd=ROOT, text=True)))
