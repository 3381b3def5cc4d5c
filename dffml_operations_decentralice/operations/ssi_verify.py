"""
Prove that the SSI service of an image works, from outside and over a reboot

The disk is booted twice in a machine of its own, which keeps what it writes from one to
the other. The image is unchanged: what the test needs inside comes by credentials and a
port, as `boot_verify`'s does, and is gone with the machine.
"""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any, Callable, Coroutine, Dict, Mapping, Sequence

from ..engine import Step, operation, setting, settings, signals
from ..schemas import schema
from ..ssi.verification import (
    PORT,
    PROXY_PORT,
    REMEDY,
    Verification,
    Wrong,
    first_boot,
    second_boot,
)
from ..types import BootReport, DiskImage, SsiReport
from ..vm import outcome as ended
from ..vm.guest import Guest
from ..vm.outcome import SLOWER, Outcome, Plan
from ..vm.qemu import QEMU, find_firmware, overlay_argv
from ..vm.session import run_machine
from ..vm.signs import LIMITS, POWER_OFF
from ..vm.verdict import BOOTS, VM_FAILED, judge
from .boot import ACCELERATORS, MachineSettings, note, watched_machine

WORKS, FAILED, LEFT_OUT = "works", "failed", "left-out"
ANSWER = 30  # seconds for an answer, with KVM
CONSOLE = "console.log"


@settings
class SsiVerifySettings(MachineSettings):
    enabled: bool = setting(
        "Whether to prove it: two more boots, minutes without KVM", default=True
    )
    accelerator: str = setting(
        "auto (what boot_verify found), kvm or tcg",
        default="auto",
        choices=ACCELERATORS,
    )
    limit: int = setting(
        "Seconds for each boot with KVM; without, ten times as many",
        default=180,
        minimum=1,
    )
    exposure: float = setting(
        "What `systemd-analyze security` may say of the unit, at most", default=0.5
    )


@operation(
    result="ssi-report",
    tools=(QEMU, "qemu-img"),
    files=("../guest", "../schemas/ssi-report.schema.json"),
    repeatable=False,
)
async def verify_ssi(
    step: Step[SsiVerifySettings], disk: DiskImage, report: BootReport
) -> SsiReport:
    """
    A directory: ``report.json`` (ssi-report.schema.json) and, if it was booted,
    ``console.log``. Only of an image that boots with the service ready.
    """
    boot = json.loads(Path(report, "report.json").read_text())
    step.out.mkdir()
    why = left_out(step.settings, boot)
    if why:
        found = document(Verification(), LEFT_OUT, why, "", boot["accelerator"])
    else:
        found = await verified(step, disk, boot["accelerator"])
    import jsonschema  # 0.08 s, which a build that boots nothing need not spend

    jsonschema.validate(found, schema("ssi-report"))
    text = json.dumps(found, indent=2, sort_keys=True) + "\n"
    (step.out / "report.json").write_text(text)
    if found["verdict"] not in (WORKS, LEFT_OUT):
        step.unpinned()  # a busy host may be the reason
    step.say(" ".join(f"{found['verdict']} {found['reason']}".split()))
    return SsiReport(str(step.out))


def left_out(config: SsiVerifySettings, boot: Dict[str, Any]) -> str:
    """Why there is nothing to prove; empty if there is"""
    if not config.enabled:
        return "`enabled` is false"
    if boot["verdict"] != BOOTS:
        return "the image was not booted"
    if not boot["ssi"]["ready"]:
        return "the image has no service that is ready"
    return ""


async def verified(
    step: Step[SsiVerifySettings], disk: str, accelerator: Dict[str, str]
) -> Dict[str, Any]:
    """The report of a verification, whatever comes of it"""
    config = step.settings
    if config.accelerator != "auto":
        accelerator = {"name": config.accelerator, "reason": "set"}
    work = Verification(step.say)
    lab = Lab(step, accelerator["name"])
    await lab.prepare(disk)
    limit = ANSWER * lab.scale

    async def first(guest: Guest) -> None:
        await first_boot(work, guest, limit, config.exposure)

    async def second(guest: Guest) -> None:
        await second_boot(work, guest, limit)

    for act in (first, second):
        try:
            outcome = await lab.boot(act)
        except Wrong as error:
            return document(work, FAILED, str(error), REMEDY, accelerator)
        fault = judge(outcome, None, False)
        if outcome.ending not in (ended.ACTED, ended.POWERED_OFF):
            verdict = VM_FAILED if fault.verdict == VM_FAILED else FAILED
            reason = f"{work.failed.get('name', 'boot')}: {fault.reason}"
            return document(work, verdict, reason, fault.remedy, accelerator)
    return document(work, WORKS, "", "", accelerator)


def document(
    work: Verification,
    verdict: str,
    reason: str,
    remedy: str,
    accelerator: Dict[str, str],
) -> Dict[str, Any]:
    """The report, as ssi-report.schema.json has it"""
    return {
        "verdict": verdict,
        "step": work.failed.get("name", ""),
        "reason": " ".join(reason.split()),
        "remedy": remedy,
        "steps": work.steps,
        "measured": work.measured,
        "issuer": work.issuer,
        "subject": work.subject,
        "accelerator": accelerator["name"],
    }


class Lab:
    """
    A disk that keeps what is written to it, and is booted as often as need be. From
    the host's loopback some of the machine's ports can be reached.
    """

    def __init__(
        self,
        step: Step[SsiVerifySettings],
        accelerator: str,
        ports: Sequence[int] = (PROXY_PORT, PORT),
    ):
        config = step.settings
        self.ports = ports
        self.step, self.accelerator = step, accelerator
        self.scale = SLOWER[accelerator]
        self.firmware = find_firmware(config.firmware_code, config.firmware_vars)
        self.work = step.work / "lab"
        self.boots = 0

    async def prepare(self, disk: str) -> None:
        """Put an overlay on the disk"""
        self.work.mkdir()
        await self.step.run(*overlay_argv(disk, str(self.work / "disk.qcow2")))
        variables = self.work / "variables"
        await self.step.thread(shutil.copyfile, self.firmware.variables, variables)

    async def boot(
        self,
        act: Callable[[Guest], Coroutine[Any, Any, None]],
        limits: Mapping[str, float] = LIMITS,
    ) -> Outcome:
        """
        One run of the machine, in the hands of ``act``, whose error it raises

        limits: seconds from one stage to the next, with KVM
        """
        self.boots += 1
        number = self.boots
        machine = watched_machine(self.step.settings, self.firmware, self.accelerator)
        machine = dataclasses.replace(
            machine,
            serial=f"{machine.serial}{number}",  # sockets of their own for each boot
            qmp=f"{machine.qmp}{number}",
            ports=tuple((name, f"{path}{number}") for name, path in machine.ports),
            disposable=False,
            forwards=tuple((0, port) for port in self.ports),
        )
        with open(self.step.out / CONSOLE, "ab") as raw:

            def record(data: bytes, _seconds: float) -> None:
                raw.write(data)

            plan = Plan(
                overall=self.step.settings.limit * self.scale,
                scale=self.scale,
                limits={**limits, POWER_OFF: self.step.settings.limit},
                on_output=record,
                act=act,
            )
            try:
                outcome = await run_machine(
                    machine, self.work, plan, self.step.settings.qemu
                )
            finally:
                # Somebody who interrupts the build also ends QEMU: no verdict
                signals.check()
        note(self.step, outcome)
        return outcome
