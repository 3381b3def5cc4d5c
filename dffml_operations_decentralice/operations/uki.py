"""
The Unified Kernel Image: kernel, initrd and command line as one EFI program

https://uapi-group.org/specifications/specs/unified_kernel_image/
"""

import struct
from pathlib import Path
from typing import Dict, Iterator, List

from ..engine import Step, operation, setting, settings
from ..engine.settings import Problem, refused
from ..errors import UserError
from ..types import (
    Initrd,
    KernelModules,
    OsRelease,
    PartitionTable,
    Splash,
    ToolsTree,
    UnifiedKernelImage,
)
from .kernel import kernel_release
from .partitions import Partition, partitions_of

EFI = "/usr/lib/systemd/boot/efi"
STUB = f"{EFI}/linuxx64.efi.stub"
MAX_CMDLINE = 2048  # characters: x86's COMMAND_LINE_SIZE
RESUME = 64  # of them, for `hibernation`
# Magic, bits of a pixel, compression
# https://learn.microsoft.com/windows/win32/gdi/bitmap-storage
BMP = struct.Struct("<2s26xHI")


@settings
class UkiSettings:
    cmdline: List[str] = setting(
        "Kernel command line", default_factory=list, pattern=r"[^\n\0]+"
    )
    hibernation: bool = setting(
        "Whether the machine may resume from its swap partition; the initrd needs "
        "dracut's module `resume`",
        default=False,
    )
    splash: str = setting(
        "Splash image, a 24-bit BMP file; empty: that which draw_splash makes",
        default="",
        file=True,
    )

    def problems(self) -> Iterator[Problem]:
        """What the words would be together"""
        length = len(" ".join(self.cmdline))
        if length >= MAX_CMDLINE - RESUME:
            yield Problem(
                ("cmdline",),
                f"has {length} characters",
                f"a line of less than {MAX_CMDLINE - RESUME}",
            )


@operation(result="decentralice.efi", space=35)
async def build_uki(
    step: Step[UkiSettings],
    modules: KernelModules,
    initrd: Initrd,
    os_release: OsRelease,
    splash: Splash,
    tools: ToolsTree,
    table: PartitionTable,
) -> UnifiedKernelImage:
    """
    One EFI program of kernel, initrd, command line, os-release and splash, by ukify

    https://www.freedesktop.org/software/systemd/man/ukify.html
    """
    release = kernel_release(modules)
    target = step.work / "out"
    target.mkdir()
    files = {
        f"{modules}/modules/{release}/vmlinuz": "/run/vmlinuz",
        initrd: "/run/initrd",
        os_release: "/run/os-release",
        picture(step.settings.splash, splash): "/run/splash.bmp",
    }
    words = list(step.settings.cmdline)
    if step.settings.hibernation:
        words.append(resume(partitions_of(table)))
    await step.run_in(
        tools,
        *ukify_argv(release, words),
        ro_bind=files,
        bind={target: "/run/out"},
    )
    (target / "uki.efi").rename(step.out)
    return UnifiedKernelImage(str(step.out))


def picture(given: str, drawn: str) -> str:
    """The splash's file; `UserError` if the stub could not show it"""
    if not given:
        return drawn
    try:
        with open(given, "rb") as file:
            head = file.read(BMP.size)
    except OSError as error:
        raise UserError(
            f"no splash {given}: {error.strerror}", remedy="setting `splash`"
        ) from error
    found = BMP.unpack(head) if len(head) == BMP.size else (b"", 0, 0)
    if found != (b"BM", 24, 0):
        raise UserError(
            f"{given} is no BMP of 24 bits, uncompressed",
            remedy="`convert FILE -alpha off BMP3:OUT` of ImageMagick makes one",
        )
    return given


def resume(partitions: Dict[str, Partition]) -> str:
    """
    The word that says where a machine that hibernated is. Since 254 systemd finds it
    by a variable of the firmware, too; older ones, as of initrds, by this alone.
    """
    if "swap" not in partitions:
        raise refused(
            *("build_uki", ("hibernation",), "needs a swap partition"),
            "give `swap` of partition what the machine has as memory, in MiB",
        )
    return f"resume=PARTUUID={partitions['swap'].uuid}"


def ukify_argv(release: str, cmdline: List[str]) -> List[str]:
    """ukify's arguments"""
    line = " ".join(cmdline)
    return [
        *("ukify", "build"),
        "--linux=/run/vmlinuz",
        "--initrd=/run/initrd",
        "--os-release=@/run/os-release",
        f"--uname={release}",
        f"--cmdline={line}",
        f"--stub={STUB}",
        "--splash=/run/splash.bmp",
        "--output=/run/out/uki.efi",
    ]


def boot_loader(tools: str) -> Path:
    """systemd-boot, from the tools tree"""
    return Path(tools + EFI, "systemd-bootx64.efi")
