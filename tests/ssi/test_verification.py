"""The parts of a verification that need no machine"""

import asyncio

import pytest

from dffml_operations_decentralice.errors import NetworkError
from dffml_operations_decentralice.ssi import credentials
from dffml_operations_decentralice.ssi.verification import (
    Wrong,
    check,
    closed,
    confirmed,
    ready,
    refused,
)

from .test_client import with_client


@pytest.mark.parametrize(
    "answer, open_", [(b"HTTP/1.0 200 OK\r\n", True), (b"", False)]
)
def test_closed(answer, open_):
    """A port that accepts and says nothing is QEMU's own; one that answers is open"""

    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    async def run():
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            await closed(server.sockets[0].getsockname()[1], 60)

    if open_:
        with pytest.raises(Wrong, match="answers from outside"):
            asyncio.run(run())
    else:
        asyncio.run(run())


def test_closed_where_nothing_listens():
    asyncio.run(closed(9, 60))


def test_ready(service):
    asyncio.run(ready(service.address, 0))
    with pytest.raises(NetworkError):
        asyncio.run(ready("/no/such/socket", 0))


def test_confirmed(service):
    async def flow(opened):
        did = await opened.create_did()
        made = await opened.issue(did, did, {"nonce": "n"})
        assert (await confirmed(opened, made, did, "n"))["iss"] == did
        with pytest.raises(Wrong, match="the nonce is 'n', not 'm'"):
            await confirmed(opened, made, did, "m")
        assert not refused(made.jwt, did)
        assert refused(made.jwt, credentials.Holder().did)

    with_client(service, flow)


def test_check():
    check(1, "never said")
    with pytest.raises(Wrong, match="so it is"):
        check("", "so it is")
