"""
A serial console, followed: control sequences off, stages and failures recognised

Fed with bytes as they come; what has no end of line yet (a prompt) counts too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Callable, Dict, List, Optional, Sequence

from .signs import FAILURES, STAGES, Failure, Stage

# ECMA-48 control sequences, character sets, keypad modes, operating system commands
# https://www.ecma-international.org/publications-and-standards/standards/ecma-48/
CONTROL = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[()*+][0-9A-Za-z]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)"
    r"|\x1b[P^_][^\x1b]*\x1b\\|\x1b[78=>cDEHMNOZ]|[\x00-\x08\x0b-\x1a\x1c-\x1f\x7f]"
)
# A sequence whose end has not come yet
UNFINISHED = re.compile(r"\x1b(?:\[[0-?]*[ -/]*|[()*+]|\][^\x07\x1b]*|)$")
# With what moves the cursor as far as it goes
CURSOR_ASKED = re.compile(rb"(\x1b\[\d{3,};\d{3,}H)?\x1b\[6n")
LONGEST = 16384  # characters of a line that are looked at
KEPT = 200  # characters of a matched line that are told
SAME = 20  # warnings of one kind that are told


@dataclass(frozen=True)
class Found:
    """A failure, the line that told of it, when, and the stage it was in"""

    failure: Failure
    line: str
    seconds: float
    stage: str


def terminal_replies(data: bytes) -> bytes:
    """
    What a terminal of 80 columns answers to questions for its cursor (DSR 6), as of
    who looks how large it is; without answers the guest waits.
    https://invisible-island.net/xterm/ctlseqs/ctlseqs.html
    """
    asked = CURSOR_ASKED.finditer(data)
    return b"".join(b"\x1b[24;80R" if one[1] else b"\x1b[1;1R" for one in asked)


def strip(text: str) -> str:
    """Text without control sequences; carriage returns end no line"""
    return UNFINISHED.sub("", CONTROL.sub("", text))


class Console:
    """What a console has said so far"""

    def __init__(
        self,
        stages: Sequence[Stage] = STAGES,
        failures: Sequence[Failure] = FAILURES,
        on_stage: Callable[[str, float], None] = lambda name, seconds: None,
    ):
        self._stages, self._failures, self._on_stage = stages, failures, on_stage
        self._pending = ""
        self._open = False  # the line of the failure has not ended yet
        self.stages: Dict[str, float] = {}
        self.failure: Optional[Found] = None
        self.warnings: List[Found] = []

    @property
    def reached(self) -> str:
        """The last stage, empty before the first"""
        return next(reversed(self.stages), "") if self.stages else ""

    def feed(self, data: bytes, seconds: float) -> None:
        """Bytes that came ``seconds`` after the start"""
        # One byte is one character: no pattern asks for others, none is ever cut
        *lines, rest = (self._pending + data.decode("latin-1")).split("\n")
        for line in lines:
            self._look(strip(line[-LONGEST:]), seconds, whole=True)
        self._pending = rest[-LONGEST:]
        if rest:
            self._look(strip(self._pending), seconds, whole=False)

    def reach(self, name: str, seconds: float) -> None:
        """A stage that something else than the console tells of"""
        if name not in self.stages:
            self.stages[name] = round(seconds, 2)
            self._on_stage(name, seconds)

    def _look(self, line: str, seconds: float, whole: bool) -> None:
        for stage in self._stages:
            if stage.name in self.stages or not self._due(stage.after):
                continue
            if stage.pattern.search(line):
                self.reach(stage.name, seconds)
        first = True
        for failure in self._failures:
            if not failure.pattern.search(line):
                continue
            told = line[:KEPT].strip().encode("latin-1").decode("utf-8", "replace")
            found = Found(failure, told, round(seconds, 2), self.reached)
            if failure.ends and first:
                self._fail(found)
                first = False
            elif whole and not failure.ends:
                self._warn(found)
        if whole:
            self._open = False

    def _due(self, after: str) -> bool:
        return not after or after in self.stages

    def _fail(self, found: Found) -> None:
        """
        The first one counts, but what its line says may not be all there yet, and one
        that says why counts more
        """
        known = self.failure
        if known is None or self._open or found.failure.why > known.failure.why:
            self.failure, self._open = found, True

    def _warn(self, found: Found) -> None:
        same = sum(one.failure is found.failure for one in self.warnings)
        if same < SAME:
            self.warnings.append(found)
