"""
The unmodified ``dffml`` from PyPI (0.4.0.post2, of 2022) on current Pythons

A ``.pth`` file installed beside this package calls :py:func:`install` when Python
starts (https://docs.python.org/3/library/site.html). From then on the modules
in :py:data:`MODULES` are compiled from a syntax tree in which what newer Pythons
reject is replaced, and a race that loses results. No file of dffml and nothing else in
Python is changed. Later versions of dffml have little or nothing left to replace.

Every interpreter start imports this module: it imports nothing but ``sys``.
"""

import sys

MODULES = frozenset(
    "dffml." + name
    for name in (
        "__main__",
        "base",
        "cli.cli",
        "cli.list",
        "df.base",
        "df.memory",
        "df.types",
        "service.dev",
        "util.asynctestcase",
        "util.cli.cmd",
        "util.entrypoint",
        "util.skel",
    )
)


class Finder:
    """A meta path finder which answers for :py:data:`MODULES` only."""

    @classmethod
    def find_spec(cls, fullname, path=None, target=None):
        if fullname not in MODULES:
            return None
        from .loader import find_spec

        return find_spec(fullname, path, target)


def install() -> None:
    """Let ``import dffml`` work. Harmless when called again."""
    if Finder not in sys.meta_path:
        sys.meta_path.insert(0, Finder)
