"pyproject.toml (read by pip and nbdev), settings.ini (read by setup.py), the package and its notebooks agree."
import ast, json, re, subprocess, sys, tomllib
from configparser import ConfigParser
from importlib.metadata import packages_distributions
from pathlib import Path
import pytest
import carve_nb

ROOT = Path(__file__).parents[1]
pyproject = tomllib.loads((ROOT/'pyproject.toml').read_text())
project, nbdev = pyproject['project'], pyproject['tool']['nbdev']
ini = ConfigParser(interpolation=None)
ini.read(ROOT/'settings.ini')
settings = ini['DEFAULT']


def lines(key): return settings[key].split()
EXTRAS = [k for k in settings if k.endswith('_requirements') and k != 'dev_requirements']
REQUIREMENTS = [o for k in ('requirements', 'dev_requirements', *EXTRAS) for o in lines(k)]
def normal(name): return re.sub(r'[-_.]+', '-', name).lower()
def names(requirements): return {normal(re.match(r'[\w.-]+', o)[0]) for o in requirements}


@pytest.mark.parametrize('key', ['title', 'branch', 'nbs_path', 'lib_path', 'doc_path', 'tst_flags'])
def test_nbdev_settings_agree(key): assert nbdev[key] == settings[key]


def test_names_and_python_agree():
    assert project['name'] == settings['lib_name'] == carve_nb.__name__
    assert project['requires-python'] == f'>={settings["min_python"]}'


def test_one_version(): assert carve_nb.__version__ == settings['version']


def test_nbdev_reads_this():
    from nbdev.config import get_config
    cfg = get_config(ROOT)
    assert cfg.lib_name == settings['lib_name'] and cfg.version == settings['version']
    assert (cfg.nbs_path, cfg.lib_path) == (ROOT/settings['nbs_path'], ROOT/settings['lib_path'])


def test_setup_reads_settings():
    "What setup.py tells setuptools comes from settings.ini, and pyproject.toml leaves it room"
    keys = ['--name', '--version', '--description', '--license', '--author']
    out = subprocess.run([sys.executable, 'setup.py', '--quiet', *keys], cwd=ROOT, capture_output=True, text=True)
    if 'No module named' in out.stderr: pytest.skip('setuptools is not installed beside the package')
    fields = 'lib_name', 'version', 'description', 'license', 'author'
    assert out.stdout.split('\n')[:5] == [settings[o] for o in fields]
    dynamic = {'version', 'description', 'readme', 'dependencies', 'optional-dependencies', 'scripts', 'entry-points'}
    assert dynamic <= set(project['dynamic'])


def test_quarto_is_linked():
    link = ROOT/'nbs'/'_quarto.yml'
    assert link.is_symlink() and link.resolve() == ROOT/'_quarto.yml'
    assert 'custom_quarto_yml' not in nbdev  # it would delete the file


def test_all_takes_what_runs_on_one_machine():
    assert set(settings['all_extras'].split()) <= {k.removesuffix('_requirements') for k in EXTRAS}


def test_floors_have_a_leg():
    "What `make test-lowest` installs are the floors"
    out = subprocess.run(['make', '-n', 'V=/nowhere/v', 'test-lowest'], cwd=ROOT, capture_output=True, text=True).stdout
    found = subprocess.run(re.search(r"sed -nE '.*?' settings.ini", out)[0], shell=True, cwd=ROOT, capture_output=True, text=True).stdout
    floors = dict(o.split('==') for o in found.split())
    assert len(floors) > 20 and all(floors[o.split('>=')[0]] == re.search('>=([0-9.]+)', o)[1] for o in lines('requirements'))


def test_constraints_pin_requirements():
    pins = dict(o.split('==') for o in (ROOT/'constraints.txt').read_text().split('\n') if o and not o.startswith('#'))
    assert names(REQUIREMENTS) <= {normal(o) for o in pins}
    assert not [o for o in pins.values() if '+' in o or '/' in o]  # no local builds, no addresses


def test_requirements_have_ranges():
    for o in REQUIREMENTS: assert re.fullmatch(r'[\w-]+>=[\d.]+,<[\d.]+', o), o


def imports(source):
    "Top-level names of what a piece of Python imports"
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import): yield from (o.name.split('.')[0] for o in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level: yield node.module.split('.')[0]


def third_party(sources):
    "Distributions that the sources import, beside the standard library and this package"
    known = packages_distributions()
    found = {o for s in sources for o in imports(s)} - set(sys.stdlib_module_names) - {'carve_nb', '__future__'}
    return {o: {normal(d) for d in known.get(o, [o])} for o in found}


def outside_functions(source):
    "The same source without what its functions do"
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)): node.body = [ast.Pass()]
    return ast.unparse(tree)


def test_modules_import_requirements_only():
    "A module imports what the plain install brings; of the extras, only inside the function that needs it"
    sources = [p.read_text() for p in (ROOT/'carve_nb').rglob('*.py')]
    outside, whole = third_party(map(outside_functions, sources)), third_party(sources)
    assert not {k: v for k, v in outside.items() if not v & names(lines('requirements'))}
    assert not {k: v for k, v in whole.items() if not v & names(REQUIREMENTS)}


def test_notebooks_import_requirements_only():
    known = names(REQUIREMENTS) | {'recipes', *(normal(p.stem) for p in [*(ROOT/'tools').glob('*.py'), *(ROOT/'tests').rglob('*.py')])}
    cells = (c for p in (ROOT/'nbs').rglob('*.ipynb') if '_proc' not in p.parts
             for c in json.loads(p.read_text())['cells'] if c['cell_type'] == 'code')
    plain = (re.sub(r'^\s*[%!].*$', '', ''.join(c['source']), flags=re.M) for c in cells)
    used = third_party(plain)
    assert not {k: v for k, v in used.items() if not v & known}


def older(folder, command, *args):
    "Run our script under the name of a command, as `make` puts it beside the others"
    path = folder/command
    path.write_bytes((ROOT/'scripts/nbdev_older').read_bytes())
    return subprocess.run([sys.executable, path, *map(str, args)], cwd=ROOT, capture_output=True, text=True)


@pytest.mark.parametrize('command', ['nbdev_test', 'nbdev_export', 'nbdev_clean'])
def test_older_command(tmp_path, command):
    out = older(tmp_path, command, '--help')
    assert out.returncode == 0 and command.replace('_', '-') in out.stdout, out.stderr


@pytest.mark.parametrize('options, code, rc', [(['--n_workers', '1', '--do_print'], 'assert 1 + 1 == 2', 0),
                                               (['--n-workers=1', '--do_print'], 'assert 1 + 1 == 3', 1)])
def test_older_options(tmp_path, options, code, rc):
    "`nbdev_test --n_workers 1` does what `nbdev-test --n-workers 1` does, and its exit status is kept"
    cell = dict(cell_type='code', id='a', source=code, metadata={}, outputs=[], execution_count=None)
    path = tmp_path/'sums.ipynb'
    path.write_text(json.dumps(dict(cells=[cell], metadata={}, nbformat=4, nbformat_minor=5)))
    out = older(tmp_path, 'nbdev_test', path, *options)
    assert out.returncode == rc and 'sums.ipynb' in out.stdout, out.stdout + out.stderr


def test_citation():
    "CITATION.cff says what settings.ini says"
    told = dict(re.findall(r'^([\w-]+): (.+)$', (ROOT/'CITATION.cff').read_text(encoding='utf-8'), re.M))
    assert [told[k] for k in ('title', 'version', 'license', 'cff-version')] == [*(settings[k] for k in ('lib_name', 'version', 'license')), '1.2.0']


def test_addresses(tmp_path):
    "With an address in settings.ini, a package index can follow the README's links; without one they stay"
    for name in ('setup.py', 'pyproject.toml', 'README.md'): (tmp_path/name).write_bytes((ROOT/name).read_bytes())
    text = (ROOT/'settings.ini').read_text()
    def told(repository):
        (tmp_path/'settings.ini').write_text(re.sub(r'^repository =.*$', f'repository = {repository}', text, flags=re.M))
        code = "import setuptools, json; setuptools.setup = lambda **k: print(json.dumps([k['project_urls'], k['long_description']])); import setup"
        return json.loads(subprocess.run([sys.executable, '-c', code], cwd=tmp_path, capture_output=True, text=True, check=True).stdout)
    urls, description = told('https://github.com/one/two')
    assert urls['Source'] == 'https://github.com/one/two' and 'https://github.com/one/two/raw/main/nbs/images/' in description
    assert not re.findall(r'\]\((?!\w+:|#)[^)]*\)', re.sub(r'`[^`]*`', '', description)) and 'https://github.com/one/two/blob/main/nbs/notes/limitations.ipynb' in description
    urls, description = told('')
    assert list(urls) == ['Paper'] and description == (ROOT/'README.md').read_text(encoding='utf-8')


@pytest.mark.parametrize('schema, files', [
    ('github-workflows', '.github/workflows/*.yml'), ('github-issue-forms', '.github/ISSUE_TEMPLATE/[0-9]*.yml'),
    ('github-issue-config', '.github/ISSUE_TEMPLATE/config.yml'), ('citation-file-format', 'CITATION.cff')])
def test_hosts_can_read_it(schema, files):
    found = sorted(ROOT.glob(files))
    done = subprocess.run([sys.executable, '-m', 'check_jsonschema', '--builtin-schema', f'vendor.{schema}', *found], capture_output=True, text=True)
    assert found and done.returncode == 0, done.stdout + done.stderr


def test_workflows_call_make():
    "They run targets of the Makefile and nothing else, so that what passes here passes there"
    runs = [m for p in (ROOT/'.github/workflows').glob('*.yml') for m in re.findall(r'^ +- run: (.+)$', p.read_text(), re.M)]
    targets = set(re.findall(r'^([a-z-]+):', (ROOT/'Makefile').read_text(), re.M))
    assert len(runs) == 3 and all(run.split()[0] == 'make' for run in runs)
    assert all(word in targets for run in runs for word in re.sub(r'[A-Z]+=.*', '', run).split()[1:])
