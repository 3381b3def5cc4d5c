"""
What the commands do, for programs

::

    from dffml_operations_decentralice import build

    built = await build(["mirror"], {"compose_root": {"hostname": "wonderland"}})
    print(built.disk, built.report["kernel"])

``overlays`` are names or YAML files, ``settings`` are single ones above them, by
operation. ``progress`` is called with each event (schemas/progress.schema.json);
without it, they are told on standard error. All raise the classes of `errors`. In
`noasync` there are the same without ``await``.
"""

import asyncio
import contextlib
import json
import os
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence

from dffml import DataFlow, MemoryOrchestrator

from .composition import Settings, compose
from .engine.check import DIFFERS, SAME, Check, checking
from .engine.operation import UPDATE
from .engine.progress import Event, emit, monitored
from .engine.store import Store, default_root
from .errors import NetworkError, UserError, cause

GRACE = 10.0  # seconds in which an operation that is cancelled has to clean up
PROBE = 15.0  # seconds that an upstream has to answer
PREFIX = "decentralice_"  # of operations that have an entry point
RESULT = "PublishedResult"
Progress = Optional[Callable[[Event], None]]


class Built(NamedTuple):
    """An image that boots, and what is known of it"""

    folder: Path  # has disk.qcow2, report.json, console.log, …
    lock: Path
    verdict: str
    results: Dict[str, str]  # what overlays give besides: paths by type

    @property
    def disk(self) -> Path:
        """The qcow2"""
        return self.folder / "disk.qcow2"

    @property
    def report(self) -> Dict[str, Any]:
        """schemas/boot-report.schema.json"""
        return json.loads((self.folder / "report.json").read_text())


class Verdict(NamedTuple):
    """A disk that boots"""

    folder: Path  # has console.log, …
    report: Dict[str, Any]  # schemas/boot-report.schema.json


def load(overlays: Sequence[str] = (), settings: Optional[Settings] = None) -> DataFlow:
    """The dataflow, its settings checked"""
    return compose(overlays, settings).dataflow()


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


def told(progress: Progress) -> Any:
    """Have the caller's function told of what happens within a block"""
    return monitored(progress) if progress else contextlib.nullcontext()


async def build(
    overlays: Sequence[str] = (),
    settings: Optional[Settings] = None,
    *,
    update: bool = False,
    progress: Progress = None,
) -> Built:
    """Build, boot, and link the result; ``update`` asks the repositories anew"""
    composition = compose(overlays, settings)
    with told(progress), composition.locating():
        results = await run(composition.dataflow(), update=update)
    said = json.loads(Path(results.pop(RESULT)).read_text())
    folder, lock = Path(said["result"]), Path(said["lock"])
    return Built(folder, lock, said["verdict"], results)


async def reproduce(
    overlays: Sequence[str] = (),
    settings: Optional[Settings] = None,
    *,
    progress: Progress = None,
) -> Check:
    """
    Make every step again, and compare with what the store has. Nothing is replaced,
    linked or booted.
    """
    from . import compare

    composition = compose(overlays, settings)
    with told(progress), checking(compare.first) as found, composition.locating():
        await run(composition.dataflow())
    if not found.of(SAME) + found.of(DIFFERS):
        raise UserError(
            "the store has nothing to compare with",
            remedy="build first, with the same overlays and settings",
        )
    return found


async def boot_verify(
    disk: Path,
    overlays: Sequence[str] = (),
    settings: Optional[Settings] = None,
    *,
    progress: Progress = None,
) -> Verdict:
    """Boot a disk to its verdict. Raises `DoesNotBoot` or `VmError`."""
    from .operations import boot, publish, ssi_verify

    composition = compose(overlays, settings)
    composition.validate()
    store = Store(default_root())
    artefacts = {"disk": str(existing(Path(disk)))}
    folders: Dict[str, str] = {}
    reports: Dict[str, Any] = {}
    actions = {"report": boot.boot_verify.action, "ssi": ssi_verify.verify_ssi.action}
    with told(progress):
        for name, made in actions.items():
            wanted = made.configured(composition.settings(made.name))
            folders[name] = await made.execute(wanted, {**artefacts, **folders}, store)
            reports[name] = json.loads(Path(folders[name], "report.json").read_text())
    report = publish.merged(reports["report"], reports["ssi"])
    publish.judge(report, Path(folders["report"]))
    return Verdict(Path(folders["report"]), report)


async def boot(
    disk: Path,
    overlays: Sequence[str] = (),
    settings: Optional[Settings] = None,
    *,
    persist: bool = False,
) -> int:
    """Boot a disk on this terminal; QEMU's exit status"""
    from .operations.boot import boot_verify
    from .vm.interactive import InteractiveSettings, boot_interactive

    given = compose(overlays, settings).settings("boot_verify")
    configured = boot_verify.action.configured(given)
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
