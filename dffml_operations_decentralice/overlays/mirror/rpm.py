"""
Debian packages, unpacked, and what nfpm shall make of them

https://nfpm.goreleaser.com/docs/configuration/
"""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any, Dict, FrozenSet, Iterable, List, NamedTuple

from . import own
from .deb import Deb, members
from .fedora import evr
from .layout import FEDORA

EPOCH = own.EPOCH
COMPRESSION = "zstd:1"
ARCHITECTURES = {"all": "all", "amd64": "amd64"}  # nfpm turns them into rpm's

LINKS = {"bash": {"usr/bin/sh": "bash"}, "gawk": {"usr/bin/awk": "gawk"}}


class Staged(NamedTuple):
    """An entry of a package, ready for nfpm: ``source`` is a file or a link's target"""

    path: str
    kind: str  # file, symlink, dir
    source: str
    mode: int
    owner: str
    group: str
    mtime: int


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


def content(
    entry: Staged, configuration: FrozenSet[str] = frozenset()
) -> Dict[str, Any]:
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
        needs = {*more.get("depends", ()), "/bin/sh", "glibc-common"}
        more["depends"] = sorted(needs - {name})
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
