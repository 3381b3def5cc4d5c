"""Real commands: what they see, what is kept, what ends them"""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dffml_operations_decentralice.engine import commands, sandbox, signals
from dffml_operations_decentralice.engine.commands import (
    EPOCH,
    environment,
    failure,
    find_tool,
    run,
    search_path,
    start,
    tail,
)
from dffml_operations_decentralice.errors import (
    CommandFailed,
    MissingTool,
    SpaceError,
)


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "step.log"
    path.touch()
    return path


def ran(log, *argv, **options):
    options.setdefault("env", environment(log.parent))
    return asyncio.run(run(list(argv), name=argv[0], log=log, **options))


def test_find_tool(tmp_path):
    assert os.access(find_tool("sh"), os.X_OK)
    assert find_tool("/etc/passwd") == "/etc/passwd"  # a file of the host
    # Console programs of packages are beside the interpreter, whatever PATH says
    assert find_tool(Path(sys.executable).name)


@pytest.mark.parametrize("name", ["no-such-program", "/no/such/file", ""])
def test_find_tool_refuses(name):
    with pytest.raises(MissingTool) as caught:
        find_tool(name)
    assert name in caught.value.cause and "doctor" in caught.value.remedy


def test_administration_is_in_the_path(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    assert search_path().split(":")[1] == "/nowhere"
    assert {"/usr/sbin", "/sbin"} <= set(search_path().split(":"))


def test_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("LANG", "de_DE.UTF-8")
    monkeypatch.setenv("SECRET_TOKEN", "x")
    monkeypatch.setenv("https_proxy", "http://proxy:3128")
    for name in set(commands.KEPT) - {"https_proxy"}:
        monkeypatch.delenv(name, raising=False)
    assert environment(tmp_path, {"X": "1", "TZ": "CET"}) == {
        "HOME": str(tmp_path),
        "TMPDIR": str(tmp_path),
        "LC_ALL": "C.UTF-8",
        "TZ": "CET",
        "SOURCE_DATE_EPOCH": str(EPOCH),
        "PATH": search_path(),
        "https_proxy": "http://proxy:3128",
        "X": "1",
    }


def test_output_and_log(log):
    assert ran(log, "sh", "-c", "echo out; echo err >&2") == "out\n"
    assert sorted(log.read_text().splitlines()) == ["err", "out"]


def test_nothing_of_the_caller(log, monkeypatch):
    monkeypatch.setenv("SECRET_TOKEN", "x")
    said = ran(log, "env").splitlines()
    assert "LC_ALL=C.UTF-8" in said and not any("SECRET" in one for one in said)


@pytest.mark.parametrize(
    "given, got", [(None, "0"), (b"", "0"), (b"x" * 99999, "99999")]
)
def test_input(log, given, got):
    assert ran(log, "wc", "-c", input=given).strip() == got


def test_bytes_that_are_no_text(log):
    assert ran(log, "printf", r"\377x") == "\ufffdx"


@pytest.mark.parametrize("status", [0, 3])
def test_accepted_status(log, status):
    assert ran(log, "sh", "-c", f"exit {status}", ok=(0, 3)) == ""


def test_failure(log):
    with pytest.raises(CommandFailed) as caught:
        ran(log, "sh", "-c", "echo reading >&2; echo 'no such thing' >&2; exit 3")
    assert caught.value.cause == "sh exited with 3: no such thing"
    assert caught.value.log == log and "log" in caught.value.remedy


def test_ended_by_a_signal(log):
    with pytest.raises(CommandFailed, match="sh was ended by SIGKILL"):
        ran(log, "sh", "-c", "kill -9 $$")


def test_no_space(log):
    with pytest.raises(SpaceError) as caught:
        ran(log, "sh", "-c", "cp /etc/passwd /dev/full")
    assert str(log.parent) in caught.value.cause and "MB free" in caught.value.cause


def test_limit(log):
    with pytest.raises(CommandFailed, match=r"sleep ran into its limit of 0.1 s"):
        ran(log, "sleep", "1000", timeout=0.1)


def test_limit_ends_grandchildren(log):
    fifo = log.parent / "fifo"
    os.mkfifo(fifo)
    held = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    script = "sleep 1000 > $0 & sleep 1000"
    with pytest.raises(CommandFailed, match="limit"):
        ran(log, "sh", "-c", script, str(fifo), timeout=0.5)
    assert closed(held)


def closed(held):
    """Whether nobody holds the other end of a FIFO; waits for it"""
    os.set_blocking(held, True)
    with open(held, "rb") as file:
        return file.read() == b""


def test_a_group_of_its_own(log):
    async def use():
        argv = ["sh", "-c", "echo up; exec sleep 1000"]
        env = environment(log.parent)
        async with start(argv, env=env, log=log, stdout=True) as process:
            await process.stdout.readline()
            assert os.getpgid(process.pid) == os.getsid(process.pid) == process.pid

    asyncio.run(use())


@pytest.mark.parametrize(
    "script, ends_by",
    [
        ("echo up; exec sleep 1000", signal.SIGTERM),
        ("trap '' TERM; echo up; while :; do sleep 1000; done", signal.SIGKILL),
    ],
)
def test_start(log, monkeypatch, script, ends_by):
    monkeypatch.setattr(commands, "GRACE", 0.2)

    async def use():
        argv = ["sh", "-c", script]
        env = environment(log.parent)
        async with start(argv, env=env, log=log, stdout=True) as process:
            assert await process.stdout.readline() == b"up\n"
        return process.returncode

    assert asyncio.run(use()) == -ends_by


def test_start_ends_when_the_block_fails(log):
    seen = []

    async def use():
        argv = ["sh", "-c", "echo up; exec sleep 1000"]
        env = environment(log.parent)
        async with start(argv, env=env, log=log, stdout=True) as process:
            seen.append(process)
            await process.stdout.readline()
            raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        asyncio.run(use())
    assert seen[0].returncode == -signal.SIGKILL


def test_start_tells_that_it_ended(log):
    async def use():
        async with start(["false"], env={}, log=log) as process:
            return await process.wait()

    assert asyncio.run(use()) == 1


def test_cancelled(log):
    """No process is left by a cancelled task"""
    fifo = log.parent / "fifo"
    os.mkfifo(fifo)
    held = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)

    async def use():
        argv = ["sh", "-c", "echo up >&2; exec sleep 1000 > $0", str(fifo)]
        made = run(argv, name="sh", env=environment(log.parent), log=log)
        task = asyncio.ensure_future(made)
        while "up" not in log.read_text():
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(use())
    assert closed(held)


@pytest.mark.parametrize(
    "said, expected",
    [
        ("", "x exited with 3"),
        ("one\n\n  two  \n\n", "x exited with 3: two"),
        ("y" * 500, f"x exited with 3: {'y' * 200}"),
    ],
)
def test_failure_names_the_last_line(log, said, expected):
    log.write_text(said)
    assert failure("x", 3, log, b"").cause == expected


def test_tail(log):
    assert tail(log) == []
    log.write_text("".join(f"{number}\n" for number in range(100000)))
    assert tail(log) == [str(number) for number in range(99980, 100000)]
    assert tail(log, 1) == ["99999"]


SIGNALLED = """
import asyncio, sys
from pathlib import Path
from dffml_operations_decentralice import compat
compat.install()
from dffml_operations_decentralice.engine import commands, signals

async def main():
    log = Path(sys.argv[1])
    argv = ["sh", "-c", "echo up >&2; sleep 1000 & sleep 1000"]
    try:
        await commands.run(argv, name="sh", env={"PATH": "/usr/bin:/bin"}, log=log)
    except Exception as error:
        print(type(error).__name__, error, "|", signals.received())
    try:
        await commands.run(["true"], name="true", env={}, log=log)
    except Exception as error:
        print(error)

asyncio.run(main())
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal(log, number):
    """The command ends, the operation fails by itself, nothing else is begun"""
    argv = [sys.executable, "-c", SIGNALLED, str(log)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        while "up" not in log.read_text() and process.poll() is None:
            os.sched_yield()
        process.send_signal(number)
        first, second = process.communicate()[0].splitlines()
    name = signal.Signals(number).name
    assert first == f"CommandFailed interrupted by {name} | {int(number)}"
    assert second == f"interrupted by {name}"
    assert process.returncode == 0
    assert signals.received() is None  # in this process


def test_host_argv(tmp_path):
    words = sandbox.host_argv("/usr/bin/bwrap", ["/bin/true", "-x"], tmp_path)
    assert words[0] == "/usr/bin/bwrap" and words[-3:] == ["--", "/bin/true", "-x"]
    assert "--die-with-parent" in words and "--unshare-pid" in words
    assert "--unshare-user" not in words


@pytest.mark.parametrize("turns", range(8))
def test_cancelled_while_it_starts(log, turns):
    """Whenever in the loop's turns that is: its children end too"""

    async def main():
        argv = ["sh", "-c", "sleep 1000 & sleep 1000 & wait", str(log.parent)]
        options = {"name": "sh", "env": environment(log.parent), "log": log}
        running = asyncio.ensure_future(run(argv, **options))
        for _ in range(turns):
            await asyncio.sleep(0)
        for _ in range(3):  # dffml does, and who cleans up after it
            running.cancel()
            await asyncio.sleep(0)
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(main())
    marker = str(log.parent).encode()
    for one in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            assert marker not in one.read_bytes()
