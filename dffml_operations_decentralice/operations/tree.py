"""What operations do to a tree of files"""

import os
from pathlib import Path

from ..errors import UserError

SECOND = 10**9  # nanoseconds
MAX_LINKS = 40  # as Linux has it


def inside_root(root: Path, inside: Path) -> Path:
    """The path in the tree; `UserError` if a link of the tree leads out of it"""
    parent, pending, links = root, list(inside.parent.parts), 0
    while pending:
        part = pending.pop(0)
        links += (parent / part).is_symlink()
        if (part == ".." and parent == root) or links > MAX_LINKS:
            raise UserError(f"{inside} leads out of the image", remedy="move it")
        if not (parent / part).is_symlink():
            parent = parent.parent if part == ".." else parent / part
            continue
        to = Path(os.readlink(parent / part))
        pending = list(to.parts[to.is_absolute() :]) + pending
        parent = root if to.is_absolute() else parent
    return parent / inside.name


def resolved(root: Path, path: str) -> Path:
    """Where an absolute path of the image leads, its last link followed too"""
    return inside_root(root, Path(path.lstrip("/"), "entry")).parent


def clamp_times(root: Path, epoch: int) -> None:
    """
    Let nothing have a time but ours. What has it already is not touched: it may be
    shared with another artefact, which had its times clamped.
    """
    for directory, names, files in os.walk(root, topdown=False):
        for name in names + files:
            _clamp(os.path.join(directory, name), epoch)
    _clamp(str(root), epoch)


def _clamp(path: str, epoch: int) -> None:
    if os.lstat(path).st_mtime_ns != epoch * SECOND:
        os.utime(path, (epoch, epoch), follow_symlinks=False)


def replace_text(path: Path, text: str, mode: int = 0o644) -> None:
    """Write a file anew: one that is there may be a link, or shared"""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.write_text(text)
    path.chmod(mode)


def is_program(root: Path, path: str) -> bool:
    """Whether the image has a program, through whatever links of its own"""
    try:
        place = resolved(root, path)
    except UserError:
        return False
    return place.is_file() and os.access(place, os.X_OK)


def package(name: str) -> str:
    """What to do about a program that is missing"""
    return f"add the package {name} to `packages` of lock_userspace"
