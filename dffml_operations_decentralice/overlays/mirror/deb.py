"""
Reading Debian packages

An ``ar`` archive of ``debian-binary``, ``control.tar.*`` and ``data.tar.*``.
https://manpages.debian.org/deb.5, https://manpages.debian.org/deb-control.5
"""

from __future__ import annotations

import dataclasses
import gzip
import io
import lzma
import re
import tarfile
from pathlib import Path
from typing import (
    BinaryIO,
    Callable,
    Dict,
    FrozenSet,
    Iterable,
    Iterator,
    List,
    NamedTuple,
    Optional,
    Tuple,
    cast,
)

from ...errors import UserError

AR_MAGIC = b"!<arch>\n"
AR_HEADER = 60  # bytes: name 16, time 12, uid 6, gid 6, mode 8, size 10, magic 2
BLOCK = 1 << 20
STREAM = 1 << 15  # bytes that tarfile asks for at once
PACKED: Dict[bytes, Callable[[BinaryIO], object]] = {
    b"\xfd7zXZ\0": lzma.open,
    b"\x1f\x8b": gzip.open,
}

RELATION = re.compile(
    r"\s*([a-z0-9][\w.+-]*)(?::\w+)?\s*(?:\(\s*(<<|<=|=|>=|>>)\s*([^)\s]+)\s*\))?"
    r"\s*(?:\[[^]]*\])?\s*$"
)


class Relation(NamedTuple):
    """One alternative of a dependency: ``name (operator version)``"""

    name: str
    operator: str
    version: str


class Member(NamedTuple):
    """A file of a package: its path is ``info.name``, without a leading slash"""

    info: tarfile.TarInfo
    data: Optional[bytes]


@dataclasses.dataclass(frozen=True)
class Deb:
    """A package: where it is, its control fields, its configuration files"""

    path: Path
    fields: Dict[str, str]
    configuration: FrozenSet[str]

    @property
    def name(self) -> str:
        return self.fields["Package"]

    @property
    def version(self) -> str:
        return self.fields["Version"]

    @property
    def architecture(self) -> str:
        return self.fields.get("Architecture", "amd64")

    @property
    def summary(self) -> str:
        return self.fields.get("Description", self.name).partition("\n")[0]

    def depends(self) -> List[List[Relation]]:
        """All that must be there, each as its alternatives"""
        fields = (self.fields.get("Pre-Depends"), self.fields.get("Depends"))
        return [relations(one, "|") for one in split(fields, ",")]

    def provides(self) -> List[Relation]:
        """Names that it stands for"""
        return relations(self.fields.get("Provides", ""), ",")


def split(texts: Iterable[Optional[str]], separator: str) -> List[str]:
    """The parts of all texts, without those that are empty"""
    parts = (part.strip() for text in texts for part in (text or "").split(separator))
    return [part for part in parts if part]


def relations(text: str, separator: str) -> List[Relation]:
    """Relations of a control field; `UserError` if one cannot be read"""
    found = []
    for part in split([text], separator):
        match = RELATION.match(part)
        if match is None:
            raise unusable(text, f"the relation {part!r} cannot be read")
        found.append(Relation(match[1], match[2] or "", match[3] or ""))
    return found


def control_fields(text: str) -> Dict[str, str]:
    """The fields of one stanza; continuation lines keep their line breaks"""
    fields: Dict[str, str] = {}
    name = ""
    for line in filter(None, text.splitlines()):
        if line[0] in " \t":
            fields[name] += "\n" + line.strip()
        else:
            name, _, value = line.partition(":")
            fields[name] = value.strip()
    return fields


def read(path: Path) -> Deb:
    """A package without its files"""
    found: Dict[str, str] = {}
    with open(path, "rb") as file, unpacked(file, "control.tar", path) as tar:
        for info in tar:
            content = tar.extractfile(info) if info.isfile() else None
            if content is not None:
                name = info.name.rpartition("/")[2]
                found[name] = content.read().decode("utf-8", "replace")
    if "control" not in found:
        raise unusable(path.name, "it has no control file")
    # A line may carry a flag after the path (remove-on-upgrade before it)
    lines = (line.split() for line in found.get("conffiles", "").splitlines())
    paths = (word for words in lines for word in words if word.startswith("/"))
    return Deb(path, control_fields(found["control"]), frozenset(paths))


def members(deb: Deb) -> Iterator[Tuple[tarfile.TarInfo, Optional[BinaryIO]]]:
    """
    Every entry of the package, in order, its path without leading ``./``. A file's
    content must be read before the next entry is asked for.
    """
    with open(deb.path, "rb") as file, unpacked(file, "data.tar", deb.path) as tar:
        for info in tar:
            info.name = inside(info.name, deb.name)
            if info.islnk():
                info.linkname = inside(info.linkname, deb.name)
            elif not (info.isdir() or info.issym() or info.isfile()):
                raise unusable(deb.name, f"{info.name} is no file, link or directory")
            if info.name:
                content = tar.extractfile(info) if info.isfile() else None
                yield info, cast(Optional[BinaryIO], content)


def inside(name: str, package: str) -> str:
    """A path without leading ``./``; one that leads elsewhere is refused"""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise unusable(package, f"the path {name!r} leads out of it")
    return "/".join(parts)


def unpacked(file: BinaryIO, prefix: str, path: Path) -> tarfile.TarFile:
    """The tar archive which the member of a package is, whatever packs it"""
    if file.read(len(AR_MAGIC)) != AR_MAGIC:
        raise unusable(path.name, "it is no ar archive")
    while True:
        header = file.read(AR_HEADER)
        if len(header) != AR_HEADER or header[58:] != b"`\n":
            raise unusable(path.name, f"it has no {prefix}")
        size = int(header[48:58])
        if header[:16].decode("ascii").strip().startswith(prefix):
            content = decompressed(file.read(size), path)
            return tarfile.open(fileobj=content, mode="r|", bufsize=STREAM)
        file.seek(size + size % 2, io.SEEK_CUR)


def decompressed(data: bytes, path: Path) -> BinaryIO:
    """
    What a member holds, as a stream. Not by tarfile itself, whose streams copy all that
    is decompressed and not yet read at every read.
    """
    for magic, opener in PACKED.items():
        if data.startswith(magic):
            return cast(BinaryIO, opener(io.BytesIO(data)))
    raise unusable(path.name, "it is packed neither by xz nor by gzip")


def provider_of(debs: Iterable[Deb]) -> Dict[str, str]:
    """Which package stands for each name: itself, else the first that provides it"""
    ordered = sorted(debs, key=lambda deb: deb.name)
    found = {deb.name: deb.name for deb in ordered}
    for deb in ordered:
        for relation in deb.provides():
            found.setdefault(relation.name, deb.name)
    return found


def chosen(
    deb: Deb, provider: Dict[str, str], wanted: Callable[[str], bool]
) -> Iterator[Relation]:
    """Of each dependency the alternative that is there; apt chose a closure"""
    for alternatives in deb.depends():
        for relation in alternatives:
            if relation.name in provider or not wanted(relation.name):
                yield relation
                break
        else:
            names = " | ".join(relation.name for relation in alternatives)
            raise unusable(deb.name, f"nothing provides {names}")


def unusable(package: str, why: str) -> UserError:
    """A package that no other format can carry"""
    return UserError(
        f"the Debian package {package} cannot be converted: {why}",
        remedy="leave it out of the setting `packages`, or report it",
    )
