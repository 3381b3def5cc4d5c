"""
What is said while a build runs

Every event is a mapping; `schemas/progress.schema.json` tells what each kind has. A
monitor is called with one event after another, and makes something of them: a live
display, lines for a log, JSON lines for a program.
"""

import asyncio
import contextlib
import contextvars
import json
import os
import re
import sys
import time
import traceback
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, TextIO

from ..errors import DecentrAliceError, UserError, as_lines
from . import signals

VERSION = 1  # of the events: raised when a program that reads them has to change
THROTTLE = 0.2  # seconds between two events about the bytes of a step
SELDOM = 30.0  # seconds between two lines about them
# Control sequences: https://www.ecma-international.org/publications-and-standards/
# standards/ecma-48/ (CSI, OSC, and those of two characters)
ESCAPE = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -/]*[0-~])?"
)
Event = Dict[str, Any]


class Defect(DecentrAliceError):
    """What nobody thought of: ours to mend, but no reason for a traceback"""

    kind = "defect"

    def __init__(self, error: Exception):
        first: BaseException = error  # dffml wraps what operations raise
        behind = first.__cause__ or first.__context__
        while behind is not None:
            first, behind = behind, behind.__cause__ or behind.__context__
        super().__init__(
            f"{type(first).__name__}: {first}",
            remedy="`-log debug` shows where it comes from; please report it",
        )
        self.__cause__ = error


class Lines:
    """Plain lines, for a log"""

    def __init__(self, file: Optional[TextIO] = None):
        self.file = file
        self._failure: Any = None
        self._told: Dict[Any, float] = {}  # when bytes were, by operation

    def __call__(self, event: Event) -> None:
        method = getattr(self, event["event"], None)
        for line in method(event) if method else []:
            write_line(self.file, plain(line))

    def start(self, event):
        self._told[event["operation"]] = time.monotonic()
        return [f"{event['operation']}: {event['reason']}"]

    def say(self, event):
        return [f"{event['operation']}: {event['text']}"]

    def progress(self, event):
        now, operation = time.monotonic(), event.get("operation", "download")
        if now - self._told.setdefault(operation, now) < SELDOM:
            return []
        self._told[operation] = now
        return [f"{operation}: {amount(event)}"]

    def retry(self, event):
        return [f"{event.get('operation', 'download')}: {again(event)}"]

    def end(self, event):
        took, big = event["seconds"], size(event["bytes"])
        return [f"{event['operation']}: done in {took:.1f} s, {big}"]

    def failed(self, event):
        """Steps side by side may fail for one cause, which is told once"""
        failure, self._failure = self._failure, (event["cause"], event["remedy"])
        return [] if failure == self._failure else failure_lines(event)

    def result(self, event):
        return [] if event["exit_code"] else [summary(event)]


class JsonLines:
    """One JSON document a line, for programs"""

    def __init__(self, file: Optional[TextIO] = None):
        self.file = file

    def __call__(self, event: Event) -> None:
        stamped = {"version": VERSION, "time": round(time.time(), 3), **event}
        write_line(self.file, json.dumps(stamped, sort_keys=True))


class Auto:
    """A live display if standard error is a terminal that can do it, else lines"""

    def __init__(self):
        self._chosen = None

    def __call__(self, event: Event) -> None:
        if self._chosen is None:
            self._chosen = live() if is_terminal() else Lines()
        self._chosen(event)

    def close(self) -> None:
        if hasattr(self._chosen, "close"):
            self._chosen.close()


class Recorder:
    """Keeps the events but those of bytes: for summaries and callers from Python"""

    def __init__(self, *others):
        self.events = []
        self.others = others

    def __call__(self, event: Event) -> None:
        if event["event"] != "progress":
            self.events.append(event)
        for other in self.others:
            other(event)

    def count(self, kind: str) -> int:
        return sum(event["event"] == kind for event in self.events)

    def close(self) -> None:
        for other in self.others:
            if hasattr(other, "close"):
                other.close()


def live():
    """The live display; a terminal is supposed"""
    from . import display

    return display.Display()


KINDS: Dict[str, Callable[[], Any]] = {
    "auto": Auto,
    "rich": live,
    "lines": Lines,
    "json": JsonLines,
}


def monitor_of(kind: str) -> Any:
    """The monitor of a kind; `UserError` if there is none"""
    if kind not in KINDS:
        raise UserError(
            f"no progress of kind {kind!r}", remedy=f"one of {', '.join(KINDS)}"
        )
    return KINDS[kind]()


def is_terminal() -> bool:
    """Whether standard error is a terminal where the cursor can be moved"""
    dumb = os.environ.get("TERM", "") in ("", "dumb", "unknown")
    return sys.stderr is not None and sys.stderr.isatty() and not dumb


_monitor = [Auto()]
_operation: contextvars.ContextVar = contextvars.ContextVar("operation", default=None)


def emit(event: str, **details) -> None:
    """Tell the monitor. Within a step, the event is about its operation."""
    operation = _operation.get()
    about = {} if operation is None else {"operation": operation}
    _monitor[-1]({"event": event, **about, **details})


@contextlib.contextmanager
def monitored(monitor) -> Iterator[Any]:
    """Have ``monitor`` told, within the block; it is closed behind it, if it can be"""
    _monitor.append(monitor)
    try:
        yield monitor
    finally:
        _monitor.remove(monitor)
        if hasattr(monitor, "close"):
            monitor.close()


@contextlib.contextmanager
def running(operation: str, reason: str, log: Path) -> Iterator[None]:
    """
    A step, from its ``start`` to an ``end``, which its block tells, or to ``failed`` or
    ``cancelled``. What goes wrong is raised as one of our errors, with the log.
    """
    before = _operation.get()
    _operation.set(operation)
    try:
        emit("start", reason=reason, log=str(log))
        yield
    except asyncio.CancelledError:
        emit("cancelled")
        raise
    except DecentrAliceError as error:
        _note(error, log)
        tell(error)
        raise
    except Exception as error:
        defect = Defect(error)
        _note(defect, log, traceback.format_exc())
        tell(defect)
        raise defect from error
    finally:
        _operation.set(before)


def tell(error: DecentrAliceError, **about) -> None:
    """Emit ``failed`` unless this error was told before"""
    if not error.told:
        error.told = True
        emit("failed", **about, **error.details())


def _note(error: DecentrAliceError, log: Path, more: str = "") -> None:
    """A log that ends with what went wrong, and an error that names it"""
    with contextlib.suppress(OSError):  # the file system may be full
        with open(log, "a") as file:
            file.write("\n".join([*error.lines(), more, ""]))
    if error.log is None and log.exists():
        error.log = log


class Meter:
    """Counts what arrives of several files, and tells of it, not too often"""

    def __init__(self, total: Optional[int], files: int):
        """``total`` in bytes, None if it is not known"""
        self.total, self.of = total, files
        self.bytes = self.files = 0
        self._told = 0.0

    def add(self, count: int) -> None:
        """Bytes came; of an attempt that begins anew, they are taken back"""
        self.bytes += count
        self._tell()

    def finish(self) -> None:
        """A file is complete"""
        self.files += 1
        self._tell(self.files == self.of)

    def _tell(self, at_once: bool = False) -> None:
        now = time.monotonic()
        if at_once or now - self._told >= THROTTLE:
            self._told = now
            counted = dict(bytes=self.bytes, total=self.total)
            emit("progress", **counted, files=self.files, of=self.of)


def write_line(file: Optional[TextIO], line: str) -> None:
    """One write for a line, as threads may tell too"""
    try:
        stream = file or sys.stderr
        stream.write(line + "\n")
        stream.flush()
    except BrokenPipeError:
        if file is None:
            signals.nobody_listens()
    except OSError:  # such as a terminal that is gone, which SIGHUP tells
        if file is None:
            signals.silence(sys.stderr)  # or Python would fail at its end


def plain(text: str) -> str:
    """A line without what controls a terminal; tools and packages wrote parts of it"""
    text = ESCAPE.sub("", text)
    return "".join(one if one.isprintable() else " " for one in text)


def failure_lines(event: Event) -> List[str]:
    return as_lines(event["cause"], event["remedy"], event["log"])


def size(count: float) -> str:
    """2.5 MB"""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def amount(event: Event) -> str:
    """What has arrived of a step's files"""
    files = f"{event['files']}/{event['of']} files"
    if event["total"] is None:
        return f"{size(event['bytes'])}, {files}"
    return f"{size(event['bytes'])} of {size(event['total'])}, {files}"


def again(event: Event) -> str:
    """Why a download is tried once more"""
    return f"{event['source']}: {event['cause']}; again in {event['seconds']:.1f} s"


def summary(event: Event) -> str:
    return f"{event['unchanged']} steps unchanged, {event['ran']} run"
