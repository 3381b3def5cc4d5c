"""
What a serial console says on the way from power-on to login, and when it goes wrong

The tables are data: a stage or a failure more is a row more. systemd prints the name or
the description of a unit, and shortens both to the width of the console. The list of
failures follows CoreOS' kola, https://github.com/coreos/coreos-assembler
(mantle/kola/harness.go, ``consoleChecks``).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Pattern, Tuple

# Not on the console: said by QEMU or by the system's own report
PROBE, REPORT, POWER_OFF = "probe", "report", "power-off"


@dataclass(frozen=True)
class Stage:
    """A line that is reached once. ``limit``: seconds from the stage before, on KVM"""

    name: str
    pattern: Pattern[str]
    limit: float
    after: str = ""  # counts only once that stage was reached


@dataclass(frozen=True)
class Failure:
    """
    ``ends``: nothing good can follow, the machine is stopped. ``why``: it is the cause
    of an end that a console may show first, as the kernel's lines overtake others.
    """

    name: str
    pattern: Pattern[str]
    reason: str
    remedy: str
    ends: bool = True
    after: str = ""
    why: bool = False


def _stage(name: str, pattern: str, limit: float, after: str = "") -> Stage:
    return Stage(name, re.compile(pattern), limit, after)


STAGES: Tuple[Stage, ...] = (
    _stage("firmware", r"BdsDxe: ", 10),
    # Whole: the firmware's own shell is no loader
    _stage("loader", r'BdsDxe: starting Boot\w+ "(?!EFI Internal Shell)[^"]+"', 10),
    _stage("kernel", r"EFI stub: |Linux version \d", 15),
    _stage("initrd", r"Running in initrd|Welcome to .*(?i:dracut|initramfs)", 20),
    _stage("root", r"Mounted .*(?:sysroot\.mount|/sysroot)", 30),
    _stage("switch-root", r"Switching root|Starting .*(?:initrd-switch|Switch R)", 20),
    _stage(
        "userspace",
        r"systemd\[1\]: systemd \d.* running in system mode|^Welcome to ",
        15,
        after="switch-root",
    ),
    _stage(
        "multi-user",
        r"Reached target .*(?:multi-user\.target|Multi-User)",
        60,
        after="switch-root",
    ),
    _stage("login", r"(?:^|\s)\S+ login: ?$", 30),
)
LIMITS = {
    **{stage.name: stage.limit for stage in STAGES},
    # More than the script waits for the end of the boot: it tells what is missing
    REPORT: 90,
    POWER_OFF: 30,
}
ORDER = (*LIMITS,)
BEFORE_KERNEL = ("firmware", "loader")


def _failure(
    name: str,
    pattern: str,
    reason: str,
    remedy: str,
    ends: bool = True,
    why: bool = False,
) -> Failure:
    return Failure(name, re.compile(pattern), reason, remedy, ends, why=why)


LOGS = "read console.log from the matched line upwards"
FAILURES: Tuple[Failure, ...] = (
    _failure(
        "refused-by-secure-boot",
        r"(?i)error loading .*access denied"
        r"|bdsdxe: failed to (?:load|start).*(?:access denied|security violation)",
        "the firmware refused a program that no enrolled key has signed",
        "sign boot loader and UKI with a key of the firmware's db, or turn Secure"
        " Boot off",
    ),
    _failure(
        "no-bootable-disk",
        r"BdsDxe: failed to (?:load|start)|BdsDxe: No bootable option"
        r"|BdsDxe: (?:loading|starting) .*EFI Internal Shell"
        r"|>>Start PXE|>>Start HTTP Boot|^Shell> ",
        "the firmware found nothing to boot on the disk",
        "check that the disk's ESP holds EFI/BOOT/BOOTX64.EFI and has the type of an"
        " EFI system partition",
    ),
    _failure(
        "no-entry",
        r"^Error (?:opening|preparing|loading) .*\.efi|"
        r"No loader found\. Configuration files in|^Failed to execute .*\.efi",
        "the boot loader found no entry it could start",
        "check the UKI in the ESP's EFI/Linux: it must be a whole PE file with .linux,"
        " .initrd and .cmdline",
    ),
    _failure(
        "no-root",
        r"VFS: (?:Unable to mount root|Cannot open root device)",
        "the kernel was told of a root file system that it cannot mount",
        "check that the UKI has an initrd and that its command line's root= exists",
    ),
    _failure(
        "no-library",
        r"^/\S*(?:init|/systemd): error while loading shared libraries: ",
        "the loader did not find a library that PID 1 needs",
        "`dffml service decentralice check-loader` says where it looked, and which way"
        " to PID 1 would work",
        why=True,
    ),
    _failure(
        "no-init",
        r"Attempted to kill init!"
        r"|No working init found|Requested init .* failed"
        r"|(?:Failed to execute|Unable to execute).*(?:/sbin/init|/systemd)"
        r"|Failed to switch root",
        "the root file system's init could not be started, or ended",
        "check that /sbin/init and /usr/lib/systemd/systemd are there and that the"
        " root's own loader finds their libraries",
    ),
    _failure(
        "panic",
        r"Kernel panic - not syncing",
        "the kernel panicked",
        f"{LOGS}: the cause is above the panic",
    ),
    _failure(
        "root-not-found",
        r"Timed out waiting for device .*(?i:root)"
        r"|Dependency failed for .*(?:sysroot\.mount|/sysroot|Initrd Root)"
        r"|dracut-initqueue: (?:Warning: .*)?timeout"
        r"|Failed to mount .*(?:sysroot\.mount|/sysroot)",
        "the initrd did not find or could not mount the root file system",
        "check root= and the partition's type GUID, and that the initrd has the"
        " drivers of the disk and of the file system",
    ),
    _failure(
        "emergency",
        r"You are in (?:emergency|rescue) mode|Entering (?:emergency|rescue) mode"
        r"|Press Enter for (?:emergency shell|(?:system )?maintenance)"
        r"|Give root password for (?:system )?maintenance"
        r"|Cannot open access to console, the root account is locked"
        r"|/run/initramfs/rdsosreport\.txt|dracut: Refusing to continue"
        r"|Reached target .*(?:emergency\.target|Emergency Mode)"
        r"|^(?:dracut|initramfs):?[^ ]*[#>] ?$",
        "the system gave up and asks for an administrator",
        f"{LOGS} for the first [FAILED] or [DEPEND] unit",
    ),
    _failure(
        "freeze",
        r"systemd\[1\]: Freezing execution|^\[!!!!!!\] ",
        "PID 1 crashed or could not begin, and froze",
        f"{LOGS}: systemd says what it missed",
    ),
    _failure(
        "ordering-cycle",
        r"(?i)found ordering cycle|ordering cycle found|job .* deleted to break orderi",
        "units wait for each other, systemd dropped one of them",
        "remove one of the After=/Before= that the message names",
        ends=False,
    ),
    _failure(
        "unit-failed",
        r"^\[FAILED\] |systemd\[1\]: Failed to start ",
        "a unit failed",
        "`failed_units` of the report names it, `guest.errors` says why",
        ends=False,
    ),
    _failure(
        "out-of-memory",
        r"invoked oom-killer|Out of memory: Killed process",
        "the system ran out of memory",
        "give the machine more with the setting `memory`, or find who takes it",
        ends=False,
    ),
    _failure(
        "segfault",
        r"\bsegfault at |code=dumped, status=11/SEGV|code=killed, status=11/SEGV"
        r"|traps: .* general protection",
        "a program crashed",
        "check that the program and its libraries are of one build",
        ends=False,
    ),
    _failure(
        "oops",
        r"\bOops: \d|BUG: (?:unable to handle|kernel NULL|soft lockup)"
        r"|rcu_.*self-detected stall|blocked for more than \d+ seconds",
        "the kernel met a bug or stalled",
        f"{LOGS}; if the host was busy, boot again",
        ends=False,
    ),
    _failure(
        "file-system",
        r"EXT4-fs error|This should not happen!!\s+Data will be lost"
        r"|rejecting I/O to offline device|Buffer I/O error on",
        "the disk or its file system is damaged",
        "check the image with e2fsck, and the host's disk",
        ends=False,
    ),
    _failure(
        "generator-failed",
        r"system-generators/\S+ (?:failed|terminated)",
        "a generator of systemd failed",
        f"{LOGS}",
        ends=False,
    ),
    _failure(
        "modules",
        r"Failed to (?:insert|find) module|modprobe: FATAL: Module",
        "a kernel module was not found or not accepted",
        "check that /usr/lib/modules is that of the kernel in the UKI, with depmod run",
        ends=False,
    ),
)
