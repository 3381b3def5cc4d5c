"""
Digests of files and trees

A file's digest covers its size and every block that is not all zeros, so that a sparse
file of 10 GB costs what is in it, and holes and written zeros are the same. A tree's
digest is that of its manifest.
"""

import hashlib
import os
import stat
from pathlib import Path
from typing import Iterable, Iterator, List, Tuple

BLOCK = 1 << 20
ZEROS = bytes(BLOCK)
DIGEST_LENGTH = 32  # hexadecimal digits: 128 bits


def digest_of(path: Path) -> str:
    """The name of what is at ``path``: a file or a tree"""
    if path.is_dir() and not path.is_symlink():
        return tree_digest(line + "\n" for line in manifest(path))
    return sparse_digest(path)[:DIGEST_LENGTH]


def tree_digest(lines: Iterable[str]) -> str:
    """What `digest_of` says of a tree with these lines of a manifest"""
    digest = hashlib.sha256(b"tree\n")
    for line in lines:
        digest.update(line.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:DIGEST_LENGTH]


def sparse_digest(path: Path) -> str:
    """SHA-256 of size, and offset and content of each block that is not all zeros"""
    with open(path, "rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        digest = hashlib.sha256(b"file %d\n" % size)
        offset = 0
        while offset < size:
            offset = next_data(file.fileno(), offset, size)
            block = os.pread(file.fileno(), BLOCK, offset)
            if block and block != ZEROS[: len(block)]:
                digest.update(b"%d\n" % offset)
                digest.update(block)
            offset += max(len(block), 1)
    return digest.hexdigest()


def next_data(descriptor: int, offset: int, size: int) -> int:
    """The block with the next byte that is not in a hole"""
    try:
        return os.lseek(descriptor, offset, os.SEEK_DATA) // BLOCK * BLOCK
    except OSError:  # ENXIO: nothing but a hole from here on
        return size


def manifest(root: Path) -> Iterator[str]:
    """A line for each entry of a tree, sorted: its path, and what it is"""
    for name, what in entries(root):
        yield f"{name!r} {what}"


def entries(root: Path) -> Iterator[Tuple[str, str]]:
    """
    Each path in a tree, and what is there: type and mode, owner, content, extended
    attributes. Times are no content: whoever writes them clamps them.
    """
    pending = [(str(root), "")]
    while pending:
        directory, prefix = pending.pop()
        with os.scandir(directory) as found:
            entries = sorted(found, key=lambda entry: entry.name)
        for entry in entries:
            info = entry.stat(follow_symlinks=False)
            name = prefix + entry.name
            if stat.S_ISDIR(info.st_mode):
                pending.append((entry.path, name + "/"))
            owner = f"{info.st_uid}:{info.st_gid}"
            words = [f"{info.st_mode:o}", owner, _content(entry, info)]
            yield name, " ".join(words + _attributes(entry.path))


def _content(entry: os.DirEntry, info: os.stat_result) -> str:
    if stat.S_ISREG(info.st_mode):
        return f"{info.st_size} {sha256(entry.path)}"
    if stat.S_ISLNK(info.st_mode):
        return repr(os.readlink(entry.path))
    if stat.S_ISDIR(info.st_mode):
        return "-"
    return f"{os.major(info.st_rdev)}:{os.minor(info.st_rdev)}"


def _attributes(path: str) -> List[str]:
    names = sorted(os.listxattr(path, follow_symlinks=False))
    return [
        f"{name}={os.getxattr(path, name, follow_symlinks=False).hex()}"
        for name in names
    ]


def sha256(path) -> str:
    """SHA-256 of a file, as anyone computes it"""
    digest = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:
        while True:
            block = file.read(BLOCK)
            if not block:
                return digest.hexdigest()
            digest.update(block)


def size_of(path: Path) -> int:
    """Bytes that a file or tree occupies"""
    info = path.lstat()
    total = info.st_blocks * 512
    if stat.S_ISDIR(info.st_mode):
        with os.scandir(path) as entries:
            total += sum(size_of(Path(entry.path)) for entry in entries)
    return total
