"Options of the test run"


def pytest_addoption(parser):
    parser.addoption('--families-json', default=None, help='write what tests/test_families.py measures to this file')
    parser.addoption('--methods-json', default=None, help='write what tests/test_methods.py finds to this file')
