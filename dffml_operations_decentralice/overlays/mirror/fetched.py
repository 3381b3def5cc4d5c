"""
Debian packages in a folder, with ``debs.json``: what each is, from where, which hash
"""

from __future__ import annotations

import json
import re
import urllib.parse
from pathlib import Path
from typing import Any, Dict, Iterable, List, NamedTuple

from ...engine.digest import sha256
from ...errors import SignatureError
from .deb import Deb, read

LIST = "debs.json"
URI = re.compile(
    r"'(?P<uri>[^']+)' (?P<file>\S+) (?P<size>\d+) SHA256:(?P<sha256>[0-9a-f]{64})"
)


class Package(NamedTuple):
    """A package as apt names it, and as the list of what was fetched has it"""

    uri: str
    file: str
    size: int
    sha256: str


def packages_of(uris: str) -> List[Package]:
    """The packages that `apt-get --print-uris` names"""
    found = filter(None, map(URI.match, uris.splitlines()))
    return [
        Package(match["uri"], match["file"], int(match["size"]), match["sha256"])
        for match in found
    ]


def record(package: Package) -> Dict[str, Any]:
    """A package for the list of packages, by its file's name"""
    name, version, _ = urllib.parse.unquote(package.file).rsplit("_", 2)
    return {"package": name, "version": version, **package._asdict()}


def verify(folder: Path, packages: Iterable[Package]) -> None:
    """Refuse a folder in which a file is not what Debian's index says"""
    for package in packages:
        if sha256(folder / package.file) != package.sha256:
            raise SignatureError(
                f"{package.file} does not have the hash that Debian's index gives",
                remedy="fetch it again; if it stays so, use another `archive`",
            )


def write_list(folder: Path, packages: Iterable[Package], **more: Any) -> None:
    """``debs.json``: what is in the folder, from where, with which hash"""
    document = {**more, "packages": [record(package) for package in packages]}
    text = json.dumps(document, indent=1, sort_keys=True) + "\n"
    (folder / LIST).write_text(text)


def read_list(folder: Path) -> Dict[str, Any]:
    """``debs.json``, after a comparison of the files with it"""
    document = json.loads((folder / LIST).read_text())
    names = Package._fields
    verify(folder, (Package(*map(one.get, names)) for one in document["packages"]))
    return document


def read_all(folder: Path, listed: Dict[str, Any]) -> List[Deb]:
    """The packages of a folder"""
    return [read(folder / one["file"]) for one in listed["packages"]]
