"""The pages of the site, from the notebooks, for Sphinx with myst-nb and autodoc.

Usage: python tools/pages.py FOLDER    write the pages for `sphinx-build FOLDER OUT`
       python tools/pages.py --llms    write llms.txt, the sidebar and the picture of the house"""

import ast
import base64
import json
import mimetypes
import re
import shutil
import struct
import sys
import tomllib
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from anatomy import draw_house, imports
from fastcore.nbio import mk_cell, read_nb, write_nb

ROOT = Path(__file__).resolve().parent.parent
NBS = ROOT / 'nbs'


class Page:
    "A notebook"

    def __init__(self, path):
        self.path, self.name = path, path.relative_to(NBS).with_suffix('').as_posix()
        number = re.match(r'(\d+)_', path.name)
        self.key = number[1] if number else None
        self.folder = path.relative_to(NBS).parent.as_posix()

    @cached_property
    def nb(self):
        return read_nb(self.path)

    @cached_property
    def code(self):
        return '\n'.join(c.source for c in self.nb.cells if c.cell_type == 'code')

    @cached_property
    def head(self):
        return next((c.source for c in self.nb.cells if c.cell_type == 'markdown'), '')

    @property
    def title(self):
        return (re.findall(r'^# (.+)$', self.head, re.M) or [self.name])[0].replace('`', '')

    @property
    def numbered(self):
        "The title of a chapter with its number"
        return f'{int(self.key)}. {self.title}' if self.key and self.folder == '.' else self.title

    @property
    def subtitle(self):
        return ' '.join(re.findall(r'^> ?(.+)$', self.head, re.M))

    @cached_property
    def clone(self):
        "Does it read files that the wheel lacks?"
        return bool(re.search(r"(from|import) recipes|results/|/'results'|\.\./\.\./", self.code))

    @property
    def alone(self):
        "Does it open in Colab? tests/site/test_downloaded.py runs those in an empty folder"
        return (self.name == 'quickstart' or self.folder == 'tutorials') and not self.clone

    @cached_property
    def module(self):
        "The module that it exports, or None"
        exported = re.search(r'^#\|\s*default_exp[: ]\s*([\w.]+)', self.code, re.M)
        return exported and exported[1]

    @cached_property
    def image(self):
        "The first image that the page shows, as the bytes of a PNG, or None"
        for c in self.nb.cells:
            if re.search(r'^#\|\s*hide\b', c.source, re.M):
                continue
            for o in c.get('outputs', ()):
                if 'image/png' in o.get('data', {}):
                    return base64.b64decode(o.data['image/png'])
            linked = c.cell_type == 'markdown' and re.search(r'!\[[^]]*\]\(([^)]+\.png)\)', c.source)
            if linked:
                return (self.path.parent / linked[1]).read_bytes()


@dataclass
class Group:
    "Pages of one folder, which stand together in the reading order"

    title: str
    folder: str
    pages: list = ()
    library: bool = False  # for developers: a search finds the functions only
    about: str = ''  # one sentence
    parts: dict = field(default_factory=dict)  # its first page -> the title of a part

    @property
    def home(self):
        "Its own page, on which the others are listed"
        name = Path(self.folder).name
        return f'rooms/{name}' if self.library else name or 'book'

    def place(self, page):
        "By number; pages without one come first, in the order that is given"
        return page.key or '', (*self.pages, page.path.stem).index(page.path.stem), page.name


def notebooks():
    "All notebooks, also those that are not written yet when this is"
    paths = (p for p in NBS.rglob('*.ipynb') if not any(o[0] in '._' for o in p.relative_to(NBS).parts))
    return [Page(p) for p in sorted(paths)]


def settings():
    return tomllib.loads((ROOT / 'docs/order.toml').read_text(encoding='utf-8'))


def groups():
    "The groups as docs/order.toml has them"
    return [Group(**g) for g in settings()['group']]


def reading_order():
    "Each group with its pages"
    pages = [p for p in notebooks() if p.name != 'index']
    return [(g, sorted((p for p in pages if p.folder == g.folder), key=g.place)) for g in groups()]


# Notebooks


def spoken(text):
    "A sentence as it would be read aloud: no links, no marks"
    text = re.sub(r'\]\([^)]*\)|\\(hat|bar|mathrm|text|operatorname)\b|\\[,;!]', '', text)
    return re.sub(r'[`*\[\]${}\\]', '', text).strip()


MARKS = re.compile(r'^#(?:\|| cases? \d).*\n?', re.M)  # directives, and the numbers of fault cases


def code_cell(c, imports=False, fold=False, book=False):
    "A code cell as the site shows it, or None; tutorials show their imports, some pages fold all code"
    source = c.source
    marks = {m[1]: m[2].strip() for m in re.finditer(r'^#\|\s*([\w-]+)\s*:?(.*)$', source, re.M)}
    if {'hide', 'default_exp', 'recipe'} & set(marks) or marks.get('include') == 'false':
        return None
    body = MARKS.sub('', source).strip('\n')
    if re.match(r'_all_ *[+=]', body):
        return None  # names for nbdev's list
    hidden = marks.get('echo') == 'false' or c['metadata'].get('hide_input') or not body
    meta = (
        dict(tags=['remove-input'])
        if hidden
        else dict(tags=['exported'])
        if {'export', 'exporti', 'export-recipe'} & set(marks)
        else {}
    )
    summary = marks.get('code-summary', 'Code') if fold or marks.get('code-fold') == 'true' else ''
    if only_imports(body) and not imports:
        summary = 'Imports'
    if summary and not hidden:
        meta['tags'] = [*meta.get('tags', []), 'hide-input']
        meta['mystnb'] = dict(code_prompt_show=summary, code_prompt_hide=summary)
    outputs = [] if marks.get('output') == 'false' else [o for o in c['outputs'] if not is_bar(o)]
    images = [o for o in outputs if 'image/png' in o.get('data', {})]
    if images:
        meta['mystnb'] = dict(
            meta.get('mystnb', {}),
            image=dict(alt=marks['fig-alt'].strip('"\' '), **figure_size(images[-1], book)),
        )
    return dict(c, source=body, metadata=meta, outputs=outputs, execution_count=None)


def figure_size(output, book, most=1.4):
    """How large a figure is shown: those of the book are stored at 1.5 times their size, and those too wide
    for a page at twice. One that is not narrow, and no tower, fills the page's width, so that its words
    can be read."""
    width, height = struct.unpack('>II', base64.b64decode(output.data['image/png'][:32])[16:24])
    part = round(width / 1.5) if book else width // 2 if width > 820 else width
    return (
        dict(classes='wide')
        if part >= (400 if book else 560) and height / width < most
        else dict(width=f'{part}px')
    )


def only_imports(body):
    "Is a cell all imports?"
    try:
        return {type(o) for o in ast.parse(body).body} in (
            {ast.Import},
            {ast.ImportFrom},
            {ast.Import, ast.ImportFrom},
        )
    except SyntaxError:
        return False


def is_folded(cell):
    return (
        cell['cell_type'] == 'code'
        and 'hide-input' in cell['metadata'].get('tags', ())
        and not cell['outputs']
    )


def is_bar(output):
    "Is an output nothing but a progress bar?"
    lines = re.split(r'[\r\n]+', output.get('text', '').strip())
    return output.get('name') == 'stderr' and all(re.search(r'\d+%\|', o) for o in lines)


FIGURES = ROOT / 'nbs/results/figure'


def place_figures(text, up):
    """`<!-- figure: a b -->` becomes figures that move, with numbers from nbs/results/figure; an image on the
    next line stands there where no scripts run"""

    def one(m):
        names = m[1].split()
        still = m[2] or '<p>This figure moves where scripts run.</p>'
        boxes = '\n\n'.join(
            f'<div class="moving" data-figure="{n}" role="group" aria-label="Figure that moves">\n\n{still}\n\n</div>'
            for n in names
        )
        scripts = [f'{up}_static/figures/{n}.js' for n in names] + [f'{up}_static/figure.js']
        return '\n'.join([boxes, *(f'<script defer src="{o}"></script>' for o in scripts)])

    text = re.sub(r'^<!-- living figure -->\n(!\[.*\))$', living_figure(up), text, flags=re.M)
    return re.sub(r'^<!-- figure: ([\w ]+?) -->$(?:\n(!\[.*\)))?', one, text, flags=re.M)


def living_figure(up):
    "The place of the figure whose models answer in the browser, with its still"
    here = f'{up}_static/living'
    return (
        f'<link rel="stylesheet" href="{here}/living.css">\n<div class="living" data-living>\n\n\\1\n\n</div>\n'
        f'<script>location.protocol === "file:" || import(new URL("{here}/page.js", location))</script>'
    )


def write_figures(out):
    "The numbers as scripts, which a page may load without a server"
    out.mkdir(parents=True)
    for p in FIGURES.glob('*.json'):
        text = p.read_text(encoding='utf-8').strip()
        (out / f'{p.stem}.js').write_text(
            f'(window.carveData ??= {{}})[{json.dumps(p.stem)}] = {text};\n', encoding='utf-8'
        )


FOLDED = 'tutorials/gallery', 'tutorials/living_figure'  # pages of which all code is folded


REFERENCE = '''## Reference

```{{eval-rst}}
.. automodule:: carve_nb.{}
   :members:
```'''


def site_notebook(page):
    "A notebook as the site shows it; the page of a module ends with its reference"
    cells, up = [], '../' * page.name.count('/')
    for c in page.nb.cells:
        if c.cell_type == 'markdown':
            text = c.source.replace(f'# {page.title}', f'# {page.numbered}', 1)
            cells.append(dict(c, source=place_figures(text, up)))
        elif c.cell_type == 'code' and (
            cell := code_cell(
                c,
                page.folder == 'tutorials' or page.name == 'quickstart',
                page.name in FOLDED,
                page.folder == '.',
            )
        ):
            if (
                cells
                and is_folded(cells[-1])
                and is_folded(cell)
                and cells[-1]['metadata']['mystnb'] == cell['metadata']['mystnb']
            ):
                cells[-1]['source'] += '\n' + cell['source']
            else:
                cells.append(cell)
    if page.module:
        cells.insert(1, mk_cell(f'Module {{py:mod}}`carve_nb.{page.module}`', 'markdown', id='module-line'))
        cells.append(mk_cell(REFERENCE.format(page.module), 'markdown', id='reference'))
    meta = dict(page.nb.metadata, language_info=dict(name='python', pygments_lexer='python'))
    return dict(page.nb, cells=cells, metadata=meta)


# The whole

RESULTS = 'notes/results'  # stands in the sidebar beside the groups


def toctree(names, caption=''):
    "What the sidebar shows below a page"
    return '\n'.join(
        [
            '',
            '```{toctree}',
            ':hidden:',
            *[f':caption: {caption}'] * bool(caption),
            '',
            *(f'/{n}' for n in names),
            '```',
            '',
        ]
    )


def trees(order):
    "What the sidebar shows: the book by its parts, then what is looked up"
    (book, chapters), *rest = order
    parts = [['', ['book']]]
    for p in chapters:
        if p.name in book.parts:
            parts.append([book.parts[p.name], []])
        parts[-1][1].append(p.name)
    first, *more = [g.home for g, _ in rest if not g.library]
    return '\n'.join(
        toctree(names, caption) for caption, names in [*parts, ('More', [first, RESULTS, *more, 'library'])]
    )


def listed(pages):
    return [f'- [{p.title}](/{p.name}.ipynb): {p.subtitle}' for p in pages]


def card(page, out):
    "A page as a card with its first image"
    thumb = ''
    if page.image:
        (out / 'extra/thumbs').mkdir(parents=True, exist_ok=True)
        name = page.name.replace('/', '-')
        (out / f'extra/thumbs/{name}.png').write_bytes(page.image)
        thumb = (
            f'<img class="thumb" loading="lazy" alt="First figure of {page.title}" src="thumbs/{name}.png">'
        )
    return f'<a class="card" href="{page.name}.html">{thumb}<strong>{page.numbered}</strong> {spoken(page.subtitle)}</a>'


ORPHAN = '---\norphan: true\n---\n'  # a page that the sidebar leaves out


def group_page(group, pages, out):
    "The page of a group: cards of what is read, a list of what is looked up"
    if group.library:
        return '\n'.join([ORPHAN, f'# {group.title}', '', f'> {group.about}', '', *listed(pages)])
    cards = ['<div class="cards">', *(card(p, out) for p in pages), '</div>']
    return '\n'.join(
        [
            f'# {group.title}',
            '',
            f'> {group.about}',
            '',
            *cards,
            *[toctree(p.name for p in pages if p.name != RESULTS)] * (not group.parts),
        ]
    )


HOUSE = [
    '## The house',
    '',
    'A dot: the room of the line imports from the room of the column. Imports go one way.',
    '',
    '![A table of rooms by rooms with dots below the diagonal alone](/images/house.svg)',
    '',
    '## Rooms',
    '',
]


def library(rooms):
    "The page above the rooms of the library"
    return '\n'.join(
        [
            '# Library',
            '',
            '> The rooms of the package: what each page explains, exports and tests; and every public function.',
            '',
            *HOUSE,
            *(f'- [{g.title}](/{g.home}.md): {g.about}' for g in rooms),
            '- {ref}`All modules <modindex>` and {ref}`all names <genindex>`.',
        ]
    )


def llms(link):
    "llms.txt: what there is, for readers that are programs"
    pages = {p.name: p for p in notebooks()}
    lines = [f'# {pages["index"].title}', '', f'> {pages["index"].subtitle}', '']
    lines += [
        'CARVE (arXiv 2509.06461) and its relatives for vision-language models, as a literate Python package: every notebook is '
        'a chapter, every chapter a module. Results come from two small models that were trained here on '
        'synthetic scenes, and from a released language model that was taught to see them.',
        '',
    ]
    for group, inside in reading_order():
        lines += [f'## {group.title}', '', *(f'- [{p.title}]({link(p)}): {p.subtitle}' for p in inside), '']
    return '\n'.join(lines)


def sidebar():
    "nbs/sidebar.yml: the reading order for nbdev's own site, which Quarto makes"
    lines = [
        '# Made from docs/order.toml: make export',
        'website:',
        '  sidebar:',
        '    contents:',
        '    - index.ipynb',
    ]
    for group, inside in reading_order():
        lines += [f'    - section: {group.title}', '      contents:']
        for p in inside:
            if part := group.parts.get(p.name):
                lines += [f'    - section: {part}', '      contents:']
            lines.append(f'      - {p.name}.ipynb')
    return '\n'.join(lines) + '\n'


def write_site(out):
    "Everything that Sphinx reads, but for its settings"
    order = reading_order()
    pages = [p for _, g in order for p in g]
    index = next(p for p in notebooks() if p.name == 'index')
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(NBS / 'images', out / 'images')
    # files to begin with
    shutil.copytree(NBS / 'tutorials', out / 'tutorials', ignore=shutil.ignore_patterns('*.ipynb'))
    inner = {g.folder for g, _ in order if g.library}
    for page in [index, *pages]:
        nb = site_notebook(page)
        if page.folder in inner:
            nb['metadata']['orphan'] = True
        if page is index:
            nb['cells'].append(mk_cell(trees(order), 'markdown', id='trees'))
        target = out / f'{page.name}.ipynb'
        target.parent.mkdir(parents=True, exist_ok=True)
        write_nb(nb, target)
    (out / 'rooms').mkdir()
    for g, inside in order:
        (out / f'{g.home}.md').write_text(group_page(g, inside, out), encoding='utf-8')
    (out / 'library.md').write_text(library([g for g, _ in order if g.library]), encoding='utf-8')
    write_extra(out, [index, *pages])
    dump = lambda name, o: (out / name).write_text(json.dumps(o, ensure_ascii=False), encoding='utf-8')
    dump('about.json', about_pages([index, *pages]))
    dump('site.json', addresses())
    for path in sorted((ROOT / 'docs').iterdir()):
        if path.is_dir():
            shutil.copytree(path, out / path.name)
        elif path.name != 'order.toml' and path.suffix in ('.py', '.js'):
            shutil.copy(path, out / path.name)
    searched = {
        p.name: dict(page=f'{spoken(p.title)} {spoken(p.subtitle)}', asked=asked(p)) for p in [index, *pages]
    }
    scorer = (ROOT / 'docs/scorer.js').read_text(encoding='utf-8')
    (out / 'scorer.js').write_text(
        scorer.replace('ABOUT = {}', f'ABOUT = {json.dumps(searched, ensure_ascii=False)}'), encoding='utf-8'
    )
    write_figures(out / '_static/figures')


def addresses():
    "Where the notebooks and the site lie, as pyproject.toml has it; empty is left out of the pages"
    toml = tomllib.loads((ROOT / 'pyproject.toml').read_text(encoding='utf-8'))
    urls = toml['project']['urls']
    return dict(
        repository=urls.get('Source', ''),
        branch=toml['tool']['nbdev']['branch'],
        site=urls.get('Documentation', ''),
    )


def asked(page):
    "What newcomers ask that the page answers, by the section that does; '' is the page"
    all_asked = {
        tuple(place.partition('#')[::2]): questions for place, questions in settings()['asked'].items()
    }
    return {section: questions for (name, section), questions in all_asked.items() if name == page.name}


def about_pages(pages):
    """What the HTML of a page needs to know: a sentence, the notebook, what it needs to run, and what a
    search finds"""
    inside = {g.folder for g in groups() if g.library}
    return {
        p.name: dict(
            about=spoken(p.subtitle),
            notebook=f'nbs/{p.name}.ipynb',
            alone=p.alone,
            clone=p.clone,
            asked=', '.join(sum(asked(p).values(), [])),
            internal=p.folder in inside,
        )
        for p in pages
    }


def attach_images(cell, folder):
    "A Markdown cell that carries the images it shows; their files lie below `folder`"
    attachments = {}

    def attach(image):
        path = folder / image[2]
        attachments[path.name] = {
            mimetypes.guess_type(path.name)[0]: base64.b64encode(path.read_bytes()).decode()
        }
        return f'![{image[1]}](attachment:{path.name})'

    source = re.sub(r'!\[([^]]*)\]\((?!\w+:)([^)]+)\)', attach, cell['source'])
    return dict(cell, source=source, attachments=attachments) if attachments else cell


NEEDS = 'This notebook needs the package in the environment of its kernel: `pip install -e .` in a clone of the repository.'


LINK = re.compile(r'(?<!!)\[([^\]]*)\]\((?!https?:)[^)]*\)')  # to another page


def download(page):
    """The notebook that a reader takes along: without outputs, nbdev's marks and links to other pages, with its
    images; what it needs is said first"""
    cells = [
        dict(c, outputs=[], source=MARKS.sub('', c.source))
        if c.cell_type == 'code'
        else attach_images(dict(c, source=LINK.sub(r'\1', c.source)), page.path.parent)
        for c in page.nb.cells
    ]
    return dict(page.nb, cells=[mk_cell(NEEDS, 'markdown', id='c10eab01'), *cells])


def write_extra(out, pages):
    "Files that lie beside the pages: llms.txt, and the notebooks that run anywhere, without their outputs"
    (out / 'extra').mkdir(exist_ok=True)
    (out / 'extra/llms.txt').write_text(llms(lambda p: f'{p.name}.html'), encoding='utf-8')
    for p in pages:
        if p.clone:
            continue
        path = out / f'extra/notebooks/{p.name}.ipynb'
        path.parent.mkdir(parents=True, exist_ok=True)
        write_nb(download(p), path)


def write_lists():
    "llms.txt, the sidebar and the picture of the house, which `make drift` compares"
    lists = {
        ROOT / 'llms.txt': llms(lambda p: f'nbs/{p.name}.ipynb'),
        NBS / 'sidebar.yml': sidebar(),
        NBS / 'images/house.svg': draw_house(imports()),
    }
    for path, text in lists.items():
        path.write_text(text, encoding='utf-8')


if __name__ == '__main__':
    if sys.argv[1] == '--llms':
        write_lists()
    else:
        write_site(Path(sys.argv[1]))
