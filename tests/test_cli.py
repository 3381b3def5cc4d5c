"""The commands as a user runs them: what they print, and their exit status"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from .conftest import DFFML

COMMAND = [*DFFML, "service", "decentralice"]


@pytest.fixture
def run(tmp_path, store):
    """Run one of the commands in an empty directory"""
    work = tmp_path / "work"
    work.mkdir()

    def run(*argv, **env):
        return subprocess.run(
            [*COMMAND, *argv],
            cwd=work,
            env={**os.environ, **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
        )

    run.work = work
    return run


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


@pytest.mark.parametrize("name", ["build", "verify", "boot", "doctor", "upstreams"])
def test_help(run, name):
    done = run(name, "-h")
    assert done.returncode == 0 and done.stdout.startswith("usage:")
    assert done.stderr == "" and "Traceback" not in done.stdout


def test_help_of_all(run):
    done = run("-h")
    assert done.returncode == 0
    for name in ("build", "verify", "boot", "doctor", "upstreams"):
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
from dffml_operations_decentralice.types import PublishedResult

@operation(result="published.json", cached=False)
async def publish(step: Step) -> PublishedResult:
    '''Fails, or not'''
    {body}
"""
FLOW = {
    "linked": True,
    "definitions": {"PublishedResult": {"name": "PublishedResult", "primitive": "str"}},
}


@pytest.fixture
def small(run, tmp_path):
    """The command with a flow of one operation, whose body is given"""

    def small(body, *argv, command="build"):
        from dffml_operations_decentralice import flows

        site = tmp_path / "site"
        site.mkdir(exist_ok=True)
        (site / "small_overlay.py").write_text(OVERLAY.format(body=body))
        base = yaml.safe_load(flows.path("os_decentralice.yaml").read_text())
        single = base["operations"]["get_single"]
        flow = {
            **FLOW,
            "definitions": base["definitions"],
            "operations": {
                "get_single": single,
                "publish": {
                    "name": "small_overlay:publish",
                    "inputs": {},
                    "outputs": {"result": "PublishedResult"},
                    "stage": "processing",
                    "retry": 0,
                },
            },
            "flow": {
                "get_single": base["flow"]["get_single"],
                "publish": {"inputs": {}},
            },
            "seed": base["seed"],
            "configs": {},
        }
        (site / "flow.yaml").write_text(yaml.safe_dump(flow))
        script = (
            "import sys; sys.argv[0] = 'dffml'\n"
            "from dffml_operations_decentralice import build, flows\n"
            f"flows.path = lambda name: __import__('pathlib').Path({str(site)!r}, "
            "'flow.yaml')\n"
            "from dffml.cli.cli import CLI; CLI.main()\n"
        )
        env = {**os.environ, "PYTHONPATH": str(site)}
        words = [
            sys.executable,
            "-c",
            script,
            "service",
            "decentralice",
            "build",
            *argv,
        ]
        pipe = subprocess.PIPE
        options = dict(cwd=run.work, env=env, stdout=pipe, stderr=pipe, text=True)
        return subprocess.Popen(words, **options)

    return small


def test_answer(small):
    body = "step.say('hello'); step.out.write_text('{\"verdict\": \"boots\"}')"
    process = small(body)
    out, err = process.communicate()
    assert process.returncode == 0, err
    assert json.loads(out) == {"verdict": "boots"}
    assert err.splitlines()[:2] == ["publish: always", "publish: hello"]
    assert err.splitlines()[-1] == "0 steps unchanged, 1 run"


def test_progress_for_programs(small):
    body = "step.say('hello'); step.out.write_text('{}')"
    process = small(body, "-progress", "json")
    out, err = process.communicate()
    events = [json.loads(line) for line in err.splitlines() if line.startswith("{")]
    assert [one["event"] for one in events] == ["start", "say", "end"], err
    assert process.returncode == 0 and json.loads(out) == {}


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
    process = small(f"raise errors.{name}('cause', remedy='do', log=step.log)")
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
    assert "oh" in err.splitlines()[-2] and err.splitlines()[-1].startswith("remedy: ")


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
