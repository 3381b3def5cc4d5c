"""
Debian's kernel package as Fedora's ``kernel-core``, ``kernel-modules-core`` and
``kernel-modules``

https://src.fedoraproject.org/rpms/kernel: the image is below /lib/modules, and the
modules' indexes are made at installation.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Dict, Iterable, List, NamedTuple, Set

from ...errors import UserError
from . import fedora, rpm
from .deb import Deb, unusable
from .rpm import Staged

IMAGE = re.compile(r"linux-image-(\d.*)")
FLAVOURS = {"cloud": "linux-image-cloud-amd64", "generic": "linux-image-amd64"}
VERSION = re.compile(r"\d[A-Za-z0-9.+~-]*")
BOOT = {"vmlinuz": 0o755, "System.map": 0o644, "config": 0o644}
INDEXES = (
    *("alias", "alias.bin", "builtin.alias.bin", "builtin.bin", "dep", "dep.bin"),
    *("devname", "softdep", "symbols", "symbols.bin"),
)
# kernel-modules-core: what a VM or a plain PC needs to find, measure and mount its
# root; what these need comes with them
CORE = re.compile(
    r"/kernel/(drivers/(virtio|block/(virtio_blk|loop|nbd|zram)|nvme|ata"
    r"|scsi/(sd_mod|sr_mod|scsi_mod|virtio_scsi|vmw_pvscsi|hv_storvsc)"
    r"|char/(tpm|hw_random|virtio_console)|firmware/(qemu_fw_cfg|dmi-sysfs)"
    r"|net/(virtio_net|net_failover|tun|veth|vmxnet3)"
    r"|net/ethernet/(intel/e1000|google|amazon)|md/dm-"
    r"|input/evdev|misc/pvpanic|usb/(host|storage)|hid/(hid|usbhid)|hv/)"
    r"|fs/(ext4|jbd2|mbcache|fat|nls|erofs|overlayfs|squashfs|btrfs|xfs|fuse|autofs"
    r"|isofs|efivarfs|9p)"
    r"|net/(vmw_vsock|9p|core/failover|packet|unix|ipv6)|crypto|lib|arch)"
)


class Part(NamedTuple):
    """A package that is made of the kernel's"""

    name: str
    description: str
    depends: List[str]
    provides: List[str]


def meta_package(flavour: str, version: str) -> str:
    """What to ask apt for: the package which needs the newest kernel, or a version's"""
    if flavour not in FLAVOURS:
        raise UserError(
            f"there is no kernel flavour {flavour!r}",
            remedy=f"set `flavour` to one of: {', '.join(FLAVOURS)}",
        )
    if version and not VERSION.fullmatch(version):
        raise UserError(
            f"{version!r} is no version of a Debian package",
            remedy="set `kernel_version` to one like 6.1.147-1, or to nothing",
        )
    return FLAVOURS[flavour] + (f"={version}" if version else "")


def image_of(records: Iterable[Dict[str, Any]]) -> Dict[str, str]:
    """Of what apt fetched the kernel: its package, version and release"""
    for record in records:
        release = release_of(record["package"])
        if release:
            return {
                "package": record["package"],
                "version": record["version"],
                "release": release,
            }
    raise UserError(
        "the suite has no kernel package that could be used",
        remedy="set `suite` and `flavour` to those of a release of Debian",
    )


def release_of(package: str) -> str:
    """What ``uname -r`` says, of the name of a kernel package; '' of any other"""
    match = IMAGE.fullmatch(package)
    return match[1] if match and not match[1].endswith("-dbg") else ""


def module_name(path: str) -> str:
    """A module's name as the kernel has it"""
    return path.rpartition("/")[2].partition(".ko")[0].replace("-", "_")


def module_needs(data: bytes) -> List[str]:
    """The modules that one needs, from ``depends=`` in its .modinfo section"""
    match = re.search(rb"\0depends=([^\0]*)\0", data)
    text = match[1].decode("ascii") if match else ""
    return [name.replace("-", "_") for name in text.split(",") if name]


def closure(start: Iterable[str], needs: Dict[str, List[str]]) -> Set[str]:
    """The modules, and all that they need, directly or not"""
    found: Set[str] = set()
    pending = list(start)
    while pending:
        name = pending.pop()
        if name in needs and name not in found:
            found.add(name)
            pending += needs[name]
    return found


def parts(release: str, version: str) -> List[Part]:
    """Fedora's packages; each says which kernel it is for"""
    uname, core, modules_core, modules = (
        f"{name}-uname-r = {release}"
        for name in ("kernel", "kernel-core", "kernel-modules-core", "kernel-modules")
    )
    kernel, module = "installonlypkg(kernel)", "installonlypkg(kernel-module)"
    install = ["/usr/bin/kernel-install", "coreutils", "dracut", "systemd"]
    return [
        Part(
            "kernel-core",
            "The Linux kernel",
            ["filesystem", modules_core, "/bin/sh", *install],
            [core, uname, kernel, f"kernel-x86_64 = {fedora.evr_text(version)}"],
        ),
        Part(
            "kernel-modules-core",
            "Core kernel modules",
            [uname, "/bin/sh", "kmod", "glibc-common"],
            [modules_core, module],
        ),
        Part(
            "kernel-modules",
            "Kernel modules",
            [uname, modules_core, "/bin/sh", "kmod"],
            [modules, module],
        ),
        Part("kernel", "Meta package", [core, modules_core, modules], [kernel]),
    ]


def configs(deb: Deb, folder: Path, scripts: Dict[str, Path]) -> List[Dict[str, Any]]:
    """nfpm's configurations of all parts; the files are staged below the folder"""
    release = release_of(deb.name)
    needs: Dict[str, List[str]] = {}

    def look(path: str, data: bytes) -> None:
        if path.endswith(".ko"):
            needs[module_name(path)] = module_needs(data)

    staged = [moved(entry, release) for entry in rpm.stage(deb, folder, look)]
    if not any(entry.path.endswith(f"/{release}/vmlinuz") for entry in staged):
        raise unusable(deb.name, "it has no vmlinuz")
    contents = assign(staged, release, needs)
    ghosts = [
        {"dst": f"/lib/modules/{release}/modules.{name}", "type": "ghost"}
        for name in INDEXES
    ]
    contents["kernel-modules-core"] += ghosts
    return [
        rpm.config(
            part.name,
            deb.version,
            "amd64",
            contents.get(part.name, []),
            description=part.description,
            depends=part.depends,
            provides=part.provides,
            posttrans=scripts.get(part.name),
        )
        for part in parts(release, deb.version)
    ]


def moved(entry: Staged, release: str) -> Staged:
    """
    The image goes beside its modules; Fedora's kernel packages say /lib/modules,
    through the link that ``filesystem`` has.
    """
    for name, mode in BOOT.items():
        if entry.path == f"boot/{name}-{release}":
            path = f"lib/modules/{release}/{name}"
            return entry._replace(path=path, mode=mode)
    if entry.path.startswith("usr/lib/modules/"):
        return entry._replace(path=entry.path[len("usr/") :])
    return entry


def assign(
    staged: Iterable[Staged], release: str, needs: Dict[str, List[str]]
) -> Dict[str, List[Dict[str, Any]]]:
    """Which package each file is in"""
    files = [entry for entry in staged if entry.kind == "file"]
    modules = [entry for entry in files if entry.path.endswith(".ko")]
    start = (module_name(one.path) for one in modules if CORE.search(one.path))
    core = closure(start, needs)
    kept = (f"lib/modules/{release}/", "usr/share/licenses/")
    found: Dict[str, List[Dict[str, Any]]] = {
        "kernel-core": [],
        "kernel-modules-core": [],
        "kernel-modules": [],
    }
    for entry in files:
        where = "kernel-core"
        if entry.path.endswith(".ko"):
            in_core = module_name(entry.path) in core
            where = "kernel-modules-core" if in_core else "kernel-modules"
        if entry.path.startswith(kept):
            found[where].append(rpm.content(entry))
    return found
