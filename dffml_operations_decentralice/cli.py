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

RESULT = "result/disk.qcow2"
OVERLAYS = "Overlays: names of those that come along, or YAML files"


class Command(CMD):
    """What all commands share"""

    async def run(self):
        from .engine import progress, signals

        try:
            self.refuse_unknown()
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
    sys.exit(signals.SHELL + number if number else error.exit_code)


@config
class BuildConfig:
    overlays: List[str] = field(OVERLAYS, default_factory=lambda: [])
    update: bool = field(
        "Ask the repositories anew, and write another lock", default=False
    )
    progress: str = field("Progress as `lines` or `json`", default="lines")


class Build(Command):
    """Build the operating system, boot it, and link the result"""

    CONFIG = BuildConfig

    async def answer(self, monitor) -> Dict[str, Any]:
        from . import build

        become_root_of_a_namespace()
        published = await build.build(self.overlays, update=self.update)
        ran, unchanged = monitor.count("end"), monitor.count("unchanged")
        print(f"{unchanged} steps unchanged, {ran} run", file=sys.stderr)
        return published


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
