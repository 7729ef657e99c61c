from .scenes import Scene as Scene
from .scenes import make_scene as make_scene
from .scenes import scene_records as scene_records
from .scenes import samples as samples
from .records import Record as Record
from .datasets import BENCHMARKS as BENCHMARKS
from .datasets import DataSet as DataSet
from .datasets import load_benchmark as load_benchmark
from .scoring import Rule as Rule
from .scoring import score_answer as score_answer
from .scoring import grade_answer as grade_answer
from .eye_test import eye_records as eye_records

__all__: list[str]
