"""
What a build leaves in the working directory

``result`` links to a directory of the store with disk.qcow2, report.json, console.log,
console.cast, screenshot.png and ssi-console.log; ``os.lock.json`` is the lock. Both are
replaced at once or not at all.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any, Dict

from ..engine import Step, operation, setting, settings
from ..errors import DoesNotBoot, UserError, VmError
from ..types import (
    BootReport,
    DiskImage,
    KernelLock,
    PublishedResult,
    Result,
    SsiReport,
    UserspaceLock,
)
from .lock import VERSION, dump

REPORT_FILES = ("console.log", "console.cast", "screenshot.png")
SSI_CONSOLE = "ssi-console.log"
LAST_GOOD = ".last-good"  # suffix
SSI_BAD = ("failed", "vm-failed")  # verdicts of ssi-report.schema.json


@operation
async def collect_result(
    step: Step, disk: DiskImage, report: BootReport, ssi_report: SsiReport
) -> Result:
    """
    A directory of links to the disk and to all that tells whether it boots, with
    ``report.json``: the boot's, and in it that of the SSI service
    """
    step.out.mkdir()
    links = {"disk.qcow2": f"../{Path(disk).name}"}
    for name in REPORT_FILES:
        links[name] = f"../{Path(report).name}/{name}"
    links[SSI_CONSOLE] = f"../{Path(ssi_report).name}/console.log"
    for name, target in links.items():
        if (Path(report).parent / target[3:]).exists():
            (step.out / name).symlink_to(target)
    boot, ssi = (
        json.loads(Path(one, "report.json").read_text()) for one in (report, ssi_report)
    )
    text = json.dumps(merged(boot, ssi), indent=2, sort_keys=True) + "\n"
    (step.out / "report.json").write_text(text)
    return Result(str(step.out))


def merged(boot: Dict[str, Any], ssi: Dict[str, Any]) -> Dict[str, Any]:
    """
    The report about both, as boot-report.schema.json has it: an image whose service
    does not work is none that boots
    """
    report = {**boot, "ssi_verification": ssi}
    if boot["verdict"] != "boots" or ssi["verdict"] not in SSI_BAD:
        return report
    failed = ssi["verdict"] == "failed"
    return {
        **report,
        "verdict": "does-not-boot" if failed else "vm-failed",
        "reason": f"the SSI service: {ssi['reason']}",
        "remedy": ssi["remedy"],
    }


@settings
class PublishSettings:
    link: str = setting("Where to link the result", default="result")
    lock: str = setting("Where to write the lock", default="os.lock.json")


@operation(result="published.json", cached=False)
async def publish_result(
    step: Step[PublishSettings],
    result: Result,
    userspace_lock: UserspaceLock,
    kernel_lock: KernelLock,
) -> PublishedResult:
    """
    Link the result, write the lock; raises `DoesNotBoot` or `VmError` if so it is
    """
    link, lock = Path(step.settings.link), Path(step.settings.lock)
    check_link(link)
    write_lock(lock, userspace_lock, kernel_lock)
    await link_result(step, link, result)
    report = json.loads(Path(result, "report.json").read_text())
    judge(report, link)
    said = {
        "result": str(link.absolute()),
        "lock": str(lock.absolute()),
        "verdict": report["verdict"],
    }
    step.out.write_text(json.dumps(said) + "\n")
    return PublishedResult(str(step.out))


async def link_result(step: Step, link: Path, target: str) -> None:
    """
    Point a link at an artefact, which the store keeps as long as it does. For overlays
    that publish more: an operation of theirs, with a link of its own.
    """
    replace_link(link, target)
    for kept in filter(Path.is_symlink, (link, last_good(link))):
        await step.thread(step.store.keep, kept.absolute())


def write_lock(path: Path, userspace: str, kernel: str) -> None:
    """Write ``os.lock.json``, if it says something else"""
    text = dump(
        {
            "version": VERSION,
            "userspace": json.loads(Path(userspace).read_text()),
            "kernel": json.loads(Path(kernel).read_text()),
        }
    )
    if path.exists() and path.read_text() == text:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(path.name + ".new")
    new.write_text(text)
    os.replace(new, path)


def check_link(link: Path) -> None:
    """Refuse to replace what may be somebody's"""
    if link.exists() and not link.is_symlink():
        raise UserError(
            f"{link} is there, and no result of ours",
            remedy="move it away, or set another `link` for publish_result",
        )


def replace_link(link: Path, target: str) -> None:
    """Point the link at another result; the last one that boots is kept beside"""
    check_link(link)
    link.parent.mkdir(parents=True, exist_ok=True)
    if verdict(link) == "boots" and verdict(Path(target)) != "boots":
        if os.readlink(link) != target:
            os.replace(link, last_good(link))
    digest = hashlib.sha256(str(link).encode()).hexdigest()[:8]
    new = link.with_name(f".{link.name}.{digest}")
    new.unlink(missing_ok=True)
    new.symlink_to(target)
    os.replace(new, link)


def last_good(link: Path) -> Path:
    """Where the last result that boots is kept, while a newer one does not"""
    return link.with_name(link.name + LAST_GOOD)


def verdict(result: Path) -> str:
    """The verdict in a result, empty if there is none"""
    try:
        return json.loads((result / "report.json").read_text())["verdict"]
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def judge(report: dict, link: Path) -> None:
    """Raise what the verdict says"""
    log = link / "console.log"
    reason = report.get("reason") or report.get("state") or "no reason given"
    remedy = report.get("remedy") or "see the console's log"
    ssi = report.get("ssi_verification") or {}
    if ssi.get("verdict") in SSI_BAD:
        log = link / SSI_CONSOLE
    if ssi.get("verdict") == "failed":
        cause = f"the image boots, but its SSI service does not work: {ssi['reason']}"
        raise DoesNotBoot(cause, remedy=remedy, log=log)
    if report["verdict"] == "does-not-boot":
        raise DoesNotBoot(f"the image does not boot: {reason}", remedy=remedy, log=log)
    if report["verdict"] == "vm-failed":
        raise VmError(
            f"the virtual machine could not run: {reason}", remedy=remedy, log=log
        )
