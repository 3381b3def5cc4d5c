"""
Immutable results, named by what is in them, and an index of what made them

::

    <store>/objects/<digest>-<name>   a file, or a directory
    <store>/actions/<key>.json        {"object", "parts": what the key is made of, ...}
    <store>/latest/<operation>.json   the parts of the last run, to tell what changed
    <store>/memo.json                 what is known of files outside, by size and time
    <store>/cache/<tool>/             what tools keep for themselves; no result
    <store>/logs/                     the log of each operation's last run
    <store>/roots/                    links from outside to what must be kept
    <store>/tmp/                      work in progress, each directory locked

The path of the store is in no key: it may be moved.
"""

import asyncio
import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any, AsyncIterator, Callable, Dict, Iterator, Optional, Set

from ..errors import SpaceError, UserError
from . import signals
from .digest import DIGEST_LENGTH, digest_of, sha256

FOLDERS = ("objects", "actions", "latest", "cache", "logs", "roots", "tmp")
LOCK = "lock"  # in each directory below tmp: held as long as its process lives
_swept: Set[Path] = set()  # once a process is enough
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


def key_of(parts: Dict[str, Any]) -> str:
    """The key of an action: SHA-256 over canonical JSON of all that it is made of"""
    canonical = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


class Store:
    """One store; every method may be called by several processes at once"""

    def __init__(self, root: Path):
        self.root = root
        try:
            for name in FOLDERS:
                (root / name).mkdir(parents=True, exist_ok=True)
            self._sweep()
        except OSError as error:
            raise UserError(
                f"the store {root} cannot be used: {error.strerror}",
                remedy="set DECENTRALICE_STORE to a directory that you may write to",
            ) from error

    def object_digest(self, path: str) -> Optional[str]:
        """The digest in an artefact's name, None of any other path"""
        parent, _, name = path.rpartition("/")
        if parent == str(self.root / "objects"):
            return name[:DIGEST_LENGTH]
        return None

    def find(self, key: str) -> Optional[Dict[str, Any]]:
        """The action of a key, with the ``path`` of its result, if it is there"""
        action = _read(self.root / "actions" / f"{key}.json")
        if action is None or not {"object", "made"} <= set(action):
            return None
        path = self.root / "objects" / str(action["object"])
        return {**action, "path": str(path)} if path.exists() else None

    def last(self, name: str) -> Optional[Dict[str, Any]]:
        """The parts of an operation's last run"""
        return _read(self.root / "latest" / f"{name}.json")

    @contextlib.asynccontextmanager
    async def locked(self, key: str) -> AsyncIterator[None]:
        """
        Of two builds which need the same action the second waits, and finds it done
        """
        path = self.root / "tmp" / f"{key}.lock"
        while True:
            with _space(self.root), open(path, "w") as lock:
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
    def scratch(self, name: str) -> Iterator[Path]:
        """A directory for work in progress; gone afterwards, also after a crash"""
        with _space(self.root), self._sweeping():
            path = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self.root / "tmp"))
            lock = open(path / LOCK, "w")
            fcntl.flock(lock, fcntl.LOCK_EX)
        with lock, _space(self.root):
            try:
                yield path
            finally:
                with self._sweeping():
                    remove_tree(path)

    def add(self, out: Path, name: str) -> str:
        """
        Take ``out`` over as an object: its name is by its content, it appears at once
        and whole. Returns the object's name.
        """
        found = f"{digest_of(out)}-{name}"
        target = self.root / "objects" / found
        if not target.exists():
            if not out.is_dir():
                out.chmod(0o444)
            with contextlib.suppress(FileExistsError), _space(self.root):
                os.rename(out, target)
        return found

    def record(self, key: str, name: str, action: Dict[str, Any]) -> None:
        """Remember what made an object"""
        self._write(self.root / "actions" / f"{key}.json", action)
        self._write(self.root / "latest" / f"{name}.json", action["parts"])

    def is_full(self) -> bool:
        """
        Whether there is no room for anything. A command that found none often has no
        room to say so in its log either.
        """
        found = os.statvfs(self.root)
        inodes = found.f_favail or not found.f_files  # some file systems do not count
        return found.f_bavail * found.f_frsize < LEAST or not inodes

    def keep(self, link: Path) -> None:
        """Note a link from outside: what it points to must not be pruned"""
        name = hashlib.sha256(str(link).encode()).hexdigest()[:DIGEST_LENGTH]
        self._write(self.root / "roots" / f"{name}.json", {"link": str(link)})

    def file_digest(self, path: Path) -> str:
        """SHA-256 of a file outside, not read again while it is the same"""
        return self.remembered(path, "sha256", lambda: sha256(path))

    def remembered(self, path: Path, what: str, find: Callable[[], str]) -> str:
        """What was found of a file outside, while its size and times are the same"""
        info = path.stat()
        stamp = [info.st_size, info.st_mtime_ns, info.st_ctime_ns, info.st_ino]
        memo, name = self._memo(), f"{what} {path}"
        known = memo.get(name)
        if known is None or known[0] != stamp:
            memo[name] = known = [stamp, find()]
            self._write(self.root / "memo.json", memo)
        return known[1]

    def _memo(self) -> Dict[str, Any]:
        if not hasattr(self, "_memo_read"):
            self._memo_read = _read(self.root / "memo.json") or {}
        return self._memo_read

    def _write(self, path: Path, content: Any) -> None:
        with _space(self.root):
            handle, new = tempfile.mkstemp(dir=self.root / "tmp", prefix=path.name)
            try:
                with open(handle, "w") as file:
                    json.dump(content, file, sort_keys=True)
                os.replace(new, path)
            except BaseException:
                os.unlink(new)
                raise

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
    shutil.rmtree(path, onerror=_make_writable)


def _make_writable(function, path, error):
    # without root's rights a read-only directory keeps what is in it
    os.chmod(os.path.dirname(path), 0o700)
    if os.path.isdir(path) and not os.path.islink(path):  # a file may be a hard link
        os.chmod(path, 0o700)
    function(path)


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
    except (FileNotFoundError, ValueError):
        return None
    return content if isinstance(content, dict) else None


@contextlib.contextmanager
def _space(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise no_space(root) from error


def says_no_space(log: Path) -> bool:
    """Whether a command said so; each tool has words of its own around it"""
    return b"no space left on device" in log.read_bytes().lower()


def no_space(root: Path) -> SpaceError:
    """What is said when a file system is full"""
    free = shutil.disk_usage(root).free >> 20
    return SpaceError(
        f"no space left below {root} ({free} MB free)",
        remedy="free some, or set DECENTRALICE_STORE to another file system",
    )
