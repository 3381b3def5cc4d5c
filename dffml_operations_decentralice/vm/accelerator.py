"""
Which accelerator works: found by a real attempt

A /dev/kvm that exists, opens and makes machines may still be unable to run firmware:
QEMU then aborts, or stops the machine with "KVM internal error". So OVMF is started
without a disk, and has to speak on the serial line.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Dict, NamedTuple

from .outcome import REACHED, Outcome, Plan
from .qemu import QEMU, Firmware, Machine, unavailable_accelerator
from .session import run_machine

LIMIT = 5.0  # seconds; with KVM the firmware speaks after one or two
DEVICE = Path("/dev/kvm")
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Accelerator(NamedTuple):
    """``kvm`` or ``tcg``, and why"""

    name: str
    reason: str


async def find_accelerator(
    firmware: Firmware, work: Path, memo: Path, qemu: str = QEMU
) -> Accelerator:
    """What works, asked once a boot of the host; ``memo``: a directory"""
    remembered = memo / memo_name(firmware, qemu)
    try:
        return Accelerator(**json.loads(remembered.read_text()))
    except (OSError, ValueError, TypeError):
        found = await probe(firmware, work, qemu)
    remember(found, remembered)
    return found


async def probe(firmware: Firmware, work: Path, qemu: str = QEMU) -> Accelerator:
    """KVM if the firmware gets to speak under it"""
    if not DEVICE.exists():
        return Accelerator("tcg", f"there is no {DEVICE}")
    if not os.access(DEVICE, os.R_OK | os.W_OK):
        return Accelerator("tcg", f"{DEVICE} may not be opened by this user")
    work.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(firmware.variables, work / "variables")
    machine = Machine(
        accelerator="kvm",
        cpus=1,
        memory=256,
        firmware_code=firmware.code,
        firmware_variables="variables",
        serial="serial",
        qmp="qmp",
    )
    plan = Plan(overall=LIMIT, until="firmware")
    return judge(await run_machine(machine, work, plan, qemu))


def judge(outcome: Outcome) -> Accelerator:
    """The accelerator, from what came of the attempt with KVM"""
    if outcome.ending == REACHED:
        return Accelerator("kvm", f"firmware ran after {outcome.seconds:.1f} s")
    said = unavailable_accelerator(outcome.errors) or outcome.detail
    return Accelerator("tcg", f"KVM does not work: {said or outcome.ending}")


def memo_name(firmware: Firmware, qemu: str = QEMU) -> str:
    """Another boot, firmware or QEMU is another question"""
    asked: Dict[str, str] = {
        "boot": BOOT_ID.read_text().strip(),
        "user": str(os.geteuid()),
    }
    for path in (*firmware, shutil.which(qemu) or qemu):
        found = os.stat(path) if os.path.exists(path) else None
        asked[path] = f"{found.st_size} {found.st_mtime_ns}" if found else ""
    digest = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()
    return f"{asked['boot']}-{digest[:16]}.json"


def remember(found: Accelerator, memo: Path) -> None:
    """Keep an answer, and none of earlier boots"""
    boot = BOOT_ID.read_text().strip()
    for old in memo.parent.glob("*.json"):
        if not old.name.startswith(boot):
            old.unlink(missing_ok=True)
    partial = memo.with_suffix(f".{os.getpid()}")
    partial.write_text(json.dumps(found._asdict()))
    partial.replace(memo)
