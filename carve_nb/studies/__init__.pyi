from .measure import measure_entropy as measure_entropy
from .measure import measure_layers as measure_layers
from .measure import measure_masking as measure_masking
from .profile import profile_model as profile_model
from .profile import make_profile as make_profile
from .profile import keep_profile as keep_profile
from .checkup import Checkup as Checkup
from .checkup import run_checkup as run_checkup
from .paper import TABLES as TABLES
from .paper import FIGURES as FIGURES

__all__: list[str]
