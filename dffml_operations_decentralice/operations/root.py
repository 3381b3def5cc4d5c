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
from ..errors import UserError
from ..types import (
    KernelModules,
    OsRelease,
    RootTree,
    SsiServiceTree,
    UserspaceRepository,
    UserspaceTree,
)
from . import repository as repositories
from .kernel import kernel_release
from .tree import clamp_times, replace_text

USR = "usr"
APK_DATABASE = f"{USR}/lib/apk/db/installed"
MODULES, FIRMWARE = f"{USR}/lib/modules", f"{USR}/lib/firmware"
HOST_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
SSH_KEY = re.compile(r"(ssh|ecdsa|sk)-\S+ [A-Za-z0-9+/]+=*( .*)?")
PASSWORD_HASH = re.compile(r"\$(y|gy|7|2b|6|5)\$[./A-Za-z0-9$=,+-]+")
UNIT = re.compile(r"[\w:.\\@-]+\.(service|socket|timer|target|path|mount|automount)")
# The initrd has its kernel; the image needs modules, and what finds them
NOT_IN_ROOT = ("vmlinuz", ".vmlinuz.hmac", "System.map", "config", "symvers.xz")
MAX_LINKS = 40  # as Linux has it
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
EMPTY = ("boot", "dev", "proc", "sys", "run", "tmp", "mnt", "var/tmp")


@settings
class OsReleaseSettings:
    name: str = setting("Name of the operating system", default="OS DecentrAlice")
    id: str = setting("Identifier of the operating system", default="decentralice")
    image_version: str = setting("Version of the image", default="1")


@operation
async def os_release(
    step: Step[OsReleaseSettings], repository: UserspaceRepository
) -> OsRelease:
    """https://www.freedesktop.org/software/systemd/man/os-release.html"""
    fields = release_fields(
        step.settings.name,
        step.settings.id,
        step.settings.image_version,
        repositories.read(repository),
    )
    step.out.write_text("".join(f"{k}={quoted(v)}\n" for k, v in fields.items()))
    return OsRelease(str(step.out))


def release_fields(name: str, ident: str, version: str, source: dict) -> Dict[str, str]:
    """os-release's fields; an image of a mirror says so"""
    if not name or not name.isprintable():
        raise UserError(
            f"{name!r} cannot be an os-release NAME",
            remedy="one line of text: setting `name` of os_release",
        )
    if not re.fullmatch(r"[a-z0-9._-]+", ident):
        raise UserError(
            f"{ident!r} cannot be an os-release ID",
            remedy="lower-case letters, digits, '.', '_', '-': setting `id`",
        )
    if not re.fullmatch(r"[a-z0-9._-]+", version):
        raise UserError(
            f"{version!r} cannot be an IMAGE_VERSION",
            remedy="lower-case letters, digits, '.', '_', '-': setting `image_version`",
        )
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


@settings
class RootSettings:
    hostname: str = setting("Host name", default="alice")
    locale: str = setting("Locale of the system", default="C.UTF-8")
    root_password_hash: str = setting(
        "crypt(5) hash of root's password; empty: locked", default="", secret=True
    )
    root_ssh_keys: List[str] = setting(
        "Public keys that may log in as root by ssh", default_factory=list
    )
    enable: List[str] = setting("Units to start at boot", default_factory=list)
    disable: List[str] = setting("Units not to start", default_factory=list)
    mask: List[str] = setting(
        "Units that must never start", default_factory=lambda: list(MASKED)
    )
    files: str = setting(
        "A directory whose files are copied into the image, owned by root",
        default="",
        file=True,
    )


@operation(files=("root",), tools=("cp",), space=60)
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
    check_settings(step.settings)
    root = step.out
    await copy_tree(step, userspace, root)
    await step.thread(merge, Path(service, "root"), root)
    await step.thread(add_kernel, Path(modules), root)
    await complete(step, root, Path(release).read_text())
    return RootTree(str(root))


async def complete(step: Step[Any], root: Path, release: str) -> None:
    """What a tree of packages lacks to be a root: ours, settings, a first boot's"""
    await step.thread(add_files, step.files / "root", root)
    if step.settings.files:
        await step.thread(add_files, Path(step.settings.files), root)
    replace_text(root / "usr/lib/os-release", release)
    await step.thread(configure, root, step.settings)
    await finish(step, root)
    await step.thread(set_accounts, root, step.settings)
    await step.thread(tidy, root, step.epoch)


def check_settings(want: RootSettings) -> None:
    """Refuse what the image could not use, before any work"""
    checks = [
        ("hostname", HOST_NAME, [want.hostname]),
        ("locale", re.compile(r"[A-Za-z0-9_.@-]+"), [want.locale]),
        ("root_ssh_keys", SSH_KEY, want.root_ssh_keys),
        ("enable", UNIT, want.enable),
        ("disable", UNIT, want.disable),
        ("mask", UNIT, want.mask),
    ]
    for name, pattern, values in checks:
        for value in values:
            if not pattern.fullmatch(value):
                raise UserError(
                    f"compose_root: setting {name!r} cannot be {value!r}",
                    remedy=f"what fits is {pattern.pattern}",
                )
    if want.root_password_hash and not PASSWORD_HASH.fullmatch(want.root_password_hash):
        raise UserError(
            "compose_root: setting 'root_password_hash' is no hash of crypt(5)",
            remedy="`openssl passwd -6` or `mkpasswd` makes one",
        )
    if want.files and not Path(want.files).is_dir():
        raise UserError(
            f"compose_root: setting 'files': {want.files} is no directory",
            remedy="give a directory whose tree is as it shall be in the image",
        )


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
    for directory, _names, files in os.walk(source):
        inside = Path(directory).relative_to(source)
        for name in files:
            target = inside_root(root, inside / name)
            target.parent.mkdir(parents=True, exist_ok=True)
            if os.path.lexists(target):
                target.unlink()
            shutil.copyfile(Path(directory, name), target, follow_symlinks=False)
            if not target.is_symlink():
                target.chmod(
                    0o755 if os.access(Path(directory, name), os.X_OK) else 0o644
                )


def inside_root(root: Path, inside: Path) -> Path:
    """The path in the tree; `UserError` if a link of the tree leads out of it"""
    parent, pending, links = root, list(inside.parent.parts), 0
    while pending:
        part = pending.pop(0)
        links += (parent / part).is_symlink()
        if (part == ".." and parent == root) or links > MAX_LINKS:
            raise UserError(f"{inside} leads out of the image", remedy="move it")
        if not (parent / part).is_symlink():
            parent = parent.parent if part == ".." else parent / part
            continue
        to = Path(os.readlink(parent / part))
        pending = list(to.parts[to.is_absolute() :]) + pending
        parent = root if to.is_absolute() else parent
    return parent / inside.name


def configure(root: Path, want: RootSettings) -> None:
    """Files that follow from the settings, and what a first boot would ask"""
    texts = {
        "etc/hostname": f"{want.hostname}\n",
        "etc/locale.conf": f"LANG={want.locale}\n",
        # Empty, not "uninitialized": nothing is left for a first boot to compute
        "etc/machine-id": "",
        "etc/fstab": "",  # root, ESP and swap are found by their types
        "usr/lib/systemd/system-preset/01-settings.preset": preset(want),
    }
    for name, text in texts.items():
        mode = 0o444 if name == "etc/machine-id" else 0o644
        replace_text(root / name, text, mode)
    links = {
        "etc/resolv.conf": "../run/systemd/resolve/stub-resolv.conf",
        "etc/os-release": "../usr/lib/os-release",
        **{f"etc/systemd/system/{unit}": "/dev/null" for unit in want.mask},
        **{
            f"etc/systemd/system-generators/{name}": "/dev/null"
            for name in MASKED_GENERATORS
        },
        "etc/systemd/system/default.target": f"{UNITS}/multi-user.target",
    }
    for name, to in links.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.symlink_to(to)
    for name in EMPTY:
        (root / name).mkdir(parents=True, exist_ok=True)


def preset(want: RootSettings) -> str:
    """https://www.freedesktop.org/software/systemd/man/systemd.preset.html"""
    lines = ["# From the settings of compose_root"]
    lines += [f"enable {unit}" for unit in want.enable]
    lines += [f"disable {unit}" for unit in want.disable]
    return "\n".join(lines) + "\n"


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
TMPFILES_OK = (0, 73)  # 73: some line could not be applied, as of a file that is gone


async def finish(step: Step[RootSettings], root: Path) -> None:
    """What packages' scripts and a first boot would do, by the tree's own programs"""
    options: Dict[str, Any] = {
        "writable": True,
        "env": {"SYSTEMD_IN_CHROOT": "1", "SYSTEMD_OFFLINE": "1"},
        "ro_bind": {root / USR: f"/{USR}"},
    }
    for argv in FINISH:
        ok = TMPFILES_OK if argv[0] == "systemd-tmpfiles" else (0,)
        await step.run_in(str(root), *argv, ok=ok, **options)
    # The userspace's own are compiled where that is installed
    given = step.settings.files
    if given and any(Path(given).rglob("*.hwdb")):
        await step.run_in(str(root), "systemd-hwdb", "update", **options)


def set_accounts(root: Path, want: RootSettings) -> None:
    """root's password and keys; locked if nothing is given"""
    shadow = root / "etc/shadow"
    lines = shadow.read_text().splitlines()
    changed = [
        ":".join(["root", want.root_password_hash or "!*", *line.split(":")[2:]])
        if line.startswith("root:")
        else line
        for line in lines
    ]
    mode = shadow.stat().st_mode
    shadow.chmod(0o600)
    shadow.write_text("\n".join(changed) + "\n")
    shadow.chmod(mode & 0o7777)
    if want.root_ssh_keys:
        folder = root / "root/.ssh"
        folder.mkdir(mode=0o700, exist_ok=True)
        keys = folder / "authorized_keys"
        keys.write_text("\n".join(want.root_ssh_keys) + "\n")
        keys.chmod(0o600)


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
