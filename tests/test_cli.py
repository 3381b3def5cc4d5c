"""The commands as a user runs them: what they print, and their exit status"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml

from dffml_operations_decentralice import schemas

from .conftest import commands_in
from .terminal import Terminal

PUBLISHED = '{"result": "/r", "lock": "/l", "verdict": "boots"}'


@pytest.fixture
def run(tmp_path, store):
    """Run one of the commands in an empty directory"""
    work = tmp_path / "work"
    work.mkdir()
    return commands_in(work)


def overlay(run, content):
    text = content if isinstance(content, str) else yaml.safe_dump(content)
    (run.work / "mine.yaml").write_text(text)


def complains(done, status, *said):
    """One line of cause, one of remedy, perhaps a log; nothing else, and no answer"""
    assert done.returncode == status, done.stderr
    lines = done.stderr.splitlines()
    kinds = [line.partition(":")[0] for line in lines]
    assert kinds in (["error", "remedy"], ["error", "remedy", "log"]), done.stderr
    assert "Traceback" not in done.stderr and done.stdout == ""
    for one in said:
        assert one in done.stderr, done.stderr


COMMANDS = [
    *("build", "verify", "boot", "check-loader", "doctor", "upstreams"),
    "vulnerabilities",
]


@pytest.mark.parametrize("name", COMMANDS)
def test_help(run, name):
    done = run(name, "-h")
    assert done.returncode == 0 and done.stdout.startswith("usage:")
    assert done.stderr == "" and "Traceback" not in done.stdout


def test_help_of_all(run):
    done = run("-h")
    assert done.returncode == 0
    for name in [*COMMANDS, "did", "credential"]:
        assert name in done.stdout


@pytest.mark.parametrize(
    "argv, said",
    [
        (["build", "-cmdline", "quiet"], "unknown option -cmdline"),
        (["verify", "-disks", "x"], "-disks"),
        (["boot", "-nosuch"], "-nosuch"),
        (["doctor", "-overlays", "mirror"], "-overlays"),
        (["upstreams", "-x", "y"], "-x"),
        (["build", "-a", "1", "-b", "2"], "-a, -b"),
    ],
)
def test_unknown_option(run, argv, said):
    complains(run(*argv), 2, "unknown option", said)


@pytest.mark.parametrize("argv", [["nosuch"], ["build", "-progress"]])
def test_usage(run, argv):
    done = run(*argv)
    assert done.returncode == 2 and "usage:" in done.stderr
    assert "Traceback" not in done.stderr


def test_kind_of_progress(run):
    complains(run("build", "-progress", "xml"), 2, "'xml'", "lines, json")


@pytest.mark.parametrize("name", ["build", "verify", "boot"])
def test_missing_overlay(run, name):
    complains(run(name, "-overlays", "nosuch"), 2, "'nosuch'", "mirror")
    complains(run(name, "-overlays", "./no.yaml"), 2, "./no.yaml")


@pytest.mark.parametrize(
    "content, said",
    [
        ("a: [\nb: c\n", "mine.yaml:"),
        ({"configs": {"nosuch": {}}}, "'nosuch'"),
        ({"configs": {"build_uki": {"cmdlin": []}}}, "did you mean 'cmdline'"),
        ({"configs": {"build_uki": {"cmdline": 3}}}, "must be a list of text, not 3"),
        ({"config": {}}, "'config'"),
    ],
)
def test_bad_overlay(run, store, content, said):
    overlay(run, content)
    complains(run("build", "-overlays", "mine.yaml"), 2, said)
    assert os.listdir(run.work) == ["mine.yaml"]
    assert not list(store.glob("objects/*"))


@pytest.mark.parametrize("name", ["verify", "boot"])
def test_no_disk(run, name):
    complains(run(name), 2, "no disk result/disk.qcow2", "-disk")
    complains(run(name, "-disk", "none.qcow2"), 2, "no disk none.qcow2")


def test_boot_needs_qemu(run):
    """With a disk, the command gets as far as the machine"""
    (run.work / "disk.qcow2").touch()
    overlay(run, {"configs": {"boot_verify": {"qemu": "no-such-qemu"}}})
    done = run("boot", "-disk", "disk.qcow2", "-overlays", "mine.yaml")
    complains(done, 3, "no-such-qemu is not on this machine", "doctor")


def test_store_that_cannot_be(run):
    (run.work / "file").touch()
    done = run("build", DECENTRALICE_STORE=str(run.work / "file"))
    complains(done, 2, "cannot be used", "DECENTRALICE_STORE")


def unreachable(run, **more):
    overlay(
        run,
        {
            "configs": {
                "userspace_repository": {"url": "http://127.0.0.1:9/os", **more},
                "kernel_repository": {"releasever": "44"},
            }
        },
    )


def test_network(run, store):
    """The first that fails says so; others begin nothing"""
    unreachable(run)
    # What does not need this repository would go on: there is none of it
    done = run(
        "build", "-overlays", "mine.yaml", http_proxy="", PATH=os.environ["PATH"]
    )
    assert done.returncode in (4, 3), done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count("error:") == 1 and done.stderr.count("remedy:") == 1
    assert list(store.glob("tmp/*")) == []
    assert os.listdir(run.work) == ["mine.yaml"]


def test_wrong_key_type(run, store):
    (run.work / "key.pem").touch()
    unreachable(run, key="key.pem")
    done = run("build", "-overlays", "mine.yaml")
    assert done.returncode == 2, done.stderr
    assert "error: key.pem: apko takes keys by files *.rsa.pub only" in done.stderr
    assert "Traceback" not in done.stderr and list(store.glob("tmp/*")) == []


def test_traceback_if_wanted(run):
    (run.work / "a").touch()
    done = run("verify", "-log", "debug")
    assert done.returncode == 2 and "Traceback" in done.stderr
    assert "error: no disk" in done.stderr


def test_missing_tool(run, tmp_path):
    """`doctor` says the same, and the command that installs it"""
    bin = tmp_path / "bin"
    bin.mkdir()
    done = run("doctor", PATH=str(bin))
    assert done.returncode in (0, 3)
    assert ("MISSING" in done.stdout) == (done.returncode == 3)
    assert done.stderr == ""


def test_doctor(run):
    done = run("doctor")
    assert done.returncode in (0, 3) and done.stderr == ""
    lines = done.stdout.splitlines()
    if done.returncode:
        assert any(line.startswith("install by: ") for line in lines)
    else:
        assert lines[-1] == "nothing is missing"


OVERLAY = """
from dffml_operations_decentralice.engine import Step, operation
from dffml_operations_decentralice import errors
from dffml_operations_decentralice.types import PublishedResult, UserspaceTree

@operation
async def prepare(step: Step) -> UserspaceTree:
    '''Comes first in flows that have it'''
    step.out.write_text(await step.run("echo", "prepared"))
    return UserspaceTree(str(step.out))

@operation(result="published.json", cached=False)
async def publish_prepared(step: Step, prepared: UserspaceTree) -> PublishedResult:
    '''The same behind another one'''
    {body}

@operation(result="published.json", cached=False)
async def publish(step: Step) -> PublishedResult:
    '''Fails, or not'''
    {body}
"""
FLOW = {
    "linked": True,
    "definitions": {"PublishedResult": {"name": "PublishedResult", "primitive": "str"}},
}


def declared(name, inputs, output):
    return {
        "name": f"small_overlay:{name}",
        "inputs": inputs,
        "outputs": {"result": output},
        "stage": "processing",
        "retry": 0,
    }


@pytest.fixture
def small(run, tmp_path):
    """The command with a flow of one operation, whose body is given"""

    def small(body, *argv, prepared=False, words=None, **options):
        from dffml_operations_decentralice import flows

        site = tmp_path / "site"
        site.mkdir(exist_ok=True)
        (site / "small_overlay.py").write_text(OVERLAY.format(body=body))
        base = yaml.safe_load(flows.path("os_decentralice.yaml").read_text())
        operations = {"get_single": base["operations"]["get_single"]}
        wiring = {"get_single": base["flow"]["get_single"]}
        if prepared:
            operations["prepare"] = declared("prepare", {}, "UserspaceTree")
            wiring["prepare"] = {"inputs": {}}
            taken = {"prepared": "UserspaceTree"}
            made = declared("publish_prepared", taken, "PublishedResult")
            given = {"prepared": [{"prepare": "result"}]}
            operations["publish"], wiring["publish"] = made, {"inputs": given}
        else:
            operations["publish"] = declared("publish", {}, "PublishedResult")
            wiring["publish"] = {"inputs": {}}
        flow = {
            **FLOW,
            "definitions": base["definitions"],
            "operations": operations,
            "flow": wiring,
            "seed": base["seed"],
            "configs": {},
        }
        (site / "flow.yaml").write_text(yaml.safe_dump(flow))
        script = (
            "import sys; sys.argv[0] = 'dffml'\n"
            "from dffml_operations_decentralice import flows\n"
            f"flows.path = lambda name: __import__('pathlib').Path({str(site)!r}, "
            "'flow.yaml')\n"
            "from dffml.cli.cli import CLI; CLI.main()\n"
        )
        path = [str(site), os.environ.get("PYTHONPATH", "")]
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, path))}
        words = words or ["service", "decentralice", "build", *argv]
        words = [sys.executable, "-c", script, *words]
        pipe = subprocess.PIPE
        options = {"cwd": run.work, "stdout": pipe, "text": True, **options}
        terminal = options.pop("terminal", None)
        if terminal:
            return terminal.run(words, env, **options)
        return subprocess.Popen(words, env=env, stderr=pipe, **options)

    small.flow = tmp_path / "site/flow.yaml"
    return small


def test_answer(small):
    body = f"step.say('hello'); step.out.write_text({PUBLISHED!r})"
    process = small(body)
    out, err = process.communicate()
    assert process.returncode == 0, err
    assert json.loads(out) == {**json.loads(PUBLISHED), "results": {}}
    assert err.splitlines()[:2] == ["publish: always", "publish: hello"]
    assert err.splitlines()[-1] == "0 steps unchanged, 1 run"


@pytest.fixture(scope="module")
def schema():
    return jsonschema.Draft202012Validator(schemas.schema("progress"))


@pytest.fixture
def program(small, schema):
    """A program that runs a build: its events, all of them as published"""

    def program(body, *argv, **options):
        process = small(body, "-progress", "json", *argv, **options)
        out, err = process.communicate()
        events = [json.loads(line) for line in err.splitlines()]
        for event in events:
            schema.validate(event)
        times = [event["time"] for event in events]
        assert times == sorted(times)
        last = events[-1]
        assert last["event"] == "result"
        assert last["exit_code"] == process.returncode
        answer = json.loads(out or "{}")
        assert answer in ({}, {**json.loads(PUBLISHED), "results": {}})
        return events

    return program


def kinds(events, *left_out):
    """Of events, with their operations"""
    found = [(one["event"], one.get("operation")) for one in events]
    return [one for one in found if one[0] not in left_out]


def test_progress_for_programs(program):
    body = f"step.say('hello'); step.out.write_text({PUBLISHED!r})"
    events = program(body, prepared=True)
    assert kinds(events) == [
        ("plan", None),
        ("start", "prepare"),
        ("end", "prepare"),
        ("start", "publish_prepared"),
        ("say", "publish_prepared"),
        ("end", "publish_prepared"),
        ("result", None),
    ]
    assert events[0]["operations"] == ["prepare", "publish_prepared"]
    assert events[-1]["ran"] == 2 and events[-1]["unchanged"] == 0
    again = program(body, prepared=True)
    assert kinds(again, "plan", "result")[:2] == [
        ("unchanged", "prepare"),
        ("start", "publish_prepared"),
    ]
    assert again[1]["object"] == events[2]["object"]


def test_a_program_finds_what_failed(program, store):
    """Which step, why, what to do, and the log with all that was said"""
    script = "echo much; echo that is why >&2; exit 3"
    events = program(f"await step.run('sh', '-c', {script!r})", prepared=True)
    started = [one["operation"] for one in events if one["event"] == "start"]
    ended = [one["operation"] for one in events if one["event"] == "end"]
    [failed] = [one for one in events if one["event"] == "failed"]
    assert set(started) - set(ended) == {failed["operation"]} == {"publish_prepared"}
    assert failed["kind"] == "command" and failed["exit_code"] == 7
    assert "sh exited with 3" in failed["cause"]
    [log] = [
        one["log"]
        for one in events
        if one["event"] == "start" and one["operation"] == failed["operation"]
    ]
    assert failed["log"] == log and Path(log).parent == store / "logs"
    said = Path(log).read_text()
    assert "much\n" in said and "that is why\n" in said and "error: sh exited" in said
    assert kinds(events, "plan", "result") == [
        ("start", "prepare"),
        ("end", "prepare"),
        ("start", "publish_prepared"),
        ("failed", "publish_prepared"),
    ]


@pytest.mark.parametrize(
    "argv, kind, said",
    [
        (["-overlays", "./no.yaml"], "user", "./no.yaml"),
        (["-nosuch", "x"], "user", "unknown option -nosuch"),
    ],
)
def test_a_program_is_told_what_is_outside_of_steps(program, argv, kind, said):
    events = program("pass", *argv)
    assert kinds(events) == [("failed", None), ("result", None)]
    assert events[0]["kind"] == kind and said in events[0]["cause"]
    assert events[0]["log"] is None


@pytest.mark.parametrize("own", [False, True], ids=["build", "dataflow run"])
@pytest.mark.parametrize("number", [None, signal.SIGINT, signal.SIGTERM])
def test_on_a_terminal(small, tmp_path, own, number):
    """A live display, by dffml's own command too; the screen is left in order"""
    fifo, terminal = tmp_path / "fifo", Terminal(100, 30)
    os.mkfifo(fifo)
    wait = f"'echo working >&2; read line < $0', {str(fifo)!r}"
    body = f"await step.run('sh', '-c', {wait}); step.out.write_text({PUBLISHED!r})"
    words = ["dataflow", "run", "single", "-dataflow", str(small.flow)]
    process = small(body, prepared=True, words=words * own, terminal=terminal)
    terminal.until("done    prepare", "publish_prepared", "    working", "always")
    if number:
        process.send_signal(number)
    else:
        fifo.write_text("go\n")
    lines = terminal.rest()
    assert terminal.screen.cursor.x == 0 and not terminal.screen.cursor.hidden
    assert lines[0].startswith("done    prepare  ")
    assert "    working" not in lines and not any("are done" in one for one in lines)
    if number:
        assert lines[1:3] == [
            "failed  publish_prepared",
            f"error: interrupted by {number.name}",
        ]
    else:
        assert lines[1].startswith("done    publish_prepared  ")
        assert lines[2:] == [] if own else ["0 steps unchanged, 2 run"]
    status = 128 + number if number else 0
    assert process.wait() == status


@pytest.mark.parametrize(
    "name, status",
    [
        ("UserError", 2),
        ("MissingTool", 3),
        ("NetworkError", 4),
        ("SignatureError", 5),
        ("SpaceError", 6),
        ("CommandFailed", 7),
        ("VmError", 8),
        ("DoesNotBoot", 9),
    ],
)
def test_exit_codes(small, name, status):
    process = small(f"raise errors.{name}('cause', remedy='do')")
    out, err = process.communicate()
    assert process.returncode == status and out == ""
    lines = err.splitlines()
    assert lines[0] == "publish: always"
    assert lines[1:3] == ["error: cause", "remedy: do"]
    assert lines[3].startswith("log: ") and len(lines) == 4
    assert Path(lines[3].partition(": ")[2]).is_file()


def test_what_nobody_thought_of(small):
    process = small("raise ValueError('oh')")
    out, err = process.communicate()
    assert process.returncode == 1 and out == "" and "Traceback" not in err
    lines = err.splitlines()[-3:]
    assert [line.partition(": ")[0] for line in lines] == ["error", "remedy", "log"]
    assert lines[0] == "error: ValueError: oh"
    assert "Traceback" in Path(lines[2].partition(": ")[2]).read_text()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal(small, run, tmp_path, store, number):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    body = f"await step.run('sh', '-c', 'echo up > $0; sleep 1000', {str(fifo)!r})"
    process = small(body)
    assert fifo.read_text() == "up\n"
    process.send_signal(number)
    out, err = process.communicate()
    assert process.returncode == 128 + number and out == ""
    assert f"error: interrupted by {signal.Signals(number).name}" in err
    assert "Traceback" not in err
    assert list(store.glob("tmp/*")) == list(store.glob("objects/*")) == []
