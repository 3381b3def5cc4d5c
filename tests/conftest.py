"""What tests share: a fresh store, and one image for all tests that look at one"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Dict

import pytest

from dffml_operations_decentralice import flows
from dffml_operations_decentralice.engine import history
from dffml_operations_decentralice.engine.commands import find_tool
from dffml_operations_decentralice.engine.store import default_root
from dffml_operations_decentralice.errors import MissingTool

from .rpms import Rpms

DFFML = [sys.executable, "-m", "dffml"]
COMMAND = [*DFFML, "service", "decentralice"]
STORE = default_root()  # before any test sets another one


def commands_in(work: Path):
    """A function that runs one of our commands in a directory"""

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


def pytest_configure(config):
    config.addinivalue_line("markers", "slow: takes minutes; `make test` leaves it out")


@pytest.fixture
def store(tmp_path, monkeypatch) -> Path:
    """A store with nothing in it, which operations use in a flow too"""
    path = tmp_path / "store"
    monkeypatch.setenv("DECENTRALICE_STORE", str(path))
    monkeypatch.delenv("DECENTRALICE_UPDATE", raising=False)
    return path


@pytest.fixture(scope="session")
def rpms(tmp_path_factory) -> Rpms:
    """A small repository of signed RPMs"""
    for tool in ("nfpm", "createrepo_c", "gpg", "gpgconf", "rpmkeys"):
        try:
            find_tool(tool)
        except MissingTool as error:
            pytest.skip(error.cause)
    return Rpms(tmp_path_factory.mktemp("rpms"))


class Image:
    """The image of this session, and all that it was made of"""

    def __init__(self, directory: Path, store: Path, log: Path):
        self.directory = directory
        self.store = store
        self.log = log
        self.report = json.loads((directory / "report.json").read_text())
        self.disk = (directory / "disk.qcow2").resolve()
        self.made_of = made_of(store, directory.name)

    def artefact(self, name: str) -> Path:
        """``root-tree``, ``tools-tree``, …: that of this image, not the newest"""
        return self.store / "objects" / self.made_of[name]


def made_of(store: Path, result: str) -> Dict[str, str]:
    """Objects by name: the result, its action's inputs, theirs, …"""
    objects = history.explain(store / "objects" / result)["objects"]
    return {one.partition("-")[2]: one for one, known in objects.items() if known}


@pytest.fixture(scope="session")
def image(tmp_path_factory, request) -> Image:
    """
    The mirror's image, built and booted by dffml's own commands, with the store of the
    environment: a build that has nothing to do is quick.
    """
    work = tmp_path_factory.mktemp("image")
    env = {**os.environ, "DECENTRALICE_STORE": str(STORE)}
    parts = [flows.path("mirror"), flows.path("os_decentralice.yaml")]
    argv = [*DFFML, "dataflow", "merge", "-configloader", "yaml", *map(str, parts)]
    flow, log = work / "flow.yaml", work / "build.log"
    with open(flow, "w") as file:
        subprocess.run(argv, stdout=file, check=True)
    argv = [*DFFML, "dataflow", "run", "single", "-dataflow", str(flow)]
    capture = request.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        status = streamed(argv, log, cwd=work, env=env)
    if status or not (work / "result").is_dir():
        last = "".join(log.read_text(errors="replace").splitlines(True)[-30:])
        pytest.fail(f"no image: exit status {status}, {log}:\n{last}", pytrace=False)
    return Image((work / "result").resolve(), STORE, log)


def streamed(argv, log: Path, **options) -> int:
    """Run a command; what it says is shown at once, and kept"""
    both = dict(stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    print("\nbuilding the image that tests look at", file=sys.stderr)
    with subprocess.Popen(argv, **both, **options) as process:
        with open(log, "wb") as file:
            for line in process.stdout:
                file.write(line)
                sys.stderr.write("  " + line.decode("utf-8", "replace"))
    return process.returncode


@pytest.fixture(scope="module")
def copy(image):
    """A store that knows all that the image's does, and is thrown away"""
    with tempfile.TemporaryDirectory(dir=image.store.parent) as folder:
        for name in ("objects", "actions", "latest", "memo.json"):
            source = str(image.store / name)
            subprocess.run(["cp", "-al", source, folder], check=True)
        yield Path(folder)
