"""
What is said while a build runs

Every event is a mapping with an ``event``: ``start`` (operation, reason), ``say``
(operation, text), ``end`` (operation, seconds, bytes, object), ``unchanged``
(operation), ``failed`` (operation, error). A monitor makes lines of them.
"""

import contextlib
import json
import sys
import time
from typing import Any, Dict, Iterator, Optional, TextIO

from . import signals


class Lines:
    """Plain lines, for a log"""

    def __init__(self, file: Optional[TextIO] = None):
        self.file = file

    def __call__(self, event: Dict[str, Any]) -> None:
        line = getattr(self, event["event"])(event)
        if line:
            print(line, file=self.file or sys.stderr, flush=True)

    def start(self, event):
        return f"{event['operation']}: {event['reason']}"

    def say(self, event):
        return f"{event['operation']}: {event['text']}"

    def end(self, event):
        size = event["bytes"] / 1e6
        return f"{event['operation']}: done in {event['seconds']:.1f} s, {size:.1f} MB"

    def unchanged(self, event):
        return ""

    def failed(self, event):
        return "\n".join(event["lines"])


class JsonLines:
    """One JSON document a line, for programs"""

    def __init__(self, file: Optional[TextIO] = None):
        self.file = file

    def __call__(self, event: Dict[str, Any]) -> None:
        line = json.dumps({"time": round(time.time(), 3), **event}, sort_keys=True)
        print(line, file=self.file or sys.stderr, flush=True)


class Recorder:
    """Keeps the events: for summaries and for callers from Python"""

    def __init__(self, *others):
        self.events = []
        self.others = others

    def __call__(self, event):
        self.events.append(event)
        for other in self.others:
            other(event)

    def count(self, kind: str) -> int:
        return sum(event["event"] == kind for event in self.events)


_monitor = [Lines()]


def emit(event: str, **details) -> None:
    """Tell the monitor"""
    try:
        _monitor[-1]({"event": event, **details})
    except BrokenPipeError:
        signals.nobody_listens()


@contextlib.contextmanager
def monitored(monitor) -> Iterator[Any]:
    """Have ``monitor`` told, within the block"""
    _monitor.append(monitor)
    try:
        yield monitor
    finally:
        _monitor.remove(monitor)
