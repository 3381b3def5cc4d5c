"""
Immutable results, named by what is in them, and an index of what made them

::

    <store>/objects/<digest>-<name>    a file, or a directory
    <store>/manifests/<digest>-<name>  of a directory, to tell which file is damaged
    <store>/actions/<key>.json         {"object", "parts": what makes the key, ...};
                                       its time is that of its last use
    <store>/latest/<operation>.json    the last action, to tell what changed
    <store>/memo.json                  what is known of files outside, by size and time
    <store>/cache/<tool>/              what tools keep for themselves; no result
    <store>/logs/                      what was said in each operation's last runs
    <store>/roots/                     links from outside to what must be kept
    <store>/tmp/                       work in progress, each directory locked
    <store>/index                      locked while objects are looked up, or removed
    <store>/in-use                     locked by all who use the store; its time is that
                                       since when there is always one

The path of the store is in no key: it may be moved.
"""

import asyncio
import atexit
import contextlib
import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import stat
import tempfile
import time
from pathlib import Path
from typing import (
    IO,
    Any,
    AsyncIterator,
    Callable,
    Dict,
    Iterator,
    List,
    Optional,
    Set,
    Tuple,
)

from ..errors import SpaceError, UserError
from . import signals
from .digest import DIGEST_LENGTH, digest_of, manifest, sha256, tree_digest

FOLDERS = (
    *("objects", "manifests", "actions", "latest"),
    *("cache", "logs", "roots", "tmp"),
)
LOCK = "lock"  # in each directory below tmp: held as long as its process lives
_swept: Set[Path] = set()  # once a process is enough
_members: Dict[Path, IO] = {}  # stores that this process uses, locked until it ends
_used: Dict[Path, Dict[str, str]] = {}  # by operation, the key that this process used
_made: Set[Path] = set()  # stores in which this process made something
_memos: Dict[Path, "Memo"] = {}
SIZE = "DECENTRALICE_STORE_SIZE"
DEFAULT_SIZE = "20G"
UNITS = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}  # powers of two
LOGS = 10  # of an operation
RESULTS = 10  # of a link: what is known of earlier ones, to tell what changed
RACY = 2.0  # seconds: a file that young may change again without another time
NO_SPACE = re.compile(
    rb"no space left on device|needs \d+\S* more (space|inodes) on|enough free space",
    re.IGNORECASE,
)
LEAST = 1 << 20  # bytes free; with less a file system is full
HOUR = 3600.0  # seconds
POLL = 0.2  # seconds between looks at another process's lock; nothing tells


def default_root() -> Path:
    """``$DECENTRALICE_STORE``, else ``decentralice`` in the XDG cache folder"""
    given = os.environ.get("DECENTRALICE_STORE")
    if given:
        return Path(given).absolute()
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache, "decentralice").absolute()


def parse_size(text: str) -> int:
    """``5G`` in bytes; `UserError` if it is no size"""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([KMGT]?)i?B?", text.strip(), re.IGNORECASE)
    if match is None:
        raise UserError(
            f"no size: {text!r}", remedy="a number with K, M, G or T behind it: 5G"
        )
    return int(float(match[1]) * (1 << UNITS[match[2].upper()]))


def limit() -> int:
    """Bytes that a store may have by itself"""
    text = os.environ.get(SIZE) or DEFAULT_SIZE
    try:
        return parse_size(text)
    except UserError as error:
        raise UserError(f"{SIZE}: {error.cause}", remedy=error.remedy) from None


def key_of(parts: Dict[str, Any]) -> str:
    """The key of an action: SHA-256 over canonical JSON of all that it is made of"""
    canonical = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


class Store:
    """
    One store; every method may be called by several processes at once

    read_only: nothing is written, not even that there is a store
    """

    def __init__(self, root: Path, *, read_only: bool = False):
        self.root = root
        self.read_only = read_only
        if read_only:
            return
        limit()
        try:
            for name in FOLDERS:
                (root / name).mkdir(parents=True, exist_ok=True)
            self._join()
            self._sweep()
        except OSError as error:
            raise UserError(
                f"the store {root} cannot be used: {error.strerror}",
                remedy="set DECENTRALICE_STORE to a directory that you may write to",
            ) from error

    def object_name(self, path: str) -> Optional[str]:
        """The name of an artefact, None of any other path"""
        parent, _, name = path.rpartition("/")
        return name if parent == str(self.root / "objects") else None

    def object_digest(self, path: str) -> Optional[str]:
        """The digest in an artefact's name, None of any other path"""
        name = self.object_name(path)
        return name[:DIGEST_LENGTH] if name is not None else None

    def peek(self, key: str) -> Optional[Dict[str, Any]]:
        """The action of a key, with the ``path`` of its result, if it is there"""
        action = read_action(self.root / "actions" / f"{key}.json")
        if action is None:
            return None
        path = self.root / "objects" / action["object"]
        return {**action, "path": str(path)} if _is_whole(path, action) else None

    def find(self, key: str) -> Optional[Dict[str, Any]]:
        """What `peek` tells, to be used: it is not pruned while this process lives"""
        with self.index():
            action = self.peek(key)
            if action is not None:
                os.utime(self.root / "actions" / f"{key}.json")
                self._note(key, action)
            return action

    def last(self, name: str) -> Optional[Dict[str, Any]]:
        """The parts of an operation's last run"""
        action = self.last_action(name)
        return action["parts"] if action else None

    def last_action(self, name: str) -> Optional[Dict[str, Any]]:
        """What an operation's last run was made of and made"""
        return read_action(self.root / "latest" / f"{name}.json")

    @contextlib.asynccontextmanager
    async def locked(self, key: str) -> AsyncIterator[None]:
        """
        Of two builds which need the same action the second waits, and finds it done
        """
        path = self.root / "tmp" / f"{key}.lock"
        while True:
            with told_if_full(self.root), open(path, "w") as lock:
                while not _try_lock(lock):
                    signals.check()
                    await asyncio.sleep(POLL)
                if not _is_at(lock, path):
                    continue  # whom it waited for has removed it
                try:
                    yield
                finally:
                    path.unlink(missing_ok=True)
                return

    @contextlib.contextmanager
    def index(self, *, alone: bool = False) -> Iterator[None]:
        """Objects are found and added together, and removed alone"""
        with open(self.root / "index", "a") as file:
            fcntl.flock(file, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
            yield

    def in_use_since(self) -> float:
        """What was used since, some process that still runs may have found"""
        return os.stat(self.root / "in-use").st_mtime

    @contextlib.contextmanager
    def scratch(self, name: str) -> Iterator[Path]:
        """A directory for work in progress; gone afterwards, also after a crash"""
        with told_if_full(self.root), self._sweeping():
            path = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self.root / "tmp"))
            try:
                lock = open(path / LOCK, "w")
            except OSError:
                path.rmdir()
                raise
            fcntl.flock(lock, fcntl.LOCK_EX)
        with lock, told_if_full(self.root):
            try:
                yield path
            finally:
                with self._sweeping():
                    remove_tree(path)

    def log(self, operation: str, key: str = "") -> Path:
        """An empty file for what an action says; of the older ones a few are kept"""
        folder = self.root / "logs"
        path = folder / f"{operation}-{key[:DIGEST_LENGTH]}.log"
        path.unlink(missing_ok=True)  # another run may still write to it
        path.touch()
        logs = [one for one in folder.glob(f"{operation}-*.log") if one != path]
        for old in sorted(logs, key=_time, reverse=True)[LOGS - 1 :]:
            old.unlink(missing_ok=True)
        return path

    def add(self, out: Path, name: str) -> str:
        """
        Take ``out`` over as an object: its name is by its content, it appears at once
        and whole. Returns the object's name.
        """
        digest, lines = identify(out)
        found = f"{digest}-{name}"
        target = self.root / "objects" / found
        if lines is not None:
            self._write(self.root / "manifests" / found, "".join(lines))
        with told_if_full(self.root), self.index():
            if lines is None:
                out.chmod(0o444)
                os.replace(out, target)  # one that was there may be damaged
            elif not _touch(target):
                with contextlib.suppress(FileExistsError):
                    os.rename(out, target)
                target.chmod(0o555)  # no part of the digest; of a file within, it is
        return found

    def record(
        self, key: str, name: str, action: Dict[str, Any], *, answer: bool = True
    ) -> None:
        """
        Remember what made an object; if it is no answer to be used again, only to
        explain it
        """
        if not answer:
            key = key_of({**action["parts"], "unpinned": action["object"]})
        self._write(self.root / "actions" / f"{key}.json", action)
        if answer:
            self._write(self.root / "latest" / f"{name}.json", action)
        self._note(key, action)
        _made.add(self.root)

    def is_full(self) -> bool:
        """
        Whether there is no room for anything. A command that found none often has no
        room to say so in its log either.
        """
        found = os.statvfs(self.root)
        inodes = found.f_favail or not found.f_files  # some file systems do not count
        return found.f_bavail * found.f_frsize < LEAST or not inodes

    def keep(self, link: Path) -> None:
        """
        Note a link from outside: what it points to must not be pruned. When something
        was made for it, the store is cut to its size.
        """
        name = hashlib.sha256(str(link).encode()).hexdigest()[:DIGEST_LENGTH]
        path = self.root / "roots" / f"{name}.json"
        root = {"link": str(link), "results": self._results(path, link)}
        if root != _read(path):
            self._write(path, root)
        if self.root in _made:
            from . import upkeep  # which nobody needs who makes nothing

            _made.discard(self.root)
            upkeep.trim(self)

    def _results(self, root: Path, link: Path) -> List[Dict[str, Any]]:
        """The results that a link pointed to, with their actions, the newest last"""
        results = read_root(root)["results"]
        target = Path(os.path.realpath(link))
        if str(target.parent) != os.path.realpath(self.root / "objects"):
            return results
        name = target.name
        actions = dict(_used.get(self.root, {}))
        if results and (results[-1]["object"], results[-1]["actions"]) == (
            name,
            actions,
        ):
            return results
        new = {"object": name, "actions": actions, "time": time.time()}
        return [*results, new][-RESULTS:]

    def file_digest(self, path: Path) -> str:
        """SHA-256 of a file outside, not read again while it is the same"""
        return self.remembered(path, "sha256", lambda: sha256(path))

    def remembered(self, path: Path, what: str, find: Callable[[], Any]) -> Any:
        """
        What was found of a file outside, while its size and times are the same; any
        value that JSON has
        """
        memo = _memos.get(self.root)
        if memo is None:
            memo = _memos[self.root] = Memo(self)
        return memo.remembered(path, what, find)

    def _write(self, path: Path, content: Any) -> None:
        """Text as it is, anything else as JSON; the file is replaced at once"""
        with told_if_full(self.root):
            handle, new = tempfile.mkstemp(dir=self.root / "tmp", prefix=path.name)
            try:
                text = content
                if not isinstance(content, str):
                    text = json.dumps(content, sort_keys=True)
                with open(handle, "wb") as file:
                    file.write(text.encode("utf-8", "surrogateescape"))
                os.replace(new, path)
            except BaseException:
                os.unlink(new)
                raise

    def _note(self, key: str, action: Dict[str, Any]) -> None:
        operation = action["parts"].get("operation")
        _used.setdefault(self.root, {})[str(operation)] = key

    def _join(self) -> None:
        """Tell those who prune that the store is used, and since when"""
        if self.root in _members and _is_at(_members[self.root], self.root / "in-use"):
            return
        file = open(self.root / "in-use", "a")
        if _try_lock(file):  # there is nobody else
            os.utime(file.fileno())
        fcntl.flock(file, fcntl.LOCK_SH)
        _members[self.root] = file

    def _sweep(self) -> None:
        """Remove what killed processes left"""
        if self.root in _swept:
            return
        _swept.add(self.root)
        with self._sweeping():
            for path in (self.root / "tmp").iterdir():
                with contextlib.suppress(FileNotFoundError):
                    _remove_abandoned(path)

    @contextlib.contextmanager
    def _sweeping(self) -> Iterator[None]:
        """One at a time: no directory is swept before its owner has locked it"""
        with open(self.root / "sweeping", "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


class Memo:
    """
    What was found of files outside, by their size and times: ``memo.json`` has
    {path: [stamp, {what: found}]}, and is written once, when the process ends
    """

    def __init__(self, store: Store):
        self.store = store
        self.path = store.root / "memo.json"
        self.known = self._read()
        self.new: Dict[str, Any] = {}
        atexit.register(self.write)

    def remembered(self, path: Path, what: str, find: Callable[[], Any]) -> Any:
        """What `find` finds, or has found"""
        info = path.stat()
        stamp = [info.st_size, info.st_mtime_ns, info.st_ctime_ns, info.st_ino]
        entry = self.known.get(str(path))
        if entry is None or entry[0] != stamp:
            entry = [stamp, {}]
        if what not in entry[1]:
            entry[1][what] = find()
            if info.st_ctime < time.time() - RACY:
                self.known[str(path)] = self.new[str(path)] = entry
        return entry[1][what]

    def write(self) -> None:
        """Add what is new to what others have added meanwhile"""
        if not self.new or self.store.read_only:
            return
        found = {**self._read(), **self.new}
        there = {path: entry for path, entry in found.items() if os.path.exists(path)}
        with contextlib.suppress(OSError, SpaceError):  # it only saves time
            self.store._write(self.path, there)
        self.new = {}

    def _read(self) -> Dict[str, Any]:
        found = _read(self.path) or {}
        return {path: entry for path, entry in found.items() if _is_entry(entry)}


def _is_entry(entry: Any) -> bool:
    return isinstance(entry, list) and len(entry) == 2 and isinstance(entry[1], dict)


def remove_tree(path: Path) -> None:
    """Remove a directory; refuses if anything is mounted below it"""
    prefix = str(path.resolve()) + "/"
    with open("/proc/self/mountinfo") as mounts:
        mounted = [line.split()[4] for line in mounts]
    below = [point for point in mounted if point.startswith(prefix)]
    if below:
        raise UserError(
            f"{below[0]} is mounted: {path} is not removed",
            remedy=f"umount {below[0]}",
        )
    try:
        shutil.rmtree(path)
    except PermissionError:
        # without root's rights a read-only directory keeps what is in it
        path.chmod(0o700)
        for folder, names, _files in os.walk(path):
            for name in names:
                if not os.path.islink(os.path.join(folder, name)):
                    os.chmod(os.path.join(folder, name), 0o700)
        shutil.rmtree(path)


def identify(path: Path) -> Tuple[str, Optional[List[str]]]:
    """The digest of a file or tree, and of a tree the lines of its manifest"""
    if path.is_symlink() or not path.is_dir():
        return digest_of(path), None
    lines = [line + "\n" for line in manifest(path)]
    return tree_digest(lines), lines


def read_action(path: Path) -> Optional[Dict[str, Any]]:
    """What an action's file says; None if it is damaged"""
    action = _read(path)
    if action is None or not isinstance(action.get("object"), str):
        return None
    if "/" in action["object"] or not isinstance(action.get("parts"), dict):
        return None
    return action if isinstance(action.get("made"), (int, float)) else None


def read_root(path: Path) -> Dict[str, Any]:
    """The ``link`` in a file below ``roots``, and the ``results`` it pointed to"""
    content = _read(path) or {}
    results = content.get("results")
    wanted: Dict[str, Any] = {"object": str, "actions": dict, "time": (int, float)}
    return {
        "link": str(content.get("link", "")),
        "results": [
            one
            for one in (results if isinstance(results, list) else [])
            if isinstance(one, dict)
            and all(isinstance(one.get(name), kind) for name, kind in wanted.items())
        ],
    }


def _is_whole(path: Path, action: Dict[str, Any]) -> bool:
    """Whether an object is there, and a file as long as it was: cheap, no proof"""
    try:
        info = path.lstat()
    except FileNotFoundError:
        return False
    return stat.S_ISDIR(info.st_mode) or action.get("size") in (None, info.st_size)


def _touch(path: Path) -> bool:
    """Mark an object as used, but for its own time; False if there is none"""
    try:
        info = path.lstat()
    except FileNotFoundError:
        return False
    os.utime(path, ns=(time.time_ns(), info.st_mtime_ns))
    return True


def _time(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _try_lock(file) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _remove_abandoned(path: Path) -> None:
    """
    Remove an entry of ``tmp`` that nobody works at. A directory that has no lock lost
    its owner while it was made or removed, as this is done by one process at a time.
    """
    if path.is_dir():
        if not (path / LOCK).exists():
            return remove_tree(path)
    elif path.suffix != ".lock" and path.stat().st_mtime > time.time() - HOUR:
        return  # a file on its way to its place: nothing tells whether it has an owner
    with open(path / LOCK if path.is_dir() else path) as file:
        if _try_lock(file):  # held meanwhile: whoever waits for it looks again
            remove_tree(path) if path.is_dir() else path.unlink()


def _is_at(file, path: Path) -> bool:
    """Whether a path still leads to an open file"""
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except FileNotFoundError:
        return False


def _read(path: Path) -> Optional[Dict[str, Any]]:
    """What a file holds; what is damaged is as if it were not there"""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


@contextlib.contextmanager
def told_if_full(root: Path) -> Iterator[None]:
    """Within the block a full file system is a `SpaceError`"""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise no_space(root) from error


def says_no_space(log: Path) -> bool:
    """Whether a command said so; rpm, apt look beforehand, and have their own words"""
    return NO_SPACE.search(log.read_bytes()) is not None


def no_space(root: Path) -> SpaceError:
    """What is said when a file system is full"""
    free = shutil.disk_usage(root).free >> 20
    return SpaceError(
        f"no space left below {root} ({free} MB free)",
        remedy="free some, or set DECENTRALICE_STORE to another file system",
    )
