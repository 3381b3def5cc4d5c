"""
Operations over a content-addressed store

Knows nothing about images: what an operation is, when it has to run, where its result
is kept, how it runs commands, and what is said meanwhile.
"""

from .operation import operation
from .settings import setting, settings
from .step import Step

__all__ = ["Step", "operation", "setting", "settings"]
