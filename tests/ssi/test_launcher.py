"""The built launcher: what it refuses to start with, and what it answers"""

import asyncio
import json
import shutil
import signal
import socket
import subprocess
import sys

import pytest

from dffml_operations_decentralice.ssi.client import Client

from ..mounts import skip_if_refused
from .conftest import CONFIG, Service

LIMIT = 1 << 20  # bytes of a request's body
REFUSED = 78  # EX_CONFIG
SECRET = "of-nobodys-business"
DATABASE, KEY = "bolt.db", "service-key.json"
KEY_REQUEST = json.dumps({"keyType": "Ed25519"})
TAKES_SOCKETS = """
import os, socket, sys
for _ in range(2):
    one = socket.socket()
    one.listen()
    one.set_inheritable(True)
    assert one.detach() in (3, 4)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="2")
os.execv(sys.argv[1], sys.argv[1:])
"""


@pytest.fixture
def state(tmp_path_factory):
    return tmp_path_factory.mktemp("s")  # a short path: it holds sockets


@pytest.fixture(scope="module")
def used(program, tmp_path_factory):
    """The state of a service that has worked: some hundred KiB"""
    state = tmp_path_factory.mktemp("s")

    async def work():
        async with Client(service.address) as opened:
            did = await opened.create_did()
            for number in range(60):
                await opened.issue(did, did, {"nonce": str(number)})

    with Service(program, state) as service:
        asyncio.run(work())
    return state


def start(program, state, config=None, wrapper=(), **env):
    """The ended process of a launcher that has no socket of systemd's"""
    path = CONFIG / "config.toml"
    if config is not None:
        path = state / "config.toml"
        path.write_text(config)
    return subprocess.run(
        [*wrapper, program],
        env={"CONFIG_PATH": str(path), "STATE_DIRECTORY": str(state), **env},
        cwd=state,
        capture_output=True,
        text=True,
        timeout=60,
    )


def check_refused(done, message, status=REFUSED):
    assert done.returncode == status, done
    lines = done.stderr.splitlines()
    assert len(lines) == 1 and lines[0].startswith("ssi-service: "), done.stderr
    assert message in lines[0]


def config(old="", new=""):
    text = (CONFIG / "config.toml").read_text()
    assert old in text
    return text.replace(old, new)


SCHEMA_TABLE = '[services.schema]\nname = "schema"\n'


@pytest.mark.parametrize(
    "text, message",
    [
        ("x", "toml: line"),
        ("", "is not HOST:PORT"),
        (config("127.0.0.1:3000", "0.0.0.0:3000"), "not a loopback address"),
        (config('api_host = "127.0.0.1:3000"'), "is not HOST:PORT"),
        (config("127.0.0.1:3000", "127.0.0.1:0"), "no port"),
        (config('storage = "bolt"'), 'storage is ""'),
        (config('storage = "bolt"', 'storage = "redis"'), 'storage is "redis"'),
        (config('option = "bolt.db"'), "no storage_option"),
        (config('name = "webhook"'), "needs a name"),
        (config(SCHEMA_TABLE), "schema no config provided"),
        (config('"10s"', '"soon"'), "invalid duration"),
        (config('password = "unused"'), "no password of services.keystore"),
    ],
)
def test_configuration(program, state, text, message):
    check_refused(start(program, state, text), message)
    assert not (state / KEY).exists()


@pytest.mark.parametrize(
    "path, message",
    [
        ("", "CONFIG_PATH is not set"),
        ("/nowhere/config.toml", "no such file"),
        ("/etc/hostname", 'must be ".toml"'),
    ],
)
def test_no_configuration(program, state, path, message):
    check_refused(start(program, state, CONFIG_PATH=path), message)
    assert not list(state.iterdir())


def test_two_sockets(program, state):
    done = start(program, state, wrapper=[sys.executable, "-c", TAKES_SOCKETS])
    check_refused(done, "systemd passed 2 sockets")


def cut(length):
    return lambda data: data[: int(len(data) * length) if length < 1 else length]


@pytest.mark.parametrize(
    "name, change, message",
    [
        (DATABASE, None, "is missing or empty"),
        (DATABASE, cut(0), "is missing or empty"),
        (DATABASE, cut(1), "is damaged: it is no bolt database"),
        (DATABASE, cut(4096), "is damaged: it was cut"),
        (DATABASE, cut(8192), "is damaged: it was cut"),
        (DATABASE, cut(0.5), "is damaged: it was cut"),
        (DATABASE, lambda data: b"damaged\n" * 9999, "no bolt database"),
        (DATABASE, lambda data: bytes(len(data)), "no bolt database"),
        (DATABASE, lambda data: data[:8192] + bytes(len(data)), "is damaged: page"),
        (KEY, None, "its service key"),
        (KEY, cut(0), "the service key is not JSON"),
        (KEY, cut(0.5), "the service key is not JSON"),
        (KEY, lambda data: b'{"Base58Key":"0OIl"}', "the service key is not base58"),
        (KEY, lambda data: b'{"Base58Key":"2"}', "the service key has 1 bytes"),
    ],
)
def test_damaged_state(program, used, state, name, change, message):
    """Refused, and left as it is: never an empty start in its place"""
    for one in (DATABASE, KEY):
        shutil.copy(used / one, state)
    if change:
        (state / name).write_bytes(change((state / name).read_bytes()))
    else:
        (state / name).unlink()
    before = {path.name: path.read_bytes() for path in state.iterdir()}
    check_refused(start(program, state), message)
    assert {path.name: path.read_bytes() for path in state.iterdir()} == before


def test_a_state_that_is_whole(program, used, state):
    for one in (DATABASE, KEY):
        shutil.copy(used / one, state)
    with Service(program, state) as service:
        assert len(service.ask("GET", "/v1/credentials")[1]["credentials"]) == 60


def test_what_another_start_may_mend(program, state):
    """Not refused for good"""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = "127.0.0.1:%d" % taken.getsockname()[1]
        done = start(program, state, config("127.0.0.1:3000", address))
        check_refused(done, "address already in use", status=1)
    with Service(program, state):
        check_refused(start(program, state), "another process has it open", status=1)


def test_state_directory(program, state):
    """systemd's, else the working directory"""
    own = state / "own"
    own.mkdir()
    with Service(program, state, STATE_DIRECTORY=f"{own}:/nowhere"):
        pass
    assert {path.name for path in own.iterdir()} == {DATABASE, KEY}
    assert not (state / DATABASE).exists()
    with Service(program, state, STATE_DIRECTORY=""):
        assert (state / DATABASE).exists()
    for name in (DATABASE, KEY):
        assert (state / name).stat().st_mode & 0o777 == 0o600


@pytest.fixture
def credential(state):
    path = state / "credentials/ssi-service.keystore-password"
    path.parent.mkdir()
    return path


def test_password_from_a_credential(program, state, credential):
    credential.write_text(SECRET)
    path = state / "without.toml"
    path.write_text(config('password = "unused"'))
    given = {"CONFIG_PATH": str(path), "CREDENTIALS_DIRECTORY": str(credential.parent)}
    with Service(program, state, **given) as service:
        assert service.ask("PUT", "/v1/dids/key", KEY_REQUEST)[0] == 201
    kept = [path for path in state.iterdir() if path.is_file()]
    assert "log" in {path.name for path in kept}
    for one in kept:
        assert SECRET.encode() not in one.read_bytes()


def test_credential_that_cannot_be_used(program, state, credential):
    """Rather refused than started with the configuration's"""
    given = {"CREDENTIALS_DIRECTORY": str(credential.parent)}
    credential.write_text("\n")
    check_refused(start(program, state, **given), "keystore-password is empty")
    credential.unlink()
    credential.mkdir()
    check_refused(start(program, state, **given), "reading credential")
    assert not (state / DATABASE).exists()


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_old_key_signs_after_restart(program, state, end):
    async def issue(opened, issuer):
        made = await opened.issue(issuer, issuer, {"nonce": "n"})
        await opened.confirm(made.jwt)

    async def first():
        async with Client(service.address) as opened:
            return await opened.create_did()

    async def second(issuer):
        async with Client(service.address) as opened:
            await issue(opened, issuer)

    with Service(program, state) as service:
        issuer = asyncio.run(first())
        service.process.send_signal(end)
        assert service.process.wait(30) == (0 if end == signal.SIGTERM else -end)
        if end == signal.SIGTERM:
            assert service.told.recv(200) == b"STOPPING=1"
    with Service(program, state) as service:
        asyncio.run(second(issuer))


def dids(service):
    return len(service.ask("GET", "/v1/dids/key")[1].get("dids") or [])


LARGE = json.dumps({"keyType": "x" * (10 << 20)})
LONGEST = json.dumps({"keyType": "Ed25519"}).ljust(LIMIT)
UNKNOWN = "/v1/credentials/00000000-0000-0000-0000-000000000000"


@pytest.mark.parametrize(
    "method, path, body, status",
    [
        ("PUT", "/v1/dids/key", LONGEST, 201),
        ("PUT", "/v1/dids/key", LONGEST + " ", 413),
        ("PUT", "/v1/dids/key", LARGE, 413),
        ("PUT", "/v1/dids/key", [LARGE.encode()], 413),  # chunked
        ("PUT", "/v1/schemas", LARGE, 413),
        ("GET", "/health", LARGE, 413),
        ("POST", "/nowhere", LARGE, 413),
        ("PUT", "/v1/dids/key", "{", 400),
        ("PUT", "/v1/dids/key", "", 400),
        ("PUT", "/v1/dids/key", "[]", 400),
        ("PUT", "/v1/dids/key", KEY_REQUEST + "}", 400),
        ("PUT", "/v1/dids/key", [b"{"], 400),
        ("PUT", "/v1/dids/key", '{"keyType": "none"}', 500),  # as the module has it
        ("GET", UNKNOWN, None, 500),  # likewise
        ("GET", "/v1/dids/key/did:key:z6MknoSuch", None, 400),
        ("DELETE", "/v1/dids/key", None, 404),
        ("POST", "/v1/credentials", "{}", 404),
        ("PATCH", "/health", None, 404),
        ("GET", "/nowhere", None, 404),
    ],
)
def test_requests(service, method, path, body, status):
    """What is answered; it goes on, and has stored no more than it said"""
    before = dids(service)
    found, said = service.ask(method, path, body)
    assert found == status, said
    if status == 413:
        assert said == {"error": "http: request body too large"}
    assert service.ask("GET", "/health") == (200, {"status": "OK"})
    after = dids(service)
    assert after - before == (status == 201)


@pytest.mark.parametrize(
    "tcp, headers, status",
    [
        (True, {}, 200),
        (True, {"Host": "localhost:1"}, 200),
        (True, {"Host": "127.0.0.1", "Origin": "http://localhost:8080"}, 200),
        (True, {"Host": "example.org"}, 403),
        (True, {"Origin": "http://example.org"}, 403),
        (True, {"Origin": "null"}, 403),
        (False, {"Host": "example.org"}, 200),
        (False, {"Origin": "http://example.org"}, 403),
    ],
)
def test_origins(services, tcp, headers, status):
    """Nothing for web pages, whatever name resolves to here"""
    found, said = services[tcp].ask("GET", "/readiness", **headers)
    assert found == status and (status == 200 or "is not this machine" in said["error"])


@pytest.fixture(scope="module")
def services(program, service, tmp_path_factory):
    with Service(program, tmp_path_factory.mktemp("s"), tcp=True) as by_tcp:
        yield {True: by_tcp, False: service}


MOUNTED = 'mount -t tmpfs -o size=1m none "$0" && exec "$@"'


def test_health_with_a_full_disk(program, state):
    small = state / "small"
    small.mkdir()
    wrapper = ["unshare", "-m", "sh", "-c", MOUNTED, str(small)]
    tried = subprocess.run([*wrapper, "true"], capture_output=True, text=True)
    skip_if_refused(tried.stderr)
    full = '{"name": "n", "schema": {"type": "object", "title": "%s"}}'
    env = {"STATE_DIRECTORY": str(small)}
    with Service(program, state, wrapper=wrapper, **env) as service:
        made = service.ask("PUT", "/v1/dids/key", KEY_REQUEST)[1]["did"]["id"]
        assert service.ask("GET", "/health")[0] == 200
        while service.ask("PUT", "/v1/schemas", full % ("x" * 20000))[0] == 201:
            pass
        while service.ask("PUT", "/v1/dids/key", KEY_REQUEST)[0] == 201:
            pass
        status, said = service.ask("GET", "/health")
        assert status == 503 and "no space left on device" in said["error"]
        assert service.ask("GET", f"/v1/dids/key/{made}")[0] == 200
        assert service.process.poll() is None
