"""
Directories as overlayfs merges them, for a root that the initrd puts together

https://docs.kernel.org/filesystems/overlayfs.html
"""

import contextlib
import errno
import os
import stat
from typing import List, Optional, Sequence, Set, Tuple

from .tree import MISSING, SEPARATOR, Memory, Place, Tree, Unresolved, lstat


class Layers(Tree):
    """What is seen of several directories, the uppermost first"""

    def __init__(self, directories: Sequence[str]):
        super().__init__(directories[0])
        self._layers = [os.path.realpath(one) for one in directories]
        self._merged = Memory(1000)

    def _look(self, inside: str, path: str) -> Tuple[str, os.stat_result]:
        folder, _, name = inside.rpartition(SEPARATOR)
        for host in self._stack(folder):
            there = f"{host}/{name}" if name else host
            try:
                info = lstat(there, path)
            except Unresolved as error:
                if error.errno == errno.ENOENT:
                    continue
                raise
            if is_whiteout(info):
                break
            return there, info
        raise Unresolved(path, MISSING)

    def _stack(self, inside: str) -> List[str]:
        """The directories that are merged into one"""
        found: Optional[List[str]] = self._merged.get(inside)
        if found is None:
            found = self._layers
            for name in filter(None, inside.split(SEPARATOR)):
                found = merged(found, name)
            self._merged[inside] = found
        return found

    def _names(self, folder: Place) -> List[str]:
        found: Set[str] = set()
        for host in self._stack(folder.inside.rstrip(SEPARATOR)):
            with contextlib.suppress(OSError):
                found |= set(os.listdir(host))
        return [one for one in sorted(found) if self._is_there(folder.inside, one)]

    def _is_there(self, folder: str, name: str) -> bool:
        try:
            self._look(f"{folder.rstrip(SEPARATOR)}/{name}", name)
        except Unresolved:
            return False
        return True

    def _below(self, folder: Place) -> Tree:
        return Layers(self._stack(folder.inside.rstrip(SEPARATOR)))

    def _is_own(self, folder: Place) -> bool:
        return folder.info.st_dev in {os.lstat(one).st_dev for one in self._layers}


def merged(folders: List[str], name: str) -> List[str]:
    """The directories of one name, down to what hides those below it"""
    found = []
    for folder in folders:
        there = f"{folder}/{name}"
        try:
            info = os.lstat(there)
        except OSError:
            continue
        if not stat.S_ISDIR(info.st_mode):
            break
        found.append(there)
        if is_opaque(there):
            break
    return found


def is_whiteout(info: os.stat_result) -> bool:
    """Whether it says that what is below is not there"""
    return stat.S_ISCHR(info.st_mode) and info.st_rdev == 0


def is_opaque(folder: str) -> bool:
    """Whether it hides the directories below, instead of being merged with them"""
    for space in ("trusted", "user"):
        with contextlib.suppress(OSError):
            if os.getxattr(folder, f"{space}.overlay.opaque") == b"y":
                return True
    return False
