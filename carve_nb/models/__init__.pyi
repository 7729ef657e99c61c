from .checkpoints import find_source as find_source
from .families import FAMILIES as FAMILIES
from .families import Family as Family
from .families import BoxForm as BoxForm
from .families import add_family as add_family
from .families import find_family as find_family
from .prompts import GENERAL_INSTRUCTIONS as GENERAL_INSTRUCTIONS
from .prompts import Ask as Ask
from .prompts import Prompt as Prompt
from .model import Answer as Answer
from .image_tokens import ImageSpan as ImageSpan
from .loading import load_model as load_model
from .loading import load_processor as load_processor
from .kernel import AttentionHook as AttentionHook
from .kernel import hooked as hooked
from .kernel import recording as recording
from .identity import Fingerprint as Fingerprint
from .api_client import Endpoint as Endpoint

__all__: list[str]
