import re
import tarfile

import pytest

from dffml_operations_decentralice.errors import UserError
from dffml_operations_decentralice.overlays.mirror import deb, own, wolfi

from .conftest import control, entry

# https://wiki.alpinelinux.org/wiki/APKBUILD_Reference#pkgver
GRAMMAR = re.compile(r"\d+(\.\d+)*-r\d+")


@pytest.mark.parametrize(
    "version, expected",
    [
        ("1.0-1", "1.0-r1"),
        ("257.13-1~deb13u1", "257.13-r1013001"),
        ("1:4.16.0-2+really2.41.5-0+deb13u1", "4.16.0-r2002041005000013"),
        ("2025.1", "2025.1-r0"),
        ("5.2.37-2+b10", "5.2.37-r2010"),
        ("6.5+20250216-2", "6.5-r20250216002"),
        ("1.9.16p2-3+deb13u5", "1.9.16-r2003013005"),
    ],
)
def test_apk_version(version, expected):
    found = wolfi.apk_version(version)
    assert GRAMMAR.fullmatch(found)
    assert found == expected[: len(found)]
    assert len(found.rpartition("-r")[2]) <= 15


@pytest.mark.parametrize("version", ["v1.0", "", "git20250101"])
def test_apk_version_refused(version):
    with pytest.raises(ValueError):
        wolfi.apk_version(version)


def test_meta_of(make_deb):
    bash = make_deb(
        control(
            "bash",
            "5.2.37-2+b10",
            Source="bash (5.2.37-2)",
            Description="GNU Bourne Again SHell",
            Depends="base-files (>= 2.1.12), debconf (>= 0.5) | debconf-2.0, libc6",
        )
    )
    provider = deb.provider_of([bash, make_deb(control("libc6"))])
    meta = wolfi.meta_of(bash, provider, "trixie")
    assert meta.file == "bash-5.2.37-r2010.apk"
    assert meta.depends == ["libc6", "wolfi-baselayout"]
    assert meta.origin == "bash"
    assert meta.purl == "pkg:deb/debian/bash@5.2.37-2%2Bb10?arch=amd64&distro=trixie"
    assert "5.2.37-2+b10" in meta.description
    with pytest.raises(UserError, match="does not begin with a number"):
        wolfi.meta_of(make_deb(control(version="x")), provider, "trixie")


def test_twins(make_deb):
    """Merging sbin into bin: the file wins over a link to it, whichever comes first"""
    iproute = make_deb(
        control("iproute2"),
        [
            entry("./usr/sbin/ip", type=tarfile.SYMTYPE, linkname="/usr/bin/ip"),
            entry("./usr/bin/ip", b"program", mode=0o755),
            entry("./usr/bin/ss", b"program", mode=0o755),
            entry("./usr/sbin/ss", type=tarfile.SYMTYPE, linkname="../bin/ss"),
        ],
    )
    found = {one.info.name: one for one in wolfi.members_of(iproute)}
    assert found["usr/bin/ip"].data == found["usr/bin/ss"].data == b"program"
    assert sorted(found) == ["usr/bin/ip", "usr/bin/ss"]


def test_certificates(make_deb):
    found = wolfi.certificates(
        make_deb(
            control("ca-certificates"),
            [
                entry("./usr/share/ca-certificates/b.crt", b"B\n\n"),
                entry("./usr/share/ca-certificates/a.crt", b"A"),
                entry("./usr/share/doc/README", b"no"),
            ],
        )
    )
    assert found.data == b"A\nB\n"


NAMES = "wolfi-baselayout wolfi-base systemd-init systemd-default-network sfdisk shadow"


@pytest.mark.parametrize("name", NAMES.split())
def test_own_packages(name):
    """Wolfi's names, which the flow's lists have"""
    packages = {one.name: one for one in own.packages(own_folder())}
    assert name in packages


def own_folder():
    from dffml_operations_decentralice.engine.step import FILES

    return FILES / "mirror/userspace"


def test_account_files():
    """Every account of one file is in the other"""
    base = next(o for o in own.packages(own_folder()) if o.name == wolfi.BASE)
    found = {one.info.name: one for one in base.members}

    def names(path):
        return [line.split(":")[0] for line in found[path].data.decode().splitlines()]

    assert names("etc/passwd") == names("etc/shadow")
    assert names("etc/group") == names("etc/gshadow")
    shadow = found["etc/shadow"].info
    assert (shadow.mode, shadow.uname, shadow.gname) == (0o640, "root", "shadow")
    assert b"root:*:" in found["etc/shadow"].data
