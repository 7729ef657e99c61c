"pyproject.toml, the package, its notebooks, the Makefile and what else names them agree."
import ast
import json
import re
import shutil
import subprocess
import sys
import tomllib
from configparser import ConfigParser
from importlib.metadata import packages_distributions
import check_jsonschema
import pytest
from click.testing import CliRunner
from processes import ROOT
import carve_nb

pyproject = tomllib.loads((ROOT/'pyproject.toml').read_text())
project = pyproject['project']
nbdev = pyproject['tool']['nbdev']
EXTRAS = {k: v for k, v in project['optional-dependencies'].items() if k != 'all'}
REQUIREMENTS = [*project['dependencies'], *(o for v in EXTRAS.values() for o in v)]
def normal(name): return re.sub(r'[-_.]+', '-', name).lower()
def names(requirements): return {normal(re.match(r'[\w.-]+', o)[0]) for o in requirements}


def test_settings_say_the_same():
    "settings.ini, for tools of nbdev 2, repeats pyproject.toml; version and requirements stand there alone"
    ini = ConfigParser(interpolation=None)
    ini.read(ROOT/'settings.ini')
    assert dict(ini['DEFAULT']) == {k: nbdev[k]
        for k in ('title', 'branch', 'nbs_path', 'lib_path', 'doc_path',
        'tst_flags')} | dict(
        lib_name=project['name'], description=project['description'], license=project['license'],
        author=project['authors'][0]['name'],
        keywords=' '.join(project['keywords']), min_python=project['requires-python'][2:],
        status=re.search(r'\d', project['classifiers'][0])[0])


def test_version_moves(tmp_path):
    "`nbdev-bump-version` moves the one version, in the package, and setuptools and nbdev read it there"
    (tmp_path/'carve_nb').mkdir()
    (tmp_path/'nbs').mkdir()
    for name in ('pyproject.toml', 'setup.py', 'README.md', 'LICENSE', 'carve_nb/__init__.py'):
        shutil.copy(ROOT/name, tmp_path/name)
    run = lambda *words: subprocess.run([sys.executable, *words], cwd=tmp_path, capture_output=True,
        text=True,
        check=True).stdout.split()
    told = lambda: run('setup.py', '--quiet', '--name', '--version') + run('-c',
        'from nbdev.config import get_config; print(get_config().version)')
    assert told() == ['carve_nb', carve_nb.__version__, carve_nb.__version__]
    run('-c', 'from nbdev.release import nbdev_bump_version; nbdev_bump_version(0)')
    assert told()[1] == told()[2] == f'{int(carve_nb.__version__.split(".")[0]) + 1}.0.0'


def test_quarto_is_linked():
    link = ROOT/'nbs'/'_quarto.yml'
    assert link.is_symlink() and link.resolve() == ROOT/'_quarto.yml'
    assert 'custom_quarto_yml' not in nbdev  # it would delete the file


def imports(source):
    "Top-level names of what a piece of Python imports"
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import): yield from (o.name.split('.')[0] for o in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level: yield node.module.split('.')[0]


def third_party(sources):
    "Distributions that the sources import, beside the standard library and this package"
    known = packages_distributions()
    found = {o for s in sources for o in imports(s)} - set(sys.stdlib_module_names) - {'carve_nb',
        '__future__'}
    return {o: {normal(d) for d in known.get(o, [o])} for o in found}


def outside_functions(source):
    "The same source without what its functions do"
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)): node.body = [ast.Pass()]
    return ast.unparse(tree)


def test_modules_import_requirements_only():
    """A module imports what the plain install brings; of the extras, only inside the function that needs it. `carve serve` asks
    for its libraries before it imports its module"""
    sources = [p.read_text() for p in (ROOT/'carve_nb').rglob('*.py')]
    outside = third_party(outside_functions(p.read_text()) for p in (ROOT/'carve_nb').rglob('*.py') if p.stem != 'serve')
    whole = third_party(sources)
    assert not {k: v for k, v in outside.items() if not v & names(project['dependencies'])}
    assert not {k: v for k, v in whole.items() if not v & names(REQUIREMENTS)}


def older(folder, command, *args):
    "Run our script under the name of a command, as `make` puts it beside the others"
    path = folder/command
    path.write_bytes((ROOT/'scripts/nbdev_older').read_bytes())
    return subprocess.run([sys.executable, path, *map(str, args)], cwd=ROOT, capture_output=True, text=True)


@pytest.mark.parametrize('options, code, rc', [(['--n_workers', '1', '--do_print'], 'assert 1 + 1 == 2', 0),
                                               (['--n-workers=1', '--do_print'], 'assert 1 + 1 == 3', 1)])
def test_older_options(tmp_path, options, code, rc):
    "`nbdev_test --n_workers 1` does what `nbdev-test --n-workers 1` does, and its exit status is kept"
    cell = dict(cell_type='code', id='a', source=code, metadata={}, outputs=[], execution_count=None)
    path = tmp_path/'sums.ipynb'
    path.write_text(json.dumps(dict(cells=[cell], metadata={}, nbformat=4, nbformat_minor=5)))
    out = older(tmp_path, 'nbdev_test', path, *options)
    assert out.returncode == rc and 'sums.ipynb' in out.stdout, out.stdout + out.stderr


@pytest.mark.parametrize('schema, files', [
    ('github-workflows', '.github/workflows/*.yml'),
    ('github-issue-forms', '.github/ISSUE_TEMPLATE/[0-9]*.yml'),
    ('github-issue-config', '.github/ISSUE_TEMPLATE/config.yml'), ('citation-file-format', 'CITATION.cff')])
def test_hosts_can_read_it(schema, files):
    found = sorted(ROOT.glob(files))
    done = CliRunner().invoke(check_jsonschema.main, ['--builtin-schema', f'vendor.{schema}', *map(str, found)])
    assert found and done.exit_code == 0, done.output


def test_workflows_grant_little():
    """No context such as a tag's name stands in a command; what may publish runs nothing of ours, and what
    runs may only read"""
    import yaml
    for path in (ROOT/'.github/workflows').glob('*.yml'):
        flow = yaml.safe_load(path.read_text(encoding='utf-8'))
        for name, job in flow['jobs'].items():
            runs = [step['run'] for step in job['steps'] if 'run' in step]
            may = job.get('permissions', flow['permissions'])
            assert not [run for run in runs if '${{' in run], (path.name, name)
            assert not (runs and 'write' in may.values()), (path.name, name)
