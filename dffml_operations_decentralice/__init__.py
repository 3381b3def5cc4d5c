"""
Build an operating system image with DFFML, and prove that it boots

Every interpreter start imports this module (for ``compat``, by a ``.pth`` file):
nothing may be imported here but on demand.
"""

from .version import VERSION as __version__

CALLS = ("boot_verify", "build", "load", "reproduce")  # of `api`

__all__ = ["__version__", *CALLS]  # noqa: PLE0604


def __getattr__(name: str):
    """The calls for programs. https://peps.python.org/pep-0562/"""
    if name in CALLS:
        from . import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
