"What is done to the HTML of a page when Sphinx writes it: header and description."

import html
import json
import os
import re
from pathlib import Path

HERE = Path(__file__).parent


def read(name):
    path = HERE / name
    return json.loads(path.read_text(encoding='utf-8')) if path.exists() else {}


ABOUT, SITE = (
    read('about.json'),
    read('site.json'),
)  # written by tools/pages.py: sentence and notebook of each page; addresses


def colab(repository, branch, notebook):
    "Address at which Colab opens a notebook, or '' where the repository is not on GitHub"
    match = re.fullmatch(r'https://github\.com/([\w.-]+/[\w.-]+?)(\.git)?/?', repository)
    return f'https://colab.research.google.com/github/{match[1]}/blob/{branch}/{notebook}' if match else ''


def links(page, up, site=None):
    "(words, address) of a page's header; what has no address is left out"
    site, about = SITE if site is None else site, ABOUT.get(page)
    if not about:
        return []
    notebook = about['notebook']
    repository, branch = site.get('repository', '').rstrip('/'), site.get('branch', 'main')
    source = f'{repository}/blob/{branch}/{notebook}' if repository else ''
    download = '' if about['clone'] else f'{up}notebooks/{page}.ipynb'
    addresses = [
        ('Download notebook', download),
        ('Source', source),
        ('Open in Colab', colab(repository, branch, notebook) if about['alone'] else ''),
    ]
    return [(words, address) for words, address in addresses if address]


def header(page, up):
    "The links above a page's title; of a page that reads files of the repository the path at which it runs"
    addresses, about = links(page, up), ABOUT.get(page)
    if not about:
        return ''
    path = f'<span>In a clone: <code>{about["notebook"]}</code></span>' if about['clone'] else ''
    inner = path + ''.join(
        f'<a href="{html.escape(a)}"{" download" if w.startswith("Down") else ""}>{w}</a>'
        for w, a in addresses
    )
    return f'<nav class="page-links" aria-label="This notebook">{inner}</nav>'


def description(page, title):
    "Tags that search engines and social pages read"
    about = (
        ABOUT.get(page, {}).get('about')
        or 'CARVE and its relatives for vision-language models, as notebooks.'
    )
    base = (os.environ.get('SITE_URL') or SITE.get('site', '')).rstrip('/')
    tags = {
        'og:type': 'article',
        'og:site_name': 'carve_nb',
        'og:title': title,
        'og:description': about,
        'twitter:card': 'summary_large_image',
    }
    if base:
        tags |= {
            'og:image': f'{base}/_static/card.png',
            'og:url': f'{base}/{page}.html',
            'og:image:alt': 'Image, both attention maps, their ratio and the enlarged crop',
        }
    one = lambda kind, k, v: f'<meta {kind}="{k}" content="{html.escape(v)}">'
    return '\n'.join(
        [
            one('name', 'description', about),
            *(one('name' if k.startswith('twitter') else 'property', k, v) for k, v in tags.items()),
        ]
    )


def page_context(app, pagename, templatename, context, doctree):
    "Called by Sphinx for each page, before the theme computes its own things"
    up = '../' * pagename.count('/')
    if doctree is None:
        return
    body = context['body'].replace(
        ' aria-label="Toggle hidden content"', ''
    )  # the words of a fold are its name
    context['body'] = header(pagename, up) + body
    context['metatags'] = context.get('metatags', '') + description(
        pagename, context.get('title', 'carve_nb')
    )


def leave_out(app, doctree):
    "Pages of the inside are no part of the search index; their functions are"
    if ABOUT.get(app.env.docname, {}).get('internal'):
        app.env.metadata[app.env.docname]['no-search'] = ''


def index_prose():
    "What a search reads of a page is its prose, without code, outputs and signatures, and the questions that it answers"
    from docutils import nodes
    from sphinx import addnodes, search

    feed = search.IndexBuilder.feed

    def skipped(n):
        return (
            isinstance(n, (nodes.literal_block, addnodes.desc))
            or isinstance(n, nodes.container)
            and 'cell' in n['classes']
        )

    def lean(self, docname, filename, title, doctree):
        prose = doctree.deepcopy()
        for node in [*prose.findall(skipped)]:
            if node.parent is not None:
                node.parent.remove(node)
        prose.append(nodes.paragraph('', ABOUT.get(docname, {}).get('asked', '')))
        feed(self, docname, filename, title, prose)

    search.IndexBuilder.feed = lean


def escape(text):
    "A docstring as reStructuredText: words in backticks are literals, all else is plain"
    parts = text.split('`')
    return ''.join(
        f'\\ ``{" ".join(part.split())}``\\ ' if i % 2 else re.sub(r'([\\*_|<>])', r'\\\1', part)
        for i, part in enumerate(parts)
    )


def write_docstring(app, what, name, obj, options, lines):
    "A docstring as Sphinx reads it, with the comments behind the parameters of a function or a dataclass"
    from fastcore.docments import docments

    if what == 'module':
        lines.clear()  # its page says it
    text, *examples = re.split(r'(?ms)^Examples\n-+\n(.*?)(?=^\w+\n-+$|\Z)', '\n'.join(lines))
    code, text = examples[:1], text + ''.join(examples[1:])
    comments = (
        docments(obj) if what in ('function', 'method', 'class') and 'Parameters\n---' not in text else {}
    )
    fields = {
        ('returns' if k == 'return' else f'param {k}'): ' '.join(v.split()) for k, v in comments.items() if v
    }
    text = '\n'.join([escape(text), '', *(f':{k}: {escape(v)}' for k, v in fields.items()), ''])
    for example in code:
        text += '\nExamples\n--------\n.. code-block:: python\n\n   ' + example.replace('\n', '\n   ')
    lines[:] = text.split('\n')


def dataclass_fields(app, what, name, obj, options, signature, returns):
    "A dataclass is called with its fields, also where a `__new__` looks at them first"
    from dataclasses import is_dataclass
    from sphinx.util.inspect import signature as read, stringify_signature

    if what != 'class' or not is_dataclass(obj):
        return None
    return stringify_signature(
        read(obj.__init__, bound_method=True), show_return_annotation=False, unqualified_typehints=True
    ), ''


def skip_commands(app, what, name, obj, skip, options):
    "A command of the shell is not in the reference: its `--help` says more"
    return True if hasattr(obj, '__signature__') and obj.__module__ == 'carve_nb.cli.commands' else None


NAME = re.compile(r'[A-Za-z][\w.]*')


def link_names(app, doctree):
    "A name of the package in backticks leads to its place in the reference; what has none stays as it is"
    from docutils import nodes
    from sphinx import addnodes

    for literal in [*doctree.findall(nodes.literal)]:
        name = re.sub(r'\(.*\)$', '', literal.astext()).removeprefix('carve_nb.')
        linked = isinstance(literal.parent, (nodes.title, nodes.reference, addnodes.pending_xref))
        if linked or not NAME.fullmatch(name) or name == name.lower() and '_' not in name and '.' not in name:
            continue
        xref = addnodes.pending_xref(
            '', refdomain='py', reftype='obj', reftarget=name, refspecific=True, refdoc=app.env.docname
        )
        literal.replace_self(xref)
        xref += literal


def connect(app):
    app.connect('autodoc-process-docstring', write_docstring, 400)
    app.connect('autodoc-process-signature', dataclass_fields)
    app.connect('autodoc-skip-member', skip_commands)
    app.connect('doctree-read', link_names)
    app.connect('html-page-context', page_context)
    app.connect('doctree-read', leave_out)
    index_prose()
