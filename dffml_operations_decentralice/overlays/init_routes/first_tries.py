"""
The recipe's own first tries: Fedora's systemd is started in Wolfi's root

Both end in a kernel panic, as that systemd looks for its libraries where Fedora has
them, and for those of the system where Wolfi has others. `check_loader` says so before
a boot. They are here to show it, and for who wants to try what else they could be.
"""

from pathlib import Path
from typing import Any

from ...engine import Step, operation
from ...operations.configuration import RootSettings
from ...operations.kernel import kernel_release
from ...operations.root import (
    add_files,
    add_kernel,
    complete,
    copy_tree,
    merge,
)
from ...types import (
    FedoraTree,
    KernelModules,
    OsRelease,
    RootTree,
    SsiServiceTree,
    UserspaceTree,
)
from .common import PID_1, release_of

SYMLINK, LD_LIBRARY_PATH = "init-fedora-symlink", "init-ld-library-path"
FEDORA = "fedora"


@operation(files=("root",), tools=("cp",), space=350)
async def compose_fedora_symlink(
    step: Step[RootSettings],
    userspace: UserspaceTree,
    service: SsiServiceTree,
    modules: KernelModules,
    release: OsRelease,
    fedora: FedoraTree,
) -> RootTree:
    """
    The root of `compose_root`, with Fedora's tree in ``/fedora``, and a link to
    Fedora's systemd in the place of Wolfi's. It does not boot.
    """
    named = release_of(step, release, SYMLINK)
    await compose_mixed(step, userspace, service, modules, fedora, named)
    return RootTree(str(step.out))


@operation(files=("root", "init_routes/ld_library_path"), tools=("cp",), space=350)
async def compose_ld_library_path(
    step: Step[RootSettings],
    userspace: UserspaceTree,
    service: SsiServiceTree,
    modules: KernelModules,
    release: OsRelease,
    fedora: FedoraTree,
) -> RootTree:
    """
    The same, and as ``/sbin/init`` a script that tells the loader of Fedora's
    libraries. It does not boot: the initrd's systemd executes the link without asking
    that script, and with it the loader of one distribution meets the other's C library.
    """
    named = release_of(step, release, LD_LIBRARY_PATH)
    await compose_mixed(step, userspace, service, modules, fedora, named)
    wrapper = step.files / "init_routes" / "ld_library_path"
    await step.thread(add_files, wrapper, step.out)
    return RootTree(str(step.out))


async def compose_mixed(
    step: Step[Any],
    userspace: str,
    service: str,
    modules: str,
    fedora: str,
    release: Path,
) -> None:
    """Wolfi's root, with Fedora's systemd in another directory as its PID 1"""
    root = step.out
    await copy_tree(step, userspace, root)
    await step.thread(merge, Path(service, "root"), root)
    await step.thread(add_kernel, Path(modules), root)
    await complete(step, root, release, kernel_release(modules))
    await copy_tree(step, fedora, root / FEDORA)
    (root / PID_1).unlink()
    (root / PID_1).symlink_to(f"/{FEDORA}/{PID_1}")
