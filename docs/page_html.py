"What is done to the HTML of a page when Sphinx writes it: header, description, sidebar in groups, remarks as footnotes."
import html, json, os, re
from pathlib import Path

HERE = Path(__file__).parent
REMARKS = {'note', 'notes', 'why', 'remark', 'remarks'}  # columns of sentences beside columns of numbers


def read(name):
    path = HERE/name
    return json.loads(path.read_text(encoding='utf-8')) if path.exists() else {}


ABOUT, SITE = read('about.json'), read('site.json')  # written by tools/pages.py: sentence and notebook of each page; addresses


def colab(repository, branch, notebook):
    "Address at which Colab opens a notebook, or '' where the repository is not on GitHub"
    found = re.fullmatch(r'https://github\.com/([\w.-]+/[\w.-]+?)(\.git)?/?', repository)
    return f'https://colab.research.google.com/github/{found[1]}/blob/{branch}/{notebook}' if found else ''


def links(page, up, site=None):
    "(words, address) of a page's header; what has no address is left out"
    site, notebook = SITE if site is None else site, ABOUT.get(page, {}).get('notebook')
    if not notebook: return []
    repository, branch = site.get('repository', '').rstrip('/'), site.get('branch', 'main')
    source = f'{repository}/blob/{branch}/{notebook}' if repository else ''
    found = [('Download notebook', f'{up}notebooks/{page}.ipynb'), ('Source', source), ('Open in Colab', colab(repository, branch, notebook))]
    return [(words, address) for words, address in found if address]


def header(page, up):
    "The links above a page's title"
    found = links(page, up)
    shown = ''.join(f'<a href="{html.escape(a)}"{" download" if w.startswith("Down") else ""}>{w}</a>' for w, a in found)
    return f'<nav class="page-links" aria-label="This notebook">{shown}</nav>' if found else ''


def description(page, title):
    "Tags that search engines and social pages read"
    about = ABOUT.get(page, {}).get('about') or 'CARVE and its relatives for vision-language models, as notebooks.'
    base = (os.environ.get('SITE_URL') or SITE.get('site', '')).rstrip('/')
    tags = {'og:type': 'article', 'og:site_name': 'carve_nb', 'og:title': title, 'og:description': about,
            'twitter:card': 'summary_large_image'}
    if base: tags |= {'og:image': f'{base}/_static/card.png', 'og:url': f'{base}/{page}.html',
                      'og:image:alt': 'Picture, both attention maps, their ratio and the magnified view'}
    one = lambda kind, k, v: f'<meta {kind}="{k}" content="{html.escape(v)}">'
    return '\n'.join([one('name', 'description', about), *(one('name' if k.startswith('twitter') else 'property', k, v) for k, v in tags.items())])


def groups(tree, open_too=()):
    "The captions of a navigation tree become groups that fold; the group of the page is open"
    parts = re.split(r'<p class="caption"[^>]*><span class="caption-text">(.*?)</span></p>', tree)
    out = parts[0]
    for title, rest in zip(parts[1::2], parts[2::2]):
        here = ' open' if 'current' in rest or html.unescape(title) in open_too else ''
        out += f'<details class="group"{here}><summary class="caption">{title}</summary>{rest}</details>'
    return out


def footnotes(body):
    "Sentences in the last column of a wide table stand below it, with a number in each row"
    if not re.search(rf'<th[^>]*>(<p>)?({"|".join(REMARKS)})\b', body): return body
    from bs4 import BeautifulSoup
    soup, n = BeautifulSoup(body, 'html.parser'), 0
    for table in soup.find_all('table'):
        heads = [c.get_text(strip=True) for c in table.thead.tr.find_all('th')] if table.thead else []
        at = next((i for i, h in enumerate(heads) if h in REMARKS), None)
        rows = [r for r in table.tbody.find_all('tr')] if at and table.tbody else []
        cells = [(r.find_all(['td', 'th']), r) for r in rows]
        texts = [c[at].get_text(strip=True) for c, _ in cells if len(c) == len(heads)]
        if len(heads) < 5 or max(map(len, texts), default=0) < 60: continue
        listed, n = soup.new_tag('ol', attrs={'class': 'remarks'}), n + 1
        for i, (c, row) in enumerate(cells):
            if len(c) != len(heads) or not c[at].get_text(strip=True).strip('-–'): continue
            k = len(listed.find_all('li', recursive=False)) + 1
            item = soup.new_tag('li', id=f'remark-{n}-{k}')
            item.extend([o.extract() for o in list(c[at].contents)])
            listed.append(item)
            mark = soup.new_tag('sup')
            link = soup.new_tag('a', href=f'#remark-{n}-{k}', attrs={'aria-label': f'remark {k}'})
            link.string = str(k)
            mark.append(link)
            (c[0].p or c[0]).append(mark)
        for c, _ in [*cells, (table.thead.tr.find_all('th'), None)]: c[at].extract()
        for group in table.find_all('colgroup'): group.extract()
        inside = table.find_parent('div', class_='table-wrapper')
        (inside or table).insert_after(listed)
    return str(soup)


def page_context(app, pagename, templatename, context, doctree):
    "Called by Sphinx for each page, before the theme computes its own things"
    up = '../'*pagename.count('/')
    if 'toctree' in context:
        whole = context['toctree']
        context['toctree'] = lambda **kw: whole(**{**kw, 'collapse': True})
    if doctree is None: return
    body = context['body'].replace(' aria-label="Toggle hidden content"', '')  # the words of a fold are its name
    context['body'] = header(pagename, up) + footnotes(body)
    context['metatags'] = context.get('metatags', '') + description(pagename, context.get('title', 'carve_nb'))


def fold_groups(app, pagename, templatename, context, doctree):
    "Called after the theme"
    if 'furo_navigation_tree' in context:
        context['furo_navigation_tree'] = groups(context['furo_navigation_tree'], {'The book', 'Tutorials'} if pagename == 'index' else ())


def leave_out(app, doctree):
    "Pages of the inside are no part of the search index; their functions are"
    if ABOUT.get(app.env.docname, {}).get('internal'): app.env.metadata[app.env.docname]['no-search'] = ''


def index_prose():
    "What a search reads of a page is its prose, without code, outputs and signatures"
    from docutils import nodes
    from sphinx import addnodes, search
    feed = search.IndexBuilder.feed
    def skipped(n): return isinstance(n, (nodes.literal_block, addnodes.desc)) or isinstance(n, nodes.container) and 'cell' in n['classes']
    def lean(self, docname, filename, title, doctree):
        prose = doctree.deepcopy()
        for node in [*prose.findall(skipped)]:
            if node.parent is not None: node.parent.remove(node)
        feed(self, docname, filename, title, prose)
    search.IndexBuilder.feed = lean


def connect(app):
    app.connect('html-page-context', page_context, priority=400)
    app.connect('html-page-context', fold_groups, priority=600)
    app.connect('doctree-read', leave_out)
    index_prose()
