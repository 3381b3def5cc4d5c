"""Downloads from a server that misbehaves, on the loopback"""

import asyncio
import contextlib
import hashlib
import os

import pytest
from aiohttp import web

from dffml_operations_decentralice.engine import download, signals
from dffml_operations_decentralice.engine.download import Download, fetch_all
from dffml_operations_decentralice.errors import (
    CommandFailed,
    NetworkError,
    SignatureError,
    UserError,
)

CONTENT = bytes(range(256)) * 4096  # 1 MiB
SHA256 = hashlib.sha256(CONTENT).hexdigest()
CUT_AT = 300_000


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(download, "FIRST_DELAY", 0.001)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


class Server:
    """Answers each request by the next of its answers, the last one again and again"""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.ranges = []  # what was asked for, one for each request

    async def handle(self, request):
        self.ranges.append(request.headers.get("Range"))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return await answer(request)

    @contextlib.asynccontextmanager
    async def running(self):
        app = web.Application()
        app.router.add_get("/{name:.*}", self.handle)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        try:
            host, port = site._server.sockets[0].getsockname()
            yield f"http://{host}:{port}"
        finally:
            await runner.cleanup()


def served(request, content):
    """The part that is asked for"""
    wanted = request.headers.get("Range")
    if not wanted:
        return web.Response(body=content)
    begin = int(wanted[len("bytes=") : -1])
    if begin >= len(content):
        return web.Response(status=416)
    span = f"bytes {begin}-{len(content) - 1}/{len(content)}"
    headers = {"Content-Range": span}
    return web.Response(status=206, body=content[begin:], headers=headers)


async def whole(request):
    return served(request, CONTENT)


async def wrong(request):
    return served(request, CONTENT[:-1] + b"x")


async def without_ranges(request):
    return web.Response(body=CONTENT)


async def cut(request):
    """The connection is lost in the midst, wherever it began"""
    part = served(request, CONTENT)
    answer = web.StreamResponse(status=part.status, headers=part.headers)
    answer.content_length = len(part.body)
    await answer.prepare(request)
    await answer.write(part.body[:CUT_AT])
    request.transport.close()
    return answer


async def short(request):
    """Ends in order, but too early: only the lock knows"""
    return web.Response(body=CONTENT[:CUT_AT])


async def stall(request):
    answer = web.StreamResponse()
    answer.content_length = len(CONTENT)
    await answer.prepare(request)
    await answer.write(CONTENT[:CUT_AT])
    await asyncio.Event().wait()


async def silent(request):
    await asyncio.Event().wait()


def status(number):
    async def answer(request):
        return web.Response(status=number, body=b"an explanation")

    return answer


async def redirect(request):
    raise web.HTTPFound("/elsewhere")


def fetched(tmp_path, *answers, sha256=SHA256, size=None):
    """What came, and the server"""
    server, target = Server(*answers), tmp_path / "file"

    async def main():
        async with server.running() as address:
            wanted = Download(f"{address}/a/file", target, sha256, size)
            await fetch_all([wanted])

    asyncio.run(main())
    assert os.listdir(tmp_path) == ["file"]
    return target.read_bytes(), server


def resumed(*offsets):
    return [f"bytes={offset}-" if offset else None for offset in offsets]


@pytest.mark.parametrize(
    "answers, ranges",
    [
        ([whole], resumed(0)),
        ([redirect, whole], resumed(0, 0)),
        ([status(503), whole], resumed(0, 0)),
        (
            [status(500), status(502), status(504), status(429), whole],
            resumed(*[0] * 5),
        ),
        ([cut, whole], resumed(0, CUT_AT)),
        ([cut, cut, whole], resumed(0, CUT_AT, 2 * CUT_AT)),
        ([cut, without_ranges], resumed(0, CUT_AT)),
        ([cut, status(503), whole], resumed(0, CUT_AT, CUT_AT)),
        ([cut, status(416), whole], resumed(0, CUT_AT, 0)),
    ],
)
def test_arrives(tmp_path, answers, ranges):
    content, server = fetched(tmp_path, *answers)
    assert content == CONTENT and server.ranges == ranges


def test_too_short_is_resumed(tmp_path):
    content, server = fetched(tmp_path, short, whole, size=len(CONTENT))
    assert content == CONTENT and server.ranges == resumed(0, CUT_AT)


@pytest.mark.parametrize("answers", [[stall, whole], [silent, whole]])
def test_silence(tmp_path, monkeypatch, answers):
    monkeypatch.setattr(download, "SILENCE", 0.2)
    content, server = fetched(tmp_path, *answers)
    assert content == CONTENT and len(server.ranges) == 2


def test_without_a_hash(tmp_path):
    assert fetched(tmp_path, wrong, sha256=None)[0] == CONTENT[:-1] + b"x"


@pytest.mark.parametrize(
    "answers, kind, said, asked",
    [
        # Never retried into acceptance
        ([wrong, whole], SignatureError, "the lock says", 1),
        ([cut, wrong, whole], SignatureError, "sha256 is", 2),
        ([status(404), whole], NetworkError, "the server answers 404", 1),
        ([status(403), whole], NetworkError, "the server answers 403", 1),
        ([status(503)], NetworkError, "the server answers 503", download.ATTEMPTS),
        ([status(416)], NetworkError, "the server answers 416", 1),
    ],
)
def test_refused(tmp_path, answers, kind, said, asked):
    server = Server(*answers)

    async def main():
        async with server.running() as address:
            await fetch_all([Download(f"{address}/file", tmp_path / "file", SHA256)])

    with pytest.raises(kind) as caught:
        asyncio.run(main())
    assert said in caught.value.cause and "/file" in caught.value.cause
    assert caught.value.remedy
    assert len(server.ranges) == asked
    assert not (tmp_path / "file").exists()
    if kind is SignatureError:
        assert os.listdir(tmp_path) == []


def test_always_cut(tmp_path):
    server = Server(cut)

    async def main():
        async with server.running() as address:
            big = Download(f"{address}/file", tmp_path / "file", SHA256)
            await fetch_all([big])

    # Each attempt brings it on: 300 kB more, and 1 MiB needs four
    asyncio.run(main())
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_nobody_there(tmp_path):
    with pytest.raises(NetworkError) as caught:
        asyncio.run(fetch_all([Download("http://127.0.0.1:9/x", tmp_path / "x")]))
    assert "http://127.0.0.1:9/x" in caught.value.cause
    assert "connection" in caught.value.remedy


def test_one_failure_ends_the_others(tmp_path):
    """An error is raised at once, though others would go on for long"""
    server = Server(whole)

    async def handle(request):
        if request.path == "/gone":
            return web.Response(status=404)
        await asyncio.Event().wait()

    server.handle = handle

    async def main():
        async with server.running() as address:
            names = ["one", "gone", "two"]
            await fetch_all(Download(f"{address}/{n}", tmp_path / n) for n in names)

    with pytest.raises(NetworkError, match="/gone: the server answers 404"):
        asyncio.run(main())


def test_many(tmp_path):
    """Told one by one; no more at once than agreed"""
    server, done, now, most = Server(whole), [], [0], [0]

    async def handle(request):
        now[0] += 1
        most[0] = max(most[0], now[0])
        await asyncio.sleep(0)
        now[0] -= 1
        return web.Response(body=request.path.encode())

    server.handle = handle

    async def main():
        async with server.running() as address:
            wanted = [Download(f"{address}/{n}", tmp_path / str(n)) for n in range(40)]
            await fetch_all(iter(wanted), done.append)
            return wanted

    wanted = asyncio.run(main())
    assert sorted(done) == sorted(wanted)
    for number in range(40):
        assert (tmp_path / str(number)).read_text() == f"/{number}"
    assert 1 <= most[0] <= download.AT_ONCE


def test_files(tmp_path):
    (tmp_path / "source").write_bytes(CONTENT)
    done = []
    wanted = Download(str(tmp_path / "source"), tmp_path / "copy", SHA256, len(CONTENT))
    asyncio.run(fetch_all([wanted], done.append))
    assert (tmp_path / "copy").read_bytes() == CONTENT and done == [wanted]
    (tmp_path / "source").write_bytes(b"other")
    again = wanted._replace(target=tmp_path / "again")
    with pytest.raises(SignatureError):
        asyncio.run(fetch_all([again]))
    assert sorted(os.listdir(tmp_path)) == ["copy", "source"]


@pytest.mark.parametrize("source", ["missing", "folder", "file/below"])
def test_files_that_cannot_be_read(tmp_path, source):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(UserError) as caught:
        wanted = Download(str(tmp_path / source), tmp_path / "copy")
        asyncio.run(fetch_all([wanted]))
    assert str(tmp_path / source) in caught.value.cause
    assert not (tmp_path / "copy").exists()


def test_signal_ends_it(tmp_path, monkeypatch):
    """Also while a server lets us wait"""
    server = Server(stall)

    async def main():
        async with server.running() as address:
            wanted = Download(f"{address}/file", tmp_path / "file", SHA256)
            task = asyncio.ensure_future(fetch_all([wanted]))
            part = tmp_path / "file.part"
            while not part.exists():
                await asyncio.sleep(0.01)
            signals.end(15)
            await task

    monkeypatch.setattr(signals, "_received", None)
    monkeypatch.setattr(download, "SILENCE", 5.0)
    with pytest.raises(CommandFailed, match="interrupted by SIGTERM"):
        asyncio.run(main())
