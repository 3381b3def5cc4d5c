"""The real service, with a Unix socket as of systemd"""

import asyncio
import contextlib
import http.client
import json
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
    """
    The service with a state directory; ready when the block begins. By a Unix socket in
    that directory, or by TCP. ``wrapper``: words before the program's; ``env``: changes
    """

    def __init__(self, program: Path, state: Path, tcp=False, wrapper=(), **env):
        self.program, self.state, self.tcp = program, state, tcp
        self.address = str(state / "s")
        self.wrapper, self.env = wrapper, env

    def __enter__(self):
        notify = str(self.state / "notify")
        for path in (self.address, notify):
            Path(path).unlink(missing_ok=True)
        listening = socket.socket(socket.AF_INET if self.tcp else socket.AF_UNIX)
        self.told = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        with listening:
            listening.bind(("127.0.0.1", 0) if self.tcp else self.address)
            if self.tcp:
                self.address = "http://127.0.0.1:%d" % listening.getsockname()[1]
            listening.listen()
            self.told.bind(notify)
            self.told.settimeout(60)
            number = listening.fileno()
            takes_socket = [sys.executable, "-c", TAKES_SOCKET, str(number)]
            self.log = open(self.state / "log", "ab")
            self.process = subprocess.Popen(
                [*self.wrapper, *takes_socket, str(self.program)],
                pass_fds=[number],
                cwd=self.state,
                env={
                    "CONFIG_PATH": str(CONFIG / "config.toml"),
                    "GIN_MODE": "release",
                    "STATE_DIRECTORY": str(self.state),
                    "NOTIFY_SOCKET": notify,
                    "PATH": os.environ["PATH"],
                    **self.env,
                },
                stdout=self.log,
                stderr=self.log,
            )
            assert self.told.recv(200).startswith(b"READY=1")
        return self

    def kill(self):
        self.process.kill()
        self.process.wait()

    def __exit__(self, *_):
        self.kill()
        self.told.close()
        self.log.close()

    def ask(self, method, path, body=None, **headers):
        """Status and content of an answer: JSON if it is, else text"""
        if self.tcp:
            connection = http.client.HTTPConnection(self.address[len("http://") :])
        else:
            connection = http.client.HTTPConnection("localhost")
            connection.sock = socket.socket(socket.AF_UNIX)
            connection.sock.connect(self.address)
        connection.timeout = 60
        with contextlib.closing(connection):
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            said = answer.read().decode()
        with contextlib.suppress(ValueError):
            return answer.status, json.loads(said)
        return answer.status, said


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
