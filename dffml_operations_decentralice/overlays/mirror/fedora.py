"""
Debian packages as Fedora's: names, versions, dependencies

https://rpm-software-management.github.io/rpm/manual/dependencies.html
"""

from __future__ import annotations

import re
from typing import Dict, FrozenSet, Iterable, List, NamedTuple, Set, Tuple

from .deb import Deb, Relation, chosen

# As of Wolfi's side: there for dpkg's sake only, apt takes them for installed
ASSUMED: Dict[str, Tuple[str, ...]] = {
    **dict.fromkeys(
        (
            *("adduser", "base-files", "base-passwd", "dash", "dpkg", "install-info"),
            *("init-system-helpers", "libdebconfclient0", "linux-base", "lsb-base"),
            *("media-types", "perl", "perl-base", "sensible-utils", "sysvinit-utils"),
            *("tzdata", "ucf", "usr-is-merged", "usrmerge"),
        ),
        (),
    ),
    "debconf": ("debconf-2.0",),
    "initramfs-tools": ("linux-initramfs-tool",),
}
# Cycles between dbus and systemd; rpm would run scriptlets in the wrong order
UNORDERED = {"default-dbus-system-bus", "dbus-system-bus"}

PROVIDES = {
    "bash": ["/bin/sh", "/bin/bash", "/usr/bin/sh", "/usr/bin/bash"],
    "systemd": ["/usr/bin/kernel-install"],
}
# Debian's essential packages are implicit dependencies, an rpm must name them
REQUIRES = {
    "dracut": (
        "bash coreutils cpio findutils grep gzip hostname kmod procps-ng sed systemd"
        " systemd-udev util-linux mount xz zstd tar"
    ),
    # Without systemd-sysv dracut lacks poweroff, reboot and halt
    "systemd": (
        "bash coreutils grep sed util-linux mount shadow-utils util-linux-login dbus"
        " systemd-sysv"
    ),
}
# Files that Fedora has in a package of their own: (Debian's package, paths, rpm)
SPLITS = (
    (
        "systemd",
        re.compile(
            r"usr/(lib/systemd/(systemd-networkd|systemd-network-generator|network/"
            r"|system/systemd-network)|bin/networkctl|share/dbus-1/.*network1)"
        ),
        "systemd-networkd",
    ),
)


class Names(NamedTuple):
    """Who is called what: Debian's name to Fedora's, and which names there are"""

    provider: Dict[str, str]
    fedora: Dict[str, str]
    there: FrozenSet[str]

    def rpm(self, package: str) -> str:
        return self.fedora.get(package, package)


def names_of(
    debs: Iterable[Deb],
    provider: Dict[str, str],
    fedora: Dict[str, str],
    ours: Iterable[str],
) -> Names:
    """The names in a repository"""
    debian = {deb.name for deb in debs}
    there = {fedora.get(name, name) for name in debian} | {*ours}
    there |= {sub for package, _, sub in SPLITS if package in debian}
    return Names(provider, fedora, frozenset(there))


def evr(version: str) -> Tuple[str, str, str]:
    """Epoch, version and release of a version of Debian's; '-' is no part of rpm's"""
    epoch, _, rest = version.rpartition(":")
    upstream, _, release = rest.rpartition("-") if "-" in rest else (rest, "", "1")
    return epoch, upstream.replace("-", "."), release


def evr_text(version: str) -> str:
    """The same as text for a dependency, without a release if Debian's has none"""
    epoch, upstream, release = evr(version)
    text = (f"{epoch}:" if epoch else "") + upstream
    return text + (f"-{release}" if "-" in version else "")


def operator(debian: str, version: str) -> str:
    """
    Debian's operator in rpm's words. Where a dependency has no release, rpm compares
    without it: (>> 2.36) must become >= 2.36, or nothing provides it.
    """
    if debian == ">>" and "-" not in version:
        return ">="
    return debian[0] if debian in ("<<", ">>") else debian


def wanted(name: str) -> bool:
    """Whether a dependency is one in Fedora's world too"""
    provided = {name for names in ASSUMED.values() for name in names}
    return name not in ASSUMED and name not in provided | UNORDERED


def requires(deb: Deb, names: Names) -> List[str]:
    """The dependencies of an rpm"""
    name = names.rpm(deb.name)
    also = [one for one in REQUIRES.get(name, "").split() if one in names.there]
    found: Set[str] = set(also)
    if name == "glibc":
        found |= {"filesystem", "setup"}
    else:
        needs_glibc = deb.architecture != "all" and "glibc" in names.there
        found.add("glibc" if needs_glibc else "filesystem")
    for relation in chosen(deb, names.provider, wanted):
        if wanted(relation.name):
            found.add(_require(relation, names))
    return sorted(one for one in found if one.split()[0] != name)


def _require(relation: Relation, names: Names) -> str:
    package = names.provider[relation.name]
    required = names.rpm(package)
    if not relation.operator or package != relation.name:
        return required
    word = operator(relation.operator, relation.version)
    return f"{required} {word} {evr_text(relation.version)}"


def provides(deb: Deb, names: Names) -> List[str]:
    """What an rpm provides: Debian's name, and what Debian's package provides"""
    name = names.rpm(deb.name)
    found = set(PROVIDES.get(name, []))
    if name != deb.name:
        found.add(f"{deb.name} = {evr_text(deb.version)}")
    for relation in deb.provides():
        if relation.name != name:
            version = f" = {evr_text(relation.version)}" if relation.version else ""
            found.add(relation.name + version)
    return sorted(found)
