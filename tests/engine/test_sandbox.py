"""What a command of a tree sees. The tree is the host's, whose programs are at hand."""

import asyncio
import os
from pathlib import Path

import pytest

from dffml_operations_decentralice.engine.sandbox import tree_argv
from dffml_operations_decentralice.engine.step import Step
from dffml_operations_decentralice.engine.store import Store
from dffml_operations_decentralice.errors import CommandFailed


@pytest.mark.parametrize(
    "options, there, not_there",
    [
        ({}, ["--ro-bind /tree /", "--unshare-net", "--chdir /"], ["--bind"]),
        ({"writable": True}, ["--bind /tree /"], ["--ro-bind"]),
        ({"network": True}, [], ["--unshare-net"]),
        ({"cwd": "/usr"}, ["--chdir /usr --"], []),
        (
            {"bind": {"/a": "/run/a"}, "ro_bind": {"/b": "/run/b"}},
            ["--ro-bind /b /run/b --bind /a /run/a"],
            [],
        ),
        ({"env": {"A": "b c"}}, ["--clearenv --setenv A b c"], []),
    ],
)
def test_tree_argv(options, there, not_there):
    options = {"env": {}, **options}
    words = tree_argv("bwrap", "/tree", ["ls", "-l"], **options)
    line = " ".join(words)
    assert words[0] == "bwrap" and line.endswith(" -- ls -l")
    assert "--die-with-parent" in words and "--unshare-pid" in words
    assert "--setenv PATH /usr/bin:/usr/sbin:/bin:/sbin" in line
    for one in there:
        assert one in line
    for one in not_there:
        assert one not in words


def test_scratch_is_below_what_is_bound():
    """--tmpfs /run after --bind … /run/a would hide it"""
    words = tree_argv("bwrap", "/", ["x"], env={}, bind={"/a": "/run/a"})
    assert words.index("/run") < words.index("/run/a")


@pytest.fixture
def step(tmp_path):
    store = Store(tmp_path / "store")
    with store.scratch("test") as scratch:
        yield Step("test", None, store, scratch, "out")


def inside(step, script, **options):
    return asyncio.run(step.run_in("/", "sh", "-c", script, **options))


@pytest.mark.parametrize("path", ["/usr/x", "/x", "/etc/x", "/var/x"])
def test_tree_is_read_only(step, path):
    with pytest.raises(CommandFailed, match="Read-only file system"):
        inside(step, f"echo x > {path}")
    assert not os.path.exists(path)


@pytest.mark.parametrize("path", ["/tmp/x", "/run/x", "/var/tmp/x", "/dev/shm/x"])
def test_scratch_is_its_own(step, path):
    assert inside(step, f"echo x > {path} && cat {path}") == "x\n"
    assert not os.path.exists(path)
    assert inside(step, "ls -A /tmp /run /var/tmp | grep -v :; true").strip() == ""


def test_writable_tree(step):
    root = step.work / "root"
    for name in ("usr", "proc", "dev", "run", "tmp", "var/tmp", "etc"):
        (root / name).mkdir(parents=True)
    for name in ("bin", "sbin", "lib", "lib64"):
        if Path("/", name).is_symlink():
            (root / name).symlink_to(f"usr/{name}")
    options = dict(writable=True, ro_bind={"/usr": "/usr"})
    asyncio.run(step.run_in(root, "sh", "-c", "echo x > /etc/x", **options))
    assert (root / "etc/x").read_text() == "x\n"
    with pytest.raises(CommandFailed):
        asyncio.run(
            step.run_in(root, "sh", "-c", "echo > /y", ro_bind={"/usr": "/usr"})
        )
    assert not (root / "y").exists()
    assert list((root / "dev").iterdir()) == []  # nothing of the sandbox stays


def test_no_network(step):
    devices = inside(step, "tail -n +3 /proc/net/dev | cut -d: -f1").split()
    assert devices == ["lo"]


def test_network_if_wanted(step):
    theirs = inside(step, "readlink /proc/self/ns/net", network=True).strip()
    assert theirs == os.readlink("/proc/self/ns/net")
    assert inside(step, "readlink /proc/self/ns/net").strip() != theirs


def test_processes_are_its_own(step):
    pids = inside(step, "echo /proc/[0-9]*").split()
    assert "/proc/1" in pids and len(pids) < 6
    assert f"/proc/{os.getpid()}" not in pids or os.getpid() < 6


def test_bound_files(step):
    (step.work / "in").write_text("given\n")
    (step.work / "out").mkdir()
    script = "cat /run/in > /run/out/made; ! echo x > /run/in"
    inside(
        step,
        script,
        ro_bind={step.work / "in": "/run/in"},
        bind={step.work / "out": "/run/out"},
    )
    assert (step.work / "out/made").read_text() == "given\n"
    assert (step.work / "in").read_text() == "given\n"


def test_host_name_and_environment(step, monkeypatch):
    monkeypatch.setenv("SECRET_TOKEN", "x")
    said = inside(step, "uname -n; env", env={"X": "y"}).splitlines()
    assert said[0] == "build"
    assert {"X=y", "LC_ALL=C.UTF-8", "TZ=UTC", "HOME=/tmp"} <= set(said)
    assert "PATH=/usr/bin:/usr/sbin:/bin:/sbin" in said
    assert not any("SECRET" in line for line in said)


def test_input_and_status(step):
    assert inside(step, "cat", input=b"x\ny") == "x\ny"
    assert inside(step, "exit 73", ok=(0, 73)) == ""
    with pytest.raises(CommandFailed, match="sh exited with 3"):
        inside(step, "exit 3")


def test_mounts_of_the_host_stay(step):
    before = Path("/proc/self/mountinfo").read_text()
    inside(step, "true")
    asyncio.run(step.run("true"))
    assert Path("/proc/self/mountinfo").read_text() == before


def test_host_command(step, monkeypatch):
    """As it is, but in a process namespace, at work in the step's directory"""
    monkeypatch.setenv("SECRET_TOKEN", "x")
    said = asyncio.run(
        step.run("sh", "-c", "pwd; echo $HOME; echo $SECRET_TOKEN; id -u")
    )
    assert said.splitlines() == [str(step.work)] * 2 + ["", str(os.geteuid())]
    pids = asyncio.run(step.run("sh", "-c", "echo /proc/[0-9]*")).split()
    assert len(pids) < 6
    assert "$ " in step.log.read_text()


def test_log_notes_the_command_not_the_sandbox(step):
    asyncio.run(step.run("echo", "a b"))
    inside(step, "true")
    noted = [line for line in step.log.read_text().splitlines() if line[0] == "$"]
    assert noted[0].endswith("/echo a b") and noted[1] == "$ sh -c true"
    assert not any("bwrap" in line for line in noted)
