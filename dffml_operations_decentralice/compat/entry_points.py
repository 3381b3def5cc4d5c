"""
``pkg_resources.iter_entry_points`` by ``importlib.metadata``

dffml asks once for each operation it defines and twice for each one of a flow it
loads: what is found is kept for as long as ``sys.path`` stays the same.

https://packaging.python.org/en/latest/specifications/entry-points/
"""

import functools
import importlib.metadata
import sys
from typing import Any, Dict, Iterator, List, Tuple


class EntryPoint:
    """``pkg_resources.EntryPoint``, as far as dffml uses it."""

    def __init__(self, entry: Any, dist: "Dist"):
        self.name = entry.name
        self.load = entry.load
        self.dist = dist
        target = entry.value.partition("[")[0].strip()
        self.module_name, _, attrs = target.partition(":")
        self.attrs = tuple(filter(None, attrs.split(".")))
        self._text = f"{entry.name} = {entry.value}"

    def __str__(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return f"EntryPoint.parse({self._text!r})"


class Dist(str):
    """``pkg_resources.Distribution``, of which dffml prints the ``repr``."""

    __repr__ = str.__str__


def iter_entry_points(group: str) -> Iterator[EntryPoint]:
    """The entry points of a group, of the first of each distribution on the path."""
    return iter(_entry_points(tuple(sys.path), group))


@functools.lru_cache(maxsize=128)
def _entry_points(path: Tuple[str, ...], group: str) -> Tuple[EntryPoint, ...]:
    return tuple(
        EntryPoint(entry, dist)
        for dist, entries in _distributions(path).items()
        for entry in entries
        if entry.group == group
    )


@functools.lru_cache(maxsize=8)
def _distributions(path: Tuple[str, ...]) -> Dict[Dist, List[Any]]:
    found: Dict[str, Tuple[Dist, List[Any]]] = {}
    for dist in importlib.metadata.distributions(path=list(path)):
        # Reading METADATA of everything that is installed is what takes the time
        if "dffml" not in (dist.read_text("entry_points.txt") or ""):
            continue
        name = dist.metadata["Name"]
        if name not in found:
            text = f"{name} {dist.version} ({dist.locate_file('')})"
            found[name] = Dist(text), list(dist.entry_points)
    return dict(found.values())
