"""
What the commands share: options with one dash as dffml's, unknown ones are errors,
progress on standard error, the answer as JSON on standard output, an exit code for
each kind of failure
"""

import argparse
import contextlib
import dataclasses
import logging
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

from dffml.util.cli.cmd import CMD

from ..errors import DecentrAliceError, UserError

LINK = "result"  # of the last build
PROGRESS = "Progress: `auto`, `rich`, `lines` or `json`"
OVERLAYS = "Overlays: names of those that are installed, or YAML files"
SET = "Settings, each OPERATION.SETTING=VALUE; command `settings` lists them"


class Command(CMD):
    """What all commands share"""

    uses_store = True  # which may have files of several owners

    async def run(self):
        from ..engine import progress, signals

        try:
            kind = getattr(self, "progress", "auto")
            recorder = progress.Recorder(progress.monitor_of(kind))
            with progress.monitored(recorder):
                signals.watch()
                return await self.told(recorder)
        except DecentrAliceError as error:
            fail(error)

    async def told(self, recorder) -> Any:
        """The answer; how it ended is the last that the monitor is told"""
        from ..engine import namespace, progress, signals

        try:
            self.refuse_unknown()
            if self.uses_store:
                namespace.become_root()
            answer = await self.answer(recorder)
            sys.stdout.flush()
        except BrokenPipeError:  # who reads the answer has enough, as `head`
            signals.silence(sys.stdout)
            sys.exit(signals.SHELL + signal.SIGPIPE)
        except Exception as error:
            ours = (
                error
                if isinstance(error, DecentrAliceError)
                else progress.Defect(error)
            )
            progress.tell(ours)
            self.sum_up(recorder, exit_code(ours))
            raise ours from ours.__cause__
        self.sum_up(recorder, 0)
        return answer

    def sum_up(self, recorder, status: int) -> None:
        """The last event of commands that have progress"""
        from ..engine import progress

        if hasattr(self, "progress"):
            ran, unchanged = recorder.count("end"), recorder.count("unchanged")
            progress.emit("result", exit_code=status, ran=ran, unchanged=unchanged)

    def refuse_unknown(self) -> None:
        """
        dffml puts aside what it does not know, and takes the beginning of an option for
        the whole: both may be typing mistakes
        """
        fields = dataclasses.fields(self.CONFIG) if hasattr(self, "CONFIG") else ()
        known = {"-log", *("-" + one.name.replace("_", "-") for one in fields)}
        short = [
            word
            for word in set(sys.argv) - known
            if len(word) > 1 and any(one.startswith(word) for one in known)
        ]
        unknown = ", ".join([*(f"-{name}" for name in self.extra_config), *short])
        if unknown:
            raise UserError(
                f"unknown option {unknown}", remedy="`-h` lists those there are"
            )

    def given(self) -> Any:
        """The settings of ``-set``, by operation"""
        from ..composition import assigned

        return assigned(self.set)

    async def answer(self, monitor) -> Any:
        """What the command prints as JSON"""
        raise NotImplementedError


def fail(error: DecentrAliceError) -> None:
    """Say what went wrong, and end"""
    from ..engine import progress

    if logging.getLogger().isEnabledFor(logging.DEBUG):
        traceback.print_exception(type(error), error, error.__traceback__)
    progress.tell(error)
    sys.exit(exit_code(error))


def exit_code(error: DecentrAliceError) -> int:
    """That of the failure, or of the signal behind it"""
    from ..engine import signals

    number = signals.received()
    return signals.SHELL + number if number else error.exit_code


class Positional(argparse.Action):
    """An argument without a dash that need not be given; dffml has none of that kind"""

    def __init__(self, required=True, **options):
        super().__init__(nargs="?", default=LINK, **options)

    def __call__(self, parser, namespace, values, option_string=None):
        setattr(namespace, self.dest, values)


def write(output: str, content: bytes) -> None:
    """To a file that is there as a whole or not at all, or to standard output"""
    if not output:
        sys.stdout.buffer.write(content)
        return
    new = Path(f"{output}.new")
    try:
        new.write_bytes(content)
        new.replace(output)
    except OSError as error:
        with contextlib.suppress(OSError):
            new.unlink()
        raise UserError(
            f"{output} cannot be written: {error}", remedy="give another -output"
        ) from error
