import pytest

from dffml_operations_decentralice.errors import UserError
from dffml_operations_decentralice.overlays.mirror.layout import (
    FEDORA,
    WOLFI,
    Claims,
)


@pytest.mark.parametrize(
    "layout, path, expected",
    [
        (WOLFI, "bin/ls", "usr/bin/ls"),
        (WOLFI, "sbin/init", "usr/bin/init"),
        (WOLFI, "usr/sbin/sshd", "usr/bin/sshd"),
        (WOLFI, "lib64/ld-linux-x86-64.so.2", "usr/lib/ld-linux-x86-64.so.2"),
        (WOLFI, "lib/x86_64-linux-gnu/libc.so.6", "usr/lib/x86_64-linux-gnu/libc.so.6"),
        (WOLFI, "usr/lib64", "usr/lib"),
        (WOLFI, "usr/libexec/foo", "usr/libexec/foo"),
        (WOLFI, "library/foo", "library/foo"),
        (WOLFI, "usr/bin/[", "usr/bin/["),
        (FEDORA, "sbin/init", "usr/sbin/init"),
        (FEDORA, "usr/sbin/sshd", "usr/sbin/sshd"),
        (FEDORA, "lib64/ld.so", "usr/lib64/ld.so"),
        (FEDORA, "usr/share/doc/x/copyright", "usr/share/licenses/x/copyright"),
    ],
)
def test_path(layout, path, expected):
    assert layout.path(path) == expected


@pytest.mark.parametrize(
    "path, kept",
    [
        ("usr/bin/ls", True),
        ("usr/share/doc/foo/copyright", True),
        ("usr/share/doc/foo/changelog.gz", False),
        ("usr/share/doc/foo", False),
        ("usr/share/man/man1/ls.1.gz", False),
        ("usr/share/manual", True),
        ("usr/lib/python3/a.pyc", False),
        ("etc/init.d/ssh", False),
        ("etc/inittab", True),
        ("usr/lib64", False),
        ("usr/sbin", False),
        ("var/run", False),
        ("var/running", True),
    ],
)
def test_keeps(path, kept):
    assert WOLFI.keeps(path) is kept


@pytest.mark.parametrize(
    "layout, path, link, expected",
    [
        (WOLFI, "usr/bin/a", "b", "b"),
        (WOLFI, "usr/bin/a", "/etc/alternatives/a", "/etc/alternatives/a"),
        (WOLFI, "usr/sbin/a", "../bin/a", "../bin/a"),
        (WOLFI, "usr/bin/a", "../sbin/b", "b"),
        # One level deeper than it was
        (WOLFI, "lib/a.so", "../usr/lib/b.so", "b.so"),
        (WOLFI, "sbin/a", "../etc/a", "../../etc/a"),
        (FEDORA, "lib/a", "x/b", "x/b"),
        (FEDORA, "lib64/ld.so", "../lib/x/ld.so", "../lib/x/ld.so"),
    ],
)
def test_target(layout, path, link, expected):
    assert layout.target(path, link) == expected


def test_claims():
    claims = Claims()
    claims.add("a", ["usr/bin/x", "usr/bin/y"])
    claims.add("b", ["usr/bin/z"])
    claims.check()
    claims.add("c", ["usr/bin/x"])
    with pytest.raises(UserError, match=r"/usr/bin/x \(a and c\)"):
        claims.check()
