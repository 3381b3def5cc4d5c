"""
Boot the disk in a virtual machine until there is a verdict

The machine starts as hardware does: UEFI firmware, the disk's own ESP, boot loader,
UKI. The disk is never written to, the image knows nothing of being watched.
"""

import dataclasses
import json
import shutil
import time
from pathlib import Path
from typing import Any, Dict, List, Tuple

from ..engine import Step, operation, setting, settings, signals
from ..engine.digest import digest_of
from ..guest import REPORT_PORT, SCRIPT_PORT, health_credentials, health_script
from ..schemas import schema
from ..types import BootReport, DiskImage, Expectations
from ..vm.accelerator import Accelerator, find_accelerator, memo_name, remember
from ..vm.cast import Cast
from ..vm.expectations import Expectation, read
from ..vm.outcome import SCREENSHOT, SLOWER, Outcome, Plan
from ..vm.qemu import BUSES, QEMU, Firmware, Machine, find_firmware, overlay_argv
from ..vm.session import run_machine
from ..vm.verdict import BOOTS, DOES_NOT_BOOT, VM_FAILED, make_report, progress

WAIT = 50  # seconds for the system to end its boot, with KVM
ACCELERATORS = ("auto", "kvm", "tcg")


@settings
class MachineSettings:
    """What all machines have in which an image is tried"""

    memory: int = setting("Memory of the machine, MiB", default=2048, minimum=256)
    cpus: int = setting("Processors of the machine", default=2, minimum=1)
    firmware_code: str = setting("UEFI firmware, its code", default="", file=True)
    firmware_vars: str = setting("Template of its variables", default="", file=True)
    qemu: str = setting("QEMU's program", default=QEMU)


@settings
class BootSettings(MachineSettings):
    accelerator: str = setting(
        "auto (KVM if it works, by a real attempt), kvm or tcg",
        default="auto",
        choices=ACCELERATORS,
    )
    limit: int = setting(
        "Seconds for all of it with KVM; without, ten times as many",
        default=120,
        minimum=1,
    )
    disk_bus: str = setting(
        "What the disk hangs on: `virtio`, or as in real machines",
        default="virtio",
        choices=BUSES,
    )
    require_ssi: bool = setting("Whether the SSI service must be ready", default=True)


@operation(
    result="boot-report",
    tools=(QEMU, "qemu-img"),
    files=("../guest", "../schemas/boot-report.schema.json"),
    repeatable=False,
)
async def boot_verify(
    step: Step[BootSettings],
    disk: DiskImage,
    expectations: Expectations = Expectations(""),  # noqa: B008
) -> BootReport:
    """
    A directory: ``report.json`` (boot-report.schema.json), ``console.log``,
    ``console.cast``, ``screenshot.png`` if one could be taken. A machine that could
    not run gives a report as well.
    """
    expected = read(expectations)
    firmware = find_firmware(step.settings.firmware_code, step.settings.firmware_vars)
    accelerator = await choose_accelerator(step, firmware)
    outcome = await boot(step, disk, firmware, accelerator.name, expected)
    report = await report_on(step, disk, firmware, outcome, accelerator, expected)
    if failed_by_kvm(report, step.settings):
        accelerator = Accelerator("tcg", report["reason"])
        remember(accelerator, memo(step, firmware))
        step.say(f"{accelerator.reason}: again without KVM")
        outcome = await boot(step, disk, firmware, accelerator.name, expected)
        report = await report_on(step, disk, firmware, outcome, accelerator, expected)
    import jsonschema  # 0.08 s, which a build that boots nothing need not spend

    jsonschema.validate(report, schema("boot-report"))
    text = json.dumps(report, indent=2, sort_keys=True) + "\n"
    (step.out / "report.json").write_text(text)
    if not is_certain(report):
        step.unpinned()
    step.say(" ".join(f"{report['verdict']} {report['reason']}".split()))
    return BootReport(str(step.out))


def is_certain(report: Dict[str, Any]) -> bool:
    """
    Whether another boot would end alike: a limit that was reached, or a unit that ran
    into one of its own, may be the fault of a busy host, which a panic is not
    """
    panicked = report["verdict"] == DOES_NOT_BOOT and report["matched_line"]
    return report["verdict"] == BOOTS or bool(panicked)


def memo(step: Step, firmware: Firmware) -> Path:
    """Where the answer about the accelerator is kept"""
    return step.cache("accelerator") / memo_name(firmware, step.settings.qemu)


async def choose_accelerator(step: Step, firmware: Firmware) -> Accelerator:
    """What the settings say, or what works"""
    wanted = step.settings.accelerator
    if wanted != "auto":
        return Accelerator(wanted, "set")
    work, known = step.work / "probe", step.cache("accelerator")
    found = await find_accelerator(firmware, work, known, step.settings.qemu)
    step.say(f"accelerator {found.name}: {found.reason}")
    return found


def failed_by_kvm(report: Dict[str, Any], config: BootSettings) -> bool:
    """Whether another attempt without KVM can tell more"""
    by_kvm = report["accelerator"]["name"] == "kvm"
    failed = report["verdict"] == VM_FAILED
    return failed and by_kvm and config.accelerator == "auto"


async def boot(
    step: Step,
    disk: str,
    firmware: Firmware,
    accelerator: str,
    expected: List[Expectation],
) -> Outcome:
    """One run, recorded in ``step.out``"""
    work = step.work / accelerator
    work.mkdir()
    await step.run(*overlay_argv(disk, str(work / "disk.qcow2")))
    await step.thread(shutil.copyfile, firmware.variables, work / "variables")
    scale = SLOWER[accelerator]
    config = step.settings
    machine = watched_machine(config, firmware, accelerator, config.disk_bus)
    machine = dataclasses.replace(machine, screen=True)
    step.out.mkdir(exist_ok=True)
    log, cast = step.out / "console.log", step.out / "console.cast"
    with open(log, "wb") as raw, open(cast, "w", encoding="utf-8") as file:
        recording = Cast(file, title=Path(disk).name, timestamp=int(time.time()))

        def record(data: bytes, seconds: float) -> None:
            raw.write(data)
            recording.feed(data, seconds)

        commands = [one.command for one in expected]
        plan = Plan(
            overall=step.settings.limit * scale,
            scale=scale,
            send={SCRIPT_PORT: health_script(WAIT * scale, commands)},
            on_stage=lambda *stage: step.say(progress(*stage)),
            on_output=record,
        )
        outcome = await run_machine(machine, work, plan, step.settings.qemu)
    (step.out / SCREENSHOT).unlink(missing_ok=True)  # an attempt before
    if outcome.screenshot.taken:
        shutil.move(str(work / SCREENSHOT), str(step.out))
    note(step, outcome)
    # Somebody who interrupts the build also ends QEMU: that is no verdict
    signals.check()
    return outcome


def note(step: Step, outcome: Outcome) -> None:
    """QEMU's own words into the step's log"""
    with open(step.log, "a") as log:
        log.write(f"# QEMU: {outcome.ending} {outcome.detail}\n{outcome.errors}\n")


def watched_machine(
    config: Any, firmware: Firmware, accelerator: str, disk_bus: str = "virtio"
) -> Machine:
    """The machine which boots a disk and hears what the system reports"""
    credentials = health_credentials()
    return Machine(
        accelerator=accelerator,
        cpus=config.cpus,
        memory=config.memory,
        firmware_code=firmware.code,
        firmware_variables="variables",
        disk="disk.qcow2",
        disk_bus=disk_bus,
        serial="serial",
        qmp="qmp",
        ports=((SCRIPT_PORT, "script"), (REPORT_PORT, "health")),
        credentials=tuple(sorted(credentials.items())),
        network="restricted",
    )


async def report_on(
    step: Step,
    disk: str,
    firmware: Firmware,
    outcome: Outcome,
    accelerator: Accelerator,
    expected: List[Expectation],
) -> Dict[str, Any]:
    """The report about a run"""
    digest, size = await step.thread(identity, step, disk)
    firmware_digest = await step.thread(digest_of, Path(firmware.code))
    return make_report(
        outcome,
        accelerator=accelerator._asdict(),
        disk={"digest": digest, "name": Path(disk).name, "size": size},
        versions={"firmware": firmware.code, "firmware_digest": firmware_digest},
        require_ssi=step.settings.require_ssi,
        expectations=expected,
    )


def identity(step: Step, disk: str) -> Tuple[str, int]:
    """Digest and size of a disk; the store knows that of an artefact"""
    path = Path(disk)
    return step.store.object_digest(disk) or digest_of(path), path.stat().st_size
