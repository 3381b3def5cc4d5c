"""Operations run once, say why, and leave nothing behind, whatever ends them"""

import asyncio
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from dffml import DataFlow, GetSingle, Input, MemoryOrchestrator

from dffml_operations_decentralice.engine import commands, operation, progress
from dffml_operations_decentralice.engine.operation import (
    UPDATE,
    kebab,
    reason,
    registered_name,
)
from dffml_operations_decentralice.engine.testing import run_operation
from dffml_operations_decentralice.errors import (
    MissingTool,
    SpaceError,
    UserError,
    cause,
)

from ..mounts import apart
from . import sample

ROOT = Path(__file__).parent.parent.parent


def run(made, store, settings=None, **artefacts):
    """Run an operation; its result and the events"""
    with progress.monitored(progress.Recorder()) as recorder:
        running = run_operation(made, store=store, settings=settings, **artefacts)
        path = asyncio.run(running)
    return Path(path), recorder.events


def why(made, store, settings=None, **artefacts):
    """The reason why an operation was run, None if it was not"""
    events = run(made, store, settings, **artefacts)[1]
    reasons = [one["reason"] for one in events if one["event"] == "start"]
    return reasons[0] if reasons else None


def left(store):
    """What is in the store that should not be"""
    return [path.name for path in (store / "tmp").iterdir()]


def objects(store):
    return sorted(path.name for path in (store / "objects").iterdir())


# What an operation is


@pytest.mark.parametrize(
    "name, expected",
    [
        ("UnifiedKernelImage", "unified-kernel-image"),
        ("Text", "text"),
        ("Ext4Image", "ext4-image"),
    ],
)
def test_kebab(name, expected):
    assert kebab(name) == expected


def test_declared():
    assert sample.count.op.inputs.keys() == {"text"}
    assert sample.count.op.inputs["text"].name == "Text"
    assert sample.count.op.outputs["result"].name == "Counted"
    assert sample.count.action.result == "counted.txt"
    assert sample.write_text.action.result == "text"
    assert sample.count.__doc__ == "Whether there are words at all"
    name = registered_name(sample.count.action.function)
    assert name == sample.count.op.name == "tests.engine.sample:count"


# When it runs, and why


def test_once(store):
    first, events = run(sample.write_text, store)
    assert [one["event"] for one in events] == ["start", "say", "end"]
    assert events[0]["reason"] == "first time" and events[1]["text"] == "2 words"
    assert first.read_text() == "a b\n" and events[2]["object"] == first.name
    second, events = run(sample.write_text, store)
    assert second == first and [one["event"] for one in events] == ["unchanged"]
    assert left(store) == []


@pytest.mark.parametrize(
    "settings, expected",
    [
        ({"words": ["c"]}, "setting words changed: ['a', 'b'] -> ['c']"),
        ({"number": 2}, "setting number changed: 1 -> 2"),
        ({"password": "hunter2"}, "setting password changed"),
        (
            {"number": 2, "words": []},
            "setting number changed: 1 -> 2, setting words changed: ['a', 'b'] -> []",
        ),
    ],
)
def test_setting_changed(store, settings, expected):
    assert why(sample.write_text, store) == "first time"
    assert why(sample.write_text, store, settings) == expected
    assert why(sample.write_text, store, settings) is None
    assert why(sample.write_text, store) is None  # the first is still known


def test_a_secret_is_nowhere(store):
    run(sample.write_text, store, {"password": "hunter2"})
    for folder, _, files in os.walk(store):
        for name in files:
            assert b"hunter2" not in Path(folder, name).read_bytes()


def test_default_and_given_are_the_same(store):
    assert why(sample.write_text, store) == "first time"
    assert why(sample.write_text, store, {"words": ["a", "b"]}) is None


def test_input_changed_and_cut_off(store):
    """An input with other bytes is another input; a result with the same is not"""
    text = run(sample.write_text, store)[0]
    counted = run(sample.count, store, text=str(text))[0]
    assert why(sample.upper, store, counted=str(counted)) == "first time"
    other = run(sample.write_text, store, {"words": ["c"]})[0]
    assert other != text
    again, events = run(sample.count, store, text=str(other))
    assert events[0]["reason"] == "input text changed"
    assert again == counted
    assert why(sample.upper, store, counted=str(again)) is None


def test_input_from_elsewhere_counts_by_content(store, tmp_path):
    given = tmp_path / "given"
    given.write_text("x")
    assert why(sample.count, store, text=str(given)) == "first time"
    shutil.copyfile(given, tmp_path / "copy")
    assert why(sample.count, store, text=str(tmp_path / "copy")) is None
    given.write_text("y")
    assert why(sample.count, store, text=str(given)) == "input text changed"


def test_file_setting_counts_by_content(store, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_text("same")
    two.write_text("same")
    assert why(sample.write_text, store, {"file": str(one)}) == "first time"
    assert why(sample.write_text, store, {"file": str(two)}) is None
    two.write_text("other")
    said = why(sample.write_text, store, {"file": str(two)})
    assert said == "setting file changed"
    found = run(sample.write_text, store, {"file": str(two)})[0]
    assert found.read_text() == "a bother\n"


def test_tool_changed(store, tmp_path, monkeypatch):
    bin = tmp_path / "bin"
    bin.mkdir()
    (bin / "wc").write_text('#!/bin/sh\nexec /usr/bin/wc "$@"\n')
    (bin / "wc").chmod(0o755)
    monkeypatch.setenv("PATH", f"{bin}:{os.environ['PATH']}")
    text = str(run(sample.write_text, store)[0])
    assert why(sample.count, store, text=text) == "first time"
    with open(bin / "wc", "a") as file:
        file.write("# another version\n")
    assert why(sample.count, store, text=text) == "tool wc changed"
    assert why(sample.count, store, text=text) is None


def test_missing_tool(store, monkeypatch):
    monkeypatch.setattr(commands, "search_path", lambda: "/nowhere")
    with pytest.raises(MissingTool, match="wc is not on this machine"):
        run(sample.count, store, text="/etc/passwd")
    assert left(store) == objects(store) == []


MODULE = """
from dffml_operations_decentralice.engine import Step, operation
from {package}.helper import VALUE
from tests.engine.sample import Text

@operation
async def told(step: Step) -> Text:
    '''x'''
    step.out.write_text(VALUE)
    return Text(str(step.out))
"""


def test_code_changed(store, tmp_path):
    """Of the module, or of what it imports of its own package"""
    package = tmp_path / "overlay_of_somebody"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "unrelated.py").touch()
    (package / "helper.py").write_text("VALUE = 'a'\n")
    (package / "steps.py").write_text(MODULE.format(package=package.name))

    def told():
        script = (
            "from tests.engine.test_operation import why;"
            f"from {package.name}.steps import told; from pathlib import Path;"
            f"print(why(told, Path({str(store)!r})))"
        )
        env = {**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"}
        argv = [sys.executable, "-B", "-c", script]
        return subprocess.check_output(argv, env=env, cwd=ROOT, text=True).strip()

    assert told() == "first time"
    (package / "unrelated.py").write_text("x = 1\n")
    assert told() == "None"
    (package / "helper.py").write_text("VALUE = 'b'\n")
    assert told() == "code changed"


@pytest.mark.parametrize(
    "last, parts, expected",
    [
        (None, {"code": "a"}, "first time"),
        ({"code": "a"}, {"code": "b"}, "code changed"),
        ({"code": "a"}, {"code": "a", "tool x": "b"}, "tool x changed"),
        ({"code": "a", "tool x": "b"}, {"code": "a"}, "tool x changed"),
        ({}, {"setting size": 1}, "setting size changed: None -> 1"),
        ({"a": 1}, {"a": 1}, "its result is asked anew, or was removed"),
    ],
)
def test_reason(last, parts, expected):
    assert reason(last, parts) == expected


def test_removed_result_is_made_again(store):
    path = run(sample.write_text, store)[0]
    path.unlink()
    assert "was removed" in why(sample.write_text, store)
    assert path.exists()


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", "null"])
def test_damaged_action(store, content):
    path = run(sample.write_text, store)[0]
    [action] = (store / "actions").iterdir()
    action.write_text(content)
    [latest] = (store / "latest").iterdir()
    latest.write_text(content)
    assert why(sample.write_text, store) is not None
    assert json.loads(action.read_text())["object"] == path.name
    assert why(sample.write_text, store) is None


def test_volatile(store, tmp_path, monkeypatch):
    world = tmp_path / "world"
    world.write_text("old")
    settings = {"words": [str(world)]}
    first = run(sample.ask_outside, store, settings)[0]
    world.write_text("new")
    assert run(sample.ask_outside, store, settings)[0] == first
    monkeypatch.setenv(UPDATE, str(time.time()))
    second, events = run(sample.ask_outside, store, settings)
    assert second.read_text() == "new" and "asked anew" in events[0]["reason"]
    # Once an update is enough
    assert why(sample.ask_outside, store, settings) is None
    monkeypatch.delenv(UPDATE)
    assert run(sample.ask_outside, store, settings)[0] == second


def test_update_is_for_what_is_volatile(store, monkeypatch):
    run(sample.write_text, store)
    monkeypatch.setenv(UPDATE, str(time.time()))
    assert why(sample.write_text, store) is None


def test_not_cached(store):
    for _ in range(2):
        assert why(sample.always, store) == "always"


def test_unpinned(store):
    path = run(sample.verdict, store)[0]
    assert path.exists()
    assert why(sample.verdict, store) == "first time"


def test_moved_store_keeps_its_keys(store, tmp_path):
    text = run(sample.write_text, store)[0]
    folder = run(sample.make_folder, store, text=str(text))[0]
    moved = tmp_path / "elsewhere/store"
    moved.parent.mkdir()
    store.rename(moved)
    again, events = run(sample.write_text, moved)
    assert [one["event"] for one in events] == ["unchanged"]
    assert again == moved / "objects" / text.name
    assert why(sample.make_folder, moved, text=str(again)) is None
    assert (moved / "objects" / folder.name / "deep/text").read_text() == "a b\n"


def test_objects_are_read_only(store):
    path = run(sample.write_text, store)[0]
    assert stat.S_IMODE(path.stat().st_mode) == 0o444


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_umask_does_not_count(store, umask):
    before = os.umask(umask)
    try:
        text = run(sample.write_text, store)[0]
        folder = run(sample.make_folder, store, text=str(text))[0]
    finally:
        os.umask(before)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o555
    assert stat.S_IMODE((folder / "deep/text").stat().st_mode) == 0o644


# As a flow


def flow(configs=None):
    operations = [sample.write_text, sample.count, sample.upper]
    return DataFlow(
        operations={
            **{one.action.name: one for one in operations},
            "get_single": GetSingle,
        },
        configs={"write_text": configs or {}},
        seed=[Input(value=["Upper"], definition=GetSingle.op.inputs["spec"])],
    )


def run_flow(configs=None):
    async def main():
        found = [one async for one in MemoryOrchestrator.run(flow(configs), [])]
        [(_, results)] = found
        return results

    with progress.monitored(progress.Recorder()) as recorder:
        results = asyncio.run(main())
    told = [
        (one["operation"], one["event"], one.get("reason"))
        for one in recorder.events
        if one["event"] in ("start", "unchanged")
    ]
    return Path(results["Upper"]), told


def test_flow(store):
    first, told = run_flow()
    assert first.read_text() == "SOME\n" and first.parent == store / "objects"
    names = ("write_text", "count", "upper")
    assert told == [(name, "start", "first time") for name in names]
    second, told = run_flow()
    assert second == first and told == [(name, "unchanged", None) for name in names]
    third, told = run_flow({"words": ["c"]})
    assert third == first and told == [
        ("write_text", "start", "setting words changed: ['a', 'b'] -> ['c']"),
        ("count", "start", "input text changed"),
        ("upper", "unchanged", None),
    ]


@pytest.mark.parametrize("configs", [{"word": []}, {"words": "a b"}])
def test_flow_refuses_settings(store, configs):
    with pytest.raises(Exception) as caught:
        run_flow(configs)
    assert isinstance(cause(caught.value), UserError)


# What ends it


def test_failure_leaves_nothing(store):
    with pytest.raises(UserError, match="no such thing"):
        run(sample.fail, store)
    assert left(store) == objects(store) == os.listdir(store / "actions") == []
    assert why(sample.write_text, store) == "first time"


def test_failure_says_where_its_log_is(store):
    """That of this run: another one with another key has its own"""
    logs = []
    for words in ("one", "two"):
        with pytest.raises(UserError) as caught:
            run(sample.refuse, store, {"words": [words]})
        logs.append(caught.value.log)
    assert logs[0] != logs[1] and all(log.exists() for log in logs)
    said = [log.read_text().splitlines() for log in logs]
    assert [lines[:2] for lines in said] == [
        ["# one", "error: not this"],
        ["# two", "error: not this"],
    ]
    assert logs[0].parent == store / "logs" and logs[0].name.startswith("refuse-")


def fifo(tmp_path, name):
    path = tmp_path / name
    os.mkfifo(path)
    return path


def process(store, name, settings, **options):
    """Another process that runs one of the sample's operations"""
    script = (
        "import asyncio, json, sys; from pathlib import Path;"
        "from tests.engine import sample;"
        "from dffml_operations_decentralice.engine.testing import run_operation;"
        "print(asyncio.run(run_operation(getattr(sample, sys.argv[1]),"
        "store=Path(sys.argv[2]), settings=json.loads(sys.argv[3]))))"
    )
    words = [sys.executable, "-c", script, name, str(store), json.dumps(settings)]
    pipe = subprocess.PIPE
    return subprocess.Popen(
        words, stdout=pipe, stderr=pipe, text=True, cwd=ROOT, **options
    )


def test_two_processes_at_once(store, tmp_path):
    """The second waits for the first, and uses what it made"""
    up, go = fifo(tmp_path, "up"), fifo(tmp_path, "go")
    settings = {"words": [str(up), str(go)]}
    first = process(store, "wait_for", settings)
    assert up.read_text() == "up\n"
    second = process(store, "wait_for", settings)
    locks = f"/proc/{second.pid}/fd"
    while not any(link.endswith(".lock") for link in links(locks)):
        assert second.poll() is None
        os.sched_yield()
    go.write_text("go\n")
    one, other = (each.communicate() for each in (first, second))
    assert one[0] and one[0] == other[0], one[1] + other[1]
    assert "wait_for: first time" in one[1] and "wait_for" not in other[1]
    assert Path(one[0].strip()).read_text() == f"{first.pid}\n"
    assert left(store) == []


def links(folder):
    """Where a process's descriptors lead"""
    for name in os.listdir(folder) if os.path.isdir(folder) else ():
        try:
            yield os.readlink(f"{folder}/{name}")
        except OSError:
            continue


def hanging(store, tmp_path, **options):
    """A process in the midst of an operation; the FIFO that its grandchild holds"""
    held = fifo(tmp_path, "held")
    started = process(store, "hang", {"words": [str(held)]}, **options)
    reader = open(held, "rb")
    assert reader.readline() == b"up\n"
    assert left(store) != []
    return started, reader


def test_sigkill(store, tmp_path):
    started, reader = hanging(store, tmp_path)
    with started, reader:
        started.kill()
        started.communicate()
        assert reader.read() == b""  # the grandchild, in a session of its own, is dead
    assert [one for one in left(store) if one.startswith("hang-")]
    assert objects(store) == os.listdir(store / "actions") == []
    with process(store, "write_text", {}) as other:  # a new start sweeps
        other.communicate()
        assert other.returncode == 0
    assert not [one for one in left(store) if one.startswith("hang-")]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal(store, tmp_path, number):
    started, reader = hanging(store, tmp_path)
    with started, reader:
        started.send_signal(number)
        said = started.communicate()[1]
        assert reader.read() == b""
    assert started.returncode == 128 + number
    assert f"interrupted by {signal.Signals(number).name}" in said
    assert left(store) == objects(store) == os.listdir(store / "actions") == []


def test_signal_while_waiting_for_another_process(store, tmp_path):
    up, go = fifo(tmp_path, "up"), fifo(tmp_path, "go")
    settings = {"words": [str(up), str(go)]}
    first = process(store, "wait_for", settings)
    assert up.read_text() == "up\n"
    second = process(store, "wait_for", settings)
    while not any(link.endswith(".lock") for link in links(f"/proc/{second.pid}/fd")):
        assert second.poll() is None
        os.sched_yield()
    second.terminate()
    second.communicate()
    assert second.returncode in (128 + signal.SIGTERM, -signal.SIGTERM)
    go.write_text("go\n")
    assert first.communicate()[0]


FULL = """
set -e
mount -t tmpfs -o size=8m tmpfs "$1"
shift
exec "$@"
"""
FILL = """
import asyncio, sys
from pathlib import Path
from tests.engine import sample
from dffml_operations_decentralice.engine.testing import run_operation
from dffml_operations_decentralice.errors import DecentrAliceError
store = Path(sys.argv[1])
try:
    settings = {"words": [sys.argv[2]]}
    asyncio.run(run_operation(sample.fill, store=store, settings=settings))
except DecentrAliceError as error:
    print(type(error).__name__)
    print(error.cause)
print([path.name for path in (store / "tmp").iterdir()])
print([path.name for path in (store / "objects").iterdir()])
print(asyncio.run(run_operation(sample.write_text, store=store)))
"""


@pytest.mark.parametrize("how", ["command", "thread", "direct"])
def test_no_space(tmp_path, how):
    """8 MB for 64; the file system is seen by nobody else"""
    full = tmp_path / "full"
    full.mkdir()
    inside = [sys.executable, "-c", FILL, str(full / "store"), how]
    done = apart(FULL, str(full), *inside)
    assert done.returncode == 0, done.stdout + done.stderr
    kind, said, tmp, found, then = done.stdout.splitlines()
    assert kind == SpaceError.__name__
    assert str(full / "store") in said and "MB free" in said
    assert tmp == found == "[]"
    assert then.endswith("-text")  # the store is as good as before
    assert list(full.iterdir()) == []


def test_bare_decorator():
    async def plain(step: sample.Step) -> sample.Text:
        """x"""

    assert operation(plain).action.cached
    assert operation(cached=False)(plain).action.cached is False
