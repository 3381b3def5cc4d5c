"""
Packages in apk's second format, as Wolfi's are

Three gzip members, each a tar archive: the signature, ``.PKGINFO``, the files. Files carry
their SHA-1 in PAX headers; ``.PKGINFO`` has the SHA-256 of the third member.
https://wiki.alpinelinux.org/wiki/Apk_spec
"""
from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import re
import tarfile
import urllib.parse
import zlib
from pathlib import Path
from typing import Any, Dict, Iterable, List, Set, Tuple

from . import own
from .deb import Deb, Member, chosen, members, unusable
from .layout import WOLFI

ARCH = "x86_64"
LEVEL = 1  # of gzip: 6 takes three times as long, and saves a tenth
BASE = "wolfi-baselayout"  # every package needs it: it brings the links of the layout
EPOCH = own.EPOCH
GZIP = 31  # zlib's window bits for a gzip member

# There for dpkg's sake only (maintainer scripts, configuration questions), or replaced
# by packages of ours: apt takes them for installed. With what else they provide.
ASSUMED: Dict[str, Tuple[str, ...]] = {
    **dict.fromkeys(
        (
            *("adduser", "base-files", "base-passwd", "bsdutils", "dpkg", "gpgv"),
            *("init-system-helpers", "install-info", "libpam-runtime", "lsb-base"),
            *("linux-sysctl-defaults", "media-types", "netbase", "perl", "perl-base"),
            *("runit-helper", "sensible-utils", "sqv", "tzdata", "ucf"),
        ),
        (),
    ),
    "debconf": ("debconf-2.0",),
}
# What a program needs in practice and Debian has by being essential, or by alternatives
ALSO: Dict[str, List[str]] = {
    "bash": ["dash"],
    "systemd": ["systemd-sysv"],
    "systemd-boot": ["systemd-boot-efi"],
}
ALTERNATIVES = {  # what update-alternatives would make
    "debianutils": {"usr/bin/which": "which.debianutils"},
    "mawk": {"usr/bin/awk": "mawk"},
}


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


def apk_version(version: str) -> str:
    """
    A version of Debian's in apk's grammar: upstream's leading dotted number; all other
    numbers, three digits each, are the release. Not order-preserving across ``~``.
    """
    upstream = re.sub(r"^\d+:", "", version)
    leading = re.match(r"\d+(\.\d+)*", upstream)
    if leading is None:
        raise ValueError(f"{version!r} does not begin with a number")
    rest = map(int, re.findall(r"\d+", upstream[leading.end() :]))
    digits = "".join(f"{number:03d}" for number in rest)[:15]
    return f"{leading[0]}-r{int(digits or '0')}"


def meta_of(deb: Deb, provider: Dict[str, str], suite: str) -> Meta:
    """What a package of Debian's is as one of Wolfi's"""
    try:
        version = apk_version(deb.version)
    except ValueError as error:
        raise unusable(deb.name, f"the version {error}") from None
    depends = {
        provider[relation.name]
        for relation in chosen(deb, provider, wanted)
        if relation.name in provider
    }
    depends.update(name for name in ALSO.get(deb.name, ()) if name in provider)
    quoted = urllib.parse.quote(deb.version, safe=":")
    arch = deb.fields.get("Architecture", "amd64")
    return Meta(
        name=deb.name,
        version=version,
        description=f"{deb.summary} [Debian {deb.version}]",
        origin=deb.fields.get("Source", deb.name).split()[0],
        depends=sorted({*depends, BASE} - {deb.name}),
        url=deb.fields.get("Homepage", "https://www.debian.org/"),
        purl=f"pkg:deb/debian/{deb.name}@{quoted}?arch={arch}&distro={suite}",
    )


def wanted(name: str) -> bool:
    """Whether a dependency is one on a package, not on what dpkg needs"""
    provided = {name for names in ASSUMED.values() for name in names}
    return name not in ASSUMED and name not in provided


def members_of(deb: Deb) -> List[Member]:
    """
    The package's files in Wolfi's layout. Merging sbin into bin makes twins
    (usr/sbin/ip -> usr/bin/ip): the file wins over the link.
    """
    found: Dict[str, Member] = {}
    for info, content in members(deb):
        path = info.name
        if not WOLFI.keeps(path):
            continue
        info.name = WOLFI.path(path)
        if info.issym():
            info.linkname = WOLFI.target(path, info.linkname)
        elif info.islnk():
            info.linkname = WOLFI.path(info.linkname)
        known = found.get(info.name)
        if known is None or (known.info.issym() and not info.issym()):
            found[info.name] = Member(info, content.read() if content else None)
    for path, to in ALTERNATIVES.get(deb.name, {}).items():
        found[path] = own.link(path, to)
    return list(found.values())


def certificates(deb: Deb) -> Member:
    """What update-ca-certificates makes of Debian's package of that name"""
    texts = {
        info.name: content.read().rstrip() + b"\n"
        for info, content in members(deb)
        if content and info.name.endswith(".crt")
    }
    bundle = b"".join(texts[name] for name in sorted(texts))
    return own.file("etc/ssl/certs/ca-certificates.crt", bundle)


def write(folder: Path, meta: Meta, found: Iterable[Member]) -> Set[str]:
    """
    Write an unsigned package; return the paths that it owns. apko's SBOM names a package
    only if it brings a document of its own.
    """
    sbom = f"var/lib/db/sbom/{meta.name}-{meta.version}.spdx.json"
    text = json.dumps(spdx(meta), sort_keys=True).encode()
    entries = [*found, own.file(sbom, text)]
    data = _Gzip()
    with tarfile.open(fileobj=data, mode="w", format=tarfile.PAX_FORMAT) as tar:  # type: ignore
        for entry in with_parents(entries):
            _add(tar, entry)
    packed = data.finish()
    control = pkginfo(meta, data.size, hashlib.sha256(packed).hexdigest())
    with open(folder / meta.file, "wb") as file:
        file.write(_segment(".PKGINFO", control.encode()))
        file.write(packed)
    return {entry.info.name for entry in entries if not entry.info.isdir()}


def with_parents(entries: List[Member]) -> List[Member]:
    """Directories first, none missing: apko makes no parents"""
    names = {entry.info.name for entry in entries}
    parents = {str(parent) for name in names for parent in Path(name).parents}
    missing = map(own.directory, sorted(parents - names - {"."}))
    return sorted(
        [*missing, *entries],
        key=lambda one: (not one.info.isdir(), one.info.name if one.info.isdir() else ""),
    )


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
    namespace = f"{meta.name}-{meta.version}-{hashlib.sha256(meta.purl.encode()).hexdigest()}"
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
    digest = {} if summed is None else {"APK-TOOLS.checksum.SHA1": hashlib.sha1(summed).hexdigest()}
    info.pax_headers = {**info.pax_headers, **digest}
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
