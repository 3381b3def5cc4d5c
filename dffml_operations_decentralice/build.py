"""
A flow with its overlays, checked before any work, and run

Overlays are YAML flows merged as ``dffml dataflow merge`` does: given first, so that
what they say wins; lists append.
"""

import asyncio
import json
import os
import time
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

import yaml
from dffml import DataFlow, MemoryOrchestrator
from dffml.df.base import OperationImplementation
from dffml.util.data import merge

from . import flows
from .engine.check import DIFFERS, SAME, Check, checking
from .engine.operation import UPDATE
from .engine.progress import emit
from .engine.settings import check, validated
from .engine.store import Store, default_root
from .errors import NetworkError, UserError, cause

GRACE = 10.0  # seconds in which an operation that is cancelled has to clean up
PROBE = 15.0  # seconds that an upstream has to answer
PREFIX = "decentralice_"  # of operations that have an entry point
BASE = "os_decentralice.yaml"
SHAPES: Dict[str, Any] = {
    **{name: dict for name in ("definitions", "operations", "flow", "configs")},
    **{"seed": list, "linked": bool, "forward": dict},
}
NAMES = {dict: "mapping", list: "list", bool: "`true` or `false`"}
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # 0.1 s less


def find_overlay(name: str) -> Path:
    """The file of an overlay that comes along, or that is given as a file"""
    if name.endswith((".yaml", ".yml")) or "/" in name:
        path = Path(name)
        if not path.is_file():
            raise UserError(f"no overlay {name}", remedy="give the path of a YAML file")
        return path
    try:
        return flows.path(name)
    except KeyError as error:
        raise UserError(str(error.args[0]), remedy="a name or a file *.yaml") from error


def read(path: Path) -> Dict[str, Any]:
    """A flow or overlay as data"""
    try:
        content = yaml.load(path.read_text(), Loader=LOADER)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: {error}", remedy="give a YAML file") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        raise UserError(
            f"{where}: {getattr(error, 'problem', error)}", remedy="mend the YAML"
        ) from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: no mapping", remedy="an overlay is a dffml flow")
    content = {name: part for name, part in content.items() if part is not None}
    check_shape(path, content)
    return content


def check_shape(path: Path, content: Dict[str, Any]) -> None:
    """dffml would merge what is of another shape into nonsense, or raise anything"""
    for name, part in content.items():
        if name not in SHAPES:
            raise UserError(
                f"{path}: unknown part {name!r}",
                remedy=f"the parts of a flow are {', '.join(SHAPES)}",
            )
        wanted = SHAPES[name]
        if not isinstance(part, wanted):
            raise UserError(
                f"{path}: {name} must be a {NAMES[wanted]}",
                remedy=f"write it as it is in {BASE}",
            )
        named: Dict[str, Any] = part if wanted is dict else {}
        if name == "configs":
            named.update({one: {} for one, values in named.items() if values is None})
        for one, values in named.items():
            if not isinstance(values, dict):
                raise UserError(
                    f"{path}: {one!r} in {name} must be a mapping",
                    remedy=f"write it as it is in {BASE}",
                )


def merged(overlays: Sequence[str] = (), base: str = BASE) -> Dict[str, Any]:
    """Flow and overlays as data; `UserError` if an overlay has no place to go"""
    contents = [(path, read(path)) for path in map(find_overlay, overlays)]
    contents.append((flows.path(base), read(flows.path(base))))
    operations: Dict[str, Any] = {}
    for _, content in contents:
        for name, operation in content.get("operations", {}).items():
            operations[name] = {**operation, **operations.get(name, {})}
    found: Dict[str, Any] = {}
    for path, content in contents:
        for name, values in content.get("configs", {}).items():
            if name not in operations:
                raise UserError(
                    f"{path}: settings of {name!r}, which is no operation of the flow",
                    remedy=f"operations are {', '.join(sorted(operations))}",
                )
            settings = settings_of(name, operations[name])
            if settings:
                check(settings, values, name)
        merge(found, content, list_append=True)
    return found


def load(overlays: Sequence[str] = (), force: bool = False) -> DataFlow:
    """The dataflow, its settings checked; force: whatever `check_loader` says"""
    content = merged(overlays)
    if force:
        content["configs"].setdefault("check_loader", {})["force"] = True
    check_settings(content)
    try:
        return DataFlow._fromdict(**content)
    except Exception as error:  # whatever dffml stumbles over
        raise UserError(
            f"dffml cannot read the flow with its overlays: {error!r}",
            remedy="compare the overlay's operations, definitions and flow with "
            f"{BASE}",
        ) from error


def check_settings(content: Dict[str, Any]) -> None:
    """Every setting of every operation of ours is known, of its type and there"""
    for name, operation in content["operations"].items():
        settings = settings_of(name, operation)
        if settings:
            validated(settings, content.get("configs", {}).get(name, {}), name)


def settings_of(name: str, operation: Dict[str, Any]) -> Optional[type]:
    """The class of an operation's settings, None if it has none of ours"""
    registered = operation.get("name")
    try:
        if not isinstance(registered, str):
            raise TypeError("no name")
        implementation = OperationImplementation.load(registered)
    except Exception as error:  # of an import, too
        raise UserError(
            f"operation {name!r}: {registered!r} cannot be loaded: {error!r}"[:300],
            remedy="`name` is a registered operation, or module:function",
        ) from error
    settings = getattr(implementation, "CONFIG", None)
    return settings if getattr(settings, "validated", False) else None


async def run(flow: DataFlow, *, update: bool = False) -> Dict[str, Any]:
    """Run a flow to its end; its outputs. Raises one of our errors."""
    Store(default_root())  # said once, not by each operation that starts first
    if update:
        os.environ[UPDATE] = str(time.time())
    emit("plan", operations=planned(flow))
    try:
        [(_, results)] = [found async for found in MemoryOrchestrator.run(flow, [])]
        return results
    except Exception as error:
        await end_others()
        ours = cause(error)
        if ours is None:
            raise
        raise ours from None


def planned(flow: DataFlow) -> List[str]:
    """The operations of a flow that are ours, as their events name them"""
    names = [operation.name for operation in flow.operations.values()]
    ours = [name for name in names if name.startswith(PREFIX) or ":" in name]
    return sorted(name.rpartition(":")[2].replace(PREFIX, "", 1) for name in ours)


async def end_others() -> None:
    """
    Wait for the operations that run beside one which failed to clean up: dffml cancels
    them, and does not wait. Who cleans up has tasks too, which must not be cancelled.
    """
    others = asyncio.all_tasks() - {asyncio.current_task()}
    if others:
        await asyncio.wait(others, timeout=GRACE)


async def build(
    overlays: Sequence[str] = (), *, update: bool = False, force: bool = False
) -> Dict[str, Any]:
    """Build, boot and publish: what `publish_result` says of the result"""
    results = await run(load(overlays, force), update=update)
    return json.loads(Path(results["PublishedResult"]).read_text())


async def reproduce(overlays: Sequence[str] = ()) -> Check:
    """
    Make every step again, and compare with what the store has. Nothing is replaced,
    linked or booted.
    """
    from . import compare

    with checking(compare.first) as found:
        await run(load(overlays))
    if not found.of(SAME) + found.of(DIFFERS):
        raise UserError(
            "the store has nothing to compare with",
            remedy="build first, with the same overlays and settings",
        )
    return found


async def verify(disk: Path, overlays: Sequence[str] = ()) -> Dict[str, Any]:
    """Boot a disk to a verdict: the report. Raises `DoesNotBoot` or `VmError`."""
    from .operations import publish
    from .operations.boot import boot_verify
    from .operations.ssi_verify import verify_ssi

    content = merged(overlays)
    check_settings(content)
    store = Store(default_root())
    artefacts = {"disk": str(existing(disk))}
    folders: Dict[str, str] = {}
    reports: Dict[str, Any] = {}
    for name, made in (("report", boot_verify.action), ("ssi", verify_ssi.action)):
        settings = made.configured(content["configs"].get(made.name, {}))
        folders[name] = await made.execute(settings, {**artefacts, **folders}, store)
        reports[name] = json.loads(Path(folders[name], "report.json").read_text())
    report = publish.merged(reports["report"], reports["ssi"])
    publish.judge(report, Path(folders["report"]))
    return report


async def boot(disk: Path, overlays: Sequence[str] = (), persist: bool = False) -> int:
    """Boot a disk on this terminal; QEMU's exit status"""
    from .operations.boot import boot_verify
    from .vm.interactive import InteractiveSettings, boot_interactive

    settings = merged(overlays)["configs"].get("boot_verify", {})
    configured = boot_verify.action.configured(settings)
    machine = InteractiveSettings(
        memory=configured.memory,
        cpus=configured.cpus,
        accelerator=configured.accelerator,
        firmware_code=configured.firmware_code,
        firmware_vars=configured.firmware_vars,
        qemu=configured.qemu,
        persist=persist,
    )
    known = Store(default_root()).root / "cache" / "accelerator"
    known.mkdir(parents=True, exist_ok=True)
    return await boot_interactive(existing(disk), machine, known)


async def upstreams() -> List[str]:
    """What the upstreams answer; `NetworkError` if one of them does not"""
    import aiohttp

    from .operations.kernel import METALINK
    from .operations.userspace import WOLFI

    lines = []
    limits = aiohttp.ClientTimeout(total=PROBE)
    addresses = [
        f"{WOLFI}/x86_64/APKINDEX.tar.gz",
        f"{METALINK}?arch=x86_64&repo=fedora-44",
    ]
    async with aiohttp.ClientSession(timeout=limits, trust_env=True) as session:
        for address in addresses:
            try:
                async with session.get(address) as reply:
                    reply.raise_for_status()
            except (aiohttp.ClientError, OSError, asyncio.TimeoutError) as error:
                raise NetworkError(
                    f"{address}: {error or type(error).__name__}",
                    remedy="the overlay `mirror` needs nothing but Debian's archive",
                ) from error
            lines.append(f"{address} answers")
    return lines


def existing(disk: Path) -> Path:
    """The file behind a link; `UserError` if there is none"""
    if not disk.is_file():
        raise UserError(
            f"no disk {disk}", remedy="build one, or give the disk: -disk FILE"
        )
    return disk.resolve()
