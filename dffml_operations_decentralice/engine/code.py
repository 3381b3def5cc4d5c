"""
Digest of an operation's code: its module and all that it imports of this package (or,
for an overlay of somebody else's, of theirs and ours)

Imports are read from the syntax tree, so that constants imported by name count too.
"""

import ast
import functools
import hashlib
import importlib.util
import sys
from pathlib import Path
from typing import List, Set, Tuple

OURS = __name__.partition(".")[0]
# What cannot change the bytes of a result
WITHOUT_EFFECT = {
    f"{OURS}.errors",
    f"{OURS}.types",
    f"{OURS}.engine.signals",
    f"{OURS}.engine.code",
    f"{OURS}.engine.progress",
    f"{OURS}.engine.display",
    f"{OURS}.engine.store",
    f"{OURS}.engine.testing",
    f"{OURS}.engine.settings",
    f"{OURS}.engine.digest",
    f"{OURS}.engine.operation",
    f"{OURS}.engine",
}


@functools.lru_cache(maxsize=None)
def code_digest(module_name: str) -> str:
    """SHA-256 over name and source of each module of the closure"""
    packages = {OURS, module_name.partition(".")[0]}
    closure: Set[str] = set()
    pending = [module_name, f"{OURS}.engine.step"]
    while pending:
        name = pending.pop()
        if name in closure or name.partition(".")[0] not in packages:
            continue
        closure.add(name)
        pending += _source(name)[1]
    lines = hashlib.sha256()
    for name in sorted(closure - WITHOUT_EFFECT):
        lines.update(f"{name} {_source(name)[0]}\n".encode())
    return lines.hexdigest()


@functools.lru_cache(maxsize=None)
def _source(name: str) -> Tuple[str, List[str]]:
    """Digest of a module's source, and the names of the modules it may import"""
    path = _path(name)
    if path is None:
        return "", []
    source = path.read_bytes()
    tree = ast.parse(source)
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    found: List[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(node, package)
            found += [base] + [f"{base}.{alias.name}" for alias in node.names]
    tops = {OURS, name.partition(".")[0]}
    mine = sorted({one for one in found if one.partition(".")[0] in tops})
    return hashlib.sha256(source).hexdigest(), [one for one in mine if _path(one)]


def _absolute(node: ast.ImportFrom, package: str) -> str:
    if not node.level:
        return node.module or ""
    parts = package.split(".")
    base = ".".join(parts[: len(parts) - node.level + 1])
    return f"{base}.{node.module}" if node.module else base


@functools.lru_cache(maxsize=None)
def _path(name: str):
    """The source file of a module, None of what is no module"""
    module = sys.modules.get(name)
    if module is not None:
        file = getattr(module, "__file__", None)
        return Path(file) if file and file.endswith(".py") else None
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, AttributeError, ValueError):
        return None
    if spec is None or not spec.origin or not spec.origin.endswith(".py"):
        return None
    return Path(spec.origin)
