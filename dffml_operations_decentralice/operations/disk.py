"""
The disk: partition table, ESP, swap, root, each an artefact of its own, put together
by qemu-img without a copy in between

No loop device, no mount: every tool works on a file.
https://uapi-group.org/specifications/specs/discoverable_partitions_specification/
"""

import functools
import json
import os
import re
import shutil
import uuid
from pathlib import Path
from typing import Iterator, List

from ..engine import Step, operation, setting, settings
from ..engine.settings import Problem
from ..errors import CommandFailed, DecentrAliceError, SpaceError
from ..types import (
    DiskImage,
    EspFileSystem,
    LoaderReport,
    PartitionTable,
    RootFileSystem,
    RootTree,
    ToolsTree,
    UnifiedKernelImage,
)
from .partitions import Partition, partitions_of
from .uki import boot_loader

MIB = 1 << 20
# Before the first and after the last partition: room for both copies of the table
EDGE = 1  # MiB
ESP_MINIMUM = ROOT_MINIMUM = 64  # MiB
SMALL_FAT32 = 260  # MiB: below, only clusters of one sector make it FAT32
TYPES = {
    "esp": "C12A7328-F81F-11D2-BA4B-00A0C93EC93B",
    "swap": "0657FD6D-A4AB-43C4-84E5-0933C84B4F4F",
    "root": "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709",  # x86-64
}
NAMESPACE = uuid.UUID("6ba7b811-9dad-11d1-80b4-00c04fd430c8")  # RFC 9562: URL


@settings
class PartitionSettings:
    size: int = setting("Size of the disk in MiB", default=20480, minimum=1)
    esp: int = setting(
        "Size of the EFI System Partition in MiB", default=260, minimum=ESP_MINIMUM
    )
    swap: int = setting(
        "Size of the swap partition in MiB, 0 for none", default=10230, minimum=0
    )
    seed: str = setting(
        "What all UUIDs are derived from", default="https://decentralice.invalid/os"
    )

    def problems(self) -> Iterator[Problem]:
        """What the sizes would be together"""
        root = root_size(self.size, self.esp, self.swap)
        if root < ROOT_MINIMUM:
            usual, sizes = PartitionSettings(), ("size", "swap", "esp")
            changed = (
                one for one in sizes if getattr(self, one) != getattr(usual, one)
            )
            name = next(changed, "size")
            yield Problem(
                (name,),
                f"is {getattr(self, name)} MiB, which leaves {root} MiB for the root",
                f"at least {ROOT_MINIMUM} MiB: `size` - `esp` - `swap` - {2 * EDGE}",
            )


def root_size(size: int, esp: int, swap: int) -> int:
    """What is left for the root, in MiB"""
    return size - esp - swap - 2 * EDGE


def layout(size: int, esp: int, swap: int, seed: str) -> List[Partition]:
    """Where each partition lies"""
    root = root_size(size, esp, swap)
    found, start = [], EDGE
    for name, length in (("esp", esp), ("swap", swap), ("root", root)):
        if length:
            own = str(uuid.uuid5(NAMESPACE, f"{seed}#{name}"))
            inside = str(uuid.uuid5(NAMESPACE, f"{seed}#{name}-file-system"))
            found.append(Partition(name, start, length, own, inside))
            start += length
    return found


def sfdisk_script(partitions: List[Partition], seed: str) -> str:
    """What sfdisk reads. https://man7.org/linux/man-pages/man8/sfdisk.8.html"""
    lines = ["label: gpt", f"label-id: {uuid.uuid5(NAMESPACE, seed)}"]
    for one in partitions:
        lines.append(
            f"start={one.start}MiB, size={one.size}MiB, type={TYPES[one.name]}, "
            f"name={one.name}, uuid={one.uuid}"
        )
    return "\n".join(lines) + "\n"


@operation
async def partition(step: Step[PartitionSettings], tools: ToolsTree) -> PartitionTable:
    """
    GPT with ESP, swap and root: ``layout.json``, both ends of the disk, swap's header
    """
    want = step.settings
    partitions = layout(want.size, want.esp, want.swap, want.seed)
    disk = step.work / "disk"
    disk.touch()
    os.truncate(disk, want.size * MIB)
    script = sfdisk_script(partitions, want.seed)
    at_work = {step.work: "/run/work"}
    await step.run_in(
        *(tools, "sfdisk", "--quiet", "/run/work/disk"),
        bind=at_work,
        input=script.encode(),
    )
    step.out.mkdir()
    with open(disk, "rb") as file:
        (step.out / "head.img").write_bytes(file.read(EDGE * MIB))
        file.seek(-EDGE * MIB, os.SEEK_END)
        (step.out / "tail.img").write_bytes(file.read())
    for one in partitions:
        if one.name == "swap":
            await make_swap(step, tools, one)
    text = json.dumps([one._asdict() for one in partitions], indent=1)
    (step.out / "layout.json").write_text(text + "\n")
    return PartitionTable(str(step.out))


async def make_swap(step: Step, tools: str, swap: Partition) -> None:
    """Swap is its first page, the others are zeros"""
    file = step.work / "swap"
    file.touch()
    os.truncate(file, swap.size * MIB)
    argv = ("mkswap", "--label", "swap", "--uuid", swap.file_system, "/run/work/swap")
    await step.run_in(tools, *argv, bind={step.work: "/run/work"})
    with open(file, "rb") as made:
        (step.out / "swap-header.img").write_bytes(made.read(4096))


@settings
class BootloaderSettings:
    timeout: int = setting(
        "Seconds that systemd-boot's menu is shown", default=0, minimum=0
    )
    entry: str = setting(
        "Name of the UKI on the ESP",
        default="decentralice.efi",
        pattern=r"[A-Za-z0-9_+-][A-Za-z0-9_.+-]*\.efi",
    )


@operation(result="esp.img", space=35)
async def install_bootloader(
    step: Step[BootloaderSettings],
    table: PartitionTable,
    uki: UnifiedKernelImage,
    tools: ToolsTree,
) -> EspFileSystem:
    """
    The ESP's FAT32: systemd-boot, its configuration, the UKI

    https://uapi-group.org/specifications/specs/boot_loader_specification/
    """
    esp = partitions_of(table)["esp"]
    needed = (Path(uki).stat().st_size + 2 * boot_loader(tools).stat().st_size) // MIB
    if needed + 4 > esp.size:
        raise SpaceError(
            f"the ESP has {esp.size} MiB, the UKI needs {needed + 4}",
            remedy="setting `esp` of partition, or a smaller initrd",
            log=step.log,
        )
    image = step.work / "esp.img"
    config = step.work / "loader.conf"
    config.write_text(f"timeout {step.settings.timeout}\neditor no\n")
    places = {step.work: "/run/work"}
    given = {uki: "/run/uki", boot_loader(tools): "/run/boot.efi"}
    image.touch()
    os.truncate(image, esp.size * MIB)
    for argv in fat_argvs(esp, step.settings.entry):
        await step.run_in(
            *(tools, *argv),
            bind=places,
            ro_bind=given,
            env={"MTOOLS_SKIP_CHECK": "1"},
        )
    image.rename(step.out)
    return EspFileSystem(str(step.out))


def fat_argvs(esp: Partition, entry: str) -> List[List[str]]:
    """The commands that make and fill the FAT file system"""
    image = "/run/work/esp.img"
    sectors = "8" if esp.size >= SMALL_FAT32 else "1"
    volume = esp.file_system[:8]
    folders = ["EFI", "EFI/BOOT", "EFI/systemd", "EFI/Linux", "loader"]
    copies = {
        "EFI/BOOT/BOOTX64.EFI": "/run/boot.efi",
        "EFI/systemd/systemd-bootx64.efi": "/run/boot.efi",
        "loader/loader.conf": "/run/work/loader.conf",
        f"EFI/Linux/{entry}": "/run/uki",
    }
    return [
        ["mkfs.vfat", "--invariant", "-F32", "-s", sectors, "-n", "ESP", "-i", volume]
        + [image],
        ["mmd", "-i", image, *(f"::/{folder}" for folder in folders)],
        *(["mcopy", "-i", image, source, f"::/{to}"] for to, source in copies.items()),
    ]


@operation(result="root.img", space=250)
async def format_root(
    step: Step,
    table: PartitionTable,
    root: RootTree,
    checked: LoaderReport,
    tools: ToolsTree,
) -> RootFileSystem:
    """
    ext4 of a root tree that was checked, in one go, with no time but ours in it

    https://man7.org/linux/man-pages/man8/mke2fs.8.html
    """
    want = partitions_of(table)["root"]
    run = functools.partial(
        step.run_in,
        tools,
        bind={step.work: "/run/work"},
        env={"E2FSPROGS_FAKE_TIME": str(step.epoch)},
    )
    try:
        await run(*mke2fs_argv(want), ro_bind={root: "/run/root"})
    except CommandFailed as error:
        raise too_small(error, want) from error
    image = step.work / "root.img"
    used = await run("dumpe2fs", "-h", "/run/work/root.img")
    script = step.work / "debugfs"
    script.write_text(inode_times(inodes_in_use(used), step.epoch))
    await run("debugfs", "-w", "-f", "/run/work/debugfs", "/run/work/root.img")
    image.rename(step.out)
    return RootFileSystem(str(step.out))


def too_small(error: CommandFailed, root: Partition) -> DecentrAliceError:
    """What mke2fs means when it finds no room for a block or an inode"""
    if not re.search(r"[Cc]ould not allocate", error.cause):
        return error
    return SpaceError(
        f"the root tree does not fit into a partition of {root.size} MiB",
        remedy="settings `size`, `esp`, `swap` of partition, in MiB",
        log=error.log,
    )


def mke2fs_argv(root: Partition) -> List[str]:
    """One mke2fs that makes and fills the file system"""
    features = f"lazy_itable_init=1,lazy_journal_init=1,hash_seed={root.file_system}"
    return [
        *("mke2fs", "-q", "-t", "ext4", "-L", "root", "-U", root.file_system),
        *("-E", features, "-d", "/run/root", "/run/work/root.img", f"{root.size}M"),
    ]


def inodes_in_use(said: str) -> int:
    """The number of inodes, from dumpe2fs's header: mke2fs gives them in order"""
    fields = dict(line.split(":", 1) for line in said.splitlines() if ":" in line)
    return int(fields["Inode count"]) - int(fields["Free inodes"])


def inode_times(count: int, epoch: int) -> str:
    """
    mke2fs copies atime and ctime of its source, which are of the moment: debugfs's
    commands that set them. https://man7.org/linux/man-pages/man8/debugfs.8.html
    """
    lines = []
    for inode in range(2, count + 1):
        for field in ("atime", "ctime"):
            lines.append(f"set_inode_field <{inode}> {field} @{epoch}")
            lines.append(f"set_inode_field <{inode}> {field}_extra 0")
    return "\n".join(lines) + "\n"


@operation(result="disk.qcow2", tools=("qemu-img",), space=250)
async def write_disk(
    step: Step, table: PartitionTable, esp: EspFileSystem, root: RootFileSystem
) -> DiskImage:
    """
    The qcow2: both ends of the table, ESP, swap and root, one behind the other

    https://www.qemu.org/docs/master/tools/qemu-img.html
    """
    partitions = partitions_of(table)
    sources = [f"{table}/head.img", esp]
    if "swap" in partitions:
        swap = step.work / "swap.img"
        shutil.copyfile(f"{table}/swap-header.img", swap)
        os.truncate(swap, partitions["swap"].size * MIB)
        sources.append(str(swap))
    sources += [root, f"{table}/tail.img"]
    await step.run("qemu-img", *convert_argv(sources), step.out)
    return DiskImage(str(step.out))


def convert_argv(sources: List[str]) -> List[str]:
    """qemu-img puts several sources one behind the other"""
    form = ["-f", "raw", "-O", "qcow2", "-o", "compat=1.1,lazy_refcounts=off"]
    return ["convert", *form, *sources]
