from .app import Explorer as Explorer
from .app import explore as explore

__all__: list[str]
