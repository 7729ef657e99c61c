"""The first cell of the notebooks that run alone, which installs the package in Colab; elsewhere it is there
already.

Usage: python tools/colab.py   (once `Source` in pyproject.toml has changed; without an address no
notebook has the cell)"""

from fastcore.nbio import mk_cell, write_nb
from pages import addresses, notebooks

INSTALL = '''#| hide
try: import carve_nb
except ImportError:
    %pip install -q "carve_nb @ git+{}"'''


def with_install(nb, repository):
    "A notebook with that cell below its title, or without it where there is no address"
    cells = [c for c in nb.cells if c.id != 'c01ab000']
    install = mk_cell(INSTALL.format(repository), id='c01ab000')
    return dict(nb, cells=[*cells[:1], *[install] * bool(repository), *cells[1:]])


if __name__ == '__main__':
    for page in [p for p in notebooks() if p.alone]:
        write_nb(with_install(page.nb, addresses()['repository']), page.path)
