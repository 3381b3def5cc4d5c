"""
Build an operating system image with DFFML, and prove that it boots

Every interpreter start imports this module (for ``compat``, by a ``.pth`` file):
nothing may be imported here.
"""

from .version import VERSION as __version__

__all__ = ["__version__"]
