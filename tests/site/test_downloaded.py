"""What a reader downloads: each tutorial alone in an empty folder, run there, without the cells that its page
hides."""

import pytest
from fastcore.nbio import read_nb
from processes import ROOT, execute

NBS = ROOT / 'nbs'
TUTORIALS = [NBS / 'quickstart.ipynb', *sorted((NBS / 'tutorials').glob('*.ipynb'))]


@pytest.mark.parametrize('path', TUTORIALS, ids=lambda p: p.stem)
def test_runs_alone(path, tmp_path, monkeypatch, forked_kernels):
    monkeypatch.setenv('CARVE_PROFILES', str(tmp_path / 'profiles'))
    sources = [cell.source for cell in read_nb(path).cells if cell.cell_type == 'code']
    shown = [source for source in sources if not source.startswith(('#| hide', '#| echo: false'))]
    # a reply that the client overlooks is found when its time is up; a loaded machine takes minutes for a cell of seconds
    execute(shown, timeout=300, resources=dict(metadata=dict(path=tmp_path)))
