"""
The root tree: both worlds and the service put together, and what their packages'
scripts and a first boot would do, done by the tree's own programs

Its /usr is shared with the artefacts that it comes from, by hard links: no file there
is written to, but replaced, and the programs see it read-only. The rest is a copy.
"""

import os
import re
import shutil
from pathlib import Path
from typing import Any, Dict, List

from ..engine import Step, operation, setting, settings
from ..engine.settings import refused
from ..errors import UserError
from ..types import (
    KernelModules,
    KernelRepository,
    OsRelease,
    RootTree,
    SsiServiceTree,
    UserspaceRepository,
    UserspaceTree,
)
from . import repository as repositories
from .accounts import OF, set_accounts
from .configuration import (
    SETTINGS,
    ZONES,
    RootSettings,
    additions,
    check_tree,
    own_single,
    texts,
    told,
    write_single,
)
from .kernel import kernel_release
from .motd import write_motd
from .tree import clamp_times, inside_root, replace_text

USR = "usr"
APK_DATABASE = f"{USR}/lib/apk/db/installed"
MODULES, FIRMWARE = f"{USR}/lib/modules", f"{USR}/lib/firmware"
# The initrd has its kernel; the image needs modules, and what finds them
NOT_IN_ROOT = ("vmlinuz", ".vmlinuz.hmac", "System.map", "config", "symvers.xz")
UNITS = "/usr/lib/systemd/system"
MASKED = [
    "systemd-firstboot.service",  # asks on the console
    # For who debugs the kernel, and then mounts them
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
]
# Nothing of what they look for is there: old init scripts, ssh over vsock
MASKED_GENERATORS = [
    "systemd-rc-local-generator",
    "systemd-sysv-generator",
    "systemd-ssh-generator",
    "systemd-system-update-generator",
]
WORD = r"[a-z0-9._-]+"  # of os-release
EMPTY = ("boot", "dev", "proc", "sys", "run", "tmp", "mnt", "var/tmp")


@settings
class OsReleaseSettings:
    name: str = setting(
        "Name of the operating system, a line of text",
        default="OS DecentrAlice",
        check=lambda value: "" if value and value.isprintable() else "it is no line",
    )
    id: str = setting(
        "Identifier of the operating system", default="decentralice", pattern=WORD
    )
    image_version: str = setting("Version of the image", default="1", pattern=WORD)


@operation
async def os_release(
    step: Step[OsReleaseSettings],
    repository: UserspaceRepository,
    kernel: KernelRepository,
) -> OsRelease:
    """https://www.freedesktop.org/software/systemd/man/os-release.html"""
    fields = release_fields(
        step.settings.name,
        step.settings.id,
        step.settings.image_version,
        repositories.read(repository),
        repositories.read(kernel),
    )
    step.out.write_text("".join(f"{k}={quoted(v)}\n" for k, v in fields.items()))
    return OsRelease(str(step.out))


def release_fields(
    name: str, ident: str, version: str, source: dict, kernel: dict
) -> Dict[str, str]:
    """os-release's fields; an image of a mirror says so"""
    variant = source["variant"]
    fields = {
        "NAME": name,
        "ID": ident,
        "ID_LIKE": "wolfi",
        "PRETTY_NAME": f"{name} {version}" + (f" ({variant})" if variant else ""),
        "VERSION_ID": version,
        "IMAGE_ID": ident,
        "IMAGE_VERSION": version,
        "HOME_URL": "https://github.com/dffml/dffml",
        # The two worlds that it is made of
        "DECENTRALICE_USERSPACE": source["distribution"],
        "DECENTRALICE_KERNEL": kernel["distribution"],
    }
    if variant:
        fields["VARIANT"] = source["distribution"]
        fields["VARIANT_ID"] = variant
    return fields


def quoted(value: str) -> str:
    """A value as os-release's shell-like syntax has it"""
    if re.fullmatch(r"[A-Za-z0-9._-]+", value):
        return value
    return '"' + re.sub(r'(["$`\\])', r"\\\1", value) + '"'


@operation(files=("root", "ssh", "keymap", "containers"), tools=("cp",), space=60)
async def compose_root(
    step: Step[RootSettings],
    userspace: UserspaceTree,
    service: SsiServiceTree,
    modules: KernelModules,
    release: OsRelease,
) -> RootTree:
    """
    One tree of Wolfi's userspace, Fedora's modules, the SSI service and the settings

    https://uapi-group.org/specifications/specs/linux_file_system_hierarchy/
    """
    root = step.out
    await copy_tree(step, userspace, root)
    await step.thread(merge, Path(service, "root"), root)
    await step.thread(add_kernel, Path(modules), root)
    await complete(step, root, Path(release), kernel_release(modules))
    return RootTree(str(root))


async def complete(
    step: Step[Any],
    root: Path,
    release: Path,
    kernel: str,
    packages: str = APK_DATABASE,
) -> None:
    """
    What a tree of packages lacks to be a root: ours, the settings', a first boot's. The
    kernel's release and apk's database are for the motd.
    """
    want = step.settings
    for name in ("root", *additions(want)):
        await step.thread(add_files, step.files / name, root)
    write_motd(root, release, kernel, packages)
    if want.files:
        await step.thread(add_files, Path(want.files), root)
    replace_text(root / "usr/lib/os-release", release.read_text())
    replace_text(root / SETTINGS, told(want), 0o600)
    await step.thread(configure, root, want)
    await step.thread(write_single, root, want)
    await step.thread(check_tree, root, want)
    await finish(step, root)
    await step.thread(set_accounts, root, want, step.epoch)
    await step.thread(own_single, root, want)
    await check_finished(step, root)
    await step.thread(tidy, root, step.epoch)


async def copy_tree(step: Step[Any], source: str, root: Path) -> None:
    """A tree of packages as a directory that is to be changed"""
    root.mkdir()
    for argv in copy_argvs(Path(source), root):
        await step.run(*argv)


def copy_argvs(source: Path, root: Path) -> List[List[str]]:
    """cp's words: /usr as links, all else as copies"""
    rest = sorted(str(path) for path in source.iterdir() if path.name != USR)
    copies = ["cp", "--archive", "--reflink=auto", *rest, str(root)]
    return [copies, ["cp", "--archive", "--link", str(source / USR), str(root)]]


def take(source: Path, inside: Path, root: Path) -> None:
    """A file of an artefact at its place in the root: a link below /usr, else a copy"""
    target = inside_root(root, inside)
    if target.relative_to(root).parts[0] == USR and not source.is_symlink():
        os.link(source, target)
        return
    shutil.copy2(source, target, follow_symlinks=False)
    copy_owner(source, target)


def merge(source: Path, root: Path) -> None:
    """Add a tree of packages; a file that is there already is a conflict"""
    for directory, names, files in os.walk(source):
        inside = Path(directory).relative_to(source)
        for name in list(names):
            link = Path(directory, name)
            if link.is_symlink():
                files.append(name)
                continue
            target = inside_root(root, inside / name / "entry").parent
            if not os.path.lexists(target):
                target.mkdir(parents=True)
                copy_owner(link, target)
            elif not target.is_dir():
                raise conflict(inside / name)
        for name in files:
            _merge_file(Path(directory, name), inside / name, root)


def _merge_file(source: Path, inside: Path, root: Path) -> None:
    target = inside_root(root, inside)
    if str(inside) == APK_DATABASE:
        replace_text(target, target.read_text() + source.read_text())
        return
    if os.path.lexists(target):
        raise conflict(inside)
    take(source, inside, root)


def conflict(inside: Path) -> UserError:
    """What two packages have"""
    return UserError(
        f"/{inside} is in two packages", remedy="leave one of them out of the settings"
    )


def copy_owner(source: Path, target: Path) -> None:
    """Owner and mode, setuid included"""
    info = source.lstat()
    os.chown(target, info.st_uid, info.st_gid, follow_symlinks=False)
    if not target.is_symlink():
        target.chmod(info.st_mode & 0o7777)


def add_kernel(kernel: Path, root: Path) -> None:
    """Fedora's part: modules and firmware"""
    release = kernel_release(str(kernel))
    leave = shutil.ignore_patterns(*NOT_IN_ROOT, "build", "source")
    add_tree(kernel / "modules" / release, Path(MODULES, release), root, leave)
    if any((kernel / "firmware").iterdir()):
        add_tree(kernel / "firmware", Path(FIRMWARE), root)


def add_tree(source: Path, inside: Path, root: Path, leave=None) -> None:
    """
    Add an artefact's directory to what may be there already; a file that both have is a
    conflict, as neither world's programs would say whose it is
    """

    def place(_source: str, target: str) -> None:
        take(Path(_source), Path(target).relative_to(root), root)

    try:
        shutil.copytree(
            source,
            root / inside,
            symlinks=True,
            ignore=leave,
            copy_function=place,
            dirs_exist_ok=True,
        )
    except shutil.Error as error:
        for _source, target, _why in error.args[0]:
            if os.path.lexists(target):
                raise conflict(Path(target).relative_to(root)) from error
        raise


def add_files(source: Path, root: Path) -> None:
    """
    Copy a tree, owned by root; modes are ours, as those of an installation of this
    package, or of a checkout, depend on the umask
    """
    for directory, names, files in os.walk(source):
        inside = Path(directory).relative_to(source)
        links = [name for name in names if Path(directory, name).is_symlink()]
        for name in (*links, *files):
            target = inside_root(root, inside / name)
            target.parent.mkdir(parents=True, exist_ok=True)
            if os.path.lexists(target):
                target.unlink()
            shutil.copyfile(Path(directory, name), target, follow_symlinks=False)
            if not target.is_symlink():
                target.chmod(
                    0o755 if os.access(Path(directory, name), os.X_OK) else 0o644
                )


def configure(root: Path, want: RootSettings) -> None:
    """Files that follow from the settings, and what a first boot would ask"""
    for name, text in texts(want).items():
        replace_text(root / name, text)
    # Empty, not "uninitialized": nothing is left for a first boot to compute
    replace_text(root / "etc/machine-id", "", 0o444)
    replace_text(root / "etc/fstab", "")  # root, ESP and swap are found by their types
    links = {
        "etc/resolv.conf": "../run/systemd/resolve/stub-resolv.conf",
        "etc/os-release": "../usr/lib/os-release",
        **{
            f"etc/systemd/system/{unit}": "/dev/null"
            for unit in (*MASKED, *want.mask)
            if unit not in want.enable
        },
        **{
            f"etc/systemd/system-generators/{name}": "/dev/null"
            for name in MASKED_GENERATORS
        },
        "etc/systemd/system/default.target": f"{UNITS}/multi-user.target",
    }
    if want.timezone != "UTC":  # which it is without
        links["etc/localtime"] = f"../{ZONES}/{want.timezone}"
    for name, to in links.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.symlink_to(to)
    for name in EMPTY:
        (root / name).mkdir(parents=True, exist_ok=True)


# In this order: with /etc/.updated, but without accounts, services fail for want of
# them. Not --boot-time files: /dev, /proc, /sys, /run and /tmp are the machine's.
FINISH = [
    ["systemd-sysusers"],
    ["systemd-tmpfiles", "--create", "--remove", "--boot"]
    + [f"--exclude-prefix=/{one}" for one in ("dev", "proc", "sys", "run", "tmp")],
    ["ldconfig", "-X"],
    ["journalctl", "--update-catalog"],
    ["systemctl", "preset-all"],
]
ENABLED = ("enabled", "alias", "indirect")
TMPFILES_OK = (0, 73)  # 73: some line could not be applied, as of a file that is gone


async def finish(step: Step[RootSettings], root: Path) -> None:
    """What packages' scripts and a first boot would do, by the tree's own programs"""
    for argv in FINISH:
        ok = TMPFILES_OK if argv[0] == "systemd-tmpfiles" else (0,)
        await run_inside(step, root, *argv, ok=ok)
    # The userspace's own are compiled where that is installed
    given = step.settings.files
    if given and any(Path(given).rglob("*.hwdb")):
        await run_inside(step, root, "systemd-hwdb", "update")


async def run_inside(step: Step, root: Path, *argv: str, **options: Any) -> str:
    """Run a program of the tree, to which all but /usr is writable"""
    return await step.run_in(
        str(root),
        *argv,
        writable=True,
        env={"SYSTEMD_IN_CHROOT": "1", "SYSTEMD_OFFLINE": "1"},
        ro_bind={root / USR: f"/{USR}"},
        **options,
    )


async def check_finished(step: Step[RootSettings], root: Path) -> None:
    """Of what is said by the tree's own programs only: units that cannot be enabled"""
    want = step.settings
    if any(one.sudo for one in want.users):
        await run_inside(step, root, "visudo", "--check")
    if not want.enable:
        return
    asked = ("systemctl", "is-enabled", *want.enable)
    said = await run_inside(step, root, *asked, ok=(0, 1))
    for at, (unit, state) in enumerate(zip(want.enable, said.split())):
        if state not in ENABLED:
            cause = f"is {unit}, which cannot be enabled: it is {state}"
            remedy = "a unit that has no [Install] is started by others, or by none"
            raise refused(OF, ("enable", at), cause, remedy)


def tidy(root: Path, epoch: int) -> None:
    """Remove what only the making left, and let nothing have a time but ours"""
    for name in ("passwd-", "group-", "shadow-", "gshadow-", ".pwd.lock"):
        (root / "etc" / name).unlink(missing_ok=True)
    (root / "var/cache/ldconfig/aux-cache").unlink(missing_ok=True)
    waiting = root / "etc/systemd/system/network-online.target.wants"
    shutil.rmtree(waiting, ignore_errors=True)  # enabled by Also=, presets or not
    for name in ("etc/.updated", "var/.updated"):
        (root / name).write_text("")
    clamp_times(root, epoch)
