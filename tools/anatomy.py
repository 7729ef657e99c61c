"The rooms of the package and which imports from which: nbs/images/house.svg, which `make export` writes."

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / 'carve_nb'
ROOMS = (
    'core',
    'formulas',
    'models',
    'attention',
    'data',
    'method',
    'testing',
    'runs',
    'studies',
    'explorer',
    'cli',
)


def imported(path):
    "Modules of the package, and names in them, that a module imports, also inside functions"
    folders = path.relative_to(PACKAGE).parts[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        if isinstance(node, ast.Import):
            names = [o.name for o in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = ['carve_nb', *folders[: len(folders) - node.level + 1]] * bool(node.level)
            whole = '.'.join([*base, *filter(None, [node.module])])
            names = [whole, *(f'{whole}.{o.name}' for o in node.names)]
        else:
            continue
        yield from (name.removeprefix('carve_nb.') for name in names if name.startswith('carve_nb.'))


def imports():
    "Pairs of rooms: the one that imports, the one that it imports from"
    pairs = set()
    for path in PACKAGE.rglob('*.py'):
        importing = path.relative_to(PACKAGE).with_suffix('').parts[0]
        rooms = {name.split('.')[0] for name in imported(path)}
        if importing in ROOMS:
            pairs |= {(importing, room) for room in rooms & set(ROOMS) if room != importing}
    return pairs


STYLE = 'text { font: 15px system-ui, sans-serif; fill: #111 } line { stroke: #888 } circle { fill: #0a58ca }'


def draw_house(pairs):
    "A table with a dot where the room of the line imports from the room of the column"
    rooms = [r for r in ROOMS if any(r in p for p in pairs)]
    parts = []
    for i, room in enumerate(rooms):
        parts.append(f'<text x="110" y="{i * 30 + 122}" text-anchor="end">{room}</text>')
        parts.append(f'<text transform="translate({i * 42 + 146} 92) rotate(-45)">{room}</text>')
        parts.append(f'<line x1="120" x2="{len(rooms) * 42 + 120}" y1="{i * 30 + 132}" y2="{i * 30 + 132}"/>')
    for a, b in sorted(pairs):
        x = rooms.index(b) * 42 + 141
        y = rooms.index(a) * 30 + 117
        parts.append(f'<circle cx="{x}" cy="{y}" r="7"><title>{a} imports {b}</title></circle>')
    width, height = len(rooms) * 42 + 190, len(rooms) * 30 + 120
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">',
        f'<title>Which room imports from which</title><style>{STYLE}</style><rect width="{width}" height="{height}" style="fill: #fff"/>',
    ]
    return '\n'.join([*head, *parts, '</svg>']) + '\n'
