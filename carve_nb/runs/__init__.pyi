from .runner import RunConfig as RunConfig
from .runner import run_eval as run_eval
from .store import Run as Run
from .store import read_run as read_run
from .store import read_records as read_records
from .pages import RunTable as RunTable
from .report import compare_methods as compare_methods
from .report import results_table as results_table
from .pages import write_report as write_report
from .serve import MethodServer as MethodServer
from .serve import make_app as make_app
from .serve import serve_app as serve_app

__all__: list[str]
