"""Ends that are not the usual one: twice, by a terminal that closes, under dffml"""

import signal
import sys

import pytest

from .lab import ALWAYS, STATUS

DFFML = [sys.executable, "-m", "dffml"]
OPERATION = "partition"  # quick, and of two commands


@pytest.fixture
def flow(lab):
    """The flow with its overlay, as ``dffml dataflow merge`` writes it"""
    from dffml_operations_decentralice import flows

    parts = [str(flows.path(name)) for name in ("mirror", "os_decentralice.yaml")]
    argv = [*DFFML, "dataflow", "merge", "-configloader", "yaml", *parts]
    path = lab.cwd / "flow.yaml"
    path.write_text(lab.namespace.run("env", "-C", lab.cwd, *argv))
    yield str(path)
    path.unlink()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_under_dffml(lab, flow, number):
    """Nothing but operations is ours there"""
    argv = [*DFFML, "dataflow", "run", "single", "-dataflow", flow]
    with lab.forgetting(OPERATION):
        before = lab.state()
        build = lab.build(argv=argv).until_command(0).end(number)
        assert build.status == STATUS[number], build.said
        assert f"interrupted by {number.name}" in build.said
        assert "Traceback" not in build.said
        assert before.damage() == []


def test_terminal_closes(lab):
    with lab.forgetting(OPERATION):
        before = lab.state()
        build = lab.build().until_within(OPERATION, 0).end(signal.SIGHUP)
        assert build.status == STATUS[signal.SIGHUP], build.said
        assert before.damage() == []


def test_nohup(lab):
    """Who starts a build so that it survives the terminal has his way"""
    argv = ["nohup", *lab.argv()]
    with lab.forgetting(OPERATION):
        build = lab.build(argv=argv).until_within(OPERATION, 0).end(signal.SIGHUP)
        assert build.status == 0, build.said
        assert OPERATION in build.started()


def test_again_and_again(lab):
    """Impatience changes nothing: the first signal counts"""
    with lab.forgetting(OPERATION):
        before = lab.state()
        build = lab.build().until_within(OPERATION, 0)
        build.signal(signal.SIGINT).signal(signal.SIGINT).end(signal.SIGINT)
        # At its very end the interpreter leaves signals to the system: 130 for shells
        assert build.status in (STATUS[signal.SIGINT], -signal.SIGINT), build.said
        assert "Traceback" not in build.said
        assert before.damage() == []


def test_nobody_reads(lab):
    """``build 2>&1 | head``: ends as a program does that SIGPIPE ends"""
    with lab.forgetting(OPERATION):
        before = lab.state()
        build = lab.build().until_within(OPERATION, 0)
        build.process.stderr.close()
        assert build.process.wait() == 128 + signal.SIGPIPE
        assert before.damage() == []
        again = lab.build().end()
        assert again.status == 0 and again.started() - ALWAYS <= {OPERATION}
