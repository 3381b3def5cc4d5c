"""The client with the real service, killed and started again as well"""

import asyncio
import secrets

import pytest

from dffml_operations_decentralice.errors import (
    DecentrAliceError,
    NetworkError,
    SignatureError,
    UserError,
)
from dffml_operations_decentralice.ssi import client, credentials
from dffml_operations_decentralice.ssi.client import Client
from dffml_operations_decentralice.ssi.verification import SCHEMA

from .conftest import Service


def with_client(service, function):
    async def run():
        async with Client(service.address) as opened:
            return await function(opened)

    return asyncio.run(run())


@pytest.mark.parametrize(
    "address, expected",
    [
        ("/run/user/1/s", ["/run/user/1/s", "http://localhost"]),
        ("unix:/run/s", ["/run/s", "http://localhost"]),
        ("http://127.0.0.1:3000", ["", "http://127.0.0.1:3000"]),
        ("http://127.9.9.9:1/", ["", "http://127.9.9.9:1"]),
        ("http://localhost", ["", "http://localhost:80"]),
        ("http://[::1]:3000", ["", "http://[::1]:3000"]),
    ],
)
def test_address(address, expected):
    assert client.parse_address(address) == expected


@pytest.mark.parametrize(
    "address",
    [
        *("run/s", "unix:s", "https://127.0.0.1:3000", "http://10.0.0.1:3000"),
        *("http://example.org", "http://127.0.0.1:port", "http://127.0.0.1/x"),
    ],
)
def test_address_rejects(address):
    with pytest.raises(UserError, match="no address") as raised:
        Client(address)
    assert client.SYSTEM in raised.value.remedy


def test_default_address(service, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert Client().address == client.SYSTEM
    (tmp_path / client.SOCKET).symlink_to(service.address)
    assert Client().address == str(tmp_path / client.SOCKET)
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert Client().address == client.SYSTEM


def test_readiness(service):
    found = with_client(service, Client.readiness)
    assert {"credential", "did", "schema"} <= set(found["serviceStatuses"])


def test_issue_and_verify(service):
    """By the service, and by the DID alone"""

    async def flow(opened):
        issuer, subject = await opened.create_did(), await opened.create_did()
        assert (await opened.known_did(issuer))["id"] == issuer
        assert (await opened.resolve(subject))["id"] == subject
        schema = await opened.create_schema("nonce", SCHEMA)
        assert (await opened.schema(schema))["properties"] == SCHEMA["properties"]
        nonce = secrets.token_hex(8)
        issued = await opened.issue(issuer, subject, {"nonce": nonce}, schema=schema)
        assert await opened.credential(issued.id) == issued
        assert await opened.verify(issued.jwt) == (True, "")
        claims = credentials.verify(issued.jwt, issuer)
        assert claims["sub"] == subject
        assert claims["vc"]["credentialSubject"]["nonce"] == nonce
        for forged in credentials.forgeries(issued.jwt).values():
            verified, reason = await opened.verify(forged)
            assert not verified and reason
            with pytest.raises(SignatureError):
                credentials.verify(forged, issuer)
        with pytest.raises(DecentrAliceError):
            await opened.issue(issuer, subject, {"x": 1}, schema=schema)

    with_client(service, flow)


@pytest.mark.parametrize("change", ["revoked", "suspended"])
def test_status(service, change):
    async def flow(opened):
        issuer = await opened.create_did()
        may = {"revocable": change == "revoked", "suspendable": change == "suspended"}
        issued = await opened.issue(issuer, issuer, {"a": 1}, **may)
        assert await opened.status(issued.id) == (False, False)
        changed = await opened.set_status(issued.id, **{change: True})
        assert changed == (change == "revoked", change == "suspended")
        assert await opened.status(issued.id) == changed
        other = await opened.issue(issuer, issuer, {"a": 1}, **may)
        assert await opened.status(other.id) == (False, False)

    with_client(service, flow)


def test_presentation(service):
    async def flow(opened):
        issuer, holder = await opened.create_did(), credentials.Holder()
        issued = await opened.issue(issuer, holder.did, {"nonce": "n"})
        definition = await opened.define_presentation("nonce")
        given = holder.present([issued.jwt], definition, issuer)
        submission = await opened.submit(given)
        assert await opened.review(submission, True) == "approved"
        forged = credentials.forgeries(issued.jwt)["changed claim"]
        for bad in (
            holder.present([forged], definition, issuer),
            given[:-8] + "A" * 8,
        ):
            with pytest.raises(DecentrAliceError):
                await opened.submit(bad)

    with_client(service, flow)


@pytest.mark.parametrize(
    "ask, kind",
    [
        (lambda o: o.credential("00000000-0000-0000-0000-000000000000"), UserError),
        (lambda o: o.known_did("did:key:z6MknoSuch"), UserError),
        (lambda o: o.issue("did:key:zNo", "did:key:zNo", {"a": 1}), DecentrAliceError),
        (lambda o: o.issue("", "", {}), UserError),
        (lambda o: o.resolve("did:web:x"), DecentrAliceError),
        (lambda o: o.schema("nosuch"), DecentrAliceError),
        (lambda o: o.set_status("nosuch", revoked=True), DecentrAliceError),
    ],
)
def test_refusals(service, ask, kind):
    with pytest.raises(kind) as raised:
        with_client(service, ask)
    assert "SSI service" in raised.value.cause and raised.value.remedy
    assert with_client(service, Client.readiness)


def test_no_service(tmp_path):
    for address in (str(tmp_path / "none"), "http://127.0.0.1:9"):
        with pytest.raises(NetworkError, match="does not answer") as raised:
            with_client(type("No", (), {"address": address}), Client.readiness)
        assert "systemctl status" in raised.value.remedy


@pytest.mark.parametrize(
    "answer, said",
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", "answers GET /readiness"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", "not ready"),
        (b"HTTP/1.1 502 No\r\nContent-Length: 2\r\n\r\nno", "fails at"),
        (b"", "does not answer"),
    ],
)
def test_something_else_answers(tmp_path_factory, answer, said):
    path = str(tmp_path_factory.mktemp("s") / "s")

    async def other(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    async def run():
        async with await asyncio.start_unix_server(other, path):
            async with Client(path) as opened:
                await opened.readiness()

    with pytest.raises(NetworkError, match=said):
        asyncio.run(run())


def test_killed_while_it_issues(program, tmp_path_factory):
    """What was acknowledged is there afterwards, and every key still signs"""
    state = tmp_path_factory.mktemp("s")
    count = 200
    told = {}

    async def issue(service):
        async with Client(service.address) as opened:
            dids = [await opened.create_did() for _ in range(4)]

            async def one(number):
                issuer = dids[number % len(dids)]
                made = await opened.issue(issuer, issuer, {"nonce": str(number)})
                told[made.id] = made.jwt
                if len(told) == count // 2:
                    service.process.kill()

            results = await asyncio.gather(
                *map(one, range(count)), return_exceptions=True
            )
        assert {type(one) for one in results if one} <= {NetworkError}
        return dids

    async def after(opened):
        for identifier, jwt in told.items():
            assert (await opened.credential(identifier)).jwt == jwt
            credentials.verify(jwt)
        for did in dids:
            made = await opened.issue(did, did, {"nonce": "after"})
            credentials.verify(made.jwt, did)

    with Service(program, state) as service:
        dids = asyncio.run(issue(service))
    assert count // 2 <= len(told) <= count
    with Service(program, state) as service:
        with_client(service, after)
