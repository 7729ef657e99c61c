"The command `carve` under the name of the package: `python -m carve_nb`. Written by hand, as `__init__` is."

import sys
from carve_nb.cli.main import main

if __name__ == '__main__':
    sys.exit(main())
