"""
A directory as the root that its programs will see

Paths are resolved inside, as the kernel does after chroot(2): absolute links start at
the directory, and ``..`` never leaves it. Only regular files are ever opened.
https://man7.org/linux/man-pages/man7/path_resolution.7.html
"""

import errno
import os
import stat
from typing import Any, Iterator, List, NamedTuple, Optional, Tuple

MAX_LINKS = 40  # of one path, as Linux has it
READ_LIMIT = 1 << 20  # bytes of a configuration file
SEPARATOR = "/"
MISSING = "does not exist"


class Memory(dict):
    """What was found before; of a tree that has too much of it, only the newest"""

    def __init__(self, limit: int):
        super().__init__()
        self.limit = limit

    def __setitem__(self, key: Any, value: Any) -> None:
        if len(self) >= self.limit:
            del self[next(iter(self))]
        super().__setitem__(key, value)


class Unresolved(Exception):
    """A path that leads nowhere; says why"""

    def __init__(self, path: str, reason: str, number: int = errno.ENOENT):
        super().__init__(path, reason)
        self.path = path
        self.reason = reason
        self.errno = number


class Place(NamedTuple):
    """Where a path leads: inside the tree, free of links, and on this machine"""

    inside: str
    host: str
    info: os.stat_result

    @property
    def is_file(self) -> bool:
        return stat.S_ISREG(self.info.st_mode)

    @property
    def is_directory(self) -> bool:
        return stat.S_ISDIR(self.info.st_mode)

    @property
    def is_executable(self) -> bool:
        """For root, whom one of the three bits is enough for"""
        return self.is_file and bool(self.info.st_mode & 0o111)

    @property
    def is_privileged(self) -> bool:
        """Whether who starts it may get rights: the loader then trusts no one"""
        if self.info.st_mode & (stat.S_ISUID | stat.S_ISGID):
            return True
        try:
            return bool(os.getxattr(self.host, "security.capability"))
        except OSError:
            return False

    @property
    def identity(self) -> tuple:
        return self.info.st_dev, self.info.st_ino


class Tree:
    """A view of a directory; remembers what it saw, so nothing may change meanwhile"""

    def __init__(self, directory: str):
        self.directory = os.path.realpath(directory)
        self._links = Memory(10000)  # targets; None of a directory
        self._listed = Memory(1000)

    def resolve(self, path: str) -> Place:
        """Where a path leads; `Unresolved` if nowhere"""
        inside, pending, links = "", path.split(SEPARATOR)[::-1], 0
        while pending:
            part = pending.pop()
            if part in ("", "."):
                continue
            if part == "..":
                inside = inside.rpartition(SEPARATOR)[0]
                continue
            there = f"{inside}/{part}"
            target = self._link(there, path, last=not any(pending))
            if target is None:
                inside = there
                continue
            links += 1
            if links > MAX_LINKS:
                raise Unresolved(path, "is a loop of links", errno.ELOOP)
            pending += target.split(SEPARATOR)[::-1]
            if target.startswith(SEPARATOR):
                inside = ""
        host, info = self._look(inside, path)
        if path.endswith(SEPARATOR) and not stat.S_ISDIR(info.st_mode):
            raise Unresolved(path, "is no directory", errno.ENOTDIR)
        return Place(inside or SEPARATOR, host, info)

    def find(self, path: str) -> Optional[Place]:
        """Where a path leads, None if nowhere"""
        try:
            return self.resolve(path)
        except Unresolved:
            return None

    def target(self, path: str) -> str:
        """What a link says, empty of what is none"""
        folder, _, name = path.rpartition(SEPARATOR)
        above = self.find(folder)
        try:
            if above is not None:
                host, _info = self._look(f"{above.inside.rstrip('/')}/{name}", path)
                return os.readlink(host)
        except (OSError, ValueError, Unresolved):
            pass
        return ""

    def _link(self, inside: str, path: str, last: bool) -> Optional[str]:
        """The target of a link, None of what else can be gone through"""
        if inside in self._links:
            return self._links[inside]
        host, info = self._look(inside, path)
        if stat.S_ISLNK(info.st_mode):
            self._links[inside] = os.readlink(host)
            return str(self._links[inside])
        if stat.S_ISDIR(info.st_mode):
            self._links[inside] = None
        elif not last:
            raise Unresolved(path, "leads through what is no directory", errno.ENOTDIR)
        return None

    def _look(self, inside: str, path: str) -> Tuple[str, os.stat_result]:
        """Where on this machine something is, its directory being free of links"""
        host = self.directory + inside
        return host, lstat(host, path)

    def names(self, path: str) -> List[str]:
        """What a directory has, sorted; nothing if there is none"""
        place = self.find(path)
        if place is None or not place.is_directory:
            return []
        if place.inside not in self._listed:
            self._listed[place.inside] = self._names(place)
        return list(self._listed[place.inside])

    def _names(self, folder: Place) -> List[str]:
        try:
            return sorted(os.listdir(folder.host))
        except OSError:
            return []

    def read(self, path: str, limit: int = READ_LIMIT) -> bytes:
        """The first bytes of a regular file; `Unresolved` if there is none to read"""
        place = self.resolve(path)
        file = open_regular(place)
        try:
            return os.pread(file, limit, 0)
        except OSError as error:
            raise Unresolved(path, str(error.strerror), error.errno or 0) from error
        finally:
            os.close(file)

    def text(self, path: str) -> str:
        """A configuration file, empty if there is none"""
        try:
            return self.read(path).decode("utf-8", "surrogateescape")
        except Unresolved:
            return ""

    def below(self, path: str) -> "Tree":
        """The view that RootDirectory= gives; `Unresolved` if there is none"""
        place = self.resolve(path)
        if not place.is_directory:
            raise Unresolved(path, "is no directory", errno.ENOTDIR)
        return self._below(place)

    def _below(self, folder: Place) -> "Tree":
        return Tree(folder.host)

    def files(self) -> Iterator[Place]:
        """Every regular file of the tree's own file system; links are not followed"""
        root = self.find(SEPARATOR)
        pending = [root] if root else []
        while pending:
            folder = pending.pop()
            for name in self._names(folder):
                inside = f"{folder.inside.rstrip(SEPARATOR)}/{name}"
                try:
                    found = Place(inside, *self._look(inside, inside))
                except Unresolved:
                    continue
                if found.is_file:
                    yield found
                elif found.is_directory and self._is_own(found):
                    pending.append(found)

    def _is_own(self, folder: Place) -> bool:
        return folder.info.st_dev == os.lstat(self.directory).st_dev


def lstat(host: str, path: str) -> os.stat_result:
    """What is at a place of this machine; `Unresolved` with the tree's path"""
    try:
        return os.lstat(host)
    except ValueError as error:  # a NUL
        raise Unresolved(path, "is no path", errno.EINVAL) from error
    except OSError as error:
        reason = {errno.ENOENT: MISSING}.get(error.errno or 0)
        text = reason or (error.strerror or "cannot be seen").lower()
        raise Unresolved(path, text, error.errno or errno.EIO) from error


def open_regular(place: Place) -> int:
    """A descriptor of a regular file; nothing else is opened, as opening may act"""
    if not place.is_file:
        raise Unresolved(place.inside, "is no regular file", errno.EACCES)
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        return os.open(place.host, flags)
    except OSError as error:
        number = error.errno or errno.EIO
        reason = (error.strerror or "cannot be opened").lower()
        raise Unresolved(place.inside, reason, number) from error
