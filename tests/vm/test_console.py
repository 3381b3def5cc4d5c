"""Stages and failures on real consoles"""

import json

import pytest

from dffml_operations_decentralice.vm.cast import Cast
from dffml_operations_decentralice.vm.console import (
    LONGEST,
    Console,
    strip,
    terminal_replies,
)
from dffml_operations_decentralice.vm.outcome import next_stage
from dffml_operations_decentralice.vm.signs import FAILURES, ORDER, STAGES

GOOD = b"""\
\x1b[2J\x1b[01;01H\x1b[=3h\x1b[2J\x1b[01;01HBdsDxe: loading Boot0001 \
"UEFI Misc Device" from PciRoot(0x0)/Pci(0x4,0x0)\r
BdsDxe: starting Boot0001 "UEFI Misc Device" from PciRoot(0x0)/Pci(0x4,0x0)\r
EFI stub: Loaded initrd from LINUX_EFI_INITRD_MEDIA_GUID device path\r
[    0.000000] Linux version 6.1.0-50-amd64 (debian-kernel@lists.debian.org)\r
[    5.500000] systemd[1]: systemd 252 running in system mode (+PAM)\r
[    5.600000] systemd[1]: Running in initrd.\r
\r
Welcome to \x1b[1mdracut-059 (Initramfs)\x1b[0m!\r
[\x1b[0;32m  OK  \x1b[0m] Mounted \x1b[0;1;39msysroot.mount\x1b[0m - /sysroot.\r
         Starting \x1b[0;1;39minitrd-switch-root.se\xe2\x80\xa6e\x1b[0m\
 - Switch Root...\r
[   14.000000] systemd[1]: systemd 257.13-1~deb13u1 running in system mode (+PAM)\r
\r
Welcome to \x1b[1mDebian GNU/Linux 13 (trixie)\x1b[0m!\r
[\x1b[0;32m  OK  \x1b[0m] Reached target \x1b[0;1;39mmulti-user.target\x1b[0m - \
Multi-User System.\r
\r
Debian GNU/Linux 13 alice ttyS0\r
\r
alice login: """


def feed(data, size=None):
    console = Console()
    size = size or max(1, len(data))
    for second, at in enumerate(range(0, len(data), size)):
        console.feed(data[at : at + size], second)
    return console


@pytest.mark.parametrize("size", [None, 1, 7, 80])
def test_stages_of_a_good_boot_however_it_is_cut(size):
    console = feed(GOOD, size)
    assert list(console.stages) == [stage.name for stage in STAGES]
    assert console.reached == "login"
    assert console.failure is None
    assert console.warnings == []
    assert list(console.stages.values()) == sorted(console.stages.values())


@pytest.mark.parametrize(
    "raw,expected",
    [
        ("\x1b[0;1;39mname\x1b[0m", "name"),
        ("a\x1b[2J\x1b[01;01H\x1b[=3hb", "ab"),
        ("\x1b(Ba\x1b>\x1b[?25l", "a"),
        ("\x1b]0;title\x07a\x1b]0;title\x1b\\b", "ab"),
        ("\x1b]3008;start=f;user=root\x1b\\a", "a"),
        ("a\rb\x00", "ab"),
        ("a\tb", "a\tb"),
        ("a\x1b[0;1", "a"),
        ("a\x1b", "a"),
        ("[  OK  ] a", "[  OK  ] a"),
    ],
)
def test_strip(raw, expected):
    assert strip(raw) == expected


@pytest.mark.parametrize(
    "line,stage",
    [
        ("BdsDxe: failed to load Boot0001", "firmware"),
        ('BdsDxe: starting Boot0002 "UEFI Misc Device" from Pci', "loader"),
        ("Linux version 6.12.0", "kernel"),
        ("[  OK  ] Mounted sysroot.mount - /sysroot.", "root"),
        ("systemd[1]: Switching root.", "switch-root"),
        ("fedora login: ", "login"),
        ("alice-1.example.org login:", "login"),
    ],
)
def test_stage(line, stage):
    assert feed(line.encode()).reached == stage


@pytest.mark.parametrize(
    "line,stage",
    [
        ('BdsDxe: starting Boot0002 "EFI Internal Shell" from Fv', "loader"),
        ("Last login: Mon Jan  5 on ttyS0", "login"),
        ("Welcome to Debian GNU/Linux 13 (trixie)!", "userspace"),
        (
            "[  OK  ] Reached target multi-user.target - Multi-User System.",
            "multi-user",
        ),
        ("systemd[1]: systemd 252 running in system mode", "userspace"),
        ("Failed to mount sysroot.mount - /sysroot.", "root"),
    ],
)
def test_not_a_stage(line, stage):
    assert stage not in feed(line.encode()).stages


PANIC = b"[    9.0] Kernel panic - not syncing: Attempted to kill init!\n"
LOADER = b"/sbin/init: error while loading shared libraries: libx.so: cannot open\n"


@pytest.mark.parametrize("size", [None, 1, 60])
@pytest.mark.parametrize("said", [PANIC + LOADER, LOADER + PANIC, LOADER, LOADER * 2])
def test_the_cause_counts_more_than_the_panic(said, size):
    """In whatever order they come; nothing else comes before the first"""
    console = feed(said + PANIC, size)
    assert console.failure.failure.name == "no-library"
    assert console.failure.line == LOADER.decode().strip()


ENDS = [
    (
        "no-init",
        "[   10.1] Kernel panic - not syncing: Attempted to kill init! "
        "exitcode=0x00007f00",
    ),
    (
        "no-init",
        "Failed to execute /usr/lib/systemd/systemd: No such file or directory",
    ),
    ("no-init", "initrd-switch-root.service: Failed to switch root: Specified switch"),
    (
        "no-library",
        "/sbin/init: error while loading shared libraries: libsystemd-core-252.so",
    ),
    ("panic", "[    2.0] Kernel panic - not syncing: Out of memory"),
    (
        "no-root",
        "VFS: Unable to mount root fs on unknown-block(0,0)",
    ),
    (
        "no-root",
        "Kernel panic - not syncing: VFS: Unable to mount root fs on "
        "unknown-block(0,0)",
    ),
    ("no-bootable-disk", "BdsDxe: No bootable option or device was found."),
    ("no-bootable-disk", ">>Start PXE over IPv4."),
    ("no-bootable-disk", "Shell> "),
    (
        "no-bootable-disk",
        'BdsDxe: failed to load Boot0001 "UEFI Misc Device" from Pci(0x4): Not Found',
    ),
    (
        "refused-by-secure-boot",
        'BdsDxe: failed to load Boot0001 "UEFI Misc Device" from Pci: Access Denied',
    ),
    (
        "refused-by-secure-boot",
        "../src/boot/efi/boot.c:2000@image_start: Error loading "
        "\\EFI\\Linux\\alice.efi: Access denied",
    ),
    ("no-entry", "Error loading \\EFI\\Linux\\alice.efi: Load Error"),
    ("no-entry", "No loader found. Configuration files in \\loader\\entries\\*.conf"),
    (
        "root-not-found",
        "[ TIME ] Timed out waiting for device dev-gpt\\x2dauto\\x2droot.device",
    ),
    ("root-not-found", "[DEPEND] Dependency failed for sysroot.mount - /sysroot."),
    (
        "root-not-found",
        "dracut-initqueue[300]: Warning: dracut-initqueue: timeout, still waiting",
    ),
    ("emergency", "You are in emergency mode. After logging in, type"),
    ("emergency", "Press Enter for maintenance"),
    (
        "emergency",
        "(or press Control-D to continue): Press Enter for system maintenance",
    ),
    ("emergency", "Give root password for maintenance"),
    ("emergency", 'Generating "/run/initramfs/rdsosreport.txt"'),
    (
        "emergency",
        "Cannot open access to console, the root account is locked.",
    ),
    ("emergency", "dracut:/# "),
    ("freeze", "systemd[1]: Freezing execution."),
    ("freeze", "[!!!!!!] Failed to mount API filesystems."),
]
WARNS = [
    ("unit-failed", "[FAILED] Failed to start ssi-service.service - Self."),
    ("out-of-memory", "[ 9.0] Out of memory: Killed process 77 (python3)"),
    ("segfault", "[ 9.0] curl[77]: segfault at 0 ip 0000 sp 0000 error 4 in libc"),
    ("ordering-cycle", "systemd[1]: sysinit.target: Found ordering cycle on a/start"),
    ("oops", "[ 9.0] Oops: 0002 [#1] PREEMPT SMP"),
    ("file-system", "EXT4-fs error (device vda3): ext4_lookup:1855: inode #2"),
    (
        "generator-failed",
        "systemd[1]: /usr/lib/systemd/system-generators/systemd-fstab-generator "
        "failed with exit status 1.",
    ),
    ("modules", "[FAILED] Failed to find module 'tpm_crb'"),
]


@pytest.mark.parametrize("name,line", ENDS)
@pytest.mark.parametrize("end", [b"", b"\r\n"])
def test_failure(name, line, end):
    console = feed(line.encode() + end, 9)
    assert console.failure.failure.name == name
    assert console.failure.line == line.strip()
    assert console.failure.failure.remedy


@pytest.mark.parametrize("name,line", WARNS)
def test_warning_needs_the_whole_line(name, line):
    assert feed(line.encode()).warnings == []
    console = feed(line.encode() + b"\n", 5)
    assert name in [one.failure.name for one in console.warnings]
    assert console.failure is None


@pytest.mark.parametrize(
    "line",
    [
        "[    0.0] Kernel command line: rd.shell=0 rd.emergency=reboot panic=1",
        "[  OK  ] Created slice system-emergency.slice.",
        "systemd[1]: emergency.service: unit configured",
        "[  OK  ] Reached target rescue-ssh.target",
        "[    0.1] Memory: 2013000K/2096000K available",
        "[    1.0] EXT4-fs (vda3): mounted filesystem with ordered data mode",
        "audit: type=1334 audit(1.0:2): prog-id=35 op=LOAD",
        "[   50.7] kvm: Nested Virtualization enabled",
        "Mounting /sysroot...",
        "Starting systemd-fsck-root.service - File System Check on Root Device...",
        "[  OK  ] Stopped target initrd-root-device.target - Initrd Root Device.",
        "ssi-service[300]: no error loading the config: access granted",
        "rtc_cmos 00:03: alarms up to one day, y3k, 242 bytes nvram, hpet irqs",
        "systemd-journald[203]: Received client request to flush runtime journal.",
        "Started dracut-shutdown.service - Restore /run/initramfs on shutdown.",
        "[    1.0] watchdog: NMI watchdog: Perf event create on CPU 0 failed",
        "Press ESC in 5 seconds to skip startup.nsh",
    ],
)
def test_neither_failure_nor_warning(line):
    console = feed(line.encode() + b"\r\n", 3)
    assert console.failure is None
    assert console.warnings == []


def test_the_first_failure_counts():
    console = feed(b"Kernel panic - not syncing: a\nPress Enter for maintenance\n")
    assert console.failure.failure.name == "panic"


def test_a_flood_is_bounded():
    console = feed(b"[FAILED] Failed to start a.\n" * 1000 + b"x" * 10 * LONGEST)
    assert len(console.warnings) == 20
    assert len(console._pending) <= LONGEST


def test_every_failure_says_what_to_do():
    for failure in FAILURES:
        assert failure.reason and failure.remedy, failure.name
    assert len({failure.name for failure in FAILURES}) == len(FAILURES)


@pytest.mark.parametrize(
    "stages,expected",
    [
        ({}, "firmware"),
        ({"firmware": 1}, "loader"),
        ({"kernel": 1}, "initrd"),
        ({"login": 1}, "report"),
        ({"probe": 1}, "firmware"),
        ({"report": 2, "login": 3}, "power-off"),
        ({"power-off": 1}, ""),
    ],
)
def test_next_stage(stages, expected):
    assert next_stage(stages) == expected
    assert set(stages) - {"probe"} <= set(ORDER)


def test_cast(tmp_path):
    path = tmp_path / "console.cast"
    with open(path, "w", encoding="utf-8") as file:
        cast = Cast(file, title="a", timestamp=1)
        for second, data in enumerate([b"\x1b[0m\xe2", b"\x80", b"\xa6\xff\r\n", b""]):
            cast.feed(data, second + 0.25)
    header, *events = map(json.loads, path.read_text().splitlines())
    assert header["version"] == 2
    assert {"width", "height"} <= set(header)
    assert events == [[0.25, "o", "\x1b[0m"], [2.25, "o", "\u2026\ufffd\r\n"]]


@pytest.mark.parametrize(
    "data,reply",
    [
        (b"login: ", b""),
        (b"\x1b[6n", b"\x1b[1;1R"),
        (b"\x1b[32766;32766H\x1b[6n", b"\x1b[24;80R"),
        (b"\x1b[6n\x1b[32766;32766H\x1b[6n", b"\x1b[1;1R\x1b[24;80R"),
        (b"\x1b[2;2H\x1b[6n", b"\x1b[1;1R"),
        (b"\x1b[5n\x1b[6m", b""),
    ],
)
def test_a_terminal_answers_where_its_cursor_is(data, reply):
    assert terminal_replies(data) == reply
