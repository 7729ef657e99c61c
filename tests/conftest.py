"Options of the test run, and tiny models that several files use"
import warnings
import pytest


def pytest_addoption(parser):
    parser.addoption('--families-json', default=None, help='write what tests/test_families.py measures to this file')
    parser.addoption('--methods-json', default=None, help='write what tests/test_methods.py finds to this file')


@pytest.fixture(scope='session')
def folders(tmp_path_factory):
    "Tiny model folders, each made when it is first asked for"
    from carve_nb.families import tiny_folder
    root, made = tmp_path_factory.mktemp('families'), {}
    return lambda name: made.setdefault(name, None) or made.update({name: tiny_folder(name, root/name)}) or made[name]


@pytest.fixture(scope='session')
def load(folders):
    "Tiny models, each loaded once"
    from carve_nb.capture import VLM
    made = {}
    def get(name):
        if name not in made:
            with warnings.catch_warnings():
                warnings.simplefilter('ignore')
                made[name] = VLM.from_pretrained(folders(name))
        return made[name]
    return get
