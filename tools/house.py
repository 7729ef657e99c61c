"""Two drawings of the package: nbs/images/house.svg, which room imports from which, and call.svg, which rooms one call passes.

`make export` writes the first. Usage: python tools/house.py   (writes both; tests compare them with the imports and with a call)"""
import ast
import sys
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE, IMAGES = ROOT/'carve_nb', ROOT/'nbs/images'
ROOMS = 'core', 'formulas', 'models', 'attention', 'data', 'method', 'testing', 'runs', 'studies', 'explorer', 'cli'


def imported(path):
    "Modules of the package, and names in them, that a module imports, also inside functions"
    folders = path.relative_to(PACKAGE).parts[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        if isinstance(node, ast.Import): names = [o.name for o in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = ['carve_nb', *folders[:len(folders) - node.level + 1]]*bool(node.level)
            whole = '.'.join([*base, *filter(None, [node.module])])
            names = [whole, *(f'{whole}.{o.name}' for o in node.names)]
        else: continue
        yield from (name.removeprefix('carve_nb.') for name in names if name.startswith('carve_nb.'))


def imports():
    "Pairs of rooms: the one that imports, the one that it imports from"
    found = set()
    for path in PACKAGE.rglob('*.py'):
        own = path.relative_to(PACKAGE).with_suffix('').parts[0]
        rooms = {name.split('.')[0] for name in imported(path)}
        if own in ROOMS: found |= {(own, room) for room in rooms & set(ROOMS) if room != own}
    return found


def passed():
    "Pairs of modules of `Lookup()(vlm, image, question)`: the one that calls, the one that is called, with its first function, in order"
    from carve_nb import VLM, Lookup, make_scene
    vlm, scene, found = VLM.from_pretrained('carve-small'), make_scene(145), {}
    question = scene.question('digit').question
    Lookup()(vlm, scene.image, question)     # whatever is imported late is there now
    def note(frame, event, _):
        if event != 'call' or not (name := module(frame)): return
        caller = frame.f_back
        while caller and not module(caller): caller = caller.f_back
        if caller and (pair := (module(caller), name))[0] != name: found.setdefault(pair, frame.f_code.co_qualname)
    sys.setprofile(note)
    try: Lookup()(vlm, scene.image, question)
    finally: sys.setprofile(None)
    return found


def module(frame):
    "The module of the package in which a frame runs, without `carve_nb`, or None"
    name = frame.f_globals.get('__name__', '')
    if name.startswith('carve_nb.') and '<' not in frame.f_code.co_qualname: return name.removeprefix('carve_nb.')


def crossings(calls):
    "Of calls between modules those that go to another room: (room that calls, room that is called) and the first function"
    found = {}
    for (caller, called), function in calls.items():
        pair = caller.split('.')[0], called.split('.')[0]
        if pair[0] != pair[1]: found.setdefault(pair, f'{called}.{function}')
    return found


STYLE = 'text { font: 15px system-ui, sans-serif; fill: #111 } rect, line { stroke: #888; fill: #f4f4f4 } circle { fill: #0a58ca } .to { font-size: 13px }'


def svg(width, height, title, *parts):
    "A drawing that is read on light and dark pages"
    return '\n'.join([f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">',
                      f'<title>{title}</title><style>{STYLE}</style><rect width="{width}" height="{height}" style="fill: #fff; stroke: none"/>', *parts, '</svg>']) + '\n'


def draw_house(pairs):
    "A table with a dot where the room of the line imports from the room of the column"
    rooms, parts = [r for r in ROOMS if any(r in p for p in pairs)], []
    for i, room in enumerate(rooms):
        parts.append(f'<text x="110" y="{i*30 + 122}" text-anchor="end">{room}</text>')
        parts.append(f'<text transform="translate({i*42 + 146} 92) rotate(-45)">{room}</text>')
        parts.append(f'<line x1="120" x2="{len(rooms)*42 + 120}" y1="{i*30 + 132}" y2="{i*30 + 132}"/>')
    for a, b in sorted(pairs):
        x, y = rooms.index(b)*42 + 141, rooms.index(a)*30 + 117
        parts.append(f'<circle cx="{x}" cy="{y}" r="7"><title>{a} imports {b}</title></circle>')
    return svg(len(rooms)*42 + 190, len(rooms)*30 + 120, 'Which room imports from which', *parts)


def draw_call(steps):
    "A line for each pair of rooms, in the order in which the call first passes from one to the other"
    parts = []
    for i, ((a, b), function) in enumerate(steps.items()):
        y = i*30 + 30
        parts.append(f'<text x="20" y="{y}">{a}</text><text x="130" y="{y}">→</text><text x="160" y="{y}">{b}</text>'
                     f'<text x="270" y="{y}" class="to">{escape(function)}</text>')
    return svg(640, len(steps)*30 + 24, 'One call, room by room', *parts)


def main():
    (IMAGES/'house.svg').write_text(draw_house(imports()), encoding='utf-8')
    (IMAGES/'call.svg').write_text(draw_call(crossings(passed())), encoding='utf-8')


if __name__ == '__main__': main()
