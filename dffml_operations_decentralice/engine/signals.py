"""
SIGINT and SIGTERM end the commands that run, and then the build by its ordinary way of
failing

dffml's own command line exits with 0 on Ctrl-C and leaves children behind. Here the
commands end, so the operation fails by itself, and what cleans up after failures does.
"""

import asyncio
import contextlib
import os
import signal
from typing import Iterable, Optional, Set

from ..errors import CommandFailed

_groups: Set[int] = set()
_tasks: Set["asyncio.Future"] = set()
_received: Optional[int] = None


def received() -> Optional[int]:
    """The signal that asked this process to end, if one did"""
    return _received


def check() -> None:
    """Raise if the process was asked to end"""
    if _received:
        name = signal.Signals(_received).name
        raise CommandFailed(
            f"interrupted by {name}", remedy="run it again: it goes on where it stopped"
        )


def watch() -> None:
    """Handle the signals; called before each command, cheap"""
    with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, _handle, number)


def _handle(number: int) -> None:
    global _received
    _received = number
    for group in list(_groups):
        kill(group)
    for task in list(_tasks):
        task.cancel()


@contextlib.contextmanager
def cancelling(tasks: Iterable["asyncio.Future"]):
    """Tasks that wait for something else than a command, and need not"""
    _tasks.update(tasks)
    try:
        yield
    finally:
        _tasks.difference_update(tasks)


@contextlib.contextmanager
def group(pid: int):
    """A process group that must not outlive the block"""
    _groups.add(pid)
    if _received:  # while it was being started
        kill(pid)
    try:
        yield
    finally:
        _groups.discard(pid)
        kill(pid)


def kill(pid: int, number: int = signal.SIGKILL) -> None:
    """Signal a process group that may be gone"""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)
