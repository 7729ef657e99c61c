"""Look at a built site: every link inside it leads somewhere, every image is there and has words, nothing is loaded from another
host, no output is an error, no heading of a table shows its formula or code as it was typed. Usage: python tools/check_site.py FOLDER"""

import re
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit
from bs4 import BeautifulSoup

TYPED = re.compile(r'\$.+\$|`.+`')  # of Markdown, which a table of pandas does not read
LOADED = {
    'script': 'src',
    'link': 'href',
    'img': 'src',
    'iframe': 'src',
    'source': 'src',
    'video': 'src',
    'audio': 'src',
}


def is_target(root, page, address, anchors):
    "Does an address on a page lead to a file of the site, and to a place in it?"
    parts = urlsplit(address)
    file = (page.parent / unquote(parts.path)).resolve() if parts.path else page
    if file.is_dir():
        file = file / 'index.html'
    if not file.is_file() or root not in file.parents:
        return False
    return not parts.fragment or file not in anchors or unquote(parts.fragment) in anchors[file]


def check(root):
    "Yield what is wrong, a line each"
    soups = {
        p: BeautifulSoup(p.read_text(encoding='utf-8'), 'html.parser') for p in sorted(root.rglob('*.html'))
    }
    anchors = {
        p: {tag.get(k) for tag in soup.find_all(True) for k in ('id', 'name')} for p, soup in soups.items()
    }
    for page, soup in soups.items():
        name = page.relative_to(root)
        links = [a['href'] for a in soup.find_all('a', href=True)]
        loads = [
            tag[LOADED[tag.name]]
            for tag in soup.find_all([*LOADED])
            if tag.get(LOADED[tag.name]) and not {'canonical', 'next', 'prev'} & {*tag.get('rel', ())}
        ]
        inside = [o for o in links + loads if urlsplit(o).scheme in ('', 'file') and not urlsplit(o).netloc]
        yield from (f'{name}: {o} leads nowhere' for o in inside if not is_target(root, page, o, anchors))
        yield from (f'{name}: asks another host: {o}' for o in loads if urlsplit(o).netloc)
        yield from (
            f'{name}: an image without words: {o.get("src")}'
            for o in soup.find_all('img')
            if not o.get('alt', '').strip()
        )
        yield from (f'{name}: an output is an error' for _ in soup.select('.traceback'))
        headings = [th.get_text() for th in soup.find_all('th') if not th.find(class_='math')]
        yield from (f'{name}: a heading as it was typed: {text}' for text in headings if TYPED.search(text))
    for css in root.rglob('*.css'):
        if 'url(http' in css.read_text(encoding='utf-8'):
            yield f'{css.relative_to(root)}: asks another host'


if __name__ == '__main__':
    faults = list(check(Path(sys.argv[1]).resolve()))
    print(*faults, f'{len(faults)} faults', sep='\n')
    sys.exit(bool(faults))
