"""Build, and what a build is, would be and was"""

import json
import sys
from pathlib import Path
from typing import Any, Dict, List

from dffml import config, field
from dffml.util.cli.cmd import CMDOutputOverride

from ..errors import DecentrAliceError, UserError
from .command import LINK, OVERLAYS, PROGRESS, SET, Command, Positional

RESULT = f"{LINK}/disk.qcow2"


@config
class BuildConfig:
    overlays: List[str] = field(OVERLAYS, default_factory=lambda: [])
    set: List[str] = field(SET, default_factory=lambda: [])
    update: bool = field(
        "Ask the repositories anew, and write another lock", default=False
    )
    check: bool = field(
        "Make every step again and compare with what the store has; replaces nothing",
        default=False,
    )
    force: bool = field(
        "Build although `check_loader` says that it would not start", default=False
    )
    progress: str = field(PROGRESS, default="auto")


class Build(Command):
    """Build the operating system, boot it, and link the result"""

    CONFIG = BuildConfig

    async def answer(self, monitor) -> Dict[str, Any]:
        from .. import api

        if self.check:
            return await self.checked()
        built = await api.build(self.overlays, self.given(), update=self.update)
        paths = {"result": str(built.folder), "lock": str(built.lock)}
        return {**paths, "verdict": built.verdict, "results": built.results}

    def given(self) -> Any:
        """Those of ``-set``, and what ``-force`` is short for"""
        from ..composition import assigned

        return assigned([*self.set, *["check_loader.force=true"] * self.force])

    async def checked(self) -> Dict[str, Any]:
        """The report; if a step gave other bytes, it is printed before the error"""
        from .. import api
        from ..engine import progress

        if self.update:
            raise UserError(
                "-check compares with what is there, -update asks anew",
                remedy="give one of the two",
            )
        found = await api.reproduce(self.overlays, self.given())
        counts = {one: len(found.of(one)) for one in ("same", "differs", "left-out")}
        said = ", ".join(f"{count} {name}" for name, count in counts.items())
        progress.emit("say", operation="check", text=said)
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
    set: List[str] = field(SET, default_factory=lambda: [])
    progress: str = field(PROGRESS, default="auto")


class Verify(Command):
    """Boot a disk to a verdict; prints the report"""

    CONFIG = DiskConfig

    async def answer(self, monitor) -> Dict[str, Any]:
        from .. import api

        disk = Path(self.disk)
        return (await api.boot_verify(disk, self.overlays, self.given())).report


@config
class BootConfig:
    disk: str = field("The disk, by default that of the last build", default=RESULT)
    overlays: List[str] = field(OVERLAYS, default_factory=lambda: [])
    set: List[str] = field(SET, default_factory=lambda: [])
    persist: bool = field("Write to the disk, which must be a file", default=False)


class Boot(Command):
    """Boot a disk with its serial console on this terminal"""

    CONFIG = BootConfig

    async def answer(self, monitor) -> Any:
        from .. import api

        disk = Path(self.disk)
        status = await api.boot(disk, self.overlays, self.given(), persist=self.persist)
        if status:
            sys.exit(status)
        return CMDOutputOverride


@config
class ExplainConfig:
    result: str = field("A result, by its link or path", action=Positional)
    why: bool = field("What changed since the run before", default=False)
    json: bool = field("As JSON, for programs", default=False)


class Explain(Command):
    """What a result was made from, with times and sizes"""

    CONFIG = ExplainConfig
    uses_store = False  # owners of files do not matter to who only reads what is noted

    async def answer(self, monitor) -> Any:
        from ..engine import history, listing

        path = Path(self.result)
        found = history.why(path) if self.why else history.explain(path)
        if self.json:
            return found
        lines = listing.changes(found) if self.why else listing.tree(found)
        print("\n".join(lines))
        return CMDOutputOverride


@config
class StatusConfig:
    overlays: List[str] = field(OVERLAYS, default_factory=lambda: [])
    set: List[str] = field(SET, default_factory=lambda: [])
    json: bool = field("As JSON, for programs", default=False)


class Status(Command):
    """What a build would do, without doing it"""

    CONFIG = StatusConfig

    async def answer(self, monitor) -> Any:
        from .. import api
        from ..engine import listing
        from ..engine.plan import plan, summary
        from ..engine.store import Store, default_root

        store = Store(default_root(), read_only=True)
        planned = plan(api.load(self.overlays, self.given()), store)
        if self.json:
            return [one._asdict() for one in planned]
        print("\n".join(listing.steps(planned)))
        print(summary(planned), file=sys.stderr)
        return CMDOutputOverride
