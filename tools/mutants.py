"""Would the tests notice? A hundred small mistakes, one at a time: `make mutants SEED=20261124`.

cosmic-ray's operators make them (off by one, comparison, sign, `and` for `or`, `True` for `False`), drawn
by the seed over the rooms in proportion to their lines. Each goes into a module of a copy of the clone,
`nbdev-update` carries it to the notebook that the module comes from, and the notebook runs; where it
passes, the tests nearest to the room run. What passes all has survived: a test is missing, or the mutant
is equivalent, and EQUIVALENT says why. Resumable: what is in OUT is not done again. Seeds, each named
before its run: 20261124, 20261125, 20261126; 20261201 with --n 40, before and after the library is halved
(#56), 20270101 with --n 40 (#77)."""
import argparse
import json
import os
import random
import re
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path
import cosmic_ray.plugins as plugins
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from parso.tree import search_ancestor

ROOMS = {'formulas': ['tests/models/test_answers.py'],
    'attention': ['tests/attention', 'tests/faults/test_blocks.py'],
         'method': ['tests/models/test_asking.py', 'tests/models/test_answers.py',
             'tests/method/test_methods.py'],
         'runs': ['tests/runs/test_run.py', 'tests/data/test_scores.py', 'tests/runs/test_scale.py'],
         'studies/profile.py': ['tests/attention/test_own_model.py'],
         'data/drawing.py': ['nbs/library/data/02_scenes.ipynb']}
LEFT = 'core/ExceptionReplacer', 'core/RemoveDecorator'
ELSEWHERE = 'annassign', 'tfpdef', 'decorator', 'raise_stmt'   # types, and what an error says
EQUIVALENT = {   # a changed line -> why no test can tell
    's = A.index_fill( -1, torch.tensor(shut, dtype=torch.long), -torch.inf)': 'A has one axis',
    'S = as_saliency(gain, prompt.spans[ -1], image)': 'a tower that reads several crops is refused',
    'if not measured: warnings.warn(f\'{profile.model}: {profile.advice("carve")}\', stacklevel= 3)': 'the line that a warning names',
    'w, h = image.width/20, image.height/ 19    # half a side of a square': 'a square a little higher is as good',
    'measured = ray.data.from_items(rows, override_num_blocks=min(len(rows), 3999)).map_batches(': 'a block more or less',
    "None, status if status in FAILED else 'error', one_line(f'{type(e).__name__}: {e}')[: 501])": 'a letter more is as good',
    'float(np.mean([one.query == cell.query for one in drawn])), 4),': 'a digit more of a share that is shown in percent',
    'if why and plain and plain.n_prompt >= 2*self.tokens:': 'a note: at twice the tokens it is as good',
}


def operators():
    "Name -> operator of cosmic-ray, those that make the mistakes named above"
    found = {name: plugins.get_operator(name) for name in plugins.operator_names() if name not in LEFT}
    return {name: o() for name, o in found.items() if not o.arguments()}


def places(path, every):
    """Of each place in a module's code, types and messages apart: [(name of an operator, occurrence)], what
    can be done to it"""
    nodes = list(ast_nodes(get_ast(path.read_text(encoding='utf-8'))))
    found = defaultdict(list)
    for name, o in every.items():
        spots = [(node, spot) for node in nodes for spot in o.mutation_positions(node)]
        for i, (node, spot) in enumerate(spots):
            if not search_ancestor(node, *ELSEWHERE): found[spot].append((name, i))
    return list(found.values())


def draw(root, seed, n):
    "[(module, operator, occurrence)]: n of them over the rooms, in proportion to lines"
    every, rng, drawn = operators(), random.Random(seed), []
    modules = {room: sorted(p for p in (root/'carve_nb'/room).rglob('*.py') if p.name != '__init__.py')
        or [root/'carve_nb'/room] for room in ROOMS}
    lines = {room: sum(p.read_text(encoding='utf-8').count('\n') for p in paths)
        for room, paths in modules.items()}
    for room, paths in modules.items():
        sites = [(str(p.relative_to(root)), choices) for p in paths for choices in places(p, every)]
        some = rng.sample(sites, round(n*lines[room]/sum(lines.values())))
        drawn += [(module, *rng.choice(choices)) for module, choices in some]
    return drawn


def run(tree, *words, seconds=900):
    "Did a command in the copy end well? One that does not end has not"
    env = os.environ | dict(PYTHONPATH=str(tree), OMP_NUM_THREADS='1', HF_HUB_OFFLINE='1')
    words = [str(Path(sys.executable).with_name(words[0])), *words[1:]]
    try: return subprocess.run(words, cwd=tree, env=env, capture_output=True, timeout=seconds).returncode == 0
    except subprocess.TimeoutExpired: return False


def passes(tree, test):
    "Does a notebook or a file of tests pass?"
    return (run(tree, 'nbdev-test', test, '--n-workers', '1') if test.endswith('.ipynb')
        else run(tree, 'pytest', '-x', '-q', test))


def notebook_of(tree, module):
    "Where a module comes from, by its first lines"
    path = tree/module
    return str((path.parent/re.search(r'File to edit: (\S+)\.',
        path.read_text(encoding='utf-8'))[1]).resolve().relative_to(tree.resolve()))


def caught_by(tree, module, text):
    "What fails once a module has that text: its notebook, a file of tests, or nothing"
    (tree/module).write_text(text, encoding='utf-8')
    room = module.removeprefix('carve_nb/')
    try:
        if not run(tree, 'nbdev-update', '--fname', module): return 'nbdev-update'
        if not passes(tree, notebook_of(tree, module)): return 'notebook'
        return next((test for test in ROOMS.get(room) or ROOMS[room.split('/')[0]] if not passes(tree, test)),
            None)
    finally: subprocess.run(['git', 'checkout', '-q', '.'], cwd=tree, check=True)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--seed', type=int, required=True)
    p.add_argument('--n', type=int, default=100)
    p.add_argument('--out', type=Path, required=True, help='JSON file, taken up where it is there')
    a = p.parse_args()
    tree = a.out.with_suffix('').absolute()
    if not tree.exists(): subprocess.run(['git', 'clone', '-q', '--shared', '.', tree], check=True)
    done = json.loads(a.out.read_text()) if a.out.exists() else []
    for module, name, i in draw(tree, a.seed, a.n)[len(done):]:
        before = (tree/module).read_text(encoding='utf-8')
        if module not in {o['module'] for o in done} and not passes(tree, notebook_of(tree, module)):
            sys.exit(f'{notebook_of(tree, module)} fails without a mutant: nothing can be told.')
        after = mutate_code(before, plugins.get_operator(name)(), i)
        old, new = next((x, y) for x, y in zip(before.splitlines(), after.splitlines()) if x != y)
        done.append(dict(module=module, old=old.strip(), new=new.strip(),
            caught_by=caught_by(tree, module, after)))
        a.out.write_text(json.dumps(done, indent=1) + '\n')
        print(json.dumps(done[-1]), flush=True)
    print(Counter('caught' if o['caught_by'] else 'equivalent' if o['new'] in EQUIVALENT else 'survived'
        for o in done))


if __name__ == '__main__': main()
