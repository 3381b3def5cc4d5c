"""
The live display of a build: what has finished stays above, what runs is below

::

    done    fetch_userspace_packages  14.0 s  96.1 MB
    done    install_userspace         3.1 s  310.4 MB
    fetch_kernel_rpms  12.3 s  57.2 of 120.0 MB  3.4 MB/s  input `KernelLock` changed
    dracut_initrd  8.1 s  first time
        $ dracut --reproducible --kver 6.12.1
        dracut: *** Including module: systemd ***
    2 steps run, 9 of 24 are done

The last lines of a command are those of its step's log, so that nothing has to be
handed over. Words instead of signs and colours alone: it can be read aloud, and with
NO_COLOR. Nothing is drawn, and `rich` is not imported, unless a step runs or fails.
"""

import collections
import contextlib
import functools
import os
import sys
import threading
import time
from typing import Any, Deque, Dict, Iterator, List, Optional, TextIO, Tuple

from . import progress, signals
from .progress import Event, plain

REFRESH = 4  # times a second
TAIL = 3  # lines of a step's log at most
TAIL_BYTES = 4096
SPAN = 5.0  # seconds over which a rate is taken
INDENT = "    "


class Running:
    """A step that runs"""

    def __init__(self, event: Event):
        self.operation = event["operation"]
        self.reason = event["reason"]
        self.log = event["log"]
        self.since = time.monotonic()
        self.bytes: Optional[Event] = None
        self._came: Deque[Tuple[float, int]] = collections.deque(maxlen=64)

    def progress(self, event: Event) -> None:
        self.bytes = event
        self._came.append((time.monotonic(), event["bytes"]))

    def rate(self, now: float) -> float:
        """Bytes a second, of late"""
        came = [one for one in list(self._came) if one[0] >= now - SPAN]
        if len(came) < 2:
            return 0.0
        return max(0.0, (came[-1][1] - came[0][1]) / max(now - came[0][0], 0.1))

    def tail(self, count: int) -> List[str]:
        """The last lines of the log"""
        try:
            with open(self.log, "rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
                text = file.read().decode("utf-8", "replace")
        except OSError:
            return []
        # A bar that a tool draws anew with carriage returns: as it is now
        lines = [line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n")]
        said = [line for line in map(plain, lines) if line.strip()]
        return said[-count:] if count else []


class Display:
    """A monitor which draws on a terminal: standard error, if no file is given"""

    def __init__(self, file: Optional[TextIO] = None):
        self._file = file
        self._running: Dict[str, Running] = {}
        self._planned = self._done = 0
        self._failure: Any = None
        self._live: Any = None
        self._lock = threading.RLock()  # steps tell from threads too

    def __call__(self, event: Event) -> None:
        method = getattr(self, event["event"], None)
        with self._lock, self._unless_gone():
            if method:
                method(event)

    @contextlib.contextmanager
    def _unless_gone(self) -> Iterator[None]:
        """A terminal that is gone is no failure, now or at Python's end"""
        try:
            yield
        except OSError:
            if self._file is None:
                signals.silence(sys.stderr)

    def plan(self, event: Event) -> None:
        self._planned = len(event["operations"])

    def unchanged(self, event: Event) -> None:
        self._done += 1

    def start(self, event: Event) -> None:
        self._running[event["operation"]] = Running(event)
        if self._live is None:
            self._live = self._begin()

    def progress(self, event: Event) -> None:
        step = self._running.get(event.get("operation", ""))
        if step:
            step.progress(event)

    def retry(self, event: Event) -> None:
        about = event.get("operation", "download")
        self._above(f"{about}: {progress.again(event)}", "yellow")

    def end(self, event: Event) -> None:
        self._done += 1
        took, big = duration(event["seconds"]), progress.size(event["bytes"])
        self._above(f"done    {event['operation']}  {took}  {big}", "green")
        self._ended(event)

    def cancelled(self, event: Event) -> None:
        self._above(f"ended   {event['operation']}", "yellow")
        self._ended(event)

    def failed(self, event: Event) -> None:
        if event.get("operation"):
            self._above(f"failed  {event['operation']}", "bold red")
        failure = event["cause"], event["remedy"]
        if failure != self._failure:
            for line in progress.failure_lines(event):
                self._above(line, "red")
        self._failure = failure
        self._ended(event)

    def result(self, event: Event) -> None:
        self.close()
        if not event["exit_code"]:
            progress.write_line(self._file, progress.summary(event))

    def close(self) -> None:
        """Leave the terminal as it was"""
        with self._lock:
            self._running.clear()
            self._stop()

    def _ended(self, event: Event) -> None:
        self._running.pop(event.get("operation") or "", None)
        if not self._running:
            self._stop()

    def _begin(self):
        """Draw until `_stop`; also one that never comes, as under dffml's commands"""
        import atexit

        from rich.live import Live

        atexit.register(self.close)
        found = Live(
            get_renderable=self._render,
            console=self._console,
            refresh_per_second=REFRESH,
            transient=True,
            redirect_stdout=False,  # it is not ours: the answer goes there
        )
        found.start()
        return found

    def _stop(self) -> None:
        import atexit

        live, self._live = self._live, None
        if live is not None:
            atexit.unregister(self.close)
            with self._unless_gone():
                live.stop()

    @functools.cached_property
    def _console(self):
        from rich.console import Console

        class Quiet(Console):
            def on_broken_pipe(self):
                """Nobody has to listen; rich's own way is to end the program"""
                self.quiet = True

            def show_cursor(self, show=True):
                """Not hidden: a process that is killed could not bring it back"""
                return False

        return Quiet(file=self._file, stderr=True, force_terminal=True, highlight=False)

    def _above(self, line: str, style: str) -> None:
        """A line that stays; a long one is not broken, so that it can be copied"""
        from rich.text import Text

        self._console.print(Text(plain(line), style=style), soft_wrap=True)

    def _render(self):
        """All that runs, in no more rows than there are"""
        from rich.console import Group

        size = self._console.size
        steps = list(self._running.values())
        rows = size.height - 1 - len(steps) - 1  # with a row for the cursor
        tail = max(0, min(TAIL, rows // max(1, len(steps))))
        now = time.monotonic()
        lines = [line for step in steps for line in self._lines(step, tail, now)]
        lines.append(self._line([(self._count(), "dim")]))
        # An exactly full row would wrap on terminals that are being made narrower
        return Group(*lines[-max(1, size.height - 1) :])

    def _lines(self, step: Running, tail: int, now: float) -> List[Any]:
        parts = [(step.operation, "bold"), (duration(now - step.since), "")]
        if step.bytes:
            parts.append((progress.amount(step.bytes), "green"))
            if step.bytes["files"] < step.bytes["of"]:
                parts.append((f"{progress.size(step.rate(now))}/s", "green"))
        parts.append((step.reason, "dim"))
        said = [self._line([(INDENT + line, "dim")]) for line in step.tail(tail)]
        return [self._line(parts), *said]

    def _line(self, parts: List[Tuple[str, str]]):
        """One row, whatever comes: cut at the right"""
        from rich.text import Text

        line = Text(no_wrap=True, overflow="ellipsis")
        for number, (text, style) in enumerate(parts):
            line.append("  " * bool(number) + plain(text), style or None)
        line.truncate(max(1, self._console.size.width - 1), overflow="ellipsis")
        return line

    def _count(self) -> str:
        count = len(self._running)
        said = f"{count} step{'s' * (count != 1)} run{'s' * (count == 1)}"
        if not self._planned:
            return f"{said}, {self._done} done"
        return f"{said}, {self._done} of {self._planned} are done"


def duration(seconds: float) -> str:
    """3.1 s, 2:05 min, 1:02:05 h"""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    if minutes < 60:
        return f"{minutes}:{rest:02} min"
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02} h"
