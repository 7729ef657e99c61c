"""What the modules define, read from their text: signatures with the comments behind their parameters.
Imports nothing of them."""
import ast
import io
import re
import tokenize
from dataclasses import dataclass, field

@dataclass
class Symbol:
    "A function, class, method or constant of a module"
    # 'function', 'class', 'method', 'property', 'attribute' or 'data', the words of Sphinx's Python domain
    kind: str
    name: str  # with the class in front of it for a method: 'VLM.capture'
    signature: str = ''  # in brackets, with what comes back
    doc: str = ''
    params: list = field(default_factory=list)  # (name, comment)
    returns: str = ''  # comment
    example: str = ''  # lines of Python
    bases: list = field(default_factory=list)
    members: list = field(default_factory=list)  # of `Symbol`
    context: bool = False  # is it a context manager?
    value: str = ''  # of a constant


def trailing(text):
    "Comments of a piece of Python by line"
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return {t.start[0]: t.string.lstrip('# ').strip() for t in tokens if t.type == tokenize.COMMENT}


def names(nodes): return [ast.unparse(o.func if isinstance(o, ast.Call) else o).split('.')[-1] for o in nodes]

SECTION = re.compile(r'^(Parameters|Returns|Examples)\n-+\n', re.M)
ITEM = re.compile(r'^(\S.*)\n((?:    .*\n?)+)', re.M)


def documented(node, params=(), returns=''):
    """What a NumPy docstring says, beside the comments that were read: prose, (name, words) of each parameter,
    the words on what comes back, and the example"""
    prose, *parts = SECTION.split((ast.get_docstring(node) or '').strip())
    told = dict(zip(parts[::2], parts[1::2]))
    words = {section: {name.lstrip('*'): ' '.join(text.split()) for name, text in ITEM.findall(told.get(section, ''))}
        for section in ('Parameters', 'Returns')}
    known = [(name, words['Parameters'].get(name, comment)) for name, comment in params]
    returned = next(iter(words['Returns'].values()), returns)
    return dict(doc=prose.strip(), params=known, returns=returned, example=told.get('Examples', '').strip())


def header(node, notes, skip=0):
    "Signature, (name, comment) of each parameter, and the comment on what comes back"
    a = node.args
    every = [o for o in (*a.posonlyargs, *a.args, a.vararg, *a.kwonlyargs, a.kwarg) if o][skip:]
    end = every and max(o.end_lineno for o in [*every, *a.defaults, *a.kw_defaults] if o)
    told = {}  # name of a parameter, or None for what comes back -> comment
    for line in range(node.lineno, node.body[0].lineno):
        if line not in notes: continue
        # a comment belongs to the last of them, or to none: self
        before = [o.arg for o in every if o.lineno <= line]
        if not every or line > end: told[None] = notes[line]
        elif before: told[before[-1]] = notes[line]
    for o in every:  # Annotated[X, 'what it is']: X, with its words as the comment
        if isinstance(o.annotation, ast.Subscript) and names([o.annotation.value]) == ['Annotated']:
            o.annotation, what, *_ = o.annotation.slice.elts
            words = what.args[0] if isinstance(what, ast.Call) and what.args else what
            told.setdefault(o.arg, getattr(words, 'value', ''))
    if skip: del (a.posonlyargs or a.args)[0]
    returns = f' -> {ast.unparse(node.returns)}' if node.returns else ''
    return f'({ast.unparse(a)}){returns}', [(o.arg, told.get(o.arg, '')) for o in every], told.get(None, '')


def function(node, notes, owner=''):
    "A function, a method, or one that is patched onto a class"
    marks = names(node.decorator_list)
    if 'patch' in marks: owner = ast.unparse(node.args.args[0].annotation)
    sign, params, returns = header(node, notes, int(bool(owner) and 'staticmethod' not in marks))
    prop = ({'property', 'cached_property'} & set(marks) or 'as_prop=True' in ' '.join(map(ast.unparse,
        node.decorator_list)))
    kind = 'property' if prop else 'method' if owner else 'function'
    return Symbol(kind, f'{owner}.{node.name}'.lstrip('.'), '' if prop else sign,
        context='contextmanager' in marks, **documented(node, params, returns))


def klass(node, notes):
    "A class: the fields of a dataclass are its parameters"
    out = Symbol('class', node.name, bases=[ast.unparse(o) for o in node.bases])
    defs = [o for o in node.body if isinstance(o, (ast.FunctionDef, ast.AsyncFunctionDef))]
    if 'dataclass' in names(node.decorator_list):
        fields = [o for o in node.body if isinstance(o, ast.AnnAssign)
            and 'ClassVar' not in ast.unparse(o.annotation)]
        shown = [(o, '' if o.value is None else '=...' if isinstance(o.value, ast.Call)
            else f'={ast.unparse(o.value)}') for o in fields]
        out.signature = f'({", ".join(o.target.id + v for o, v in shown)})'
        out.params = [(o.target.id, notes.get(o.end_lineno, '')) for o in fields if o.target.id[0] != '_']
    elif init := next((o for o in defs if o.name == '__init__'), None):
        out.signature, out.params, _ = header(init, notes, 1)
    vars(out).update(documented(node, out.params))
    own = [o for o in defs if not any(ast.unparse(d).endswith('.setter')
        for d in o.decorator_list)]  # described where it is read
    out.members = [function(o, notes, node.name) for o in own if o.name[0] != '_' or o.name == '__call__']
    out.members += [Symbol('attribute', f'{node.name}.{o.target.id}', doc=notes[o.end_lineno])
        for o in node.body
        if isinstance(o, ast.AnnAssign) and 'ClassVar' in ast.unparse(o.annotation)
        and notes.get(o.end_lineno)]
    return out


def constants(node, notes, public):
    "Names that a statement gives a value"
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    for t in targets:
        for o in getattr(t, 'elts', [t]):
            if getattr(o, 'id', None) not in public: continue
            value = ast.unparse(node.value) if targets == [o] and node.value else ''
            yield Symbol('data', o.id, doc=notes.get(node.end_lineno, ''),
                value=value if len(value) < 80 else value[:76] + ' …')


def read(path):
    "The docstring of a module and its public symbols, in their order"
    text = path.read_text(encoding='utf-8')
    tree, notes, found = ast.parse(text), trailing(text), []
    listed = [o.value for o in tree.body if isinstance(o, ast.Assign) and '__all__' in names(o.targets)]
    public = {n for o in listed for n in ast.literal_eval(o)}
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            if node.name[0] != '_' and (node.name in public or 'patch' in names(node.decorator_list)):
                found.append(function(node, notes))
        elif isinstance(node, ast.ClassDef) and node.name in public: found.append(klass(node, notes))
        elif isinstance(node, (ast.Assign, ast.AnnAssign)): found += constants(node, notes, public)
    merged = {}
    for s in found: merged[s.name] = s  # what is defined twice counts as the last time
    return documented(tree)['doc'], list(merged.values())
