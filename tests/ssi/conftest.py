"""The real service, with a Unix socket as of systemd"""

import asyncio
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from dffml_operations_decentralice.engine.commands import find_tool
from dffml_operations_decentralice.engine.testing import run_operation
from dffml_operations_decentralice.errors import MissingTool
from dffml_operations_decentralice.operations import ssi

CONFIG = Path(ssi.__file__).parent.parent / "files/ssi_service/etc/ssi-service"
TAKES_SOCKET = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
os.execv(sys.argv[2], sys.argv[2:])
"""


class Service:
    """The service with a state directory; ready when the block begins"""

    def __init__(self, program: Path, state: Path):
        self.program, self.state = program, state
        self.address = str(state / "s")

    def __enter__(self):
        notify = str(self.state / "notify")
        for path in (self.address, notify):
            Path(path).unlink(missing_ok=True)
        listening = socket.socket(socket.AF_UNIX)
        told = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        with listening, told:
            listening.bind(self.address)
            listening.listen()
            told.bind(notify)
            told.settimeout(60)
            number = listening.fileno()
            self.process = subprocess.Popen(
                [sys.executable, "-c", TAKES_SOCKET, str(number), str(self.program)],
                pass_fds=[number],
                cwd=self.state,
                env={
                    "CONFIG_PATH": str(CONFIG / "config.toml"),
                    "GIN_MODE": "release",
                    "STATE_DIRECTORY": str(self.state),
                    "NOTIFY_SOCKET": notify,
                },
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            assert told.recv(100).startswith(b"READY=1")
        return self

    def kill(self):
        self.process.kill()
        self.process.wait()

    def __exit__(self, *_):
        self.kill()


@pytest.fixture(scope="session")
def program(tmp_path_factory):
    """Built once, in the store of the whole run: Go's caches are large"""
    given = os.environ.get("DECENTRALICE_STORE")
    store = Path(given) if given else tmp_path_factory.mktemp("store")
    try:
        find_tool("go")
    except MissingTool as error:
        pytest.skip(error.cause)
    made = asyncio.run(run_operation(ssi.build_ssi_service, store=store))
    return Path(made, "ssi-service")


@pytest.fixture(scope="module")
def service(program, tmp_path_factory):
    """One that is running, for what needs no other"""
    with Service(program, tmp_path_factory.mktemp("s")) as running:
        yield running
