"""
Load rewritten modules, and keep their bytecode

Python's own machinery reads, validates (source's time and size) and writes the
bytecode. Only the place differs: rewritten bytecode must never be taken for
dffml's own, nor stay behind in site-packages when dffml is uninstalled. It is in
the user's cache folder, or below ``sys.pycache_prefix`` where that is set.
"""

import functools
import importlib.util
import os
import sys
from importlib.machinery import (
    BYTECODE_SUFFIXES,
    ModuleSpec,
    PathFinder,
    SourceFileLoader,
)
from typing import Optional

FOLDER = "dffml-operations-decentralice"


class Loader(SourceFileLoader):
    """A ``SourceFileLoader`` whose source is rewritten before it is compiled."""

    def source_to_code(self, data, path, *, _optimize=-1):
        from .rewrite import rewrite

        return compile(
            rewrite(data), path, "exec", dont_inherit=True, optimize=_optimize
        )

    def get_data(self, path):
        return super().get_data(_moved(path) if _is_bytecode(path) else path)

    def set_data(self, path, data, **options):
        try:
            path = _moved(path)
        except OSError:
            return
        super().set_data(path, data, **options)


def find_spec(fullname, path=None, target=None) -> Optional[ModuleSpec]:
    """The ordinary spec of a module of plain source, with our loader."""
    spec = PathFinder.find_spec(fullname, path, target)
    if spec is not None and type(spec.loader) is SourceFileLoader:
        spec.loader = Loader(spec.loader.name, spec.loader.path)
    return spec


def _is_bytecode(path: str) -> bool:
    return path.endswith(tuple(BYTECODE_SUFFIXES))


def _moved(path: str) -> str:
    """Where the bytecode is kept that Python would keep in ``path``."""
    base = sys.pycache_prefix or _cache_home()
    if base is None:
        raise FileNotFoundError("no cache folder of one's own")
    inside = os.path.abspath(path).lstrip(os.sep)
    return os.path.join(base, FOLDER, "compat-" + _rewriter(), inside)


@functools.lru_cache(maxsize=None)
def _rewriter() -> str:
    """Tells bytecode written by this rewriter from that of any other."""
    with open(os.path.join(os.path.dirname(__file__), "rewrite.py"), "rb") as source:
        return importlib.util.source_hash(source.read()).hex()


def _cache_home() -> Optional[str]:
    """
    The user's cache folder, unless it belongs to somebody else: who runs Python
    as root with another user's ``HOME`` must not run bytecode of that user's.

    https://specifications.freedesktop.org/basedir-spec/latest/
    """
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):
        base = os.path.join(os.path.expanduser("~"), ".cache")
    folder = os.path.join(base, FOLDER)
    above = base if os.path.isdir(base) else os.path.dirname(base)
    return base if _is_ours(above) and _is_ours(folder, missing=True) else None


def _is_ours(folder: str, missing: bool = False) -> bool:
    try:
        return os.stat(folder).st_uid == os.geteuid()
    except OSError:
        return missing
