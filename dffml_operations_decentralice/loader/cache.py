"""
What ldconfig left behind: /etc/ld.so.cache, which the loader reads

Also /etc/ld.so.conf, which only ldconfig reads, to tell what it would find.

https://man7.org/linux/man-pages/man8/ldconfig.8.html
https://sourceware.org/git/?p=glibc.git;a=blob;f=sysdeps/generic/dl-cache.h
"""

import fnmatch
import os
import struct
from typing import Dict, Iterator, List, NamedTuple, Tuple

from .elf import EM_386, EM_X86_64
from .tree import Tree, Unresolved

CACHE = "/etc/ld.so.cache"
CONF = "/etc/ld.so.conf"
LIMIT = 32 << 20  # bytes of a cache
MAX_FILES = 1000  # that one configuration includes, in all
MAX_DEPTH = 10  # of files that include files
OLD_MAGIC, MAGIC = b"ld.so-1.7.0\0", b"glibc-ld.so.cache1.1"
_HEADER, _ENTRY = struct.Struct("<20sII4sI12x"), struct.Struct("<iIIIQ")
_OLD_HEADER, _OLD_ENTRY = struct.Struct("<12sI"), 12  # bytes
_EXTENSION_MAGIC, _HWCAPS_TAG = 0xEAA42174, 1
_BY_NAME = 1 << 62  # of an entry: what its processor must have is named, not bits
FLAGS = {(64, EM_X86_64): 0x0303, (32, EM_386): 0x0003, (32, EM_X86_64): 0x0803}


class Entry(NamedTuple):
    """Where a library is, and the folder of glibc-hwcaps, empty for any processor"""

    path: str
    level: str


Entries = Dict[str, List[Entry]]


def cached(tree: Tree, bits: int, machine: int) -> Entries:
    """The entries for one kind of program; none if the cache is missing or of no use"""
    try:
        raw = tree.read(CACHE, LIMIT)
    except Unresolved:
        return {}
    found: Entries = {}
    try:
        for flags, name, entry in parse(raw):
            if flags == FLAGS.get((bits, machine)):
                found.setdefault(name, []).append(entry)
    except (struct.error, ValueError):
        return {}  # what the loader does with one that it does not understand
    return found


def parse(raw: bytes) -> Iterator[Tuple[int, str, Entry]]:
    """Kind, name and entry of each library; `ValueError` if it is no cache"""
    if raw.startswith(OLD_MAGIC):
        _magic, count = _OLD_HEADER.unpack_from(raw)
        start = _OLD_HEADER.size + count * _OLD_ENTRY
        raw = raw[start + -start % 8 :]
    magic, count, _length, _flags, extension = _HEADER.unpack_from(raw)
    if magic != MAGIC:
        raise ValueError("no cache of glibc")
    levels = _levels(raw, extension) if extension else []
    if len(raw) < _HEADER.size + count * _ENTRY.size:
        raise ValueError("a cache that is cut off")
    for index in range(count):
        start = _HEADER.size + index * _ENTRY.size
        flags, key, value, _version, needs = _ENTRY.unpack_from(raw, start)
        level = ""
        if needs & _BY_NAME:
            number = needs & 0xFFFFFFFF
            if number >= len(levels):
                continue
            level = levels[number]
        elif needs:
            continue  # the folders of before glibc 2.33
        yield flags, _string(raw, key), Entry(_string(raw, value), level)


def _string(raw: bytes, start: int) -> str:
    return os.fsdecode(raw[start : raw.index(b"\0", start, start + 4096)])


def _levels(raw: bytes, start: int) -> List[str]:
    """The names of the processors' levels that entries count on"""
    magic, count = struct.unpack_from("<II", raw, start)
    if magic != _EXTENSION_MAGIC:
        raise ValueError("an unknown extension")
    for index in range(min(count, 64)):
        tag, _flags, offset, size = struct.unpack_from(
            "<IIII", raw, start + 8 + 16 * index
        )
        if tag == _HWCAPS_TAG:
            numbers = struct.unpack_from(f"<{size // 4}I", raw, offset)
            return [_string(raw, number) for number in numbers]
    return []


def configured(tree: Tree, path: str = CONF) -> List[str]:
    """The directories that ldconfig would look into, in order"""
    found: List[str] = []
    _configured(tree, path, found, [MAX_FILES], MAX_DEPTH)
    return list(dict.fromkeys(found))


def _configured(
    tree: Tree, path: str, found: List[str], left: List[int], depth: int
) -> None:
    if not depth or not left[0]:
        return
    left[0] -= 1
    for line in tree.text(path).splitlines():
        words = line.partition("#")[0].split()
        if not words or words[0] == "hwcap":
            continue
        if words[0] == "include":
            for pattern in words[1:]:
                for one in _matching(tree, path, pattern):
                    _configured(tree, one, found, left, depth - 1)
        else:
            # "directory=type" is of libc5's days; ldconfig still takes it
            found.append(" ".join(words).partition("=")[0].rstrip("/") or "/")


def _matching(tree: Tree, path: str, pattern: str) -> List[str]:
    """Patterns of the last component alone are resolved, as all that are in use are"""
    if not pattern.startswith("/"):
        pattern = f"{os.path.dirname(path)}/{pattern}"
    folder, _, last = pattern.rpartition("/")
    return [
        f"{folder}/{name}"
        for name in tree.names(folder or "/")
        if fnmatch.fnmatchcase(name, last)
        and (last.startswith(".") or not name.startswith("."))
    ]
