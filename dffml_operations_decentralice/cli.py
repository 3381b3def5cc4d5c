"""
``dffml service decentralice …``

What the commands share: options with one dash as dffml's, unknown ones are errors,
progress on standard error, the answer as JSON on standard output, an exit code for
each kind of failure.
"""

import argparse
import asyncio
import contextlib
import dataclasses
import functools
import json
import logging
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Any, Dict, List

from dffml import config, field
from dffml.util.cli.cmd import CMD, CMDOutputOverride

from .errors import CommandFailed, DecentrAliceError, SignatureError, UserError

RESULT = "result/disk.qcow2"
LINK = "result"
SHOWN = 5  # names in a line
PROGRESS = "Progress: `auto`, `rich`, `lines` or `json`"
OVERLAYS = "Overlays: names of those that are installed, or YAML files"
SET = "Settings, each OPERATION.SETTING=VALUE; command `settings` lists them"


class Command(CMD):
    """What all commands share"""

    uses_store = True  # which may have files of several owners

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
        from .engine import namespace, progress, signals

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
        from .engine import progress

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
        from .composition import assigned

        return assigned(self.set)

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
    return signals.SHELL + number if number else error.exit_code


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
        from . import api

        if self.check:
            return await self.checked()
        built = await api.build(self.overlays, self.given(), update=self.update)
        paths = {"result": str(built.folder), "lock": str(built.lock)}
        return {**paths, "verdict": built.verdict, "results": built.results}

    def given(self) -> Any:
        """Those of ``-set``, and what ``-force`` is short for"""
        from .composition import assigned

        return assigned([*self.set, *["check_loader.force=true"] * self.force])

    async def checked(self) -> Dict[str, Any]:
        """The report; if a step gave other bytes, it is printed before the error"""
        from . import api
        from .engine import progress

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
        from . import api

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
        from . import api

        disk = Path(self.disk)
        status = await api.boot(disk, self.overlays, self.given(), persist=self.persist)
        if status:
            sys.exit(status)
        return CMDOutputOverride


@config
class CheckLoaderConfig:
    directory: str = field("The tree, such as a root file system's")
    init: str = field("PID 1, as `init=` of the kernel's command line", default="")
    layers: List[str] = field(
        "Directories of the tree that the initrd merges by overlayfs, uppermost first",
        default_factory=lambda: [],
    )
    everything: bool = field(
        "Each program, script and library, not only what PID 1 starts", default=False
    )
    json: bool = field("The report, for programs", default=False)


class CheckLoader(Command):
    """Whether what PID 1 starts in a tree would start; nothing of it is run"""

    CONFIG = CheckLoaderConfig
    uses_store = False

    async def answer(self, monitor) -> Any:
        from . import loader
        from .engine import namespace
        from .operations.loader import answered, refusal

        if not os.path.isdir(self.directory):
            raise UserError(
                f"{self.directory} is no directory", remedy="give that of a tree"
            )
        # A store's trees have files of several owners; others may be looked at without
        with contextlib.suppress(DecentrAliceError):
            namespace.become_root()
        report = answered(self.directory, self.init, self.everything, self.layers)
        text = json.dumps(report, indent=1, sort_keys=True)
        print(text if self.json else "\n".join(loader.sentences(report)))
        error = refusal(report, "`-json` tells where was searched")
        if error:
            raise error
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
        from . import api

        for line in await api.upstreams():
            print(line, file=sys.stderr)
        return CMDOutputOverride


class Positional(argparse.Action):
    """An argument without a dash that need not be given; dffml has none of that kind"""

    def __init__(self, required=True, **options):
        super().__init__(nargs="?", default=LINK, **options)

    def __call__(self, parser, namespace, values, option_string=None):
        setattr(namespace, self.dest, values)


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
        from .engine import history, listing

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
        from . import api
        from .engine import listing
        from .engine.plan import plan, summary
        from .engine.store import Store, default_root

        store = Store(default_root(), read_only=True)
        planned = plan(api.load(self.overlays, self.given()), store)
        if self.json:
            return [one._asdict() for one in planned]
        print("\n".join(listing.steps(planned)))
        print(summary(planned), file=sys.stderr)
        return CMDOutputOverride


class OverlayList(Command):
    """The overlays that are installed, and where"""

    uses_store = False

    async def answer(self, monitor) -> Dict[str, str]:
        from . import composition

        return composition.known()


@config
class OverlayDiffConfig:
    overlays: List[str] = field(OVERLAYS, default_factory=lambda: [])
    set: List[str] = field(SET, default_factory=lambda: [])
    json: bool = field("As JSON, for programs", default=False)


class OverlayDiff(Command):
    """What overlays change: operations, settings, inputs, results"""

    CONFIG = OverlayDiffConfig
    uses_store = False

    async def answer(self, monitor) -> Any:
        from .composition import compose
        from .composition.changes import changes

        composition = compose(self.overlays, self.given())
        composition.validate()
        found = changes(composition)
        if self.json:
            return [one._asdict() for one in found]
        print("\n".join(one.line() for one in found) or "nothing")
        return CMDOutputOverride


class OverlayCommands(CMD):
    """Parts of flows that are laid over the build"""

    list = OverlayList
    diff = OverlayDiff


@config
class DiagramConfig:
    overlays: List[str] = field(OVERLAYS, default_factory=lambda: [])
    set: List[str] = field(SET, default_factory=lambda: [])
    format: str = field("mermaid, svg or png", default="mermaid")
    output: str = field("File to write, by default standard output", default="")


class Diagram(Command):
    """Draw the flow with its overlays: what they add is green, replace yellow"""

    CONFIG = DiagramConfig
    uses_store = False

    async def answer(self, monitor) -> Any:
        from .composition import compose, diagram

        if self.format not in diagram.FORMATS:
            raise UserError(
                f"-format cannot be {self.format!r}",
                remedy=f"one of {', '.join(diagram.FORMATS)}",
            )
        composition = compose(self.overlays, self.given())
        drawn = (
            diagram.mermaid(composition).encode()
            if self.format == "mermaid"
            else diagram.picture(composition, self.format)
        )
        write(self.output, drawn)
        return CMDOutputOverride


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


@config
class SettingsConfig:
    overlays: List[str] = field(OVERLAYS, default_factory=lambda: [])
    schema: bool = field("The JSON schema of overlays, for editors", default=False)


class Settings(Command):
    """All settings of the flow and of overlays, with types and defaults"""

    CONFIG = SettingsConfig
    uses_store = False

    async def answer(self, monitor) -> Any:
        from . import flows
        from .composition import reference

        known = reference.tables(self.overlays or sorted(flows.overlays()))
        if self.schema:
            return reference.schema(known)
        print(reference.page(known), end="")
        return CMDOutputOverride


class StoreVerify(Command):
    """Read every object of the store again, and take out those that are damaged"""

    async def answer(self, monitor) -> Any:
        from .engine import upkeep

        found = await asyncio.to_thread(upkeep.verify, own_store())
        for one in found["damaged"]:
            files = f": {', '.join(one.files[: upkeep.SHOWN])}" if one.files else ""
            print(f"damaged: {one.object}{files}", file=sys.stderr)
        if found["damaged"]:
            raise SignatureError(
                f"{len(found['damaged'])} of {found['objects']} objects are not what "
                "their names say",
                remedy="they were taken out: build again, which makes them anew",
            )
        return found


@config
class PruneConfig:
    size: str = field("What may stay, such as 5G", default="")
    age: str = field("Remove what was not used for so long, such as 14d", default="")
    keep_last: int = field(
        "Keep what so many last results of each link were made of", default=0
    )


class StorePrune(Command):
    """
    Remove objects from the store, those first that were not used for longest; results
    that are linked stay. Without an option, as much as every build does by itself.
    """

    CONFIG = PruneConfig

    async def answer(self, monitor) -> Any:
        from .engine import upkeep
        from .engine.store import limit, parse_size

        size = parse_size(self.size) if self.size else None
        age = upkeep.parse_age(self.age) if self.age else None
        store, keep_last = own_store(), self.keep_last or None
        if size is age is keep_last is None:
            size, keep_last = limit(), 1
        prune = functools.partial(upkeep.prune, size=size, age=age, keep_last=keep_last)
        return await asyncio.to_thread(prune, store)


def own_store() -> Any:
    """The store, as who made it sees it: owners are part of what is verified"""
    from .engine.store import Store, default_root

    root = default_root()
    if root.exists() and root.stat().st_uid != os.geteuid():
        raise UserError(
            f"the store {root} is somebody else's",
            remedy="run it as who builds with it, or set DECENTRALICE_STORE",
        )
    return Store(root)


class StoreCommands(CMD):
    """Upkeep of the store"""

    verify = StoreVerify
    prune = StorePrune


@config
class VulnerabilitiesConfig:
    database: str = field(
        "Vulnerability database: a folder with what https://vuln.go.dev/vulndb.zip has "
        "in it, or the URL of a server",
        default="",
    )
    program: str = field(
        "A Go program, by default the SSI service that was built", default=""
    )
    progress: str = field(PROGRESS, default="auto")


class Vulnerabilities(Command):
    """What a database knows about the modules in the SSI service's program"""

    CONFIG = VulnerabilitiesConfig

    async def answer(self, monitor) -> Dict[str, Any]:
        """The report; if something is found, it is printed before the error"""
        from . import supply_chain

        found = await supply_chain.vulnerabilities(self.database, self.program)
        if found["findings"]:
            print(json.dumps(found))
            ids = sorted({one["id"] for one in found["findings"]})
            more = f" and {len(ids) - SHOWN} more" if len(ids) > SHOWN else ""
            raise CommandFailed(
                f"known vulnerabilities: {', '.join(ids[:SHOWN])}{more}",
                remedy="`fixed` in the report is the version to update a module to, "
                "https://pkg.go.dev/vuln tells what each is about",
            )
        return found


SERVICE = (
    "Unix socket or loopback URL of the SSI service; by default the user's own if its "
    "socket is there, else the system's"
)


@config
class DidCreateConfig:
    service: str = field(SERVICE, default="")


class DidCreate(Command):
    """Make a did:key whose key the SSI service keeps"""

    CONFIG = DidCreateConfig
    uses_store = False

    async def answer(self, monitor) -> Dict[str, Any]:
        from .ssi.client import Client

        async with Client(self.service) as service:
            return {"did": await service.create_did()}


@config
class DidResolveConfig:
    did: str = field("The DID")
    service: str = field(SERVICE, default="")


class DidResolve(Command):
    """Print the document of a DID"""

    CONFIG = DidResolveConfig
    uses_store = False

    async def answer(self, monitor) -> Dict[str, Any]:
        from .ssi.client import Client

        async with Client(self.service) as service:
            return await service.resolve(self.did)


class DidCommands(CMD):
    """Decentralized identifiers, by the SSI service"""

    create = DidCreate
    resolve = DidResolve


@config
class CredentialIssueConfig:
    issuer: str = field("DID whose key the service has", required=True)
    subject: str = field("DID of whom it is about", required=True)
    claims: str = field("What it says, a JSON object", required=True)
    schema: str = field("Identifier of a schema that the claims are of", default="")
    expiry: str = field("When it ends, such as 2030-01-01T00:00:00Z", default="")
    revocable: bool = field("Whether it can be revoked", default=False)
    service: str = field(SERVICE, default="")


class CredentialIssue(Command):
    """Issue a credential; prints its identifier, and itself as a JWT"""

    CONFIG = CredentialIssueConfig
    uses_store = False

    async def answer(self, monitor) -> Dict[str, Any]:
        from .ssi.client import Client

        claims = json_object(self.claims, "-claims")
        async with Client(self.service) as service:
            issued = await service.issue(
                self.issuer,
                self.subject,
                claims,
                schema=self.schema,
                expiry=self.expiry,
                revocable=self.revocable,
            )
        return issued._asdict()


@config
class CredentialVerifyConfig:
    credential: str = field("The JWT, a file that has it, or - for standard input")
    offline: bool = field("By its issuer's DID alone, without a service", default=False)
    issuer: str = field("The DID that must have issued it", default="")
    service: str = field(SERVICE, default="")


class CredentialVerify(Command):
    """Check a credential by its issuer's DID, and by the service; prints its claims"""

    CONFIG = CredentialVerifyConfig
    uses_store = False

    async def answer(self, monitor) -> Dict[str, Any]:
        from .ssi import credentials
        from .ssi.client import Client

        token = credential_of(self.credential)
        claims = credentials.verify(token, self.issuer)
        if not self.offline:
            async with Client(self.service) as service:
                await service.confirm(token)
        return claims


@config
class CredentialShowConfig:
    id: str = field("Its identifier")
    service: str = field(SERVICE, default="")


class CredentialShow(Command):
    """Print a credential that the service issued, unverified"""

    CONFIG = CredentialShowConfig
    uses_store = False

    async def answer(self, monitor) -> Dict[str, Any]:
        from .ssi import credentials
        from .ssi.client import Client

        async with Client(self.service) as service:
            found = await service.credential(self.id)
            status = await service.status(self.id)
        claims = credentials.read(found.jwt)
        return {**found._asdict(), "claims": claims, "status": status._asdict()}


class CredentialCommands(CMD):
    """Verifiable credentials, by the SSI service or without it"""

    issue = CredentialIssue
    verify = CredentialVerify
    show = CredentialShow


def json_object(text: str, name: str) -> Dict[str, Any]:
    """The object that an option has; `UserError` if it is none"""
    try:
        found = json.loads(text)
    except ValueError as error:
        raise UserError(
            f"{name} is no JSON: {error}", remedy=f"""{name} '{{"name": "value"}}'"""
        ) from error
    if not isinstance(found, dict) or not found:
        raise UserError(
            f"{name} must be a JSON object that says something, not {text!r}",
            remedy=f"""{name} '{{"name": "value"}}'""",
        )
    return found


def credential_of(given: str) -> str:
    """The JWT that was given: itself, by a file, by standard input"""
    try:
        if given == "-":
            return sys.stdin.read().strip()
        if given.count(".") != 2 and os.path.exists(given):
            return Path(given).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"{given} cannot be read: {error}", remedy="give a file that has the JWT"
        ) from error
    return given


class DecentrAlice(CMD):
    """Build OS DecentrAlice, and prove that it boots"""

    build = Build
    status = Status
    explain = Explain
    verify = Verify
    boot = Boot
    overlay = OverlayCommands
    settings = Settings
    diagram = Diagram
    store = StoreCommands
    did = DidCommands
    credential = CredentialCommands
    vulnerabilities = Vulnerabilities
    doctor = Doctor
    upstreams = Upstreams


# As a member of the class, dffml would have it as `checkloader`
setattr(DecentrAlice, "check-loader", CheckLoader)
