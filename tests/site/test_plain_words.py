"The words of README, help, messages and docstrings are those of the field: docs/words.toml has what is not, with a sentence for and against each."
import ast, re, tomllib
import pytest
from processes import ROOT

WORDS = tomllib.loads((ROOT/'docs/words.toml').read_text(encoding='utf-8'))['word']
CODE = re.compile(r'```.*?```|`[^`\n]*`|https?://\S+|\]\([^)]*\)', re.S)


def found(text, word): return re.findall(word['not'], text, re.I | re.M)


def docstrings(tree):
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and (doc := ast.get_docstring(node)): yield doc


def messages(tree):
    "Texts of the errors that are raised"
    for node in ast.walk(tree):
        if isinstance(node, ast.Raise): yield ' '.join(o.value for o in ast.walk(node) if isinstance(o, ast.Constant) and isinstance(o.value, str))


def texts():
    "Texts that a user reads, by their source"
    trees = [ast.parse(p.read_text(encoding='utf-8')) for p in sorted((ROOT/'carve_nb').rglob('*.py')) if p.name != '_modidx.py']
    read = {name: (ROOT/name).read_text(encoding='utf-8') for name in ('README.md', 'CONTRIBUTING.md', 'SECURITY.md')}
    return {name: CODE.sub('', text) for name, text in read.items()} | dict(
        docstrings='\n'.join(CODE.sub('', d) for t in trees for d in docstrings(t)), messages='\n'.join(CODE.sub('', m) for t in trees for m in messages(t)))


@pytest.mark.parametrize('word', WORDS, ids=lambda w: w['use'])
def test_each_pattern_finds_and_leaves(word):
    assert found(word['finds'], word) and not found(word['leaves'], word)


@pytest.mark.parametrize('name', ['README.md', 'CONTRIBUTING.md', 'SECURITY.md', 'docstrings', 'messages'])
def test_words_of_the_field(name):
    "At most one foreign word in a thousand"
    text = texts()[name]
    hits = [(w['use'], h) for w in WORDS for h in found(text, w)]
    assert len(hits) <= max(1, len(text.split())/1000), hits
