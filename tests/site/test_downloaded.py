"""What a reader downloads: each tutorial alone in an empty folder, run there, without the cells that its page
hides."""

import nbformat
import pytest
from nbclient import NotebookClient
from processes import ROOT

NBS = ROOT / 'nbs'
TUTORIALS = [NBS / 'quickstart.ipynb', *sorted((NBS / 'tutorials').glob('*.ipynb'))]


@pytest.mark.parametrize('path', TUTORIALS, ids=lambda p: p.stem)
def test_runs_alone(path, tmp_path, monkeypatch, forked_kernels):
    monkeypatch.setenv('CARVE_PROFILES', str(tmp_path / 'profiles'))
    nb = nbformat.read(path, 4)
    nb.cells = [c for c in nb.cells if not c.source.startswith(('#| hide', '#| echo: false'))]
    # a reply that the client overlooks is found when its time is up; a loaded machine takes minutes for a cell of seconds
    NotebookClient(nb, timeout=300, resources=dict(metadata=dict(path=tmp_path))).execute()
