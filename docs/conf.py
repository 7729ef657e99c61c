"Settings of Sphinx. The pages come from tools/pages.py; `make docs` builds them."

import os
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import page_html  # noqa: E402
from sphinx.search.en import SearchEnglish  # noqa: E402

project = 'carve_nb'
author = copyright = 'the carve_nb authors'
extensions = ['myst_nb', 'sphinx.ext.mathjax', 'sphinx.ext.autodoc', 'sphinx.ext.napoleon']
exclude_patterns = ['images', 'extra']

nb_execution_mode = 'off'  # outputs are those that are stored in the notebooks
nb_merge_streams = True
nb_render_markdown_format = 'myst'  # tables in outputs
myst_enable_extensions = ['dollarmath', 'amsmath']
myst_heading_anchors = 4
myst_dmath_double_inline = True
myst_linkify_fuzzy_links = False

suppress_warnings = ['ref.python']  # a class of the same name in two modules, in a signature

html_theme = 'furo'
# colors that can be read: comments carry the documentation of parameters
LIGHT = {
    'comment': '#47606b',
    'number': '#19633f',
    'name': '#0a5c80',
    'part': '#2f6192',
    'magic': '#8a2fa5',
    'right': '#02724f',
    'wrong': '#b34700',
}
DARK = {
    'comment': '#9fb0bd',
    'number': '#a5d6ff',
    'name': '#ff7b72',
    'part': '#a5d6ff',
    'magic': '#79c0ff',
    'right': '#4fd6a5',
    'wrong': '#ff9a57',
}
html_theme_options = dict(light_css_variables=LIGHT, dark_css_variables=DARK)
html_title = 'carve_nb'
html_favicon = '_static/favicon.svg'
html_static_path = ['_static']
html_css_files = ['site.css']
html_js_files = ['site.js']
html_extra_path = ['extra']
SearchEnglish.stopwords |= {'use'}  # a search asks for all other words of a question
html_search_scorer = str(Path(__file__).with_name('scorer.js'))
html_copy_source = html_show_sourcelink = False
html_baseurl = os.environ.get('SITE_URL') or page_html.SITE.get('site', '')
pygments_style, pygments_dark_style = 'friendly', 'github-dark'

add_module_names = False
autodoc_default_options = {'special-members': '__call__', 'show-inheritance': True}
autodoc_member_order = 'bysource'
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
toc_object_entries_show_parents = 'hide'

# MathJax comes from a package and is served from here, without the parts that are not used.
mathjax_path = 'mathjax/tex-chtml.js'
MATHJAX = ['tex-chtml.js', 'output/chtml/fonts', 'input/tex/extensions']


def copy_mathjax(app, error):
    "MathJax beside the pages"
    source = Path(find_spec('sphinx-mathjax-offline').origin).parent / 'static/mathjax'
    for part in [] if error else MATHJAX:
        target = Path(app.outdir) / '_static/mathjax' / part
        target.parent.mkdir(parents=True, exist_ok=True)
        if (source / part).is_dir():
            shutil.copytree(source / part, target, dirs_exist_ok=True)
        else:
            shutil.copy(source / part, target)


def setup(app):
    page_html.connect(app)
    app.connect('build-finished', copy_mathjax)
    return dict(parallel_read_safe=True, parallel_write_safe=True)
