"""Users and groups: what is refused, and the lines that are written"""

import os
import stat

import pytest

from dffml_operations_decentralice.engine.settings import SettingError, validated
from dffml_operations_decentralice.operations import accounts
from dffml_operations_decentralice.operations.accounts import (
    Database,
    key_problem,
    numbered,
    set_accounts,
    sudoers,
)
from dffml_operations_decentralice.operations.configuration import RootSettings

from .keys import KEY, public_key

HASH = "$6$salt$" + "a" * 86
EPOCH = 1767225600
DAYS = 20454  # since 1970


def want(**values):
    return validated(RootSettings, values, "compose_root")


def users(*given):
    return want(users=list(given)).users


@pytest.fixture
def root(tmp_path):
    """As much of a tree as accounts need"""
    texts = {
        "etc/passwd": "root:x:0:0:root:/root:/bin/bash\ndaemon:x:1:1::/:/bin/false\n",
        "etc/group": "root:x:0:\ndaemon:x:1:\nvideo:x:44:\nshadow:x:42:\n",
        "etc/shadow": "root::0::::::\ndaemon:!:0::::::\n",
        "etc/gshadow": "root:*::\ndaemon:*::\nvideo:!::\nshadow:*::\n",
        "etc/sudoers": "root ALL=(ALL:ALL) ALL\n",
        "etc/skel/.config/systemd/user/ssi-service.socket": "[Socket]\n",
        "usr/bin/bash": "#!",
        "usr/bin/sudo": "#!",
    }
    for name, text in texts.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755 if name.startswith("usr/bin") else 0o640)
    (tmp_path / "bin").symlink_to("usr/bin")
    for name in ("home", "root"):
        (tmp_path / name).mkdir()
    return tmp_path


def lines(root, name):
    return (root / "etc" / name).read_text().splitlines()


@pytest.mark.parametrize(
    "key",
    [
        KEY,
        public_key(comment=""),
        public_key(comment="two words"),
        public_key("sk-ssh-ed25519@openssh.com"),
        public_key("ecdsa-sha2-nistp256"),
        public_key("ssh-rsa", key=b"\1" * 257),
    ],
)
def test_keys(key):
    assert key_problem(key) == ""


@pytest.mark.parametrize(
    "key, said",
    [
        ("", "type base64"),
        ("me@example.org", "type base64"),
        (f'command="x" {KEY}', "type base64"),
        (f"{KEY}\nssh-rsa AAAA", "type base64"),
        ("ssh-ed25519", "type base64"),
        ("ssh-ed25519 AAAA=A", "type base64"),
        ("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ me", "cut short or damaged"),
        (KEY.replace(" me@", "AAAA me@"), "cut short or damaged"),
        ("ssh-ed25519 AAAA", "cut short or damaged"),
        (public_key("ssh-rsa", "ssh-ed25519"), "says 'ssh-ed25519', but is 'ssh-rsa'"),
        (public_key(key=b""), "no key"),
    ],
)
def test_keys_that_are_refused(key, said):
    assert said in key_problem(key)


ALICE = {"name": "alice"}
REFUSED = [
    ({"users": [{"name": ""}]}, ("users", 0, "name"), "must match"),
    ({"users": [{"name": "Alice"}]}, ("users", 0, "name"), "must match"),
    ({"users": [{"name": "a:b"}]}, ("users", 0, "name"), "must match"),
    ({"users": [{"name": "a\n"}]}, ("users", 0, "name"), "must match"),
    ({"users": [{"name": "root"}]}, ("users", 0, "name"), "root_password_hash"),
    ({"users": [{}]}, ("users", 0), "name"),
    ({"users": [ALICE, ALICE]}, ("users", 1, "name"), "users.0.name"),
    ({"users": [ALICE], "groups": [ALICE]}, ("groups", 0, "name"), "users.0.name"),
    (
        {"users": [{**ALICE, "uid": 1001}, {"name": "bob", "uid": 1001}]},
        ("users", 1, "uid"),
        "is 1001, as users.0.uid is",
    ),
    (
        {"users": [{**ALICE, "gid": 7}], "groups": [{"name": "tea", "gid": 7}]},
        ("groups", 0, "gid"),
        "as users.0.gid is",
    ),
    (
        {"users": [{**ALICE, "home": "/srv"}, {"name": "bob", "home": "/srv"}]},
        ("users", 1, "home"),
        "as users.0.home is",
    ),
    ({"users": [{**ALICE, "uid": 0}]}, ("users", 0, "uid"), "1 or more"),
    ({"users": [{**ALICE, "uid": 65534}]}, ("users", 0, "uid"), "60000 or less"),
    ({"users": [{**ALICE, "uid": "7"}]}, ("users", 0, "uid"), "whole number"),
    ({"users": [{**ALICE, "gecos": "a:b"}]}, ("users", 0, "gecos"), "must match"),
    ({"users": [{**ALICE, "shell": "bash"}]}, ("users", 0, "shell"), "absolute"),
    ({"users": [{**ALICE, "shell": "/a:b"}]}, ("users", 0, "shell"), "`:`"),
    ({"users": [{**ALICE, "home": "/a/../.."}]}, ("users", 0, "home"), "leads out"),
    ({"users": [{**ALICE, "groups": ["a b"]}]}, ("users", 0, "groups", 0), "match"),
    ({"users": [{**ALICE, "ssh_keys": ["x"]}]}, ("users", 0, "ssh_keys", 0), "type"),
    (
        {"users": [{**ALICE, "password_hash": "hunter2"}]},
        ("users", 0, "password_hash"),
        "crypt(5)",
    ),
    ({"users": [{**ALICE, "sudo": True}]}, ("users", 0, "sudo"), "not there"),
    ({"users": [{**ALICE, "shel": "/x"}]}, ("users", 0), "did you mean 'shell'"),
    ({"groups": [{"name": "tea", "gid": 0}]}, ("groups", 0, "gid"), "1 or more"),
    ({"root_password_hash": "hunter2"}, ("root_password_hash",), "crypt(5)"),
    ({"root_ssh_keys": ["x"]}, ("root_ssh_keys", 0), "type base64"),
]


@pytest.mark.parametrize("values, path, said", REFUSED)
def test_refused_before_any_work(values, path, said):
    with pytest.raises(SettingError) as caught:
        want(**values)
    assert (caught.value.of, caught.value.path) == ("compose_root", path)
    assert said in "\n".join(caught.value.lines())
    assert "hunter2" not in "\n".join(caught.value.lines())


@pytest.mark.parametrize(
    "values, path, said",
    [
        ({**ALICE, "shell": "/bin/fish"}, ("users", 0, "shell"), "/bin/fish"),
        ({**ALICE, "shell": "/etc/passwd"}, ("users", 0, "shell"), "has not"),
        ({**ALICE, "shell": "/bin"}, ("users", 0, "shell"), "has not"),
        ({**ALICE, "groups": ["tea"]}, ("users", 0, "groups", 0), "'tea'"),
        ({"name": "daemon"}, ("users", 0, "name"), "package"),
        ({"name": "video"}, ("users", 0, "name"), "package"),
        ({**ALICE, "uid": 1}, ("users", 0, "uid"), "package"),
        ({**ALICE, "gid": 44}, ("users", 0, "gid"), "package"),
        (
            {**ALICE, "sudo": True, "sudo_password": False},
            ("users", 0, "sudo"),
            "add the package sudo",
        ),
    ],
)
def test_refused_by_the_tree(root, values, path, said):
    (root / "usr/bin/sudo").unlink()
    before = lines(root, "passwd")
    with pytest.raises(SettingError) as caught:
        set_accounts(root, want(users=[values]), EPOCH)
    assert (caught.value.of, caught.value.path) == ("compose_root", path)
    assert said in "\n".join(caught.value.lines())
    assert lines(root, "passwd") == before


def test_a_shell_whose_link_leads_out_is_none(root):
    (root / "usr/bin/sh").symlink_to("../../../../../../../../bin/sh")
    with pytest.raises(SettingError, match="/bin/sh"):
        set_accounts(root, want(users=[{**ALICE, "shell": "/bin/sh"}]), EPOCH)


def test_numbers():
    given = users({"name": "a"}, {"name": "b", "uid": 1001, "gid": 7}, {"name": "c"})
    groups = want(groups=[{"name": "g"}, {"name": "h", "gid": 1002}]).groups
    made = numbered(given, groups, {0, 1000}, {0, 1003})
    assert [(one.uid, one.gid) for one in made.users] == [
        *((1004, 1004), (1001, 7), (1005, 1005))
    ]
    assert made.groups == {"g": 1000, "h": 1002}
    assert [one.subid for one in made.users] == [100000, 165536, 231072]


def test_lines(root):
    alice = {
        **ALICE,
        "uid": 1234,
        "gecos": "Alice Liddell",
        "password_hash": HASH,
        "groups": ["tea", "video"],
    }
    values = {"users": [alice, {"name": "bob"}], "groups": [{"name": "tea"}]}
    set_accounts(root, want(**values), EPOCH)
    assert lines(root, "passwd")[2:] == [
        "alice:x:1234:1234:Alice Liddell:/home/alice:/bin/bash",
        "bob:x:1000:1000::/home/bob:/bin/bash",
    ]
    assert lines(root, "shadow") == [
        "root:!*:0::::::",
        "daemon:!:0::::::",
        f"alice:{HASH}:{DAYS}:0:99999:7:::",
        f"bob:*:{DAYS}:0:99999:7:::",
    ]
    assert lines(root, "group") == [
        *("root:x:0:", "daemon:x:1:", "video:x:44:alice", "shadow:x:42:"),
        *("alice:x:1234:", "bob:x:1000:", "tea:x:1001:alice"),
    ]
    assert "tea:!::alice" in lines(root, "gshadow")
    assert lines(root, "subuid") == ["alice:100000:65536", "bob:165536:65536"]
    assert lines(root, "subgid") == lines(root, "subuid")
    for name in ("passwd", "shadow", "group", "gshadow"):
        mode = stat.S_IMODE((root / "etc" / name).stat().st_mode)
        assert mode == 0o640, name
    assert not (root / accounts.SUDOERS).exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files to others")
def test_homes(root):
    alice = {**ALICE, "uid": 1234, "gid": 1235, "ssh_keys": [KEY]}
    set_accounts(root, want(users=[alice]), EPOCH)
    home = root / "home/alice"
    unit = home / ".config/systemd/user/ssi-service.socket"
    assert unit.read_text() == "[Socket]\n"
    assert (home / ".ssh/authorized_keys").read_text() == f"{KEY}\n"
    for path in (home, *home.rglob("*")):
        assert (path.stat().st_uid, path.stat().st_gid) == (1234, 1235), path
    modes = {".": 0o700, ".ssh": 0o700, ".ssh/authorized_keys": 0o600}
    for name, mode in modes.items():
        assert stat.S_IMODE((home / name).stat().st_mode) == mode, name
    assert (root / "etc/skel/.config").stat().st_uid == 0


@pytest.mark.parametrize("given, expected", [("", "!*"), (HASH, HASH)])
def test_roots_password(root, given, expected):
    set_accounts(root, want(root_password_hash=given), EPOCH)
    assert lines(root, "shadow") == [f"root:{expected}:0::::::", "daemon:!:0::::::"]
    assert stat.S_IMODE((root / "etc/shadow").stat().st_mode) == 0o640
    assert not list((root / "root").iterdir())
    assert not (root / "etc/subuid").exists()


def test_roots_keys(root):
    set_accounts(root, want(root_ssh_keys=[KEY]), EPOCH)
    keys = root / "root/.ssh/authorized_keys"
    assert keys.read_text() == f"{KEY}\n"
    assert stat.S_IMODE(keys.stat().st_mode) == 0o600
    assert stat.S_IMODE(keys.parent.stat().st_mode) == 0o700


def test_sudoers():
    given = users(
        {"name": "a", "sudo": True, "password_hash": HASH},
        {"name": "b", "sudo": True, "sudo_password": False},
        {"name": "c"},
    )
    assert sudoers(given).splitlines() == [
        "a ALL=(ALL:ALL) ALL",
        "b ALL=(ALL:ALL) NOPASSWD: ALL",
    ]


def test_sudoers_file(root):
    set_accounts(root, want(users=[{**ALICE, "sudo": True, "sudo_password": False}]), 0)
    path = root / accounts.SUDOERS
    assert stat.S_IMODE(path.stat().st_mode) == 0o440
    assert stat.S_IMODE((root / "etc/sudoers").stat().st_mode) == 0o440


def test_a_file_of_lines(tmp_path):
    (tmp_path / "group").write_text("a:x:1:\n\nb:x:2:a,c\n")
    file = Database(tmp_path / "group")
    assert (file.names(), file.numbers()) == ({"a", "b"}, {1, 2})
    file.row("a")[3] = "c"
    file.write()
    assert (tmp_path / "group").read_text() == "a:x:1:c\nb:x:2:a,c\n"
