import asyncio
import contextlib
import io
import json
import os
from pathlib import Path

import jsonschema
import pytest

from dffml_operations_decentralice import errors, schemas
from dffml_operations_decentralice.engine import progress

Ended = (errors.DecentrAliceError, asyncio.CancelledError)
START = {
    "event": "start",
    "operation": "build_uki",
    "reason": "first time",
    "log": "/c",
}
END = {
    "event": "end",
    "operation": "build_uki",
    "seconds": 1.26,
    "bytes": 2500000,
    "object": "abc-uki.efi",
}
FAILED = {
    "event": "failed",
    "operation": "build_uki",
    "kind": "user",
    "cause": "a",
    "remedy": "b",
    "log": "/c",
    "exit_code": 2,
}
BYTES = {"event": "progress", "operation": "x", "bytes": 1_500_000, "files": 1, "of": 2}
RETRY = {"event": "retry", "source": "https://a", "cause": "cut", "seconds": 1.26}
RESULT = {"event": "result", "exit_code": 0, "ran": 2, "unchanged": 3}


@pytest.fixture(scope="module")
def schema():
    content = schemas.schema("progress")
    jsonschema.Draft202012Validator.check_schema(content)
    return jsonschema.Draft202012Validator(content)


@pytest.mark.parametrize(
    "event, line",
    [
        (START, "build_uki: first time\n"),
        ({"event": "say", "operation": "x", "text": "5 packages"}, "x: 5 packages\n"),
        (END, "build_uki: done in 1.3 s, 2.5 MB\n"),
        ({"event": "unchanged", "operation": "x", "object": "abc-x"}, ""),
        (FAILED, "error: a\nremedy: b\nlog: /c\n"),
        ({**FAILED, "log": None}, "error: a\nremedy: b\n"),
        ({**FAILED, "cause": "a\x1b[2Jb\x07"}, "error: ab \nremedy: b\nlog: /c\n"),
        ({"event": "plan", "operations": ["x"]}, ""),
        ({"event": "cancelled", "operation": "x"}, ""),
        ({**BYTES, "total": None}, ""),
        (RETRY, "download: https://a: cut; again in 1.3 s\n"),
        ({**RETRY, "operation": "x"}, "x: https://a: cut; again in 1.3 s\n"),
        (RESULT, "3 steps unchanged, 2 run\n"),
        ({**RESULT, "exit_code": 7}, ""),
    ],
)
def test_lines(event, line):
    file = io.StringIO()
    progress.Lines(file)(event)
    assert file.getvalue() == line


@pytest.mark.parametrize("event", [START, END, FAILED, RETRY, RESULT])
def test_json_lines(event, schema):
    file = io.StringIO()
    progress.JsonLines(file)(event)
    [line] = file.getvalue().splitlines()
    told = json.loads(line)
    schema.validate(told)
    assert told.pop("time") > 0 and told.pop("version") == progress.VERSION
    assert told == event


def test_lines_go_to_standard_error(capsys):
    progress.Lines()(START)
    progress.JsonLines()(START)
    said = capsys.readouterr()
    assert said.out == "" and len(said.err.splitlines()) == 2


def test_monitored():
    outer, inner = progress.Recorder(), progress.Recorder()
    with progress.monitored(outer):
        progress.emit("say", operation="x", text="1")
        with pytest.raises(ValueError), progress.monitored(inner) as given:
            assert given is inner
            progress.emit("say", operation="x", text="2")
            raise ValueError
        progress.emit("unchanged", operation="x")
    assert [one["event"] for one in outer.events] == ["say", "unchanged"]
    assert [one["text"] for one in inner.events] == ["2"]


def test_recorder_passes_on():
    last = progress.Recorder()
    recorder = progress.Recorder(last)
    recorder(START)
    recorder(END)
    assert recorder.count("start") == 1 and recorder.count("say") == 0
    assert last.events == recorder.events == [START, END]


def test_bytes_are_told_seldom(monkeypatch):
    """A log is no place for a bar, but says that it goes on"""
    now, file = [0.0], io.StringIO()
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    lines = progress.Lines(file)
    lines({**START, "operation": "x"})
    for now[0] in range(1, 70):
        lines({**BYTES, "total": 4_000_000})
    assert file.getvalue().splitlines()[1:] == ["x: 1.5 MB of 4.0 MB, 1/2 files"] * 2


def test_one_cause_is_told_once():
    """Of several steps that a signal ended"""
    file = io.StringIO()
    lines = progress.Lines(file)
    for operation in ("x", "y"):
        lines({**FAILED, "operation": operation})
    lines({**FAILED, "cause": "another"})
    assert file.getvalue().count("error:") == 2


def test_what_is_no_event_of_ours(schema):
    good = {"version": 1, "time": 1.5, **END}
    schema.validate(good)
    for bad in (
        {**good, "event": "stop"},
        {**good, "version": 2},
        {**good, "more": 1},
        {name: good[name] for name in good if name != "bytes"},
        {name: good[name] for name in good if name != "time"},
        {**good, "seconds": -1},
    ):
        assert not schema.is_valid(bad), bad


def test_each_kind_of_event_has_a_schema():
    content = schemas.schema("progress")
    kinds = content["properties"]["event"]["enum"]
    assert [one["$ref"].rpartition("/")[2] for one in content["oneOf"]] == kinds
    failures = content["$defs"]["failed"]["properties"]["kind"]["enum"]
    made = errors.DecentrAliceError.__subclasses__()
    assert set(failures) == {one.kind for one in made}


def run(log, body, *monitors):
    """A step whose block is a coroutine function; what it tells"""
    recorder = progress.Recorder(*monitors)

    async def main():
        with progress.running("x", "y", log):
            await body()

    with progress.monitored(recorder), contextlib.suppress(Ended):
        asyncio.run(main())
    assert progress._operation.get() is None
    return recorder.events


@pytest.mark.parametrize(
    "made",
    [one for one in errors.DecentrAliceError.__subclasses__() if "errors" in str(one)],
)
@pytest.mark.parametrize("own", [True, False])
def test_each_failure_has_a_log(tmp_path, made, own):
    """Its own if it has one, else that of the step, which says what happened too"""
    log = tmp_path / "log"

    async def body():
        raise made("no", remedy="do", log=Path("/own") if own else None)

    start, failed = run(log, body)
    assert start["event"] == "start" and failed["event"] == "failed"
    assert failed["operation"] == "x" and failed["kind"] == made.kind
    assert failed["log"] == ("/own" if own else str(log))
    assert failed["exit_code"] == made.exit_code
    assert "error: no" in log.read_text()


def test_defect(tmp_path, schema):
    """What nobody thought of is a failure as others are; the log has the traceback"""
    file = io.StringIO()

    async def body():
        progress.emit("say", text="hello")
        raise ValueError("oh")

    _, _, failed = run(tmp_path / "log", body, progress.JsonLines(file))
    assert failed["kind"] == "defect" and failed["cause"] == "ValueError: oh"
    assert "Traceback" in (tmp_path / "log").read_text()
    for line in file.getvalue().splitlines():
        schema.validate(json.loads(line))


def test_cancelled(tmp_path):
    async def body():
        raise asyncio.CancelledError

    assert [one["event"] for one in run(tmp_path / "log", body)] == [
        "start",
        "cancelled",
    ]


def test_a_log_that_cannot_be_written(tmp_path):
    """Is no reason to hide the failure"""

    async def body():
        (tmp_path / "log").mkdir()
        raise errors.UserError("no", remedy="do")

    assert run(tmp_path / "log", body)[-1]["cause"] == "no"


def test_told_once():
    recorder = progress.Recorder()
    error = errors.UserError("no", remedy="do")
    with progress.monitored(recorder):
        progress.tell(error, operation="x")
        progress.tell(error)
    assert recorder.count("failed") == 1


def test_nobody_has_to_listen():
    read, write = os.pipe()
    os.close(read)
    file = os.fdopen(write, "w", 1)
    progress.Lines(file)(START)
    progress.JsonLines(file)(START)
    with pytest.raises(BrokenPipeError):
        file.close()


@pytest.mark.parametrize(
    "kind, made",
    [
        ("auto", progress.Auto),
        ("lines", progress.Lines),
        ("json", progress.JsonLines),
    ],
)
def test_kinds(kind, made):
    assert type(progress.monitor_of(kind)) is made


@pytest.mark.parametrize(
    "text, line",
    [
        ("a b", "a b"),
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07x\x1b]8;;http://a\x1b\\y", "xy"),
        ("\x1b(Bx\x1bcx\x1b", "xx"),
        ("a\tb\rc\x00\x9b2Jd", "a b c  2Jd"),
        ("\u00fc \u202e", "\u00fc  "),
    ],
)
def test_plain(text, line):
    assert progress.plain(text) == line
