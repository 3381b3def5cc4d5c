import pytest

from dffml_operations_decentralice.errors import UserError
from dffml_operations_decentralice.overlays.mirror import archive, fetched

DEBIAN = "http://deb.debian.org/debian"
SECURITY = f"{DEBIAN}-security"


@pytest.mark.parametrize(
    "targets, expected",
    [
        (
            f"Debian|bookworm|{DEBIAN}\nDebian|bookworm-updates|{DEBIAN}\n"
            f"Debian|bookworm-security|{SECURITY}\n",
            (DEBIAN, SECURITY),
        ),
        # Other archives do not count, wherever they are in the list
        (f"Node|nodistro|https://deb.example\nDebian|trixie|{DEBIAN}", (DEBIAN, "")),
        ("Ubuntu|noble|http://archive.ubuntu.example/ubuntu", ("", "")),
        # Before the first `apt update`
        (f"|bookworm|{DEBIAN}", (DEBIAN, "")),
        ("", ("", "")),
    ],
)
def test_host_addresses(targets, expected):
    assert archive.host_addresses(targets) == expected


def test_sources():
    text = archive.sources(archive.Addresses(DEBIAN, SECURITY), "trixie")
    first, second = text.split("\n\n")
    assert f"URIs: {DEBIAN}\nSuites: trixie trixie-updates\n" in first
    assert f"URIs: {SECURITY}\nSuites: trixie-security\n" in second
    assert text.count(f"Signed-By: {archive.KEYRING}\n") == 2
    alone = archive.sources(archive.Addresses(DEBIAN, ""), "trixie")
    assert "security" not in alone


def test_status():
    text = archive.status({"debconf": ("debconf-2.0",), "perl": ()})
    debconf, perl = text.strip().split("\n\n")
    assert "Provides: debconf-2.0" in debconf
    assert "Provides" not in perl
    assert "Version: 99:" in perl


def test_proxies():
    dump = (
        'APT::Architecture "amd64";\n'
        'Acquire::http::Proxy "http://proxy.example:3128";\n'
        'Acquire::https::Proxy::deb.example "DIRECT";\n'
        'Acquire::http::Timeout "5";\nDir "/";\n'
    )
    first = 'Acquire::http::Proxy "http://proxy.example:3128";\n'
    assert archive.proxies(dump) == first + (
        'Acquire::https::Proxy::deb.example "DIRECT";\n'
    )


@pytest.mark.parametrize(
    "pattern, value, accepted",
    [
        (archive.SUITE, "trixie", True),
        (archive.SUITE, "bookworm-backports", True),
        (archive.SUITE, "../etc", False),
        (archive.SUITE, "a b", False),
        (archive.SUITE, "a\nTrusted: yes", False),
        (archive.PACKAGE, "libstdc++6", True),
        (archive.PACKAGE, "g++", True),
        (archive.PACKAGE, "dash-", False),
        (archive.PACKAGE, "-o", False),
        (archive.PACKAGE, "a=1", False),
        (archive.ADDRESS, DEBIAN, True),
        (archive.ADDRESS, "file:/srv/debian", True),
        (archive.ADDRESS, f"[trusted=yes] {DEBIAN}", False),
        (archive.ADDRESS, f"{DEBIAN}\nTrusted: yes", False),
        (archive.ADDRESS, "/srv/debian", False),
    ],
)
def test_checked(pattern, value, accepted):
    if accepted:
        assert archive.checked("setting", value, pattern) == value
    else:
        with pytest.raises(UserError, match="setting"):
            archive.checked("setting", value, pattern)


def test_packages_of():
    line = (
        "'http://deb.example/pool/main/p/passwd/passwd_4.17.4-2_amd64.deb'"
        f" passwd_1%3a4.17.4-2_amd64.deb 1320460 SHA256:{'0' * 64}\n"
    )
    weak = "'http://deb.example/a.deb' a_1_all.deb 1 MD5Sum:00\n"
    (package,) = fetched.packages_of(f"Reading package lists...\n{line}{weak}")
    assert package.size == 1320460
    record = fetched.record(package)
    assert (record["package"], record["version"]) == ("passwd", "1:4.17.4-2")
    assert record["uri"].startswith("http://deb.example/")
