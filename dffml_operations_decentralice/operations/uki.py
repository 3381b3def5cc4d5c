"""
The Unified Kernel Image: kernel, initrd and command line as one EFI program

https://uapi-group.org/specifications/specs/unified_kernel_image/
"""

from pathlib import Path
from typing import List

from ..engine import Step, operation, setting, settings
from ..errors import UserError
from ..types import Initrd, KernelModules, OsRelease, ToolsTree, UnifiedKernelImage
from .kernel import kernel_release

EFI = "/usr/lib/systemd/boot/efi"
STUB = f"{EFI}/linuxx64.efi.stub"
MAX_CMDLINE = 2048  # characters: x86's COMMAND_LINE_SIZE


@settings
class UkiSettings:
    cmdline: List[str] = setting("Kernel command line", default_factory=list)
    splash: str = setting("Splash image, a 24-bit BMP file", default="", file=True)


@operation(result="decentralice.efi", space=35)
async def build_uki(
    step: Step[UkiSettings],
    modules: KernelModules,
    initrd: Initrd,
    os_release: OsRelease,
    tools: ToolsTree,
) -> UnifiedKernelImage:
    """
    One EFI program of kernel, initrd, command line and os-release, made by ukify

    https://www.freedesktop.org/software/systemd/man/ukify.html
    """
    release = kernel_release(modules)
    target = step.work / "out"
    target.mkdir()
    files = {
        f"{modules}/modules/{release}/vmlinuz": "/run/vmlinuz",
        initrd: "/run/initrd",
        os_release: "/run/os-release",
    }
    if step.settings.splash:
        files[step.settings.splash] = "/run/splash.bmp"
    await step.run_in(
        tools,
        *ukify_argv(release, step.settings.cmdline, bool(step.settings.splash)),
        ro_bind=files,
        bind={target: "/run/out"},
    )
    (target / "uki.efi").rename(step.out)
    return UnifiedKernelImage(str(step.out))


def ukify_argv(release: str, cmdline: List[str], splash: bool = False) -> List[str]:
    """ukify's arguments; `UserError` if the kernel could not take the command line"""
    line = " ".join(cmdline)
    if len(line) >= MAX_CMDLINE or "\n" in line:
        raise UserError(
            f"a kernel command line of {len(line)} characters",
            remedy=f"a line of less than {MAX_CMDLINE}: setting `cmdline` of build_uki",
        )
    return [
        *("ukify", "build"),
        "--linux=/run/vmlinuz",
        "--initrd=/run/initrd",
        "--os-release=@/run/os-release",
        f"--uname={release}",
        f"--cmdline={line}",
        f"--stub={STUB}",
        *(["--splash=/run/splash.bmp"] if splash else []),
        "--output=/run/out/uki.efi",
    ]


def boot_loader(tools: str) -> Path:
    """systemd-boot, from the tools tree"""
    return Path(tools + EFI, "systemd-bootx64.efi")
