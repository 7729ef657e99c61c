from .commands import run_words as run_words

__all__: list[str]
