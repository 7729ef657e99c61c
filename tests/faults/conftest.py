"What several files of the fault cases use"
import warnings
import pytest, torch


@pytest.fixture
def quiet_models():
    "One thread, and no warnings of what models are made with"
    torch.set_num_threads(1)
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', message='.*__array__|.*torchvision')
        yield
