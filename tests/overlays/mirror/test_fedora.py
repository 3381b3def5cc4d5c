import pytest

from dffml_operations_decentralice.overlays.mirror import deb, fedora

from .conftest import control


@pytest.mark.parametrize(
    "version, parts, text",
    [
        ("2.36-9+deb12u14", ("", "2.36", "9+deb12u14"), "2.36-9+deb12u14"),
        ("1:1.2.13.dfsg-1", ("1", "1.2.13.dfsg", "1"), "1:1.2.13.dfsg-1"),
        ("5.2.15-2+b13", ("", "5.2.15", "2+b13"), "5.2.15-2+b13"),
        ("1.0-rc1-2", ("", "1.0.rc1", "2"), "1.0.rc1-2"),
        ("252.39-1~deb12u2", ("", "252.39", "1~deb12u2"), "252.39-1~deb12u2"),
        ("20230311", ("", "20230311", "1"), "20230311"),
    ],
)
def test_evr(version, parts, text):
    assert fedora.evr(version) == parts
    assert fedora.evr_text(version) == text


@pytest.mark.parametrize(
    "debian, version, expected",
    [
        (">>", "2.36", ">="),
        (">>", "2.36-1", ">"),
        ("<<", "2.37", "<"),
        ("<<", "2.37-1", "<"),
        (">=", "1", ">="),
        ("=", "1-1", "="),
    ],
)
def test_operator(debian, version, expected):
    assert fedora.operator(debian, version) == expected


@pytest.fixture
def names(make_deb):
    debs = [
        make_deb(control("udev", Depends="libc6 (>> 2.36), libc6 (<< 2.37), adduser")),
        make_deb(control("libc6", "2.36-9", Depends="libgcc-s1")),
        make_deb(control("libgcc-s1", "12.2.0-14")),
        make_deb(control("data", Architecture="all", Depends="udev (= 1.0-1)")),
    ]
    called = {"udev": "systemd-udev", "libc6": "glibc", "libgcc-s1": "libgcc"}
    found = fedora.names_of(debs, deb.provider_of(debs), called, ["filesystem"])
    return {one.name: one for one in debs}, found


@pytest.mark.parametrize(
    "package, expected",
    [
        ("udev", ["glibc", "glibc < 2.37", "glibc >= 2.36"]),
        ("libc6", ["filesystem", "libgcc", "setup"]),
        ("data", ["filesystem", "systemd-udev = 1.0-1"]),
    ],
)
def test_requires(names, package, expected):
    debs, found = names
    assert fedora.requires(debs[package], found) == expected


def test_provides(names):
    debs, found = names
    assert fedora.provides(debs["udev"], found) == ["udev = 1.0-1"]
    assert fedora.provides(debs["data"], found) == []
