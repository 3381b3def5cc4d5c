"""What must be seen of settings: the table, and its commands where they run here too"""

import dataclasses
import json
import os
import subprocess

import pytest

from dffml_operations_decentralice.engine.settings import validated
from dffml_operations_decentralice.operations.configuration import RootSettings, told
from dffml_operations_decentralice.vm.expectations import (
    ABSENT,
    PARTITIONS,
    ROOT,
    TOLD,
    Expectation,
    compare,
    of_disk,
    of_file,
    of_kernel,
    of_packages,
    of_root,
    read,
    utc_offset,
)

from ..operations.keys import KEY

HASH = "$6$salt$hash"
FULL = {
    "hostname": "wonderland",
    "locale": "de_DE.UTF-8",
    "timezone": "Europe/Berlin",
    "keymap": "de",
    "root_password_hash": HASH,
    "root_ssh_keys": [KEY],
    "users": [
        {
            "name": "alice",
            "uid": 1234,
            "gecos": "Alice",
            "password_hash": HASH,
            "ssh_keys": [KEY],
            "groups": ["tea", "video"],
            "home": "/srv/it's",
            "sudo": True,
        },
        {"name": "bob", "sudo": True, "sudo_password": False},
    ],
    "groups": [{"name": "tea"}, {"name": "cake", "gid": 77}],
    "network": [
        {"name": "lo", "address": ["127.0.0.1/8"], "dns": ["192.0.2.1"]},
        {"mac": "52:54:00:AB:CD:EF", "gateway": ["192.0.2.1"]},
    ],
    "sysctl": {"kernel.ostype": "Linux", "net/ipv4/conf/eth0.1/mtu": "9"},
    "ssh": {"enabled": True, "port": 2222},
    "containers": "podman",
    "enable": ["a.service"],
    "disable": ["b.service", "c.timer"],
    "mask": ["d.service"],
    "write_files": {"/etc/x y": {"content": "x", "mode": "0600", "owner": "alice"}},
}


def expected(tmp_path=None, **values):
    """By setting, without the operation's name"""
    settings = json.loads(told(validated(RootSettings, values)))["compose_root"]
    return {one.setting.partition(".")[2]: one for one in of_root(settings)}


def sh(command):
    done = subprocess.run(
        ["sh", "-c", command],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "LC_ALL": "C"},
        text=True,
    )
    return done.stdout.strip()


def test_each_setting_has_its_row():
    assert set(ROOT) == {one.name for one in dataclasses.fields(RootSettings)}


def test_of_each_setting_something_is_seen(tmp_path):
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/motd").write_text("x")
    found = expected(**FULL, files=str(tmp_path))
    assert {name.partition(".")[0].partition("[")[0] for name in found} == set(ROOT)


def test_of_what_is_not_set_nothing_is_asked():
    """The default image is not kept waiting"""
    names = ["hostname", "locale", "timezone", "root_password_hash"]
    assert list(expected()) == names


def test_commands_are_shell(tmp_path):
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/a 'b'").write_text("x")
    commands = [one.command for one in expected(**FULL, files=str(tmp_path)).values()]
    commands += [one.command for one in of_kernel("6.1", "quiet resume=x")]
    for command in (*commands, PARTITIONS):
        checked = subprocess.run(["sh", "-n"], input=command.encode())
        assert checked.returncode == 0, command


def test_users():
    found = expected(**FULL)
    alice = found["users[0]"]
    assert alice.lines == ["alice:1234:Alice:/srv/it's:/bin/bash"]
    assert found["users[1]"].lines == ["bob::/home/bob:/bin/bash"]
    assert found["users[0].password_hash"].lines == ["P"]
    assert found["users[1].password_hash"].lines == ["L"]
    assert found["users[0].sudo"].lines == ["(ALL : ALL) ALL"]
    assert found["users[1].sudo"].lines == ["(ALL : ALL) NOPASSWD: ALL"]
    assert found["users[0].groups"].lines == ["tea", "video"]
    assert "users[1].groups" not in found and "users[1].ssh_keys" not in found
    assert [found[f"groups[{n}]"].lines for n in (0, 1)] == [["tea"], ["cake:77"]]


def test_no_secret_is_asked_for():
    assert HASH not in repr(expected(**FULL))


def test_what_users_are_on_this_host():
    """The command itself, of an account that is everywhere"""
    root = {"name": "daemon", "home": "/", "shell": "/x"}
    command = expected(users=[root])["users[0]"].command
    name, *_, shell = sh(command).split(":")
    assert name == "daemon" and shell.startswith("/")


def test_sysctl_on_this_host():
    found = expected(**FULL)
    ours = found["sysctl.kernel.ostype"]
    assert sh(ours.command).splitlines() == ours.lines
    dotted = found["sysctl.net/ipv4/conf/eth0.1/mtu"].command
    assert dotted == "cat /proc/sys/net/ipv4/conf/eth0.1/mtu"


@pytest.mark.skipif(not os.path.exists("/sys/class/net/lo"), reason="no loopback")
def test_network_on_this_host():
    found = expected(**FULL)
    assert sh(found["network[1].gateway"].command) == ABSENT
    # The device is found, whatever `ip` and `resolvectl` say of it here
    assert sh(found["network[0].address"].command) != ABSENT
    any_device = expected(network=[{"mac": "00:00:00:00:00:00", "dns": ["1.1.1.1"]}])
    command = any_device["network[0].dns"].command
    assert sh(command.replace("resolvectl dns", "echo")) == "lo"


def test_partitions_on_this_host():
    for line in sh(PARTITIONS).splitlines():
        assert line.rpartition(" ")[2].isdigit(), line


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "Asia/Kathmandu"])
def test_utc_offset(zone):
    """As date has it"""
    for moment in (1577836800, 1593561600):
        argv = ["date", f"--date=@{moment}", "+%z"]
        said = subprocess.check_output(argv, env={**os.environ, "TZ": zone}, text=True)
        assert utc_offset(zone, moment) == said.strip()


def test_the_disk_the_kernel_and_packages():
    [disk] = of_disk([{"name": "esp", "size": 260}, {"name": "root", "size": 9}])
    assert (disk.lines, disk.exact) == (["esp 260", "root 9"], False)
    kernel, cmdline = of_kernel("6.1", "quiet  rw")
    assert (kernel.lines, cmdline.lines) == (["6.1"], ["quiet", "rw"])
    names = [one.setting for one in of_kernel("6.1", "resume=PARTUUID=x")]
    assert names[2:] == ["build_uki.hibernation"]
    [file] = of_file("x", "/proc/sys/kernel/ostype", "Linux\n")
    assert sh(file.command).splitlines() == file.lines
    [packages] = of_packages(["bash"])
    assert packages.lines == ["bash"]


@pytest.mark.parametrize(
    "lines, exact, said, ok, wanted, seen",
    [
        (["a"], True, "a", True, "a", "a"),
        (["a  b"], True, "a\tb ", True, "a b", "a b"),
        (["a"], True, "a\nb", False, "a", "a\nb"),
        (["a"], True, "", False, "a", ""),
        (["a", "c"], False, "a\nb\nc", True, "a\nc", "a\nc"),
        (["a", "d"], False, "a\nb\nc", False, "d", "a\nb\nc"),
        (["a"], False, ABSENT, None, "a", ABSENT),
        ([], True, "", True, "", ""),
    ],
)
def test_compare(lines, exact, said, ok, wanted, seen):
    [one] = compare([Expectation("x", "true", lines, exact)], [said])
    assert (one.ok, one.expected, one.seen) == (ok, wanted, seen)


def test_compare_what_was_not_answered():
    two = [Expectation("x", "true", ["a"]), Expectation("y", "true", ["a"])]
    assert [one.ok for one in compare(two, ["a"])] == [True, False]


def test_what_is_told_is_bounded():
    [one] = compare([Expectation("x", "true", ["a"])], ["b" * 10000])
    assert len(one.seen) == TOLD


def test_read(tmp_path):
    made = [Expectation("x", "true", ["a"], False)]
    (tmp_path / "x").write_text(json.dumps([one._asdict() for one in made]))
    assert read(str(tmp_path / "x")) == made
    assert read("") == []
