"""
``dffml service decentralice …``

What the commands share: options with one dash as dffml's, unknown ones are errors,
progress on standard error, the answer as JSON on standard output, an exit code for
each kind of failure.
"""

import logging
import os
import shutil
import sys
import traceback
from pathlib import Path
from typing import Any, Dict, List

from dffml import config, field
from dffml.util.cli.cmd import CMD, CMDOutputOverride

from .errors import DecentrAliceError, UserError

INTERRUPTED = 128  # plus the signal: what shells say of a program that it ended
RESULT = "result/disk.qcow2"
PROGRESS = "Progress: `auto`, `rich`, `lines` or `json`"
OVERLAYS = "Overlays: names of those that come along, or YAML files"


class Command(CMD):
    """What all commands share"""

    async def run(self):
        from .engine import progress, signals

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
        from .engine import progress

        try:
            self.refuse_unknown()
            answer = await self.answer(recorder)
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
        from .engine import progress

        if hasattr(self, "progress"):
            ran, unchanged = recorder.count("end"), recorder.count("unchanged")
            progress.emit("result", exit_code=status, ran=ran, unchanged=unchanged)

    def refuse_unknown(self) -> None:
        """dffml puts aside what it does not know; a typing mistake is an error"""
        if self.extra_config:
            unknown = ", ".join(f"-{name}" for name in self.extra_config)
            raise UserError(
                f"unknown option {unknown}", remedy="`-h` lists those there are"
            )

    async def answer(self, monitor) -> Any:
        """What the command prints as JSON"""
        raise NotImplementedError


def fail(error: DecentrAliceError) -> None:
    """Say what went wrong, and end"""
    from .engine import progress

    if logging.getLogger().isEnabledFor(logging.DEBUG):
        traceback.print_exception(type(error), error, error.__traceback__)
    progress.tell(error)
    sys.exit(exit_code(error))


def exit_code(error: DecentrAliceError) -> int:
    """That of the failure, or of the signal behind it"""
    from .engine import signals

    number = signals.received()
    return INTERRUPTED + number if number else error.exit_code


@config
class BuildConfig:
    overlays: List[str] = field(OVERLAYS, default_factory=lambda: [])
    update: bool = field(
        "Ask the repositories anew, and write another lock", default=False
    )
    progress: str = field(PROGRESS, default="auto")


class Build(Command):
    """Build the operating system, boot it, and link the result"""

    CONFIG = BuildConfig

    async def answer(self, monitor) -> Dict[str, Any]:
        from . import build

        become_root_of_a_namespace()
        return await build.build(self.overlays, update=self.update)


@config
class DiskConfig:
    disk: str = field("The disk, by default that of the last build", default=RESULT)
    overlays: List[str] = field(OVERLAYS, default_factory=lambda: [])
    progress: str = field(PROGRESS, default="auto")


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

    async def answer(self, monitor) -> Any:
        from . import doctor

        lines, status = doctor.examine()
        print("\n".join(lines))
        if status:
            sys.exit(status)
        return CMDOutputOverride


class Upstreams(Command):
    """Whether Wolfi and Fedora answer; fails if one does not"""

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


def become_root_of_a_namespace() -> None:
    """
    Without root's rights, start again in a user namespace with subordinate ids: the
    image has files of several owners.
    https://man7.org/linux/man-pages/man5/subuid.5.html
    """
    if os.geteuid() == 0:
        return
    unshare = shutil.which("unshare")
    words = [unshare or "unshare", "--user", "--map-root-user", "--map-auto", "--mount"]
    if not has_subordinate_ids():
        raise UserError(
            "this user has no subordinate ids, and is not root",
            remedy="as root: usermod --add-subuids 100000-165535 "
            "--add-subgids 100000-165535 USER; and install uidmap",
        )
    os.execv(words[0], [*words, "--", sys.executable, "-m", "dffml", *sys.argv[1:]])


def has_subordinate_ids() -> bool:
    """Whether /etc/subuid and subgid name this user, and newuidmap is there"""
    import getpass

    user = getpass.getuser()
    for name in ("/etc/subuid", "/etc/subgid"):
        try:
            lines = Path(name).read_text().splitlines()
        except OSError:
            return False
        if not any(line.split(":")[0] in (user, str(os.getuid())) for line in lines):
            return False
    return shutil.which("newuidmap") is not None
