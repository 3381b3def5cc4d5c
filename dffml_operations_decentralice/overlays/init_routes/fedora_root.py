"""
Fedora's systemd is PID 1, in Fedora's own tree; Wolfi's userspace is a directory of it

What is Wolfi's runs in that directory, by ``RootDirectory=``: the SSI service and the
login at the consoles. The service managers of users are Fedora's. Nothing is mixed: no
program of one distribution sees a library of the other.
https://www.freedesktop.org/software/systemd/man/latest/systemd.exec.html#RootDirectory=
"""

import shutil
from pathlib import Path
from typing import List

from ...engine import Step, operation, setting, settings
from ...errors import UserError
from ...operations.configuration import UNIT, RootSettings
from ...operations.expectations import asked_for, of_image, write
from ...operations.kernel import kernel_release
from ...operations.root import (
    APK_DATABASE,
    MODULES,
    add_files,
    add_kernel,
    complete,
    copy_tree,
    merge,
)
from ...operations.tree import replace_text
from ...types import (
    EspFileSystem,
    Expectations,
    FedoraTree,
    KernelModules,
    OsRelease,
    PartitionTable,
    RootTree,
    SsiServiceTree,
    ToolsTree,
    UnifiedKernelImage,
    UserspaceLock,
    UserspaceTree,
)
from ...vm.expectations import of_packages
from .common import OURS, additions, release_of, takes_units

WAY = "init-fedora-root"
WOLFI = "wolfi"
UNITS = "usr/lib/systemd/system"
# What PID 1 has to have of the service's package, beside its units: it looks for the
# number of a user before it enters the directory
OUTSIDE = ("usr/lib/sysusers.d", "usr/lib/systemd/system-preset")


@settings
class FedoraRootSettings(RootSettings):
    """Settings of `compose_root`, which hold in both trees, and one more"""

    services: List[str] = setting(
        "Units of Wolfi's packages that are started, in Wolfi's userspace",
        default_factory=lambda: ["ssi-service.socket", "ssi-service.service"],
        pattern=UNIT,
    )


@operation(
    files=("root", *OURS, "init_routes/fedora_root", "init_routes/services"),
    tools=("cp",),
    space=350,
)
async def compose_fedora_root(
    step: Step[FedoraRootSettings],
    userspace: UserspaceTree,
    service: SsiServiceTree,
    modules: KernelModules,
    release: OsRelease,
    fedora: FedoraTree,
) -> RootTree:
    """
    Fedora's tree with its kernel modules, and in ``/wolfi`` a whole root of Wolfi's
    userspace and the SSI service

    https://www.freedesktop.org/software/systemd/man/latest/systemd.exec.html#Paths
    """
    root, wolfi = step.out, step.out / WOLFI
    await copy_tree(step, fedora, root)
    await copy_tree(step, userspace, wolfi)
    await step.thread(merge, Path(service, "root"), wolfi)
    let_in(wolfi, is_old=not takes_units(root))
    named, kernel = release_of(step, release, WAY), kernel_release(modules)
    await complete(step, wolfi, named, kernel)
    await step.thread(add_kernel, Path(modules), root)
    ours = step.files / "init_routes"
    for files in (*additions(step, root), ours / "fedora_root"):
        await step.thread(add_files, files, root)
    drop_in = ours / "services" / "50-wolfi.conf"
    for folder in OUTSIDE:
        for source in Path(service, "root", folder).iterdir():
            place(source, root / folder / source.name)
    bring_out(wolfi, root, step.settings.services, drop_in)
    await complete(step, root, named, kernel, f"{WOLFI}/{APK_DATABASE}")
    return RootTree(str(root))


@operation
async def expect_fedora_root(
    step: Step,
    root: RootTree,
    table: PartitionTable,
    uki: UnifiedKernelImage,
    esp: EspFileSystem,
    lock: UserspaceLock,
    tools: ToolsTree,
) -> Expectations:
    """As `expect_settings`; the packages that were asked for are those in ``/wolfi``"""
    found = await of_image(
        step, Path(root), Path(root, MODULES), table, uki, esp, tools
    )
    found += of_packages(asked_for(lock), f"/{WOLFI}/{APK_DATABASE}")
    return write(step, found)


def let_in(wolfi: Path, is_old: bool) -> None:
    """
    systemctl and its kin do nothing in another root than PID 1's; who logs in is in one
    for good. A logind older than 256 has no session for root if Wolfi's pam_systemd
    asks for one of the class that is for root since then.
    https://systemd.io/ENVIRONMENT, https://man7.org/linux/man-pages/man8/pam_env.8.html
    """
    environment = wolfi / "etc/environment"
    there = environment.read_text() if environment.is_file() else ""
    lines = ["SYSTEMD_IGNORE_CHROOT=1", *(["XDG_SESSION_CLASS=user"] if is_old else [])]
    replace_text(environment, there + "".join(f"{line}\n" for line in lines))


def bring_out(wolfi: Path, root: Path, units: List[str], drop_in: Path) -> None:
    """Let PID 1 have units of Wolfi's, which start what is in the directory"""
    for name in units:
        source = wolfi / UNITS / name
        if not source.is_file():
            raise UserError(
                f"compose_root: setting 'services' has {name}, which Wolfi has not",
                remedy="add its package to lock_userspace, or leave it out",
            )
        place(source, root / UNITS / name)
        if name.endswith(".service"):
            place(drop_in, root / UNITS / f"{name}.d" / drop_in.name)


def place(source: Path, target: Path) -> None:
    """A copy of a file, for all to read"""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    shutil.copyfile(source, target)
    target.chmod(0o644)
