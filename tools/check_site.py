"""Look at a built site: every link inside it leads somewhere, every image is there and has words, nothing is
loaded from another host, no output is an error, no page calls carve-smol a
released decoder. Usage: python tools/check_site.py FOLDER"""
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOADED = {'script': 'src', 'link': 'href', 'img': 'src', 'iframe': 'src', 'source': 'src', 'video': 'src',
    'audio': 'src'}
# it is a released language model that we taught to see: before our training nothing points
MISNAMED = re.compile(r'\b(?:an?|our|other)\s+(?:<[^>]*>)*released\s+(?:decoder|body)\b', re.I)


class Seen(HTMLParser):
    "Links, anchors and loaded files of a page"
    def __init__(self, text):
        super().__init__()
        self.links, self.loads, self.anchors, self.mute, self.errors = [], [], set(), 0, 0
        self.misnamed = [*MISNAMED.findall(text)]
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        a = dict(attrs)
        self.anchors |= {a[k] for k in ('id', 'name') if a.get(k)}
        if tag == 'a' and a.get('href'): self.links.append(a['href'])
        if tag in LOADED and a.get(LOADED[tag]) and a.get('rel') not in ('canonical', 'next', 'prev'):
            self.loads.append(a[LOADED[tag]])
        if tag == 'img': self.mute += not (a.get('alt') or '').strip()
        self.errors += 'traceback' in (a.get('class') or '').split()


def outside(link): return bool(urlsplit(link).netloc) or urlsplit(link).scheme in ('http', 'https')


def leads(root, path, link, pages):
    "Does a link of a page lead to a file, and to a place in it?"
    parts = urlsplit(link)
    target = (path.parent/unquote(parts.path)).resolve() if parts.path else path
    if target.is_dir(): target = target/'index.html'
    if not target.is_file() or root not in target.parents: return False
    return not parts.fragment or target not in pages or unquote(parts.fragment) in pages[target].anchors


def check(root):
    "All that is wrong, one line each"
    pages = {p: Seen(p.read_text(encoding='utf-8')) for p in sorted(root.rglob('*.html'))}
    for path, seen in pages.items():
        name = path.relative_to(root)
        links = [o for o in seen.links if not outside(o) and urlsplit(o).scheme in ('', 'file')]
        yield from (f'{name}: broken link {o}' for o in links if not leads(root, path, o, pages))
        yield from (f'{name}: asks another host: {o}' for o in seen.loads if outside(o))
        yield from (f'{name}: {o} is missing'
            for o in seen.loads if not outside(o) and not o.startswith('data:')
            and not leads(root, path, o, pages))
        if seen.mute: yield f'{name}: {seen.mute} images without words'
        if seen.misnamed: yield f'{name}: {seen.misnamed[0]}, for a language model that we taught to see'
        if seen.errors: yield f'{name}: {seen.errors} outputs are errors'
    for css in root.rglob('*.css'):
        if 'url(http' in (text := css.read_text(encoding='utf-8')) or '@import url("http' in text:
            yield f'{css.relative_to(root)}: asks another host'


def main(folder):
    root = Path(folder).resolve()
    found = list(check(root))
    for line in found: print(line)
    files = [p for p in root.rglob('*') if p.is_file() and '.doctrees' not in p.parts]
    print(f'{len(list(root.rglob("*.html")))} pages, {sum(p.stat().st_size for p in files)/1e6:.0f} MB, {len(found)} faults')
    return int(bool(found))


if __name__ == '__main__': sys.exit(main(sys.argv[1]))
