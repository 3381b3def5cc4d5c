"""
Packages of our own: what Debian's maintainer scripts would have made, and packages that
only have a name of the other distribution's and need Debian's

Below ``files/mirror/<side>``: ``packages.json`` names them, ``trees/<name>/`` has the
files of one, ``<name>.conf`` its directories, links, modes and owners in the form of
https://www.freedesktop.org/software/systemd/man/latest/tmpfiles.d.html
"""

from __future__ import annotations

import dataclasses
import json
import tarfile
from pathlib import Path
from typing import Any, Dict, Iterable, List

from .deb import Member

EPOCH = 1767225600  # of all that Debian gives no time to


@dataclasses.dataclass
class Own:
    """A package of ours; ``more`` has what only one format knows"""

    name: str
    description: str
    depends: List[str]
    members: List[Member]
    version: str = "1"
    more: Dict[str, Any] = dataclasses.field(default_factory=dict)


def directory(path: str, mode: int = 0o755) -> Member:
    """A directory of root's"""
    return Member(_info(path, tarfile.DIRTYPE, mode), None)


def link(path: str, to: str) -> Member:
    """A symbolic link"""
    info = _info(path, tarfile.SYMTYPE, 0o777)
    info.linkname = to
    return Member(info, None)


def file(path: str, data: bytes, mode: int = 0o644) -> Member:
    """A file of root's"""
    info = _info(path, tarfile.REGTYPE, mode)
    info.size = len(data)
    return Member(info, data)


def _info(path: str, kind: bytes, mode: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(path)
    info.type, info.mode, info.mtime = kind, mode, EPOCH
    info.uname = info.gname = "root"
    return info


def layout(text: str, members: Iterable[Member] = ()) -> List[Member]:
    """
    The members, modes and owners set, and what else tmpfiles.d lines describe: ``d``
    (directory), ``L`` (symbolic link) and ``z`` (mode and owner of a member).
    """
    found = {member.info.name: member for member in members}
    for line in filter(None, map(str.strip, text.splitlines())):
        if line.startswith("#"):
            continue
        kind, path, mode, user, group, *rest = line.split()
        name = path.strip("/")
        if kind == "L":
            found[name] = link(name, rest[1])
            continue
        if kind == "d":
            found[name] = directory(name)
        elif kind != "z":
            raise ValueError(f"type {kind!r} of a tmpfiles.d line is not supported")
        info = found[name].info
        info.mode, info.uname, info.gname = int(mode, 8), user, group
    return list(found.values())


def tree(folder: Path) -> List[Member]:
    """The files below a folder"""
    return [
        file(str(path.relative_to(folder)), path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    ]


def packages(folder: Path) -> List[Own]:
    """All packages of one side"""
    found = []
    for name, about in json.loads((folder / "packages.json").read_text()).items():
        description, depends = about.pop("description"), about.pop("depends")
        version = about.pop("version", "1")
        conf = folder / f"{name}.conf"
        members = layout(
            conf.read_text() if conf.exists() else "", tree(folder / "trees" / name)
        )
        found.append(Own(name, description, depends, members, version, more=about))
    return found


def usable(own: Iterable[Own], names: Iterable[str]) -> List[Own]:
    """Those whose dependencies are there, given the names of Debian's packages"""
    candidates = list(own)
    while True:
        there = {*names, *(one.name for one in candidates)}
        kept = [one for one in candidates if there.issuperset(one.depends)]
        if len(kept) == len(candidates):
            return kept
        candidates = kept
