"README.md from nbs/index.ipynb (the native way, `nbdev-readme`, needs Quarto). Usage: python tools/readme.py"

import base64
import re
from pathlib import Path
from fastcore.nbio import read_nb
from pages import addresses

ROOT = Path(__file__).resolve().parent.parent
HEAD = '<!-- Made from nbs/index.ipynb by tools/readme.py; edit the notebook. -->\n\n'


def output(o, i, images, alt='', moving=''):
    "Markdown of one stored output; images are collected under their file name, and stand still where `moving` would disturb"
    d = o.get('data', {})
    if 'text/markdown' in d:
        return d['text/markdown']
    if 'image/png' in d:
        name = f'nbs/images/index_{i}.png'
        images[name] = base64.b64decode(d['image/png'])
        if not moving:
            return f'![{alt}]({name})'
        return (
            f'<picture><source media="(prefers-reduced-motion: reduce)" srcset="{name}">'
            f'<img alt="{alt}" src="nbs/{moving}"></picture>'
        )
    body = o.get('text', '') if o.get('output_type') == 'stream' else d.get('text/plain', '')
    return f'```\n{body.rstrip()}\n```' if body.strip() else ''


def cell(c, i, images):
    "Markdown of one cell: `#| hide` hides it, `#| echo: false` its source."
    src = c.source
    if c.cell_type == 'markdown':
        return re.sub(r'\]\((?=images/|[\w/]+\.ipynb)', '](nbs/', src)
    if c.cell_type != 'code' or re.search(r'^#\|\s*hide\s*$', src, re.M):
        return ''
    code = (
        ''
        if re.search(r'^#\|\s*echo:\s*false', src, re.M)
        else f"```python\n{re.sub(r'^#[|].*$', '', src, flags=re.M).strip()}\n```"
    )
    alt, moving = (
        ''.join(re.findall(rf'^#\|\s*{mark}:\s*(.*)$', src, re.M)) for mark in ('fig-alt', 'moving')
    )
    shown = (output(o, f'{i}_{j}' if j else i, images, alt, moving) for j, o in enumerate(c.outputs))
    return '\n\n'.join(filter(None, [code, *shown]))


def absolute(text, repository, branch):
    "The same text with the line that clones it, and links and images that a package index can follow, where there is an address"
    if not repository:
        return text
    text = text.replace(
        'In this folder, with', f'After `git clone --depth 1 {repository}` (80 MB), in its folder, with'
    )
    text = re.sub(r'(!\[[^]]*\]\(|\bsrc(?:set)?=")(?!\w+:)', rf'\g<1>{repository}/raw/{branch}/', text)
    return re.sub(r'((?<!!)\[[^]]*\]\()(?!\w+:|#)', rf'\g<1>{repository}/blob/{branch}/', text)


def render():
    "The README's text and the images that it shows."
    images = {}
    cells = read_nb(ROOT / 'nbs/index.ipynb').cells
    body = '\n\n'.join(filter(None, (cell(c, i, images) for i, c in enumerate(cells))))
    at = addresses()
    return HEAD + absolute(body, at['repository'], at['branch']) + '\n', images


if __name__ == '__main__':
    body, images = render()
    for name, data in dict(images, **{'README.md': body.encode()}).items():
        (ROOT / name).write_bytes(data)
