"What several files of the fault cases use"

import warnings
import pytest


@pytest.fixture
def quiet_models():
    "No warnings of what models are made with"
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', message='.*__array__|.*torchvision')
        yield
