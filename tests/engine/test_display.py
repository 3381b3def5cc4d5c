"""The live display, on a terminal"""

import os
import signal
import sys

import pytest

from dffml_operations_decentralice.engine import display

from ..terminal import Terminal

# What a build would tell; it goes on when it is told to by a line
TELLS = """
import asyncio, pathlib, signal, sys
from dffml_operations_decentralice.engine import progress
from dffml_operations_decentralice.errors import CommandFailed

folder = pathlib.Path(sys.argv[1])

def log(name, text):
    with open(folder / name, "a") as file:
        file.write(text)

async def main():
    emit, running = progress.emit, progress.running
    go = asyncio.Event()
    asyncio.get_running_loop().add_reader(0, lambda: sys.stdin.readline() and go.set())

    async def fetch():
        with running("fetch_rpms", "first time", folder / "fetch.log"):
            meter = progress.Meter(4_000_000, 2)
            meter.add(1_500_000)
            await go.wait()
            meter.add(2_500_000)
            emit("retry", source="https://a/b", cause="cut", seconds=1.5)
            meter.finish()
            meter.finish()
            emit("end", object="a", seconds=61.2, bytes=4_000_000)

    async def build():
        with running("build_uki", "setting x changed: 'a' -> 'b'", folder / "b.log"):
            log("b.log", "$ tool --all\\n\\x1b[31mred \\x1b]0;title\\x07one\\x1b[2J\\n")
            log("b.log", "10 %\\r55 %\\n\\n")
            await go.wait()
            LAST

    emit("plan", operations=["a", "b", "fetch_rpms", "build_uki"])
    emit("unchanged", operation="a", object="x")
    await asyncio.gather(fetch(), build(), return_exceptions=True)

with progress.monitored(progress.monitor_of(sys.argv[2])):
    asyncio.run(main())
    if "emit" in "LAST":
        progress.emit("result", exit_code=0, ran=2, unchanged=1)
print("answer", "rich" in sys.modules)
"""
ENDS = "emit('end', object='b', seconds=0.04, bytes=2_500_000)"
FAILS = "raise CommandFailed('tool failed ' * 12, remedy='mend it')"
DONE = [
    "fetch_rpms: https://a/b: cut; again in 1.5 s",
    "done    fetch_rpms  1:01 min  4.0 MB",
    "done    build_uki  0.0 s  2.5 MB",
    "1 steps unchanged, 2 run",
]
COLOURS = (b"\x1b[31m", b"\x1b[32m", b"\x1b[1;31m", b"\x1b[33m")


@pytest.fixture
def tells(tmp_path):
    def tells(terminal, last=ENDS, kind="auto", **env):
        words = ["-c", TELLS.replace("LAST", last), str(tmp_path), kind]
        return terminal.run([sys.executable, *words], env)

    return tells


def go(process):
    process.stdin.write("go\n")
    process.stdin.flush()


def shows_the_cursor(terminal):
    """As it was before"""
    return not terminal.screen.cursor.hidden and terminal.screen.cursor.x == 0


def test_while_it_runs(tells):
    terminal = Terminal(100, 24)
    process = tells(terminal)
    terminal.until("55 %", "fetch_rpms", "2 steps run, 1 of 4 are done")
    lines = [line for line in terminal.text().splitlines() if line]
    assert [line.split()[0] for line in lines] == [
        "fetch_rpms",
        "build_uki",
        "$",
        "red",
        "55",
        "2",
    ]
    assert "1.5 MB of 4.0 MB, 0/2 files  0.0 MB/s  first time" in lines[0]
    assert lines[1].endswith(" s  setting x changed: 'a' -> 'b'")
    assert lines[2:5] == ["    $ tool --all", "    red one", "    55 %"]
    go(process)
    assert sorted(terminal.rest()) == sorted(DONE)
    assert shows_the_cursor(terminal)
    assert process.communicate()[0] == "answer True\n" and process.returncode == 0
    assert any(colour in terminal.raw for colour in COLOURS)
    assert b"title" not in terminal.raw and b"\x1b[2J" not in terminal.raw


def test_failure(tells):
    """What went wrong stays, in full, and with the log's path"""
    terminal = Terminal(60, 20)
    process = tells(terminal, FAILS)
    terminal.until("2 steps run")
    go(process)
    lines = terminal.rest()
    assert shows_the_cursor(terminal)
    assert "failed  build_uki" in lines and "remedy: mend it" in lines
    assert any(line.startswith("log: /") for line in lines)
    assert ("tool failed " * 12).strip() in "".join(f"{line:60}" for line in lines)
    assert process.communicate()[0] == "answer True\n"


def test_defect(tells):
    terminal = Terminal(100, 20)
    process = tells(terminal, "raise ValueError('oh')")
    terminal.until("2 steps run")
    go(process)
    lines = terminal.rest()
    assert "error: ValueError: oh" in lines and shows_the_cursor(terminal)


@pytest.mark.parametrize("columns, rows", [(20, 5), (12, 3), (200, 50)])
def test_any_size(tells, columns, rows):
    """No line is longer than a row, and there are no more than the screen has"""
    terminal = Terminal(columns, rows)
    process = tells(terminal)
    terminal.until("2 steps run"[: columns - 2])
    assert terminal.screen.history.top == type(terminal.screen.history.top)()
    go(process)
    text = "".join(terminal.rest())
    assert shows_the_cursor(terminal)
    assert "".join(DONE[2].split()) in "".join(text.split())


def test_resized(tells):
    terminal = Terminal(100, 24)
    process = tells(terminal)
    terminal.until("2 steps run")
    for columns, rows in ((40, 6), (120, 30)):
        terminal.resize(columns, rows)
        before = len(terminal.raw)
        while terminal.raw.count(b"build_uki", before) < 2:
            assert terminal._read()
    go(process)
    lines = terminal.rest()
    assert set(DONE) <= set(lines) and shows_the_cursor(terminal)


def test_without_colours(tells):
    """https://no-color.org/"""
    terminal = Terminal(100)
    process = tells(terminal, FAILS, NO_COLOR="1")
    terminal.until("2 steps run")
    go(process)
    assert "failed  build_uki" in terminal.rest()
    assert not any(colour in terminal.raw for colour in COLOURS)


@pytest.mark.parametrize("term", ["dumb", "unknown", ""])
def test_terminals_that_cannot(tells, term):
    terminal = Terminal(100)
    process = tells(terminal, TERM=term)
    terminal.until("fetch_rpms: first time", "build_uki: setting x changed")
    go(process)
    lines = terminal.rest()
    assert "build_uki: done in 0.0 s, 2.5 MB" in lines
    assert b"\x1b" not in terminal.raw
    assert process.communicate()[0] == "answer False\n"


@pytest.mark.parametrize(
    "kind, event", [("lines", "fetch_rpms: f"), ("json", '"plan"')]
)
def test_other_kinds_on_a_terminal(tells, kind, event):
    terminal = Terminal(200)
    process = tells(terminal, kind=kind)
    terminal.until(event)
    go(process)
    terminal.rest()
    assert b"\x1b" not in terminal.raw
    assert process.communicate()[0] == "answer False\n"


def test_nothing_to_do_needs_no_display():
    """Nothing is drawn, and no time spent on it"""
    script = (
        "import sys\n"
        "from dffml_operations_decentralice.engine import progress\n"
        "with progress.monitored(progress.monitor_of('auto')):\n"
        "    progress.emit('plan', operations=['a'])\n"
        "    progress.emit('unchanged', operation='a', object='x')\n"
        "    progress.emit('result', exit_code=0, ran=0, unchanged=1)\n"
        "sys.exit('rich' in sys.modules)\n"
    )
    terminal = Terminal()
    process = terminal.run([sys.executable, "-c", script])
    assert terminal.rest() == ["1 steps unchanged, 0 run"]
    assert process.wait() == 0 and b"\x1b" not in terminal.raw


def test_killed(tells):
    """Nothing of ours runs any more, and nothing is to be mended"""
    terminal = Terminal()
    process = tells(terminal)
    terminal.until("2 steps run")
    process.send_signal(signal.SIGKILL)
    terminal.rest()
    assert not terminal.screen.cursor.hidden


def test_nobody_says_that_it_ended(tmp_path):
    """As under dffml's own commands: what is said afterwards is below"""
    script = (
        "import sys, pathlib\n"
        "from dffml_operations_decentralice.engine import progress\n"
        f"log = pathlib.Path({str(tmp_path)!r}, 'log')\n"
        "step = progress.running('build_uki', 'why', log)\n"
        "step.__enter__()\n"
        "import atexit; atexit._run_exitfuncs()\n"
        "print('Traceback', file=sys.stderr)\n"
    )
    terminal = Terminal()
    process = terminal.run([sys.executable, "-c", script])
    assert terminal.rest() == ["Traceback"] and shows_the_cursor(terminal)
    assert process.wait() == 0


def test_rate(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(display.time, "monotonic", lambda: now[0])
    step = display.Running({"operation": "x", "reason": "y", "log": "/nowhere"})
    assert step.rate(now[0]) == 0 and step.tail(3) == []
    for second in range(1, 11):
        now[0] = 100.0 + second
        step.progress({"bytes": second * 2_000_000})
    assert step.rate(now[0]) == pytest.approx(2_000_000)
    assert step.rate(now[0] + 1) < 2_000_000  # it stalls
    assert step.rate(now[0] + 60) == 0
    step.progress({"bytes": 0})  # begins anew
    assert step.rate(now[0]) == 0


@pytest.mark.parametrize(
    "seconds, said",
    [
        (0, "0.0 s"),
        (3.14, "3.1 s"),
        (59.9, "59.9 s"),
        (125, "2:05 min"),
        (3725, "1:02:05 h"),
    ],
)
def test_duration(seconds, said):
    assert display.duration(seconds) == said


def test_terminal_that_is_closed(tells):
    """The build goes on"""
    terminal = Terminal()
    process = tells(terminal)
    terminal.until("2 steps run")
    os.close(terminal.master)
    out, _ = process.communicate("go\n")
    assert out == "answer True\n" and process.returncode == 0


def test_pipe_that_nobody_reads(tells, tmp_path):
    read, write = os.pipe()
    os.close(read)
    terminal = Terminal()
    os.close(terminal.slave)
    terminal.slave = write
    process = tells(terminal, kind="rich")
    assert process.communicate("go\n")[0] == "answer True\n"
