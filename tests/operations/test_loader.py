"""check_loader as a step, and as a command"""

import asyncio
import json
from pathlib import Path

import jsonschema
import pytest

from dffml_operations_decentralice.engine.testing import run_operation
from dffml_operations_decentralice.errors import DoesNotBoot, UserError
from dffml_operations_decentralice.operations.loader import check_loader, refusal
from dffml_operations_decentralice.schemas import schema

from ..conftest import commands_in
from ..loader import real
from ..loader.test_dynamic import program
from ..loader.test_report import SYSTEMD
from ..loader.writer import write


@pytest.fixture
def tree(tmp_path):
    """A root whose init starts, and whose systemd does not"""
    root = tmp_path / "tree"
    real.copy(real.host_loader(), root / real.LOADER[1:])
    write(root / SYSTEMD[1:], program("liba.so"))
    write(root / "sbin/init", program())
    write(root / "bin/other", program("libb.so"))
    return root


def run(tree, store, **settings):
    made = run_operation(check_loader, store=store, settings=settings, root=str(tree))
    path = asyncio.run(made)
    report = json.loads(Path(path).read_text())
    jsonschema.validate(report, schema("loader-report"))
    return path, report


def test_refused(tree, store):
    with pytest.raises(DoesNotBoot) as caught:
        run(tree, store)
    error = caught.value
    assert error.exit_code == 9
    assert SYSTEMD in error.cause and "liba.so" in error.cause
    assert "default" in error.remedy and "-force" in error.remedy
    assert "liba.so" in error.log.read_text()
    assert not list(store.glob("objects/*loader-report*"))


def test_forced(tree, store):
    _path, report = run(tree, store, force=True)
    assert report["verdict"] == "refused" and len(report["findings"]) == 1


def test_another_init(tree, store):
    assert run(tree, store, init="/sbin/init")[1]["verdict"] == "starts"


def test_everything(tree, store):
    with pytest.raises(DoesNotBoot) as caught:
        run(tree, store, init="/sbin/init", everything=True)
    assert "and 1 more" in caught.value.cause


def test_the_report_is_that_of_what_starts(tree, store, tmp_path):
    """A root that differs in what nobody starts gives the same artefact"""
    first, _ = run(tree, store, init="/sbin/init")
    write(tree / "etc/motd", b"hello")
    second, _ = run(tree, store, init="/sbin/init")
    assert first == second
    moved = tree.rename(tmp_path / "moved")
    assert run(moved, store, init="/sbin/init")[0] == first


def test_layers(tree, store):
    write(tree / "upper/sbin/init", program("libu.so"))
    settings = {"layers": ["/upper", "/"], "init": "/sbin/init"}
    with pytest.raises(DoesNotBoot, match="libu.so"):
        run(tree, store, **settings)
    with pytest.raises(UserError, match="/none does not exist"):
        run(tree, store, **{**settings, "layers": ["/none"]})


def test_refusal():
    assert refusal({"findings": [], "left_out": 0}, "x") is None


@pytest.fixture
def command(tmp_path, store):
    work = tmp_path / "work"
    work.mkdir()
    return commands_in(work)


def test_command(tree, command):
    done = command("check-loader", str(tree))
    assert done.returncode == 9
    assert SYSTEMD in done.stdout
    kinds = [line.partition(":")[0] for line in done.stderr.splitlines()]
    assert kinds == ["error", "remedy"]
    done = command("check-loader", str(tree), "-init", "/sbin/init")
    assert (done.returncode, done.stderr) == (0, "")
    assert "all would start" in done.stdout


def test_command_json(tree, command):
    done = command("check-loader", str(tree), "-json", "-everything")
    assert done.returncode == 9
    report = json.loads(done.stdout)
    jsonschema.validate(report, schema("loader-report"))
    assert {one["what"] for one in report["findings"]} == {"liba.so", "libb.so"}


def test_command_on_this_machine(command):
    """Whatever it finds, in a container without systemd too"""
    done = command("check-loader", "/")
    assert done.returncode in (0, 9) and "Traceback" not in done.stderr


@pytest.mark.parametrize("name", ["none", "file"])
def test_no_directory(name, command):
    (command.work / "file").touch()
    done = command("check-loader", name)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {name} is no directory")
