"""
Where two results differ first, in words that lead to the cause: which file of a tree,
and whether it is mode, owner, attribute or content; and inside of a file, which
section, member or partition, if its format is known
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Dict, Iterator, NamedTuple, Optional, Tuple

from ..engine.digest import BLOCK, next_data

SHOWN = 16  # bytes of what differs
LONGEST_LINE = 200  # bytes that are shown as text
IN_MEMORY = 1 << 29  # bytes of a file that is looked into


class Difference(NamedTuple):
    """
    The first difference: ``where`` leads to it from outside to inside, ``what`` is
    content, mode, owner, type or an attribute, or that only one of the two has it
    """

    where: Tuple[str, ...]
    what: str
    stored: str
    rebuilt: str

    def inside(self, *where: str) -> Difference:
        """The same, seen from what it is in"""
        return self._replace(where=(*where, *self.where))

    def __str__(self) -> str:
        words = f"{self.what} differs: {self.stored} -> {self.rebuilt}"
        return ": ".join([*self.where, words])


def first(stored: Path, rebuilt: Path) -> Optional[Difference]:
    """The first difference of two files or trees, None if there is none"""
    kinds = stored.is_dir(), rebuilt.is_dir()
    if kinds == (True, True):
        return of_trees(stored, rebuilt)
    if kinds == (False, False):
        return of_files(stored, rebuilt)
    names = ["directory" if one else "file" for one in kinds]
    return Difference((), "type", *names)


def of_trees(stored: Path, rebuilt: Path) -> Optional[Difference]:
    """The first entry that differs, in the order of paths"""
    pairs = _entries(stored, rebuilt)
    return next(filter(None, (_of_entries(*pair) for pair in pairs)), None)


def _entries(stored: Path, rebuilt: Path) -> Iterator[Tuple[str, Path, Path]]:
    """Path, and both places, of all that one of two trees has"""
    pending = [""]
    while pending:
        folder = pending.pop()
        names = {*os.listdir(stored / folder), *os.listdir(rebuilt / folder)}
        found = []
        for name in sorted(names):
            inside = f"{folder}{name}"
            yield inside, stored / inside, rebuilt / inside
            if _is_tree(stored / inside) and _is_tree(rebuilt / inside):
                found.append(f"{inside}/")
        pending += reversed(found)


def _is_tree(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _of_entries(inside: str, stored: Path, rebuilt: Path) -> Optional[Difference]:
    there = [os.path.lexists(one) for one in (stored, rebuilt)]
    if not all(there):
        return Difference((inside,), "presence", *("-+"[one] for one in there))
    about = _about(stored), _about(rebuilt)
    for what in {**about[0], **about[1]}:
        words = [one.get(what, "none") for one in about]
        if words[0] != words[1]:
            return Difference((inside,), what, *words)
    if stored.is_symlink() or not stored.is_file():
        return None
    found = of_files(stored, rebuilt)
    return found.inside(inside) if found else None


def _about(path: Path) -> Dict[str, str]:
    """All but the content of an entry that is no time"""
    info = path.lstat()
    about = {
        "type": stat.filemode(info.st_mode)[0],
        "mode": f"{stat.S_IMODE(info.st_mode):04o}",
        "owner": f"{info.st_uid}:{info.st_gid}",
    }
    if path.is_symlink():
        about["target"] = os.readlink(path)
    elif stat.S_ISCHR(info.st_mode) or stat.S_ISBLK(info.st_mode):
        about["device"] = f"{os.major(info.st_rdev)}:{os.minor(info.st_rdev)}"
    for name in sorted(os.listxattr(path, follow_symlinks=False)):
        value = os.getxattr(path, name, follow_symlinks=False)
        about[f"attribute {name}"] = value.hex()
    return about


def of_files(stored: Path, rebuilt: Path) -> Optional[Difference]:
    """The first difference in content"""
    from . import images

    offset = first_offset(stored, rebuilt)
    if offset is None:
        return None
    found = images.difference(stored, rebuilt, offset)
    if found is None and max(stored.stat().st_size, rebuilt.stat().st_size) < IN_MEMORY:
        found = of_bytes(stored.read_bytes(), rebuilt.read_bytes())
    return found or at_offset(
        offset, *(_read(one, offset) for one in (stored, rebuilt))
    )


def first_offset(stored: Path, rebuilt: Path) -> Optional[int]:
    """Offset of the first byte that differs; holes are skipped, and are zeros"""
    with (
        open(stored, "rb", buffering=0) as one,
        open(rebuilt, "rb", buffering=0) as two,
    ):
        files = one.fileno(), two.fileno()
        sizes = [os.fstat(file).st_size for file in files]
        offset, end = 0, min(sizes)
        while offset < end:
            data = (next_data(file, offset, end) for file in files)
            offset = max(offset, min(data))
            blocks = [os.pread(file, BLOCK, offset) for file in files]
            if blocks[0] != blocks[1]:
                return offset + first_byte(*blocks)
            offset += max(len(blocks[0]), 1)
    return None if sizes[0] == sizes[1] else end


def first_byte(stored: bytes, rebuilt: bytes) -> int:
    """The first index at which two contents differ, by halves"""
    low, high = 0, min(len(stored), len(rebuilt))
    while low < high:
        middle = (low + high) // 2
        if stored[low : middle + 1] == rebuilt[low : middle + 1]:
            low = middle + 1
        else:
            high = middle
    return low


def _read(path: Path, offset: int) -> bytes:
    with open(path, "rb") as file:
        file.seek(offset)
        return file.read(SHOWN)


def of_bytes(stored: bytes, rebuilt: bytes) -> Optional[Difference]:
    """The first difference of two contents, looked into if the format is known"""
    from . import contents

    if stored == rebuilt:
        return None
    found = contents.difference(stored, rebuilt) or _of_lines(stored, rebuilt)
    if found:
        return found
    offset = first_byte(stored, rebuilt)
    return at_offset(offset, stored[offset:], rebuilt[offset:])


def at_offset(offset: int, stored: bytes, rebuilt: bytes) -> Difference:
    """What is there from a byte on"""
    shown = (one[:SHOWN].hex(" ") or "its end" for one in (stored, rebuilt))
    return Difference((f"byte {offset}",), "content", *shown)


def _of_lines(stored: bytes, rebuilt: bytes) -> Optional[Difference]:
    """The first line that differs, of text with short lines"""
    offset = first_byte(stored, rebuilt)
    start = stored.rfind(b"\n", 0, offset) + 1
    lines = [one[start:].partition(b"\n")[0] for one in (stored, rebuilt)]
    if any(len(one) > LONGEST_LINE for one in lines) or b"\0" in stored + rebuilt:
        return None
    try:
        shown = [repr(one.decode()) for one in lines]
    except UnicodeDecodeError:
        return None
    number = stored.count(b"\n", 0, start) + 1
    if shown[0] == shown[1]:  # a line end more or less
        return None
    return Difference((f"line {number}",), "content", *shown)
