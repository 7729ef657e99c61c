"""The words of README, site, help, messages and docstrings are those of the field: docs/words.toml has what
is not, with a sentence for and against each."""
import ast
import json
import re
import tomllib
from functools import cache
import pytest
from processes import ROOT, package_trees

WORDS = tomllib.loads((ROOT/'docs/words.toml').read_text(encoding='utf-8'))['word']
CODE = re.compile(r'```.*?```|`[^`\n]*`|https?://\S+|\]\([^)]*\)|\$\$.*?\$\$|\$[^$\n]*\$', re.S)
SAYS = {'warn', 'warning', 'info', 'print_line'}   # what tells a user something, beside errors


def find_words(text, word): return re.findall(word['not'], text, re.I | re.M)


def docstrings(tree):
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and (doc := ast.get_docstring(node)):
            yield doc


def messages(tree):
    "Texts of the errors that are raised, and of warnings and notes"
    for node in ast.walk(tree):
        says = isinstance(node, ast.Call) and getattr(node.func, 'attr', getattr(node.func, 'id', '')) in SAYS
        if says or isinstance(node, ast.Raise):
            yield ' '.join(o.value for o in ast.walk(node) if isinstance(o, ast.Constant)
                and isinstance(o.value, str))


def helps():
    "What `carve --help` and the help of each command say"
    import typer
    from carve_nb.cli.main import app
    group = typer.main.get_command(app)
    for command in group, *group.commands.values():
        yield '\n'.join([command.help, command.epilog or '', *(p.help or '' for p in command.params)])


def site(rooms):
    "What the pages of rooms say, without their code, and what images show in words; '' is the book"
    pages = [p for room in rooms for p in sorted((ROOT/'nbs'/room).glob('**/*.ipynb' if room else '*.ipynb'))]
    cells = [(c['cell_type'], ''.join(c['source'])) for p in pages
        for c in json.loads(p.read_text(encoding='utf-8'))['cells']]
    return '\n'.join(line for kind, text in cells for line in ([text] if kind == 'markdown'
        else re.findall('^#. fig-alt: (.*)', text, re.M)))


@cache
def texts():
    "Texts that a user reads, by their source"
    trees = package_trees()
    read = {name: (ROOT/name).read_text(encoding='utf-8')
        for name in ('README.md', 'CONTRIBUTING.md', 'SECURITY.md')}
    read |= {'the book': site(['']), 'the other pages': site(['tutorials', 'notes', 'library', 'training']),
        'help': '\n'.join(helps())}
    return {name: CODE.sub('', text) for name, text in read.items()} | dict(
        docstrings='\n'.join(CODE.sub('', d) for t in trees for d in docstrings(t)),
        messages='\n'.join(CODE.sub('', m) for t in trees for m in messages(t)))


@pytest.mark.parametrize('word', WORDS, ids=lambda w: w['use'])
def test_each_pattern_finds_and_leaves(word):
    assert find_words(word['finds'], word) and not find_words(word['leaves'], word)


@pytest.mark.parametrize('name',
    ['README.md', 'CONTRIBUTING.md', 'SECURITY.md', 'the book', 'the other pages', 'help',
    'docstrings', 'messages'])
def test_words_of_the_field(name):
    "At most one foreign word in a thousand"
    text = texts()[name]
    hits = [(w['use'], h) for w in WORDS for h in find_words(text, w)]
    assert len(hits) <= max(1, len(text.split())/1000), hits
