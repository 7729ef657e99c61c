"What others read of the project: settings.ini, the older names of nbdev's commands, GitHub's files and CITATION.cff."

import json
import re
import subprocess
import sys
import tomllib
from configparser import ConfigParser
import check_jsonschema
import pytest
from click.testing import CliRunner
from processes import ROOT

pyproject = tomllib.loads((ROOT / 'pyproject.toml').read_text())
project = pyproject['project']
nbdev = pyproject['tool']['nbdev']


def test_settings_say_the_same():
    "settings.ini, for tools of nbdev 2, repeats pyproject.toml; version and requirements stand there alone"
    ini = ConfigParser(interpolation=None)
    ini.read(ROOT / 'settings.ini')
    assert dict(ini['DEFAULT']) == {
        k: nbdev[k] for k in ('title', 'branch', 'nbs_path', 'lib_path', 'doc_path', 'tst_flags')
    } | dict(
        lib_name=project['name'],
        description=project['description'],
        license=project['license'],
        author=project['authors'][0]['name'],
        keywords=' '.join(project['keywords']),
        min_python=project['requires-python'][2:],
        status=re.search(r'\d', project['classifiers'][0])[0],
    )


@pytest.mark.parametrize('code, status', [('assert 1 + 1 == 2', 0), ('assert 1 + 1 == 3', 1)])
def test_older_options(tmp_path, code, status):
    "`nbdev_test --n_workers 1` does what `nbdev-test --n-workers 1` does, and its exit status is kept"
    command, notebook = tmp_path / 'nbdev_test', tmp_path / 'sums.ipynb'
    command.write_bytes(
        (ROOT / 'scripts/nbdev_older').read_bytes()
    )  # under this name `make` puts it beside the others
    cell = dict(cell_type='code', id='a', source=code, metadata={}, outputs=[], execution_count=None)
    notebook.write_text(json.dumps(dict(cells=[cell], metadata={}, nbformat=4, nbformat_minor=5)))
    words = [sys.executable, command, notebook, '--n_workers', '1', '--do_print']
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == status and 'sums.ipynb' in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize(
    'schema, files',
    [
        ('github-workflows', '.github/workflows/*.yml'),
        ('github-issue-forms', '.github/ISSUE_TEMPLATE/[0-9]*.yml'),
        ('github-issue-config', '.github/ISSUE_TEMPLATE/config.yml'),
        ('dependabot', '.github/dependabot.yml'),
        ('citation-file-format', 'CITATION.cff'),
    ],
)
def test_hosts_can_read_it(schema, files):
    paths = sorted(ROOT.glob(files))
    done = CliRunner().invoke(
        check_jsonschema.main, ['--builtin-schema', f'vendor.{schema}', *map(str, paths)]
    )
    assert paths and done.exit_code == 0, done.output


def test_workflows_grant_little():
    """No context such as a tag's name stands in a command; what may publish runs nothing of ours, and what
    runs may only read"""
    import yaml

    for path in (ROOT / '.github/workflows').glob('*.yml'):
        flow = yaml.safe_load(path.read_text(encoding='utf-8'))
        for name, job in flow['jobs'].items():
            runs = [step['run'] for step in job['steps'] if 'run' in step]
            may = job.get('permissions', flow['permissions'])
            assert not [run for run in runs if '${{' in run], (path.name, name)
            assert not (runs and 'write' in may.values()), (path.name, name)
