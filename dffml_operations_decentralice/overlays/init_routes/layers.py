"""
Fedora's systemd is PID 1 in a root that overlayfs makes of both distributions

On the disk are three layers. ``wolfi`` has Wolfi's files, without those of its systemd,
``fedora`` has those of Fedora's that Wolfi has not, and ``changes`` what the build made
of both, and later what the running system writes. A module of dracut in the initrd puts
them one over another: https://docs.kernel.org/filesystems/overlayfs.html

All programs have one loader and one C library, Wolfi's, and so it must be at least as
new as Fedora's: `check_loader` says whether it is.
"""

import json
import os
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Dict, Iterator, List, Tuple

from ...engine import Step, operation, setting, settings
from ...operations.configuration import SETTINGS, RootSettings
from ...operations.expectations import asked_for, of_image, write
from ...operations.kernel import install_fedora, kernel_release
from ...operations.root import (
    APK_DATABASE,
    MODULES,
    USR,
    add_files,
    add_kernel,
    complete,
    copy_owner,
    copy_tree,
    merge,
    take,
)
from ...operations.tree import clamp_times, inside_root, replace_text
from ...types import (
    EspFileSystem,
    Expectations,
    FedoraTree,
    InitrdRpms,
    KernelModules,
    KernelRepository,
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
from .common import OURS, additions, release_of

WAY = "init-overlayfs"
CHANGES, WOLFI, FEDORA, WORK = LAYERS = "changes", "wolfi", "fedora", "work"
WORLD = "etc/apk/world"
Inodes = Dict[Tuple[int, int], str]


@settings
class LayersSettings(RootSettings):
    """Settings of `compose_root`, and one more"""

    leave_out: List[str] = setting(
        "Packages of Wolfi's that Fedora's take the place of, with * for any text",
        default_factory=lambda: [
            *("systemd", "systemd-*", "libsystemd-shared*", "libpam-systemd"),
            *("udev", "udev-*"),
        ],
    )


@operation(tools=("rpm", "rpmkeys"), files=("init_routes/dracut",), space=110)
async def install_layered_fedora(
    step: Step, repository: KernelRepository, rpms: InitrdRpms
) -> FedoraTree:
    """The tree of `install_fedora`, whose dracut has a module that merges layers"""
    await install_fedora.action.function(step, repository, rpms)
    await step.thread(add_files, step.files / "init_routes" / "dracut", step.out)
    await step.thread(clamp_times, step.out, step.epoch)
    return FedoraTree(str(step.out))


@operation(files=("root", *OURS), tools=("cp",), space=300)
async def compose_layers(
    step: Step[LayersSettings],
    userspace: UserspaceTree,
    service: SsiServiceTree,
    modules: KernelModules,
    release: OsRelease,
    fedora: FedoraTree,
) -> RootTree:
    """
    The layers, as directories: merged, they are the whole root. It is put together and
    completed as one, so that accounts and caches are those of all of it, then divided.
    """
    merged = step.work / "merged"
    await copy_tree(step, userspace, merged)
    await step.thread(remove_packages, merged, step.settings.leave_out)
    await step.thread(merge, Path(service, "root"), merged)
    await step.thread(fill, Path(fedora), merged)
    await step.thread(add_kernel, Path(modules), merged)
    for files in additions(step, merged):
        await step.thread(add_files, files, merged)
    named = release_of(step, release, WAY)
    await complete(step, merged, named, kernel_release(modules))
    origins = {WOLFI: [userspace, service], FEDORA: [fedora, modules]}
    await step.thread(divide, merged, step.out, inodes(origins))
    await step.thread(clamp_times, step.out, step.epoch)
    return RootTree(str(step.out))


@operation
async def expect_layers(
    step: Step,
    root: RootTree,
    table: PartitionTable,
    uki: UnifiedKernelImage,
    esp: EspFileSystem,
    lock: UserspaceLock,
    tools: ToolsTree,
) -> Expectations:
    """As `expect_settings`, of the packages that were asked for and not left out"""
    written, modules = Path(root, CHANGES), Path(root, FEDORA, MODULES)
    found = await of_image(step, written, modules, table, uki, esp, tools)
    settings = json.loads((written / SETTINGS).read_text())["compose_root"]
    asked = asked_for(lock)
    kept = [one for one in asked if not matches([one], settings["leave_out"])]
    found += of_packages(kept)
    return write(step, found)


def remove_packages(root: Path, patterns: List[str]) -> None:
    """
    Remove installed packages, from apk's lists of them, too

    https://wiki.alpinelinux.org/wiki/Apk_spec
    """
    database = root / APK_DATABASE
    kept = []
    for paragraph in database.read_text().split("\n\n"):
        if not matches(fields(paragraph, "P"), patterns):
            kept.append(paragraph)
            continue
        for name in paths(paragraph):
            (root / name).unlink(missing_ok=True)
    replace_text(database, "\n\n".join(kept))
    world = root / WORLD
    if world.is_file():
        lines = [
            one for one in world.read_text().split() if not matches([one], patterns)
        ]
        replace_text(world, "".join(f"{one}\n" for one in lines))


def matches(names: List[str], patterns: List[str]) -> bool:
    """Whether one of the names is meant; in apk's world they may have a version"""
    bare = [name.partition("=")[0].partition("@")[0] for name in names]
    return any(fnmatchcase(one, pattern) for one in bare for pattern in patterns)


def fields(paragraph: str, letter: str) -> List[str]:
    """The values of a field of apk's database"""
    lines = paragraph.splitlines()
    return [line[2:] for line in lines if line.startswith(f"{letter}:")]


def paths(paragraph: str) -> Iterator[str]:
    """The files of a package in apk's database: each after the folder that it is in"""
    folder = ""
    for line in paragraph.splitlines():
        if line.startswith("F:"):
            folder = line[2:]
        elif line.startswith("R:"):
            yield f"{folder}/{line[2:]}" if folder else line[2:]


def fill(source: Path, root: Path) -> None:
    """
    Add of a tree what is not there yet, where the links that are there lead to:
    Fedora's directories /usr/lib64 and /usr/sbin would be hidden by Wolfi's links
    """
    for directory, names, files in os.walk(source):
        inside = Path(directory).relative_to(source)
        links = [name for name in names if Path(directory, name).is_symlink()]
        for name in list(names):
            if name in links:
                continue
            target = inside_root(root, inside / name / "entry").parent
            if not os.path.lexists(target):
                target.mkdir(parents=True)
                copy_owner(Path(directory, name), target)
            elif not target.is_dir():
                names.remove(name)
        for name in (*files, *links):
            target = inside_root(root, inside / name)
            if os.path.lexists(target):
                continue
            if target.relative_to(root).parts[0] == USR:
                os.link(Path(directory, name), target, follow_symlinks=False)
            else:
                take(Path(directory, name), inside / name, root)


def inodes(origins: Dict[str, List[str]]) -> Inodes:
    """The layer of each file of the trees, which share theirs with what is merged"""
    found = {}
    for layer, trees in origins.items():
        for tree in trees:
            for directory, names, files in os.walk(tree):
                for name in (*names, *files):
                    info = os.lstat(os.path.join(directory, name))
                    found[info.st_dev, info.st_ino] = layer
    return found


def divide(merged: Path, out: Path, layer_of: Inodes) -> None:
    """Move each file to its layer; what is none's is a change"""
    for name in LAYERS:
        (out / name).mkdir(parents=True)
        copy_owner(merged, out / name)
    (out / WORK).chmod(0o700)
    for directory, names, files in os.walk(merged):
        inside = Path(directory).relative_to(merged)
        links = [name for name in names if Path(directory, name).is_symlink()]
        if not (names or files) or inside.parts[:1] != (USR,):
            folder(merged, inside, out / CHANGES)
        for name in (*files, *links):
            source = Path(directory, name)
            info = source.lstat()
            layer = layer_of.get((info.st_dev, info.st_ino), CHANGES)
            folder(merged, inside, out / layer)
            source.rename(out / layer / inside / name)


def folder(merged: Path, inside: Path, layer: Path) -> None:
    """A directory of the whole, in a layer: the uppermost one's owner and mode count"""
    for one in (*reversed(inside.parents), inside):
        if not (layer / one).is_dir():
            (layer / one).mkdir()
            copy_owner(merged / one, layer / one)
