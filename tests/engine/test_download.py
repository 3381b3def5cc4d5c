"""Downloads from a server that misbehaves, on the loopback"""

import asyncio
import contextlib
import email.utils
import fcntl
import hashlib
import os
import ssl
import subprocess
from types import SimpleNamespace

import pytest
from aiohttp import web

from dffml_operations_decentralice.engine import download, progress, signals
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
TAG = '"one"'  # of CONTENT, as servers give it


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
        self.encodings = set()

    async def handle(self, request):
        self.ranges.append(request.headers.get("Range"))
        self.encodings.add(request.headers["Accept-Encoding"])
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return await answer(request)

    @contextlib.asynccontextmanager
    async def running(self, **options):
        app = web.Application()
        app.router.add_get("/{name:.*}", self.handle)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, **options)
        await site.start()
        try:
            host, port = site._server.sockets[0].getsockname()
            yield f"http://{host}:{port}"
        finally:
            await runner.cleanup()


def served(request, content, tag=TAG, **headers):
    """The part that is asked for, if it is one of what there is now"""
    headers = {**({"ETag": tag} if tag else {}), **headers}
    now = set(headers.values())
    wanted = request.headers.get("Range")
    if not wanted or request.headers.get("If-Range", tag) not in now:
        return web.Response(body=content, headers=headers)
    begin = int(wanted[len("bytes=") : -1])
    if begin >= len(content):
        headers["Content-Range"] = f"bytes */{len(content)}"
        return web.Response(status=416, headers=headers)
    headers["Content-Range"] = f"bytes {begin}-{len(content) - 1}/{len(content)}"
    return web.Response(status=206, body=content[begin:], headers=headers)


async def whole(request):
    return served(request, CONTENT)


async def wrong(request):
    return served(request, CONTENT[:-1] + b"x")


async def without_ranges(request):
    return web.Response(body=CONTENT)


def cutting(content=CONTENT, **headers):
    """The connection is lost in the midst, wherever it began"""

    async def answer(request):
        part = served(request, content, **headers)
        answer = web.StreamResponse(status=part.status, headers=part.headers)
        answer.content_length = len(part.body)
        await answer.prepare(request)
        await answer.write(part.body[:CUT_AT])
        request.transport.close()
        return answer

    return answer


def undated(**headers):
    """All of it, by what the server tells of it"""

    async def answer(request):
        return served(request, CONTENT, **headers)

    return answer


cut = cutting()
cut_without_tag = cutting(tag=None)
cut_of_another = cutting(b"another" * 100_000, tag='"another"')
cut_with_weak_tag = cutting(tag='W/"one"')
DATE = {"Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT", "tag": None}


async def wrong_part(request):
    """Not the range that was asked for"""
    if "Range" not in request.headers:
        return served(request, CONTENT)
    span = f"bytes 7-{len(CONTENT) - 1}/{len(CONTENT)}"
    headers = {"Content-Range": span, "ETag": TAG}
    return web.Response(status=206, body=CONTENT[7:], headers=headers)


async def trickle(request):
    """Never silent, never done"""
    part = served(request, CONTENT)
    answer = web.StreamResponse(status=part.status, headers=part.headers)
    answer.content_length = len(part.body)
    await answer.prepare(request)
    with contextlib.suppress(ConnectionError):
        for byte in part.body:
            await answer.write(bytes([byte]))
            await asyncio.sleep(0.01)


async def endless(request):
    answer = web.StreamResponse()
    await answer.prepare(request)
    with contextlib.suppress(ConnectionError):
        while True:
            await answer.write(CONTENT)


def later(value, number=503):
    async def answer(request):
        return web.Response(status=number, headers={"Retry-After": value})

    return answer


async def short(request):
    """Ends in order, but too early: only the lock knows"""
    return web.Response(body=CONTENT[:CUT_AT], headers={"ETag": TAG})


async def stall(request):
    answer = web.StreamResponse(headers={"ETag": TAG})
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
        ([status(500), status(599), status(408), whole], resumed(0, 0, 0, 0)),
        ([later("0"), later("0", 429), later("soon"), whole], resumed(0, 0, 0, 0)),
        ([later(email.utils.formatdate(0, usegmt=True)), whole], resumed(0, 0)),
        # Not glued together: what changed meanwhile, or might have
        ([cut_of_another, whole], resumed(0, CUT_AT)),
        ([cut_without_tag, whole], resumed(0, 0)),
        ([cut_with_weak_tag, whole], resumed(0, 0)),
        ([cut, wrong_part, whole], resumed(0, CUT_AT, 0)),
        ([cutting(**DATE), undated(**DATE)], resumed(0, CUT_AT)),
        ([cut, redirect, whole], resumed(0, CUT_AT, CUT_AT)),
    ],
)
def test_arrives(tmp_path, answers, ranges):
    content, server = fetched(tmp_path, *answers)
    assert content == CONTENT and server.ranges == ranges
    assert server.encodings == {"identity"}  # hashes are of files, not of encodings


def test_too_short_is_resumed(tmp_path):
    content, server = fetched(tmp_path, short, whole, size=len(CONTENT))
    assert content == CONTENT and server.ranges == resumed(0, CUT_AT)


@pytest.mark.parametrize("answers", [[stall, whole], [silent, whole], [trickle, whole]])
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
        ([status(410), whole], NetworkError, "the server answers 410", 1),
        ([status(501), whole], NetworkError, "the server answers 501", 1),
        ([status(503)], NetworkError, "the server answers 503", download.ATTEMPTS),
        ([status(416)], NetworkError, "the server answers 416", 1),
        ([later("3600"), whole], NetworkError, "to come back in 3600 s", 1),
        ([redirect], NetworkError, "without end", 10),
        ([cutting(tag=None)], NetworkError, "", download.ATTEMPTS),
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
    if "404" in said:
        assert "build -update" in caught.value.remedy
    assert not (tmp_path / "file").exists()
    if kind is SignatureError:
        assert os.listdir(tmp_path) == []


def test_always_cut(tmp_path, monkeypatch):
    """Attempts that bring it on are not counted: 1 MiB needs four"""
    monkeypatch.setattr(download, "ATTEMPTS", 2)
    monkeypatch.setattr(download, "GETTING_ON", CUT_AT)
    content, server = fetched(tmp_path, cut)
    assert content == CONTENT and server.ranges == resumed(
        0, CUT_AT, 2 * CUT_AT, 3 * CUT_AT
    )


def test_trickles_for_ever(tmp_path, monkeypatch):
    """Each attempt brings some bytes, but none brings it on"""
    monkeypatch.setattr(download, "SILENCE", 0.5)
    with pytest.raises(NetworkError, match="bytes a second"):
        fetched(tmp_path, trickle)


@pytest.mark.parametrize("size, answers", [(CUT_AT, [whole]), (None, [endless])])
def test_more_than_agreed(tmp_path, monkeypatch, size, answers):
    """Not read to its end, which may never come"""
    monkeypatch.setattr(download, "LARGEST", 3 * len(CONTENT))
    with pytest.raises(SignatureError, match="more than"):
        fetched(tmp_path, *answers, size=size)
    assert os.listdir(tmp_path) == []


def test_no_address(tmp_path):
    with pytest.raises(UserError, match="is no address"):
        asyncio.run(fetch_all([Download("https:///x", tmp_path / "x")]))


def test_certificate_of_nobody(tmp_path):
    """Not tried again, and not with the remedy for a bad line"""
    key, pem = tmp_path / "key.pem", tmp_path / "cert.pem"
    argv = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-subj",
        "/CN=x",
    ]
    subprocess.run(
        [*argv, "-keyout", str(key), "-out", str(pem)], check=True, capture_output=True
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem, key)
    server = Server(whole)

    async def main():
        async with server.running(ssl_context=context) as address:
            secure = address.replace("http:", "https:")
            await fetch_all([Download(f"{secure}/x", tmp_path / "x")])

    with pytest.raises(NetworkError, match="certificate") as caught:
        asyncio.run(main())
    assert "SSL_CERT_FILE" in caught.value.remedy and server.ranges == []


@pytest.mark.parametrize(
    "places, kind",
    [
        (["https://a/x"], None),
        (["https://a/x", "https://b/x"], None),
        (["https://a/x", "http://b/x"], NetworkError),
        (["https://a/x", "http://b/x", "https://c/x"], NetworkError),
        (["http://a/x", "http://b/x"], None),
    ],
)
def test_no_way_from_https_to_http(tmp_path, places, kind):
    replies = [SimpleNamespace(url=one) for one in places]
    replies[-1].history = replies[:-1]
    refused = pytest.raises(kind) if kind else contextlib.nullcontext()
    with refused:
        download._check_scheme(Download(places[0], tmp_path), replies[-1])


@pytest.mark.parametrize(
    "value, seconds",
    [
        (None, None),
        ("", None),
        ("7", 7.0),
        (" 7 ", 7.0),
        ("-1", None),
        ("soon", None),
        ("Thu, 01 Jan 2026 00:01:00 GMT", 60.0),
        ("Wed, 31 Dec 2025 00:00:00 GMT", 0.0),
    ],
)
def test_retry_after(value, seconds):
    assert download.retry_after(value, 1767225600) == seconds


def test_delays_grow_and_differ(monkeypatch):
    monkeypatch.setattr(download, "FIRST_DELAY", 1.0)
    for failures, longest in enumerate([1, 2, 4, 8, 16, 30, 30], 1):
        found = {download.delay(failures) for _ in range(20)}
        assert len(found) > 1 and longest / 2 <= min(found) <= max(found) <= longest
    assert download.delay(1, 50.0) == 50.0


def test_events(tmp_path):
    """Bytes, files and attempts, by the operation that they are for"""
    server, recorder = Server(cut, status(503), whole), Everything()

    async def main():
        async with server.running() as address:
            with progress.monitored(recorder):
                with progress.running("fetch", "first time", tmp_path / "log"):
                    sized = dict(sha256=SHA256, size=len(CONTENT))
                    one = Download(f"{address}/1", tmp_path / "1", **sized)
                    await fetch_all([one])
                    two = Download(f"{address}/2", tmp_path / "2")
                    await fetch_all([two])

    asyncio.run(main())
    assert {event["operation"] for event in recorder.events} == {"fetch"}
    retries = [one for one in recorder.events if one["event"] == "retry"]
    assert len(retries) == 2 and "503" in retries[1]["cause"]
    assert all(one["source"].startswith("http://127") for one in retries)
    told = [one for one in recorder.events if one["event"] == "progress"]
    assert {one["total"] for one in told} == {len(CONTENT), None}
    ends = [one for one in told if one["files"] == one["of"]]
    assert [one["bytes"] for one in ends] == [len(CONTENT)] * 2
    assert len(told) < 10  # not one for each block


class Everything:
    """A monitor"""

    def __init__(self):
        self.events = []

    def __call__(self, event):
        self.events.append(event)


@pytest.mark.parametrize("known", [{}, {"sha256": SHA256, "size": len(CONTENT)}])
def test_what_a_killed_build_left_is_resumed(tmp_path, known):
    server, parts, target = Server(stall), tmp_path / "parts", tmp_path / "file"

    async def main():
        async with server.running() as address:
            wanted = [Download(f"{address}/file", target, **known)]
            task = asyncio.ensure_future(fetch_all(wanted, parts))
            while not any(one.stat().st_size == CUT_AT for one in parts.glob("*")):
                await asyncio.sleep(0.01)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            assert len(list(parts.iterdir())) == 2 and not target.exists()
            (parts / "of-an-older-lock").touch()
            server.answers = [whole]
            await fetch_all(wanted, parts)

    asyncio.run(main())
    assert target.read_bytes() == CONTENT and list(parts.iterdir()) == []
    assert server.ranges[0] is None and server.ranges[-1] == f"bytes={CUT_AT}-"


@pytest.mark.parametrize("damaged", [False, True])
def test_what_was_complete_is_not_asked_for(tmp_path, monkeypatch, damaged):
    """Of two files one came: the other one's failure does not lose it"""
    monkeypatch.setattr(download, "AT_ONCE", 1)
    server, parts = Server(whole, status(404), whole), tmp_path / "parts"
    targets = [tmp_path / "one", tmp_path / "two"]

    async def main():
        async with server.running() as address:
            known = dict(sha256=SHA256, size=len(CONTENT))
            wanted = [
                Download(f"{address}/{one.name}", one, **known) for one in targets
            ]
            with pytest.raises(NetworkError):
                await fetch_all(wanted, parts)
            assert not any(target.exists() for target in targets)
            if damaged:
                [part] = [one for one in parts.iterdir() if one.suffix != ".json"]
                part.write_bytes(b"x" * len(CONTENT))
            await fetch_all(wanted, parts)

    asyncio.run(main())
    assert len(server.ranges) == 3 + damaged
    assert all(target.read_bytes() == CONTENT for target in targets)
    assert list(parts.iterdir()) == []


def test_parts_that_another_process_is_at(tmp_path):
    """They are left to it"""
    parts = tmp_path / "parts"
    parts.mkdir()
    (parts / "other").touch()
    taken = os.open(parts, os.O_RDONLY)
    try:
        fcntl.flock(taken, fcntl.LOCK_EX)
        server = Server(cut, whole)

        async def main():
            async with server.running() as address:
                wanted = [Download(f"{address}/x", tmp_path / "x", SHA256)]
                await fetch_all(wanted, parts)

        asyncio.run(main())
    finally:
        os.close(taken)
    assert (tmp_path / "x").read_bytes() == CONTENT
    assert server.ranges == resumed(0, CUT_AT) and os.listdir(parts) == ["other"]


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
    """No more at once than agreed"""
    server, now, most = Server(whole), [0], [0]

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
            await fetch_all(iter(wanted))

    asyncio.run(main())
    for number in range(40):
        assert (tmp_path / str(number)).read_text() == f"/{number}"
    assert 1 <= most[0] <= download.AT_ONCE


def test_files(tmp_path):
    (tmp_path / "source").write_bytes(CONTENT)
    wanted = Download(str(tmp_path / "source"), tmp_path / "copy", SHA256, len(CONTENT))
    asyncio.run(fetch_all([wanted]))
    assert (tmp_path / "copy").read_bytes() == CONTENT
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
