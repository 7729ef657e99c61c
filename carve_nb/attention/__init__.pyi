from .vlm import VLM as VLM
from .vlm import record_attention as record_attention
from .session import Session as Session
from .rows import AttentionRows as AttentionRows
from .edits import Edit as Edit
from .edits import applying as applying
from .edits import raise_scores as raise_scores
from .family_check import FamilyCheck as FamilyCheck
from .family_check import check_family as check_family

__all__: list[str]
