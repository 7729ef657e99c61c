"""How large the package is, room by room: a table of lines, syntax nodes and functions for CONTRIBUTING.md.

Usage: python tools/anatomy.py   (writes the table between the marks; nothing fails by it, a reviewer looks at it)"""
import ast, re
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
    lines = [f'| {name} | ' + ' | '.join(f'{c[k]:,}' for k in COLUMNS) + ' |' for name, c in [*rooms.items(), ('all', total)]]
    return '\n'.join(['| room | ' + ' | '.join(COLUMNS) + ' |', '|---|' + '--:|'*len(COLUMNS), *lines])


if __name__ == '__main__':
    path = ROOT/'CONTRIBUTING.md'
    text = path.read_text(encoding='utf-8')
    path.write_text(re.sub(r'(?<=<!-- sizes -->\n).*?(?=\n<!-- end -->)', lambda m: table(sizes()), text, flags=re.S), encoding='utf-8')
