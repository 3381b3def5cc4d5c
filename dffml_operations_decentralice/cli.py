"""
``dffml service decentralice …``

What the commands share: options with one dash as dffml's, unknown ones are errors,
progress on standard error, the answer as JSON on standard output, an exit code for
each kind of failure.
"""

import json
import logging
import sys
import traceback
from pathlib import Path
from typing import Any, Dict, List

from dffml import config, field
from dffml.util.cli.cmd import CMD, CMDOutputOverride

from .errors import DecentrAliceError, UserError

INTERRUPTED = 128  # plus the signal: what shells say of a program that it ended
RESULT = "result/disk.qcow2"
OVERLAYS = "Overlays: names of those that come along, or YAML files"


class Command(CMD):
    """What all commands share"""

    uses_store = True  # which may have files of several owners

    async def run(self):
        from .engine import namespace, progress, signals

        try:
            self.refuse_unknown()
            if self.uses_store:
                namespace.become_root()
            signals.watch()
            with progress.monitored(self.monitor()) as monitor:
                return await self.answer(monitor)
        except DecentrAliceError as error:
            fail(error)
        except Exception as error:
            fail(Defect(error))

    def refuse_unknown(self) -> None:
        """dffml puts aside what it does not know; a typing mistake is an error"""
        if self.extra_config:
            unknown = ", ".join(f"-{name}" for name in self.extra_config)
            raise UserError(
                f"unknown option {unknown}", remedy="`-h` lists those there are"
            )

    def monitor(self):
        from .engine import progress

        kinds = {"lines": progress.Lines, "json": progress.JsonLines}
        kind = getattr(self, "progress", "lines")
        if kind not in kinds:
            raise UserError(
                f"no progress of kind {kind!r}", remedy=f"one of {', '.join(kinds)}"
            )
        return progress.Recorder(kinds[kind]())

    async def answer(self, monitor) -> Any:
        """What the command prints as JSON"""
        raise NotImplementedError


class Defect(DecentrAliceError):
    """What nobody thought of: ours to mend, but no reason for a traceback"""

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


def fail(error: DecentrAliceError) -> None:
    """Say what went wrong, and end"""
    from .engine import signals

    if logging.getLogger().isEnabledFor(logging.DEBUG):
        traceback.print_exception(type(error), error, error.__traceback__)
    if not error.told:
        print("\n".join(error.lines()), file=sys.stderr)
    number = signals.received()
    sys.exit(INTERRUPTED + number if number else error.exit_code)


@config
class BuildConfig:
    overlays: List[str] = field(OVERLAYS, default_factory=lambda: [])
    update: bool = field(
        "Ask the repositories anew, and write another lock", default=False
    )
    check: bool = field(
        "Make every step again and compare with what the store has; replaces nothing",
        default=False,
    )
    progress: str = field("Progress as `lines` or `json`", default="lines")


class Build(Command):
    """Build the operating system, boot it, and link the result"""

    CONFIG = BuildConfig

    async def answer(self, monitor) -> Dict[str, Any]:
        from . import build

        if self.check:
            return await self.checked()
        published = await build.build(self.overlays, update=self.update)
        ran, unchanged = monitor.count("end"), monitor.count("unchanged")
        print(f"{unchanged} steps unchanged, {ran} run", file=sys.stderr)
        return published

    async def checked(self) -> Dict[str, Any]:
        """The report; if a step gave other bytes, it is printed before the error"""
        from . import build

        if self.update:
            raise UserError(
                "-check compares with what is there, -update asks anew",
                remedy="give one of the two",
            )
        found = await build.reproduce(self.overlays)
        counts = {one: len(found.of(one)) for one in ("same", "differs", "left-out")}
        said = ", ".join(f"{count} {name}" for name, count in counts.items())
        print(f"steps made again: {said}", file=sys.stderr)
        try:
            found.judge()
        except DecentrAliceError:
            print(json.dumps(found.answer()))
            raise
        return found.answer()


@config
class DiskConfig:
    disk: str = field("The disk, by default that of the last build", default=RESULT)
    overlays: List[str] = field(OVERLAYS, default_factory=lambda: [])
    progress: str = field("Progress as `lines` or `json`", default="lines")


class Verify(Command):
    """Boot a disk to a verdict; prints the report"""

    CONFIG = DiskConfig

    async def answer(self, monitor) -> Dict[str, Any]:
        from . import build

        return await build.verify(Path(self.disk), self.overlays)


@config
class BootConfig:
    disk: str = field("The disk, by default that of the last build", default=RESULT)
    overlays: List[str] = field(OVERLAYS, default_factory=lambda: [])
    persist: bool = field("Write to the disk, which must be a file", default=False)


class Boot(Command):
    """Boot a disk with its serial console on this terminal"""

    CONFIG = BootConfig

    async def answer(self, monitor) -> Any:
        from . import build

        status = await build.boot(Path(self.disk), self.overlays, self.persist)
        if status:
            sys.exit(status)
        return CMDOutputOverride


class Doctor(Command):
    """What this machine lacks, and the command that installs it"""

    uses_store = False

    async def answer(self, monitor) -> Any:
        from . import doctor

        lines, status = doctor.examine()
        print("\n".join(lines))
        if status:
            sys.exit(status)
        return CMDOutputOverride


class Upstreams(Command):
    """Whether Wolfi and Fedora answer; fails if one does not"""

    uses_store = False

    async def answer(self, monitor) -> Any:
        from . import build

        for line in await build.upstreams():
            print(line, file=sys.stderr)
        return CMDOutputOverride


class DecentrAlice(CMD):
    """Build OS DecentrAlice, and prove that it boots"""

    build = Build
    verify = Verify
    boot = Boot
    doctor = Doctor
    upstreams = Upstreams
