"""What operations do to a tree of files"""

import os
from pathlib import Path

SECOND = 10**9  # nanoseconds


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
