"""Settings of the root: what is refused, by whom, and the files that follow"""

import json
import os
import stat

import pytest

from dffml_operations_decentralice.engine.settings import SettingError, validated
from dffml_operations_decentralice.operations import configuration
from dffml_operations_decentralice.operations.configuration import (
    PRESETS,
    SSHD_FILE,
    SYSCTL_FILE,
    RootSettings,
    additions,
    check_tree,
    has_locale,
    has_unit,
    own_single,
    preset,
    texts,
    told,
    write_single,
)

from .keys import KEY

HASH = "$6$salt$" + "a" * 86
ETHERNET = {"name": "en*"}


def want(**values):
    return validated(RootSettings, values, "compose_root")


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"hostname": "a"},
        {"hostname": "wonderland-1"},
        {"hostname": "a" * 63},
        {"locale": "de_DE.UTF-8@euro"},
        {"locale": "C"},
        {"timezone": "Europe/Berlin"},
        {"timezone": "America/Argentina/Ushuaia"},
        {"timezone": "Etc/GMT+3"},
        {"keymap": "de-latin1"},
        {"root_ssh_keys": [KEY, KEY.rpartition(" ")[0]]},
        {"root_password_hash": HASH},
        {"root_password_hash": "$y$j9T$salt$hash./"},
        {"root_password_hash": "$2b$10$abc"},
        {"enable": ["sshd.service", "a@b-c.timer", "x.socket"]},
        {"mask": [], "disable": ["a.target"]},
        {"sysctl": {"net.ipv4.ip_forward": "1", "kernel/panic": "10"}},
        {"network": [{**ETHERNET, "address": ["fd00::1/64"], "gateway": ["fd00::2"]}]},
        {"write_files": {"/etc/x": {"content": "a\n", "mode": "0600"}}},
        {"ssh": {"enabled": True, "port": 2222}},
        {"containers": "podman"},
    ],
)
def test_settings(values):
    want(**values)


@pytest.mark.parametrize(
    "values, path",
    [
        *(({"hostname": value}, ("hostname",)) for value in ("", "-a", "a-", "A")),
        *(({"hostname": value}, ("hostname",)) for value in ("a.b", "a b", "a\n")),
        ({"hostname": "a" * 64}, ("hostname",)),
        *(({"locale": value}, ("locale",)) for value in ("", "C\nX=y", "german")),
        ({"locale": "de_DE.UTF-8/../x"}, ("locale",)),
        ({"timezone": "Europe/Wonderland"}, ("timezone",)),
        ({"timezone": ""}, ("timezone",)),
        ({"timezone": "../../etc/shadow"}, ("timezone",)),
        ({"timezone": "/etc/localtime"}, ("timezone",)),
        ({"keymap": "../de"}, ("keymap",)),
        ({"root_password_hash": HASH + ":0:0"}, ("root_password_hash",)),
        ({"root_password_hash": HASH + "\n"}, ("root_password_hash",)),
        ({"root_password_hash": "!"}, ("root_password_hash",)),
        ({"enable": ["sshd"]}, ("enable", 0)),
        ({"enable": ["a.service", "../x.service"]}, ("enable", 1)),
        ({"mask": ["a b.service"]}, ("mask", 0)),
        ({"disable": ["*"]}, ("disable", 0)),
        ({"enable": ["a.service"], "mask": ["a.service"]}, ("enable", 0)),
        ({"sysctl": {"swappiness": "1"}}, ("sysctl", "swappiness")),
        ({"sysctl": {"../../x": "1"}}, ("sysctl", "../../x")),
        ({"sysctl": {"vm.swappiness": "1\nkernel.x = 2"}}, ("sysctl", "vm.swappiness")),
        ({"sysctl": {"vm.swappiness": 1}}, ("sysctl",)),
        ({"network": [{}]}, ("network", 0)),
        ({"network": [{"name": "a b"}]}, ("network", 0, "name")),
        ({"network": [{"mac": "52:54:00"}]}, ("network", 0, "mac")),
        ({"network": [{**ETHERNET, "dhcp": False}]}, ("network", 0, "dhcp")),
        (
            {"network": [{**ETHERNET, "address": ["192.0.2.7"]}]},
            ("network", 0, "address", 0),
        ),
        (
            {"network": [{**ETHERNET, "gateway": ["192.0.2.1/24"]}]},
            ("network", 0, "gateway", 0),
        ),
        ({"network": [{**ETHERNET, "dns": ["dns.example"]}]}, ("network", 0, "dns", 0)),
        ({"ssh": {"port": 0}}, ("ssh", "port")),
        ({"ssh": {"enable": True}}, ("ssh",)),
        ({"containers": "docker"}, ("containers",)),
        ({"files": "/no/such/directory"}, ("files",)),
        ({"files": "/etc/passwd"}, ("files",)),
        ({"write_files": {"etc/x": {}}}, ("write_files", "etc/x")),
        ({"write_files": {"/etc/../../x": {}}}, ("write_files", "/etc/../../x")),
        ({"write_files": {"/etc/": {}}}, ("write_files", "/etc/")),
        ({"write_files": {"/x": {"mode": "rw"}}}, ("write_files", "/x", "mode")),
        ({"write_files": {"/x": {"mode": "4777x"}}}, ("write_files", "/x", "mode")),
        ({"write_files": {"/x": {"owner": "A"}}}, ("write_files", "/x", "owner")),
        ({"write_files": {"/x": {"source": "/none"}}}, ("write_files", "/x", "source")),
        (
            {"write_files": {"/x": {"source": "/etc/passwd", "content": "x"}}},
            ("write_files", "/x", "source"),
        ),
    ],
)
def test_refused_before_any_work(values, path):
    with pytest.raises(SettingError) as caught:
        want(**values)
    assert (caught.value.of, caught.value.path) == ("compose_root", path)
    assert caught.value.remedy


@pytest.mark.parametrize("to", ["/etc/passwd", "../../outside", "x/../../../y", "/"])
def test_links_that_lead_out_are_refused(tmp_path, to):
    (tmp_path / "files/etc").mkdir(parents=True)
    (tmp_path / "files/etc/link").symlink_to(to)
    with pytest.raises(SettingError, match="etc/link") as caught:
        want(files=str(tmp_path / "files"))
    assert caught.value.path == ("files",)


@pytest.mark.parametrize("to", ["../usr/lib/x", "x", "/dev/null", "../../files/../x"])
def test_links_that_stay_inside(tmp_path, to):
    (tmp_path / "files/etc/a").mkdir(parents=True)
    (tmp_path / "files/etc/a/link").symlink_to(to)
    want(files=str(tmp_path / "files"))


@pytest.fixture
def root(tmp_path):
    """A tree that has a little of everything"""
    units = ("a.service", "b@.service", "c.timer")
    files = [f"usr/lib/systemd/system/{unit}" for unit in units]
    files += [f"usr/bin/{name}" for name in ("sshd", "ssh-keygen", "loadkeys")]
    files += [f"usr/bin/{name}" for name in ("podman", "crun", "conmon")]
    files += ["usr/share/zoneinfo/Europe/Berlin", "usr/lib/locale/de_DE.utf8/LC_TIME"]
    files += ["usr/share/keymaps/i386/qwertz/de.kmap.gz"]
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch(0o755)
    masked = tmp_path / "etc/systemd/system/masked.service"
    masked.parent.mkdir(parents=True)
    masked.symlink_to("/dev/null")
    (tmp_path / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\nme:x:7:8::/:/bin/x\n")
    return tmp_path


FULL = {
    "enable": ["a.service", "b@1.service"],
    "disable": ["c.timer"],
    "locale": "de_DE.UTF-8",
    "timezone": "Europe/Berlin",
    "keymap": "de",
    "ssh": {"enabled": True},
    "containers": "podman",
}


def test_a_tree_that_has_all(root):
    check_tree(root, want(**FULL))


@pytest.mark.parametrize(
    "values, missing, path, remedy",
    [
        ({"enable": ["a.service", "x.service"]}, "", ("enable", 1), "add the package"),
        ({"disable": ["x.service"]}, "", ("disable", 0), "add the package"),
        ({"mask": ["masked.service"]}, "", ("mask", 0), "add the package"),
        ({"locale": "fr_FR.UTF-8"}, "", ("locale",), "glibc-locale"),
        (FULL, "usr/share/zoneinfo/Europe/Berlin", ("timezone",), "tzdata"),
        (FULL, "usr/share/keymaps/i386/qwertz/de.kmap.gz", ("keymap",), "kbd"),
        (FULL, "usr/bin/loadkeys", ("keymap",), "kbd"),
        (FULL, "usr/bin/sshd", ("ssh",), "openssh-server"),
        (FULL, "usr/bin/crun", ("containers",), "crun"),
    ],
)
def test_refused_by_the_tree(root, values, missing, path, remedy):
    if missing:
        (root / missing).unlink()
    with pytest.raises(SettingError) as caught:
        check_tree(root, want(**values))
    assert (caught.value.of, caught.value.path) == ("compose_root", path)
    assert remedy in caught.value.remedy


@pytest.mark.parametrize(
    "unit, there",
    [
        ("a.service", True),
        ("b@x.service", True),
        ("b@.service", True),
        ("a@x.service", False),
        ("masked.service", False),
    ],
)
def test_has_unit(root, unit, there):
    assert has_unit(root, unit) is there


@pytest.mark.parametrize(
    "name, there",
    [
        *(("C", True), ("POSIX", True), ("C.UTF-8", True), ("C.utf8", True)),
        *(("de_DE.UTF-8", True), ("de_DE.utf8", True), ("de_DE", False)),
        *(("de_DE.UTF-8@euro", False), ("fr_FR.UTF-8", False)),
    ],
)
def test_has_locale(root, name, there):
    assert has_locale(root, name) is there


def test_texts():
    given = want(
        hostname="wonderland",
        locale="C",
        keymap="de",
        sysctl={"vm.swappiness": "10"},
        ssh={"enabled": True, "port": 2222},
        network=[
            {"mac": "52:54:00:12:34:56"},
            {**ETHERNET, "dhcp": False, "address": ["192.0.2.7/24"]},
        ],
    )
    found = texts(given)
    assert found["etc/hostname"] == "wonderland\n"
    assert found["etc/locale.conf"] == "LANG=C\n"
    assert found["etc/vconsole.conf"] == "KEYMAP=de\n"
    assert found[SYSCTL_FILE] == "vm.swappiness = 10\n"
    assert found[SSHD_FILE].splitlines() == [
        *("Port 2222", "PermitRootLogin no", "PasswordAuthentication no")
    ]
    first = found["etc/systemd/network/10-settings.network"].splitlines()
    assert first[:5] == [
        *("[Match]", "MACAddress=52:54:00:12:34:56", "", "[Network]", "DHCP=yes")
    ]
    second = found["etc/systemd/network/11-settings.network"].splitlines()
    assert second[4:6] == ["DHCP=no", "Address=192.0.2.7/24"]


def test_nothing_asked_nothing_written():
    assert set(texts(want())) == {"etc/hostname", "etc/locale.conf", PRESETS}
    assert additions(want()) == []


def test_roots_keys_let_root_in():
    given = want(ssh={"enabled": True}, root_ssh_keys=[KEY])
    assert "PermitRootLogin prohibit-password" in texts(given)[SSHD_FILE]


def test_preset():
    lines = preset(want(enable=["a.service"], disable=["b.timer"])).splitlines()
    assert lines[1:] == ["enable a.service", "disable b.timer"]
    lines = preset(want(ssh={"enabled": True}, keymap="de")).splitlines()
    assert lines[1:] == ["enable sshd.service", "enable keymap.service"]


def test_what_settings_bring_is_there():
    """Each folder that `additions` may name"""
    folders = additions(want(**FULL))
    assert folders == ["ssh", "keymap", "containers"]
    files = configuration.__file__.rpartition("/operations/")[0]
    for name in folders:
        assert any(os.scandir(f"{files}/files/{name}"))


def test_single_files(root, tmp_path):
    source = tmp_path / "source"
    source.write_bytes(b"\0binary")
    (root / "etc/link").symlink_to("/etc/passwd")
    given = want(
        write_files={
            "/etc/new/x.conf": {"content": "late\n", "mode": "0600", "owner": "me"},
            "/etc/link": {"source": str(source)},
        }
    )
    write_single(root, given)
    new = root / "etc/new/x.conf"
    assert new.read_text() == "late\n"
    assert stat.S_IMODE(new.stat().st_mode) == 0o600
    # The link is replaced, and not followed
    assert not (root / "etc/link").is_symlink()
    assert (root / "etc/link").read_bytes() == b"\0binary"
    assert "root" in (root / "etc/passwd").read_text()
    if os.geteuid() == 0:
        own_single(root, given)
        assert (new.stat().st_uid, new.stat().st_gid) == (7, 8)


@pytest.mark.parametrize(
    "link, to, path",
    [
        ("out", "../..", "/out/x"),
        ("out", "/../outside", "/out/x"),
        ("loop", "loop", "/loop/x"),
    ],
)
def test_single_files_stay_inside(root, tmp_path, link, to, path):
    (root / link).symlink_to(to)
    with pytest.raises(SettingError, match="leads out") as caught:
        write_single(root, want(write_files={path: {"content": "x"}}))
    assert caught.value.path == ("write_files", path)


def test_a_single_file_is_no_directory(root):
    with pytest.raises(SettingError, match="directory"):
        write_single(root, want(write_files={"/etc/systemd": {}}))


def test_an_absolute_link_of_the_tree_stays_in_the_tree(root):
    (root / "srv").symlink_to("/etc")
    write_single(root, want(write_files={"/srv/x": {"content": "x"}}))
    assert (root / "etc/x").read_text() == "x"


def test_an_owner_who_is_not_there(root):
    given = want(write_files={"/etc/x": {"owner": "rabbit"}})
    write_single(root, given)
    with pytest.raises(SettingError, match="rabbit") as caught:
        own_single(root, given)
    assert caught.value.path == ("write_files", "/etc/x", "owner")


def test_told():
    """Everything but secrets"""
    given = want(
        root_password_hash=HASH,
        users=[{"name": "alice", "password_hash": HASH, "ssh_keys": [KEY]}],
        write_files={"/etc/x": {"content": "hunter2"}},
    )
    text = told(given)
    found = json.loads(text)["compose_root"]
    assert HASH not in text and "hunter2" not in text
    assert found["root_password_hash"] is True
    assert found["users"][0]["password_hash"] is True
    assert found["users"][0]["ssh_keys"] == [KEY]
    assert found["write_files"]["/etc/x"] == {
        "sha256": "f52fbd32b2b3b86ff88ef6c490628285f482af15ddcb29541f94bcf526a3f6c7",
        "mode": "0644",
        "owner": "root",
    }
    assert json.loads(told(want()))["compose_root"]["root_password_hash"] is False
