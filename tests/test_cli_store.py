"""The commands that look at the store, and keep it in order"""

import json
import os
import shutil
import signal
import subprocess

import pytest

from .conftest import COMMAND, commands_in
from .engine.conftest import Sample, flip
from .test_cli import complains

OTHER = {"write_text": {"words": ["c"]}}


@pytest.fixture
def work(tmp_path):
    path = tmp_path / "work"
    path.mkdir()
    return path


@pytest.fixture
def built(store, work) -> Sample:
    """The small sample's result, in the working directory"""
    made = Sample(store, work / "result")
    made.build()
    made.ended()
    return made


@pytest.fixture
def command(work, store):
    """Run a command; never with the store of whoever runs the tests"""
    return commands_in(work)


@pytest.mark.parametrize(
    "argv",
    [["explain"], ["status"], ["store"], ["store", "verify"], ["store", "prune"]],
    ids=" ".join,
)
def test_help(command, argv):
    done = command(*argv, "-h")
    assert done.returncode == 0 and done.stdout.startswith("usage:")
    assert done.stderr == ""


@pytest.mark.parametrize(
    "argv",
    [["explain", "-x"], ["status", "-x"], ["store", "verify", "-x"]]
    + [["store", "prune", "-keeps", "1"], ["store", "prune", "-keep", "1"]]
    + [["status", "-overlay", "mirror"]],
    ids=" ".join,
)
def test_unknown_option(command, argv):
    complains(command(*argv), 2, "unknown option")


def test_explain(built, command):
    """The link of the working directory, or another one"""
    done = command("explain")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("collect ") and done.stderr == ""
    assert "└─ upper: upper" in done.stdout
    assert command("explain", "result/upper").stdout.startswith("upper ")
    found = json.loads(command("explain", "result", "-json").stdout)
    assert found["result"] == built.object("collected").name
    assert len(found["objects"]) == 5


def test_nobody_reads_the_answer(built, work):
    """As behind `| head`, which had enough"""
    ours, theirs = os.pipe()
    os.close(ours)
    done = subprocess.run(
        [*COMMAND, "explain"], cwd=work, stdout=theirs, stderr=subprocess.PIPE
    )
    os.close(theirs)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, b"")


def test_explain_why(built, command):
    assert "no run before it is known" in command("explain", "-why").stdout
    built.build(**OTHER)
    done = command("explain", "-why")
    assert done.returncode == 0, done.stderr
    assert "  setting words: ['a', 'b'] -> ['c']" in done.stdout.splitlines()
    found = json.loads(command("explain", "-why", "-json").stdout)
    assert found["operations"]["upper"]["state"] == "unchanged"


@pytest.mark.parametrize("name", ["result", "none", "/etc/passwd"])
def test_nothing_to_explain(command, store, name):
    complains(command("explain", name), 2, name, "is no result")
    assert not store.exists()


def test_status(command, store):
    """Of an empty store; none is made"""
    done = command("status", "-overlays", "mirror")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "fetch_debian_kernel: would run: first time" in lines
    assert "publish_result: always" in lines
    assert any(line.startswith("write_disk: behind ") for line in lines)
    assert "would run" in done.stderr and "1 always run" in done.stderr
    assert not store.exists()
    found = json.loads(command("status", "-json").stdout)
    assert {"operation", "state", "reason", "bytes", "path"} == found[0].keys()


def test_status_of_no_overlay(command):
    complains(command("status", "-overlays", "nosuch"), 2, "nosuch")


def test_verify(built, command):
    done = command("store", "verify")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "objects": 6,
        "skipped": 0,
        "damaged": [],
        "actions": 0,
    }


def test_verify_finds_one_bit(built, command, tmp_path):
    """In a copy, and only there"""
    copy = tmp_path / "copy"
    shutil.copytree(built.root, copy, symlinks=True)
    tree = copy / "objects" / built.object("folder").name
    flip(tree / "deep/text", 5)
    done = command("store", "verify", DECENTRALICE_STORE=str(copy))
    assert done.returncode == 5 and done.stdout == ""
    damaged, cause, remedy = done.stderr.splitlines()
    assert damaged == f"damaged: {tree.name}: deep/text"
    assert cause.startswith("error: 1 of 6 objects")
    assert remedy.startswith("remedy: ") and "build again" in remedy
    assert not tree.exists() and built.object("folder").exists()
    again = command("store", "verify", DECENTRALICE_STORE=str(copy))
    assert again.returncode == 0, again.stderr


def test_verify_of_somebody_elses_store(built, command):
    """Owners would be wrong, and all of it damaged"""
    if os.geteuid() != 0:
        pytest.skip("only root can give something away")
    os.chown(built.root, 65534, 65534)
    complains(command("store", "verify"), 2, "somebody else's")
    assert built.object("folder").exists()


def test_prune(built, command):
    total = sum(path.stat().st_blocks for path in (built.root / "objects").iterdir())
    assert total
    done = command("store", "prune")
    assert done.returncode == 0 and json.loads(done.stdout)["removed"] == 0
    done = command("store", "prune", "-age", "14d", "-size", "1G")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["removed"] == 2 and found["freed"] == 8192
    assert built.objects() == ["collected", "folder", "published", "upper"]


def test_prune_keeps_the_last(built, command):
    built.build(**OTHER)
    built.ended()
    done = command("store", "prune", "-keep-last", "1", "-size", "0")
    assert done.returncode == 0, done.stderr
    assert built.build(**OTHER).keys() == {"publish"}
    assert "write_text" in built.build()


@pytest.mark.parametrize(
    "option, value", [("-size", "much"), ("-age", "old"), ("-age", "5")]
)
def test_what_cannot_be_pruned(built, command, option, value):
    complains(command("store", "prune", option, value), 2, repr(value))


def test_size_of_the_store(command):
    done = command("build", DECENTRALICE_STORE_SIZE="huge")
    complains(done, 2, "DECENTRALICE_STORE_SIZE", "'huge'")


def test_an_ordinary_start_is_cheap(built):
    """What a build that makes nothing need not import"""
    script = (
        "import sys, dffml_operations_decentralice.engine.operation;"
        "print([one for one in sys.modules if one.startswith('dffml_op')])"
    )
    argv = [*COMMAND[:1], "-c", script]
    said = subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=True).stdout
    for name in ("upkeep", "history", "listing"):
        assert f"engine.{name}" not in said
