"""
Digest of an operation's code: its module and all that it imports of this package (or,
for an overlay of somebody else's, of theirs and ours)

Imports are read from the syntax tree, so that constants imported by name count too.
What was read of a file is remembered by the store, as parsing all takes 0.1 s.
"""

import ast
import functools
import hashlib
import importlib.util
import os
import sys
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Set, Tuple

from .digest import sha256

OURS = __name__.partition(".")[0]
# What cannot change the bytes of a result: it decides whether, when and why something
# is run, where results are kept, and what is said. What is in `digest` and `operation`
# that counts (how keys and names are made, the umask) has a version, FORMAT.
WITHOUT_EFFECT = {
    f"{OURS}.errors",
    f"{OURS}.types",
    f"{OURS}.engine.signals",
    f"{OURS}.engine.check",
    f"{OURS}.engine.code",
    f"{OURS}.engine.history",
    f"{OURS}.engine.listing",
    f"{OURS}.engine.plan",
    f"{OURS}.engine.progress",
    f"{OURS}.engine.namespace",
    f"{OURS}.engine.display",
    f"{OURS}.engine.store",
    f"{OURS}.engine.testing",
    f"{OURS}.engine.settings",
    f"{OURS}.engine.digest",
    f"{OURS}.engine.operation",
    f"{OURS}.engine.upkeep",
    f"{OURS}.engine",
}
ON_DEMAND = OURS, f"{OURS}.api"  # the package imports its calls when one is called
CACHE = "__pycache__"  # comes and goes
Remembered = Callable[[Path, str, Callable[[], Any]], Any]
_digests: Dict[str, str] = {}
_sources: Dict[str, Tuple[str, List[str]]] = {}


def read_again(path: Path, what: str, find: Callable[[], Any]) -> Any:
    """A memory that keeps nothing; see `Store.remembered`"""
    return find()


def code_digest(module_name: str, remembered: Remembered = read_again) -> str:
    """SHA-256 over name and source of each module of the closure"""
    if module_name not in _digests:
        lines = hashlib.sha256()
        for name in sorted(closure(module_name, remembered) - WITHOUT_EFFECT):
            lines.update(f"{name} {_source(name, remembered)[0]}\n".encode())
        _digests[module_name] = lines.hexdigest()
    return _digests[module_name]


def closure(module_name: str, remembered: Remembered = read_again) -> Set[str]:
    """The modules that a module of operations uses, as far as they are its package's"""
    packages = {OURS, module_name.partition(".")[0]}
    found: Set[str] = set()
    pending = [module_name, f"{OURS}.engine.step"]
    while pending:
        name = pending.pop()
        if name not in found and name.partition(".")[0] in packages:
            found.add(name)
            imported = _source(name, remembered)[1]
            pending += [one for one in imported if (name, one) != ON_DEMAND]
            pending.append(name.rpartition(".")[0])  # is imported before it
    return found


def forget() -> None:
    """As if this process had read no source"""
    _digests.clear()
    _sources.clear()
    _places.cache_clear()


def files_digest(path: Path, remembered: Remembered = read_again) -> str:
    """
    SHA-256 over a file of the package, or a tree of them: names, contents, and what is
    executable. Owners and other modes are those of a checkout or an installation.
    """
    lines = hashlib.sha256()
    top = os.path.realpath(path)
    for file in _files(top):
        if os.path.islink(file):
            content = f"-> {os.readlink(file)}"
        else:
            content = remembered(Path(file), "sha256", functools.partial(sha256, file))
        kind = "x" if os.access(file, os.X_OK) else "-"
        lines.update(f"{os.path.relpath(file, top)!r} {kind} {content}\n".encode())
    return lines.hexdigest()


def _files(top: str) -> List[str]:
    if not os.path.isdir(top):
        return [top]
    found = []
    for folder, folders, files in os.walk(top):
        folders[:] = [one for one in folders if one != CACHE]
        links = [one for one in folders if os.path.islink(os.path.join(folder, one))]
        found += [os.path.join(folder, one) for one in [*files, *links]]
    return sorted(found)


def _source(name: str, remembered: Remembered) -> Tuple[str, List[str]]:
    """Digest of a module's source, and the names of the modules it may import"""
    if name not in _sources:
        path = _path(name)
        _sources[name] = _read(name, path, remembered) if path else ("", [])
    return _sources[name]


def _read(name: str, path: Path, remembered: Remembered) -> Tuple[str, List[str]]:
    digest, imports = remembered(path, "imports", lambda: _parsed(path))
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    tops = {OURS, name.partition(".")[0]}
    found: Set[str] = set()
    for level, base, names in imports:
        base = _absolute(level, base, package)
        if base.partition(".")[0] in tops:
            found.update([base, *(f"{base}.{one}" for one in names)])
    return digest, sorted(one for one in found if _path(one))


def _parsed(path: Path) -> List[Any]:
    """Digest, and of each import its level, module and names"""
    source = path.read_bytes()
    imports: List[Any] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            imports += [[0, alias.name, []] for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [alias.name for alias in node.names]
            imports.append([node.level, node.module or "", names])
    return [hashlib.sha256(source).hexdigest(), imports]


def _absolute(level: int, base: str, package: str) -> str:
    if not level:
        return base
    parts = package.split(".")
    return ".".join([*parts[: len(parts) - level + 1], *([base] if base else [])])


def _path(name: str) -> Optional[Path]:
    """The source file of a module, None of what is no module"""
    module = sys.modules.get(name)
    if module is not None:
        file = getattr(module, "__file__", None)
        return Path(file) if file and file.endswith(".py") else None
    top, *parts = name.split(".")
    for place in _places(top):
        path = os.path.join(place, *parts)
        for file in (path + ".py", os.path.join(path, "__init__.py")):
            if os.path.isfile(file):
                return Path(file)
    return None


@functools.lru_cache(maxsize=None)
def _places(top: str) -> List[str]:
    """The folders of a package; of a single module its path without ``.py``"""
    try:
        spec = importlib.util.find_spec(top)
    except ValueError:  # such as __main__
        spec = None
    if spec is None:
        return []
    if spec.submodule_search_locations is not None:
        return list(spec.submodule_search_locations)
    origin = spec.origin or ""
    return [origin[: -len(".py")]] if origin.endswith(".py") else []
