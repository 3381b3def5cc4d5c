"""`build -check` names what is not the same twice, and leaves the store as it was"""

import asyncio
import json
import os
import subprocess
import sys

import jsonschema
import pytest
import yaml
from dffml import DataFlow, GetSingle, Input

from dffml_operations_decentralice import api, compare
from dffml_operations_decentralice.engine import progress
from dffml_operations_decentralice.engine.check import checking
from dffml_operations_decentralice.errors import SignatureError, UserError
from dffml_operations_decentralice.schemas import schema

from . import chance

STEPS = (
    *(chance.steady, chance.tree, chance.build_program, chance.write_log),
    *(chance.measure, chance.publish),
)


def flow(varies=()):
    """A flow of all of them; ``varies`` is what shall be by chance"""
    return DataFlow(
        operations={
            **{step.action.name: step for step in STEPS},
            "get_single": GetSingle,
        },
        configs={
            step.action.name: {"varies": list(varies)}
            for step in STEPS
            if step.action.settings
        },
        seed=[Input(value=["PublishedResult"], definition=GetSingle.op.inputs["spec"])],
    )


def checked(varies=()):
    async def run():
        with checking(compare.first) as found:
            await api.run(flow(varies))
        return found

    with progress.monitored(progress.Recorder()):
        return asyncio.run(run())


def content(store):
    """All of a store but logs, and when what was used"""
    found = {}
    for folder in ("objects", "actions", "latest", "roots", "tmp"):
        for path in (store / folder).rglob("*"):
            content = path.read_bytes() if path.is_file() else None
            found[path] = (path.stat().st_ino, content)
    return found


def test_nothing_differs(store):
    with progress.monitored(progress.Recorder()):
        asyncio.run(api.run(flow()))
    before = content(store)
    found = checked()
    verdicts = {one["operation"]: one["verdict"] for one in found.steps}
    assert verdicts == {
        **dict.fromkeys(("steady", "tree", "build_program", "write_log"), "same"),
        **dict.fromkeys(("measure", "publish"), "left-out"),
    }
    found.judge()
    assert content(store) == before
    jsonschema.validate(found.answer(), schema("check-report"))


@pytest.mark.parametrize(
    "varies, operation, where, what",
    [
        ("text", "tree", ["a/deep/text", "line 2"], "content"),
        ("mode", "tree", ["b/mode"], "mode"),
        ("section", "build_program", ["section .cmdline", "line 1"], "content"),
        ("time", "build_program", ["FILE_HEADER"], "TimeDateStamp"),
        ("bytes", "write_log", ["byte 2097154"], "content"),
    ],
)
def test_what_differs(store, varies, operation, where, what):
    with progress.monitored(progress.Recorder()):
        asyncio.run(api.run(flow([varies])))
    before = content(store)
    found = checked([varies])
    [differs] = found.of("differs")
    assert differs["operation"] == operation
    assert list(differs["difference"]["where"]) == where, differs
    assert differs["difference"]["what"] == what
    # Those behind it are compared too: they had what the store has
    assert len(found.of("same")) == 3
    with pytest.raises(SignatureError, match=f"{operation}: .*{what}"):
        found.judge()
    assert content(store) == before
    jsonschema.validate(json.loads(json.dumps(found.answer())), schema("check-report"))


def test_only_one_has_it(store):
    with progress.monitored(progress.Recorder()):
        asyncio.run(api.run(flow(["name"])))
    [differs] = checked(["name"]).of("differs")
    assert list(differs["difference"]["where"]) == ["b/name"]
    assert differs["difference"]["what"] == "presence"


def test_damaged_object(store):
    """Whose content is, by chance, what comes out now"""
    with progress.monitored(progress.Recorder()):
        asyncio.run(api.run(flow(["bytes"])))
    [log] = store.glob("objects/*-log")
    number = (int(log.read_bytes()[-1:]) + 1) % 8
    new = log.with_name("new")
    new.write_bytes(log.read_bytes()[:-1] + b"%d" % number)
    new.replace(log)
    [differs] = checked(["bytes"]).of("differs")
    assert "is damaged" in differs["text"] and "difference" not in differs


def test_never_built(store):
    with pytest.raises(UserError, match="no result of steady to compare with"):
        checked()


SCRIPT = """
import pathlib, sys
sys.argv[0] = 'dffml'
from dffml_operations_decentralice import flows
flows.path = lambda name: pathlib.Path('flow.yaml').absolute()
from dffml.cli.cli import CLI; CLI.main()
"""


@pytest.fixture
def command(tmp_path, store):
    """`build` with the flow above, in a directory of its own"""

    def command(*argv, varies=()):
        text = yaml.safe_dump(flow(varies).export(linked=True))
        (tmp_path / "flow.yaml").write_text(text)
        words = [sys.executable, "-c", SCRIPT, "service", "decentralice", "build"]
        return subprocess.run(
            [*words, *argv],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return command


def test_command(command):
    """In other processes the chance is the same, so what varies is the process"""
    assert command().returncode == 0
    done = command("-check")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["verdict"] == "same" and len(answer["steps"]) == 6
    assert "measure: left out: it measures" in done.stderr
    assert "check: 4 same, 0 differs, 2 left-out" in done.stderr.splitlines()


def test_command_fails(command):
    assert command(varies=["process"]).returncode == 0
    done = command("-check", varies=["process"])
    assert done.returncode == SignatureError.exit_code, done.stderr
    answer = json.loads(done.stdout)
    jsonschema.validate(answer, schema("check-report"))
    assert answer["verdict"] == "differs"
    assert "error: made again, tree gave other bytes: tree: b/process:" in done.stderr
    assert "Traceback" not in done.stderr


def test_not_both(command):
    done = command("-check", "-update")
    assert done.returncode == 2 and "one of the two" in done.stderr
