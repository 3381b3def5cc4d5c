"""What a build must leave as it was: mounts, loop devices, /dev, processes, files"""

import contextlib
import ctypes
import os
import select
from pathlib import Path
from typing import Dict, Iterator, List, Set

PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
PATIENCE = 20.0  # seconds until a process that was killed is said to be left over


def surroundings(process: str = "self") -> Dict[str, Set[str]]:
    """What there is now, by kind; mounts are those that a process sees"""
    return {
        "mounts": {
            line.partition(" - ")[0]
            for line in Path(f"/proc/{process}/mountinfo").read_text().splitlines()
        },
        "loop devices": {
            f"{file.parent.parent.name} {file.read_text()}"
            for file in Path("/sys/block").glob("loop*/loop/backing_file")
        },
        "devices": {
            os.path.join(folder, name)
            for folder, _, names in os.walk("/dev")
            for name in names
            if folder != "/dev/pts"
        },
    }


def changes(before: Dict[str, Set[str]], after: Dict[str, Set[str]]) -> List[str]:
    """What is not as it was, a line each"""
    found = []
    for kind in before:
        found += [f"{kind}: new: {one}" for one in after[kind] - before[kind]]
        found += [f"{kind}: gone: {one}" for one in before[kind] - after[kind]]
    return sorted(found)


@contextlib.contextmanager
def adopting() -> Iterator[None]:
    """Have processes whose parent died become ours: nobody escapes by a new session"""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")
    try:
        yield
    finally:
        libc.prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def children(of: int) -> Set[int]:
    """The processes whose parent is ``of``, zombies too"""
    found = set()
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError):
                after = Path("/proc", name, "stat").read_text().rpartition(")")[2]
                if int(after.split()[1]) == of:
                    found.add(int(name))
    return found


def descendants(of: int) -> Set[int]:
    """Children, theirs, …"""
    found = children(of)
    return found.union(*(descendants(one) for one in found))


def left_over(known: Set[int]) -> List[str]:
    """
    Our children other than ``known`` that live on; waits for those that are dying, and
    for their children which become ours by it
    """
    while True:
        fresh = children(os.getpid()) - known
        if not fresh:
            return []
        alive = [pid for pid in fresh if not _ended(pid)]
        if alive:
            return [_command(pid) for pid in alive]


def _ended(pid: int) -> bool:
    handle = os.pidfd_open(pid)
    try:
        if not select.select([handle], [], [], PATIENCE)[0]:
            return False
    finally:
        os.close(handle)
    os.waitpid(pid, 0)
    return True


def _command(pid: int) -> str:
    words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ")
    return f"{pid} {words.decode(errors='replace')}"


def program(pid: int) -> str:
    """The name of the program that a process runs, empty if it is gone"""
    try:
        return os.path.basename(os.readlink(f"/proc/{pid}/exe"))
    except OSError:
        return ""
