"""
Debian packages as Wolfi's: versions, dependencies, files
"""

from __future__ import annotations

import re
import urllib.parse
from typing import Dict, List, Tuple

from . import own
from .apk import Meta
from .deb import Deb, Member, chosen, members, unusable
from .layout import WOLFI

BASE = "wolfi-baselayout"  # every package needs it: it brings the layout's links

# There for dpkg's sake only (maintainer scripts, configuration questions), or replaced
# by packages of ours: apt takes them for installed. With what else they provide.
ASSUMED: Dict[str, Tuple[str, ...]] = {
    **dict.fromkeys(
        (
            *("adduser", "base-files", "base-passwd", "bsdutils", "dpkg", "gpgv"),
            *("init-system-helpers", "install-info", "libpam-runtime", "lsb-base"),
            *("linux-sysctl-defaults", "media-types", "netbase", "perl", "perl-base"),
            *("runit-helper", "sensible-utils", "sqv", "ucf"),
        ),
        (),
    ),
    "debconf": ("debconf-2.0",),
}
# What a program needs in practice and Debian has by being essential, or by alternatives
ALSO: Dict[str, List[str]] = {
    "bash": ["dash"],
    "podman": ["dbus-user-session"],
    "systemd": ["systemd-sysv"],
    "systemd-boot": ["systemd-boot-efi"],
}
ALTERNATIVES = {  # what update-alternatives would make
    "debianutils": {"usr/bin/which": "which.debianutils"},
    "mawk": {"usr/bin/awk": "mawk"},
}


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
