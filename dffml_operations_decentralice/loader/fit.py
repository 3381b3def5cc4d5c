"""
Whether objects that were found fit each other: versions, symbols, builds of glibc

Follows glibc's elf/dl-version.c and dl-lookup.c:
https://sourceware.org/git/?p=glibc.git;a=tree;f=elf
"""

import os
import re
from typing import FrozenSet, Iterator, List, NamedTuple, Optional, Set

from . import elf
from .elf import Malformed
from .process import Interpreter, Link, Problem, Tried
from .tree import Memory, Place, Tree, Unresolved

LIBC = "libc.so.6"
PRIVATE = "GLIBC_PRIVATE"
GLIBC_LIMIT = 32 << 20  # bytes of a loader or a C library
MAX_NAMES = 300_000  # of symbols that are kept in memory, or compared for one program


class Fit:
    """Answers about the objects of one tree"""

    def __init__(self, tree: Tree):
        self.tree = tree
        self._builds = Memory(100)
        self._tables = Memory(500)  # by identity, as a file may have many names
        self._kept = 0

    def mixed(self, links: List[Link], interpreter: Interpreter) -> Iterator[Problem]:
        """A loader and a C library share memory whose layout each build may change"""
        for link in links:
            if LIBC not in link.names or not interpreter.build:
                continue
            own = self.build(link.place)
            if own and own != interpreter.build:
                yield Problem(
                    "builds-mixed",
                    link.place.inside,
                    interpreter.place.inside,
                    f"is of {interpreter.build}, the C library of {own}",
                    chain=link.chain,
                )

    def build(self, place: Place) -> str:
        """The build that a C library is of, empty if it does not say"""
        found: Optional[str] = self._builds.get(place.inside)
        if found is None:
            try:
                found = build(self.tree.read(place.inside, GLIBC_LIMIT))
            except Unresolved:
                found = ""
            self._builds[place.inside] = found
        return found

    def symbols(self, links: List[Link]) -> Iterator[Problem]:
        """
        Symbols that none of the objects defines, and the start needs: the loader looks
        for calls only when they are made, but of glibc's private ones one that is
        missing says that its parts are of several builds
        """
        tables = self._tables_of(links)
        for link, table in zip(links, tables):
            missing = table.wanted
            for other in tables:
                missing = missing and missing - other.defined
            for key in sorted(missing):
                name, _, version = key.partition("@")
                if version and any(name in other.plain for other in tables):
                    continue  # a definition without a version fits any
                if version != PRIVATE and is_lazy(link.place, key):
                    continue
                yield Problem(
                    "symbol-missing",
                    link.place.inside,
                    f"{name}@{version}" if version else name,
                    "is defined by none of the libraries that were found",
                    chain=link.chain,
                )

    def _tables_of(self, links: List[Link]) -> List["_Table"]:
        """None if they are too many to compare, as no real program has"""
        tables, names = [], 0
        for link in links:
            tables.append(self._table(link.place))
            names += len(tables[-1].defined) + len(tables[-1].wanted)
            if names > MAX_NAMES:
                return []
        return tables

    def _table(self, place: Place) -> "_Table":
        table: Optional[_Table] = self._tables.get(place.identity)
        if table is None:
            try:
                found = elf.symbols(place)
            except Malformed:  # of no consequence to who needs none of them
                found = elf.Symbols(set(), set(), [])
            wanted = frozenset(f"{one.name}@{one.version}" for one in found.wanted)
            table = _Table(found.defined, found.plain, wanted)
            self._kept += len(table.defined) + len(wanted)
            if self._kept > MAX_NAMES:
                self._tables.clear()
                self._kept = len(table.defined) + len(wanted)
            self._tables[place.identity] = table
        return table


class _Table(NamedTuple):
    defined: Set[str]
    plain: Set[str]
    wanted: FrozenSet[str]


def is_lazy(place: Place, key: str) -> bool:
    """Whether only a call would miss a symbol, not the start"""
    try:
        for one in elf.symbols(place).wanted:
            if f"{one.name}@{one.version}" == key:
                return elf.is_lazy(place, one.place)
    except Malformed:  # tables that the loader would stumble over as well
        return False
    return True


def wrong_versions(links: List[Link]) -> Iterator[Problem]:
    """Versions that a library lacks, as _dl_check_map_versions finds them"""
    by_name = {name: link for link in reversed(links) for name in link.names}
    for link in links:
        for need in link.elf.needs:
            provider = by_name.get(need.file)
            if provider is None or need.weak:
                continue  # a library that is missing was told; a weak need warns
            defines = provider.elf.defines
            if defines is not None and need.version not in defines:
                yield Problem(
                    "version-missing",
                    link.place.inside,
                    need.version,
                    f"is not in {provider.place.inside}{newest(need.version, defines)}",
                    (Tried(provider.name, f"lacks version {need.version}"),),
                    link.chain,
                )


def newest(version: str, defines: FrozenSet[str]) -> str:
    """How far a library goes, if its versions have numbers as glibc's"""
    prefix = version.partition("_")[0] + "_"
    numbers = [
        tuple(map(int, one[len(prefix) :].split(".")))
        for one in defines
        if re.fullmatch(r"\d{1,9}(\.\d{1,9})*", one[len(prefix) :])
        and one.startswith(prefix)
    ]
    if not numbers:
        return ""
    return f", which goes up to {prefix}{'.'.join(map(str, max(numbers)))}"


def build(raw: bytes) -> str:
    """The build that a loader or C library says it is of, such as GLIBC 2.41-12"""
    found = re.search(
        rb"(?:ld\.so|GNU C Library) \(([^)\0\n]*)\) \w+ release version ([\d.]*\d)", raw
    )
    return " ".join(os.fsdecode(one) for one in found.groups()) if found else ""
