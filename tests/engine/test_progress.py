import io
import json

import pytest

from dffml_operations_decentralice.engine import progress

START = {"event": "start", "operation": "build_uki", "reason": "first time"}
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
    "lines": ["error: a", "remedy: b"],
}


@pytest.mark.parametrize(
    "event, line",
    [
        (START, "build_uki: first time\n"),
        ({"event": "say", "operation": "x", "text": "5 packages"}, "x: 5 packages\n"),
        (END, "build_uki: done in 1.3 s, 2.5 MB\n"),
        ({"event": "unchanged", "operation": "x", "object": "abc-x"}, ""),
        (FAILED, "error: a\nremedy: b\n"),
    ],
)
def test_lines(event, line):
    file = io.StringIO()
    progress.Lines(file)(event)
    assert file.getvalue() == line


@pytest.mark.parametrize("event", [START, END, FAILED])
def test_json_lines(event):
    file = io.StringIO()
    progress.JsonLines(file)(event)
    [line] = file.getvalue().splitlines()
    told = json.loads(line)
    assert told.pop("time") > 0
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
