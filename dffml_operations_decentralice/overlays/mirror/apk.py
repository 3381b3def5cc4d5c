"""
Packages in apk's second format, as Wolfi's are

Three gzip members, each a tar archive: the signature, ``.PKGINFO``, the files. These
carry their SHA-1 in PAX headers; ``.PKGINFO`` has the SHA-256 of the third member.
https://wiki.alpinelinux.org/wiki/Apk_spec
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import re
import tarfile
import zlib
from pathlib import Path
from typing import Any, BinaryIO, Dict, Iterable, List, Set, cast

from . import own
from .deb import Member

ARCH = "x86_64"
LEVEL = 1  # of gzip: 6 takes three times as long, and saves a tenth
EPOCH = own.EPOCH
GZIP = 31  # zlib's window bits for a gzip member


@dataclasses.dataclass
class Meta:
    """What .PKGINFO says about a package"""

    name: str
    version: str
    description: str
    origin: str
    depends: List[str]
    url: str = "https://www.debian.org/"
    license: str = "NOASSERTION"
    purl: str = ""

    @property
    def file(self) -> str:
        return f"{self.name}-{self.version}.apk"


def write(folder: Path, meta: Meta, found: Iterable[Member]) -> Set[str]:
    """
    Write an unsigned package; return the paths that it owns. apko's SBOM names only
    packages that bring a document of their own.
    """
    sbom = f"var/lib/db/sbom/{meta.name}-{meta.version}.spdx.json"
    text = json.dumps(spdx(meta), sort_keys=True).encode()
    entries = [*found, own.file(sbom, text)]
    data = _Gzip()
    file = cast(BinaryIO, data)
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for entry in with_parents(entries):
            _add(tar, entry)
    packed = data.finish()
    control = pkginfo(meta, data.size, hashlib.sha256(packed).hexdigest())
    with open(folder / meta.file, "wb") as out:
        out.write(_segment(".PKGINFO", control.encode()))
        out.write(packed)
    return {entry.info.name for entry in entries if not entry.info.isdir()}


def with_parents(entries: List[Member]) -> List[Member]:
    """Directories first, none missing: apko makes no parents"""
    names = {entry.info.name for entry in entries}
    parents = {str(parent) for name in names for parent in Path(name).parents}
    missing = map(own.directory, sorted(parents - names - {"."}))
    directories = [one for one in entries if one.info.isdir()]
    others = [one for one in entries if not one.info.isdir()]
    return sorted([*missing, *directories], key=lambda one: one.info.name) + others


def pkginfo(meta: Meta, size: int, datahash: str) -> str:
    """The text of .PKGINFO"""
    fields = [
        ("pkgname", meta.name),
        ("pkgver", meta.version),
        ("arch", ARCH),
        ("size", size),
        ("origin", meta.origin),
        ("pkgdesc", meta.description),
        ("url", meta.url),
        ("builddate", EPOCH),
        ("license", meta.license),
        *(("depend", name) for name in meta.depends),
        ("datahash", datahash),
    ]
    return "".join(f"{name} = {value}\n" for name, value in fields)


def spdx(meta: Meta) -> Dict[str, Any]:
    """The package's own SPDX document. https://spdx.github.io/spdx-spec/v2.3/"""
    ident = "SPDXRef-Package-" + re.sub(r"[^\w.-]", "-", f"{meta.name}-{meta.version}")
    unique = hashlib.sha256(meta.purl.encode()).hexdigest()
    namespace = f"{meta.name}-{meta.version}-{unique}"
    package: Dict[str, Any] = {
        "SPDXID": ident,
        "name": meta.name,
        "versionInfo": meta.version,
        "filesAnalyzed": False,
        "licenseConcluded": "NOASSERTION",
        "licenseDeclared": meta.license,
        "downloadLocation": "NOASSERTION",
        "supplier": "Organization: Debian" if meta.purl else "NOASSERTION",
    }
    if meta.purl:
        reference = ("PACKAGE-MANAGER", "purl", meta.purl)
        names = ("referenceCategory", "referenceType", "referenceLocator")
        package["externalRefs"] = [dict(zip(names, reference))]
    return {
        "SPDXID": "SPDXRef-DOCUMENT",
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "name": f"apk-{meta.name}-{meta.version}",
        "documentNamespace": f"https://spdx.org/spdxdocs/mirror/{namespace}",
        "creationInfo": {
            "created": "2026-01-01T00:00:00Z",
            "creators": ["Tool: dffml-operations-decentralice"],
        },
        "documentDescribes": [ident],
        "packages": [package],
        "relationships": [
            {
                "spdxElementId": "SPDXRef-DOCUMENT",
                "relationshipType": "DESCRIBES",
                "relatedSpdxElement": ident,
            }
        ],
    }


class _Gzip:
    """A file that packs what is written to it into one gzip member"""

    def __init__(self) -> None:
        self.size = 0
        self._packer = zlib.compressobj(LEVEL, wbits=GZIP)
        self._parts: List[bytes] = []

    def tell(self) -> int:
        return self.size

    def write(self, data: bytes) -> int:
        self.size += len(data)
        self._parts.append(self._packer.compress(data))
        return len(data)

    def finish(self) -> bytes:
        return b"".join([*self._parts, self._packer.flush()])


def _add(tar: tarfile.TarFile, entry: Member) -> None:
    info, data = entry
    summed = info.linkname.encode() if info.issym() else data
    if summed is not None:
        digest = hashlib.sha1(summed).hexdigest()
        info.pax_headers = {**info.pax_headers, "APK-TOOLS.checksum.SHA1": digest}
    info.uname, info.gname = info.uname or "root", info.gname or "root"
    info.mtime = int(info.mtime)
    tar.addfile(info, io.BytesIO(data) if data is not None else None)


def _segment(name: str, data: bytes) -> bytes:
    """
    A gzip member with a tar archive of one file, without the zeros at an archive's end:
    the archive goes on in the next member.
    """
    buffer, entry = io.BytesIO(), own.file(name, data)
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        tar.addfile(entry.info, io.BytesIO(data))
        end = tar.offset
    packer = zlib.compressobj(9, wbits=GZIP)
    return packer.compress(buffer.getvalue()[:end]) + packer.flush()
