"""
Debian packages as rpms with Fedora's names

Pure functions make what nfpm packs. https://nfpm.goreleaser.com/docs/configuration/,
https://rpm-software-management.github.io/rpm/manual/dependencies.html
"""
from __future__ import annotations

import datetime
import re
from pathlib import Path
from typing import Any, Dict, FrozenSet, Iterable, List, NamedTuple, Set, Tuple

from . import own
from .deb import Deb, Relation, chosen, members
from .layout import FEDORA

EPOCH = own.EPOCH
COMPRESSION = "zstd:1"
ARCHITECTURES = {"all": "all", "amd64": "amd64"}  # nfpm turns them into rpm's

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
LINKS = {"bash": {"usr/bin/sh": "bash"}, "gawk": {"usr/bin/awk": "gawk"}}
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


class Staged(NamedTuple):
    """An entry of a package, ready for nfpm: ``source`` is a file or a link's target"""

    path: str
    kind: str  # file, symlink, dir
    source: str
    mode: int
    owner: str
    group: str
    mtime: int


class Names(NamedTuple):
    """Who is called what: Debian's name to Fedora's, and which names there are"""

    provider: Dict[str, str]
    fedora: Dict[str, str]
    there: FrozenSet[str]

    def rpm(self, package: str) -> str:
        return self.fedora.get(package, package)


def names_of(
    debs: Iterable[Deb], provider: Dict[str, str], fedora: Dict[str, str], ours: Iterable[str]
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
        everywhere = deb.fields.get("Architecture") == "all" or "glibc" not in names.there
        found.add("filesystem" if everywhere else "glibc")
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


def stage(deb: Deb, folder: Path, look: Any = None) -> List[Staged]:
    """
    Extract a package's files below a folder under numbers, and tell where they belong.
    ``look(path, data)`` sees each file on its way.
    """
    folder.mkdir(parents=True)
    found: Dict[str, Staged] = {}
    for number, (info, content) in enumerate(members(deb)):
        path = FEDORA.path(info.name)
        if not FEDORA.keeps(info.name):
            continue
        source, kind, mode = str(folder / str(number)), "file", info.mode & 0o7777
        if content is not None:
            data = content.read()
            Path(source).write_bytes(data)
            if look:
                look(path, data)
        elif info.islnk():  # an rpm of nfpm's has no hard links: the file once more
            first = found[FEDORA.path(info.linkname)]
            source, mode = first.source, first.mode
        elif info.issym():
            source, kind = FEDORA.target(info.name, info.linkname), "symlink"
        else:
            source, kind = "", "dir"
        owner, group = info.uname or "root", info.gname or "root"
        found[path] = Staged(path, kind, source, mode, owner, group, int(info.mtime))
    for path, to in LINKS.get(deb.name, {}).items():
        found[path] = Staged(path, "symlink", to, 0o777, "root", "root", EPOCH)
    return list(found.values())


def stage_own(package: own.Own, folder: Path) -> List[Staged]:
    """The same of a package of ours"""
    folder.mkdir(parents=True)
    found = []
    for number, (info, data) in enumerate(package.members):
        source, kind = info.linkname, "symlink" if info.issym() else "dir"
        if data is not None:
            source, kind = str(folder / str(number)), "file"
            Path(source).write_bytes(data)
        found.append(
            Staged(info.name, kind, source, info.mode, info.uname, info.gname, EPOCH)
        )
    return found


def telling(staged: Iterable[Staged], common: FrozenSet[str]) -> List[Staged]:
    """Without directories that say nothing: ``filesystem`` (common) owns those"""
    entries = list(staged)
    parents = {entry.path.rpartition("/")[0] for entry in entries}
    return [
        entry
        for entry in entries
        if entry.kind != "dir"
        or (
            entry.path not in common
            and (entry.path not in parents or entry.mode != 0o755)
        )
    ]


def content(entry: Staged, configuration: FrozenSet[str] = frozenset()) -> Dict[str, Any]:
    """nfpm's words for an entry"""
    path = f"/{entry.path}"
    moment = datetime.datetime.fromtimestamp(entry.mtime, datetime.timezone.utc)
    about: Dict[str, Any] = {"mtime": moment.strftime("%Y-%m-%dT%H:%M:%SZ")}
    if entry.kind == "symlink":
        return {"src": entry.source, "dst": path, "type": "symlink", "file_info": about}
    about.update(mode=entry.mode, owner=entry.owner, group=entry.group)
    if entry.kind == "dir":
        return {"dst": path, "type": "dir", "file_info": about}
    found = {"src": entry.source, "dst": path, "file_info": about}
    if path in configuration:
        found["type"] = "config|noreplace"
    return found


def config(
    name: str, version: str, arch: str, contents: List[Dict[str, Any]], **more: Any
) -> Dict[str, Any]:
    """
    nfpm's configuration of a package. ``more`` may have ``depends``, ``provides``,
    ``homepage``, ``description`` and ``posttrans`` (the path of a script).
    """
    epoch, upstream, release = evr(version)
    description = more.pop("description", name)
    script = more.pop("posttrans", None)
    about: Dict[str, Any] = {
        "compression": COMPRESSION,
        "buildhost": "mirror",  # else the host's name
        "packager": "OS DecentrAlice mirror",
        "summary": description.partition("\n")[0][:200],
    }
    if script:
        about["scripts"] = {"posttrans": str(script)}
        # nfpm adds no dependency on the interpreter; the order would be wrong
        more["depends"] = sorted({*more.get("depends", ()), "/bin/sh", "glibc-common"} - {name})
    return {
        "name": name,
        "arch": ARCHITECTURES[arch],
        "platform": "linux",
        "version": upstream,
        "release": release,
        **({"epoch": epoch} if epoch else {}),
        "version_schema": "none",  # else 1.0 becomes 1.0.0
        "disable_globbing": True,  # else names with \x2d "do not exist"
        "mtime": "2026-01-01T00:00:00Z",
        "maintainer": "OS DecentrAlice mirror",
        "license": "see /usr/share/licenses",
        "description": description,
        "contents": contents,
        "rpm": about,
        **more,
    }
