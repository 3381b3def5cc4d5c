"""
A signal that asks for the end ends the commands that run, and then the build by its
ordinary way of failing

dffml's own command line exits with 0 on Ctrl-C and leaves children behind. Here the
commands end, so the operation fails by itself, and what cleans up after failures does.
The exit status is 128 plus the signal's number, as shells have it, whoever runs the
flow.
"""

import asyncio
import contextlib
import os
import signal
import sys
import weakref
from typing import Iterable, Optional, Set, TextIO

from ..errors import CommandFailed, cause

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SHELL = 128  # plus the signal: what shells say of a program that it ended

_groups: Set[int] = set()
_tasks: Set["asyncio.Future"] = set()
_loops: "weakref.WeakSet" = weakref.WeakSet()
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
    """Handle the signals; called before each operation and command, cheap"""
    loop = asyncio.get_running_loop()
    if loop in _loops:
        return
    with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
        for number in ENDING:
            # nohup, or a job in the background: whoever starts us wants it ignored
            if signal.getsignal(number) is not signal.SIG_IGN:
                loop.add_signal_handler(number, end, number)
        _loops.add(loop)


def end(number: int) -> None:
    """End what runs, and let nothing else begin; the first signal counts"""
    global _received
    if _received is None:
        _received = number
        sys.excepthook = _say_so
    end_commands()
    for task in list(_tasks):
        task.cancel()


def end_commands() -> None:
    """Kill the commands that run; the operations fail by it"""
    for group in list(_groups):
        kill(group)


def silence(stream: TextIO) -> None:
    """Have what else is written to a stream go nowhere, at the end of Python too"""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def nobody_listens() -> None:
    """
    Who read standard error is gone (``build 2>&1 | head``): as SIGPIPE, which Python
    ignores. What else is written there must not fail too.
    """
    silence(sys.stderr)
    end(signal.SIGPIPE)


def _say_so(kind, error, trace) -> None:
    """
    What dffml's command line does not catch ends the interpreter with 1, and a
    traceback. To be asked to end is no defect.
    """
    ours = cause(error)
    if ours is None:
        sys.__excepthook__(kind, error, trace)
    elif not ours.told:
        print("\n".join(ours.lines()), file=sys.stderr)
    raise SystemExit(SHELL + (_received or 0))


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
