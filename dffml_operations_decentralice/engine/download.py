"""
Downloads that survive a bad network, and accept nothing but what was asked for

Retried, with growing pauses: connections cut, stalls, and what the server says is
passing. Limits are on silence and slowness, not on the whole, since a big file on a
slow line is no error. A partial file is resumed if the server still has the same. What
is not as it should be, and what a server has not got, is never tried again.
"""

import asyncio
import contextlib
import email.utils
import fcntl
import hashlib
import json
import os
import random
import shutil
import time
from pathlib import Path
from typing import Any, Dict, Iterable, Iterator, List, NamedTuple, Optional

from ..errors import NetworkError, SignatureError, UserError
from . import signals
from .digest import sha256
from .progress import Meter, emit

ATTEMPTS = 5  # without getting on
GETTING_ON = 1 << 20  # bytes after which attempts are counted anew
FIRST_DELAY = 0.5  # seconds, doubled at each attempt
LONGEST_DELAY = 30.0
LONGEST_WISH = 120.0  # seconds that a server may ask us to wait
CONNECT = 15.0  # seconds until a server must have answered
SILENCE = 30.0  # seconds without a byte
SLOWEST = 1000.0  # bytes a second, over as many seconds as silence may last
LARGEST = 8 << 30  # bytes of a file whose size is not known before
AT_ONCE = 6
BLOCK = 1 << 18
PASSING = {408, 425, 429}  # and 5xx
NEVER = {501, 505}
RANGE_NOT_SATISFIABLE = 416
UPDATE = "`build -update` asks the repository what it has now"


class Download(NamedTuple):
    """What to fetch: an https URL or an absolute path, and what it has to be"""

    source: str
    target: Path
    sha256: Optional[str] = None
    size: Optional[int] = None


class _Again(Exception):
    """Worth another attempt, after as many seconds as the server wishes"""

    def __init__(self, cause: str, wish: Optional[float] = None):
        super().__init__(cause)
        self.wish = wish


async def fetch_all(
    downloads: Iterable[Download], parts: Optional[Path] = None
) -> None:
    """
    Fetch several files; all are there and right, or an error is raised

    parts: a directory for this alone, on the file system of the targets, where files
        are until all are there, so that a build that was killed goes on where it
        stopped. Without it, or if another process is at it, they are beside their
        targets.
    """
    wanted: List[Download] = list(downloads)
    sizes = [one.size for one in wanted if one.size is not None]
    meter = Meter(sum(sizes) if len(sizes) == len(wanted) else None, len(wanted))
    with _alone(parts) as place:
        fetches = [_Fetch(one, meter, place) for one in wanted]
        for fetch in fetches:
            if not fetch.remote:
                signals.check()
                await asyncio.to_thread(fetch.copy)
        remote = [fetch for fetch in fetches if fetch.remote]
        if remote:
            await _fetch_remote(remote)
        for fetch in fetches:
            fetch.deliver()
        if place is not None:  # what was for an older lock
            for path in place.iterdir():
                path.unlink()


async def _fetch_remote(fetches: List["_Fetch"]) -> None:
    import aiohttp  # 0.1 s, which a build with nothing to fetch need not spend

    places = asyncio.Semaphore(AT_ONCE)
    limits = aiohttp.ClientTimeout(total=None, connect=CONNECT, sock_read=SILENCE)
    async with aiohttp.ClientSession(
        timeout=limits,
        trust_env=True,
        auto_decompress=False,
        headers={"Accept-Encoding": "identity"},
    ) as session:

        async def one_of(fetch: "_Fetch") -> None:
            async with places:
                await fetch.run(session)

        tasks = [asyncio.ensure_future(one_of(one)) for one in fetches]
        signals.watch()
        try:
            with signals.cancelling(tasks):
                await asyncio.gather(*tasks)
        except asyncio.CancelledError:
            signals.check()
            raise
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


class _Fetch:
    """One download on its way"""

    def __init__(self, wanted: Download, meter: Meter, parts: Optional[Path]):
        self.wanted = wanted
        self.meter = meter
        self.counted = 0  # bytes of it that the meter knows of
        self.remote = "://" in wanted.source
        self.part = wanted.target.with_name(wanted.target.name + ".part")
        if parts is not None and self.remote:
            known = json.dumps([wanted.source, wanted.sha256, wanted.size])
            self.part = parts / hashlib.sha256(known.encode()).hexdigest()
        self.about = self.part.with_name(self.part.name + ".json")

    async def run(self, session) -> None:
        """Attempts until it is there"""
        if not await asyncio.to_thread(self._was_complete):
            await self._attempts(session)
        self._count(self.have())
        self.meter.finish()

    async def _attempts(self, session) -> None:
        failures, best = 0, self.have()
        while True:
            signals.check()
            try:
                await self._get(session)
                return await asyncio.to_thread(self._check)
            except _Again as error:
                cause, wish = str(error), error.wish
            reached = self.have()
            failures = 1 if reached >= best + GETTING_ON else failures + 1
            best = max(best, reached)
            if failures >= ATTEMPTS or (wish or 0) > LONGEST_WISH:
                raise NetworkError(
                    f"{self.wanted.source}: {cause}",
                    remedy="check the connection, or give another address in the "
                    "settings",
                )
            pause = delay(failures, wish)
            emit("retry", source=self.wanted.source, cause=cause, seconds=pause)
            await asyncio.sleep(pause)

    def _was_complete(self) -> bool:
        """Whether an earlier process got all of it; no request is made then"""
        wanted, have = self.wanted, self.have()
        if not have or wanted.sha256 is None or wanted.size not in (None, have):
            return False
        right = sha256(self.part) == wanted.sha256
        if not right and have == wanted.size:
            self.drop()  # the machine went down before it was on the disk
        return right

    async def _get(self, session) -> None:
        import aiohttp

        try:
            headers = self._request()
            async with session.get(self.wanted.source, headers=headers) as reply:
                await self._receive(reply)
        except aiohttp.InvalidURL as error:
            raise UserError(
                f"{self.wanted.source} is no address", remedy="give an https URL"
            ) from error
        except aiohttp.ClientSSLError as error:
            raise NetworkError(
                f"{self.wanted.source}: {error}",
                remedy="see that clock and CA certificates (SSL_CERT_FILE) are right",
            ) from error
        except aiohttp.TooManyRedirects as error:
            raise NetworkError(
                f"{self.wanted.source} leads from one address to another without end",
                remedy="give another address in the settings",
            ) from error
        except aiohttp.ClientPayloadError as error:
            raise _Again(f"cut after {self.have()} bytes") from error
        except (aiohttp.ClientError, asyncio.TimeoutError, ConnectionError) as error:
            raise _Again(str(error) or type(error).__name__) from error

    def _request(self) -> Dict[str, str]:
        """
        Ask for the rest of a part, if it is one of the same file. What cannot be told
        from another one is not glued together, but fetched anew.
        https://www.rfc-editor.org/rfc/rfc9110#name-if-range
        """
        validator = _read(self.about).get("validator") if self.have() else None
        if not validator:
            self.drop()
            return {}
        return {"Range": f"bytes={self.have()}-", "If-Range": validator}

    async def _receive(self, reply) -> None:
        _check_scheme(self.wanted, reply)
        have = self.have()
        if reply.status == RANGE_NOT_SATISFIABLE and have:
            if reply.headers.get("Content-Range") == f"bytes */{have}":
                return self._count(have)  # all of it was there
            self.drop()
            raise _Again("the partial file does not fit")
        _check_status(self.wanted, reply)
        if reply.status == 206 and not _continues(reply, have):
            self.drop()
            raise _Again("the server sends another part than the one asked for")
        if reply.status != 206:
            self._remember(reply)
            have = 0
        self._count(have)
        pace = _Pace()
        with open(self.part, "ab" if have else "wb") as file:
            async for block in reply.content.iter_chunked(BLOCK):
                signals.check()
                file.write(block)
                have += len(block)
                self._count(have)
                self._refuse_more(have)
                pace.add(len(block))

    def _remember(self, reply) -> None:
        """Begin anew, with what tells this version of the file from others"""
        self.drop()
        tag = reply.headers.get("ETag")
        validator = tag or reply.headers.get("Last-Modified")
        if validator and not validator.startswith("W/"):
            self.about.write_text(json.dumps({"validator": validator}))

    def _count(self, have: int) -> None:
        self.meter.add(have - self.counted)
        self.counted = have

    def _refuse_more(self, have: int) -> None:
        wanted = self.wanted.size
        if have > (LARGEST if wanted is None else wanted):
            self.drop()
            raise SignatureError(
                f"{self.wanted.source}: more than "
                + (f"{LARGEST} bytes" if wanted is None else f"the {wanted} bytes")
                + (" come" if wanted is None else " that the lock says"),
                remedy="do not use it; `build -update` locks what is offered now",
            )

    def _check(self) -> None:
        """Whether it is what was asked for; nothing of it stays if not"""
        have, wanted = self.have(), self.wanted
        short = wanted.size is not None and have < wanted.size
        if short and (self.remote or wanted.sha256 is None):
            raise _Again(f"{have} of {wanted.size} bytes came")
        if wanted.sha256 is None:
            return
        found = sha256(self.part)
        if found != wanted.sha256:
            self.drop()
            raise SignatureError(
                f"{wanted.source}: sha256 is {found}, the lock says {wanted.sha256}",
                remedy="do not use it; `build -update` locks what is offered now",
            )

    def copy(self) -> None:
        """Of a file of this machine; also read by others, so it is no link"""
        try:
            shutil.copyfile(self.wanted.source, self.part)
        except (FileNotFoundError, NotADirectoryError):
            raise UserError(
                f"{self.wanted.source} is not there", remedy=UPDATE
            ) from None
        except (IsADirectoryError, PermissionError) as error:
            raise UserError(
                f"{self.wanted.source} cannot be read: {error.strerror}",
                remedy="give a file that you may read",
            ) from error
        self._count(self.have())
        try:
            self._check()
        except _Again as error:
            self.drop()
            raise SignatureError(
                f"{self.wanted.source}: {error}", remedy=UPDATE
            ) from None
        self.meter.finish()

    def deliver(self) -> None:
        """All are right: to its place"""
        os.replace(self.part, self.wanted.target)
        self.about.unlink(missing_ok=True)

    def have(self) -> int:
        """Bytes that came so far"""
        try:
            return self.part.stat().st_size
        except FileNotFoundError:
            return 0

    def drop(self) -> None:
        self.part.unlink(missing_ok=True)
        self.about.unlink(missing_ok=True)


class _Pace:
    """Refuses a server that trickles, as one that is silent"""

    def __init__(self):
        self.since, self.bytes = time.monotonic(), 0

    def add(self, count: int) -> None:
        self.bytes += count
        now = time.monotonic()
        if now - self.since < SILENCE:
            return
        rate = self.bytes / (now - self.since)
        if rate < SLOWEST:
            raise _Again(f"only {rate:.0f} bytes a second come")
        self.since, self.bytes = now, 0


def delay(failures: int, wish: Optional[float] = None) -> float:
    """
    Seconds until the next attempt. Of clients that a server lost at one moment, not all
    come back at another one: the half of it is chance.
    """
    longest = min(LONGEST_DELAY, FIRST_DELAY * 2 ** (failures - 1))
    return max(random.uniform(longest / 2, longest), wish or 0.0)


def retry_after(value: Optional[str], now: float) -> Optional[float]:
    """
    Seconds that a server asks us to wait, from seconds or a date; None if it does not
    https://www.rfc-editor.org/rfc/rfc9110#name-retry-after
    """
    if not value:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - now)
    except (TypeError, ValueError):
        return None


def _check_status(wanted: Download, reply: Any) -> None:
    status = reply.status
    if status in (200, 206):
        return
    cause = f"the server answers {status}"
    if (status >= 500 or status in PASSING) and status not in NEVER:
        wish = retry_after(reply.headers.get("Retry-After"), time.time())
        if wish is not None and wish > LONGEST_WISH:
            cause += f", and asks to come back in {wish:.0f} s"
        raise _Again(cause, wish)
    raise NetworkError(f"{wanted.source}: {cause}", remedy=UPDATE)


def _check_scheme(wanted: Download, reply: Any) -> None:
    """What was to come by https must not be led to where anybody can change it"""
    places = [str(one.url) for one in (*reply.history, reply)]
    if wanted.source.startswith("https:"):
        for place in places:
            if not place.startswith("https:"):
                raise NetworkError(
                    f"{wanted.source} leads to {place}, which is not https",
                    remedy="give another address in the settings",
                )


def _continues(reply: Any, have: int) -> bool:
    """Whether a partial reply begins where the part ends"""
    span = reply.headers.get("Content-Range", "")
    return have > 0 and span.startswith(f"bytes {have}-")


@contextlib.contextmanager
def _alone(parts: Optional[Path]) -> Iterator[Optional[Path]]:
    """A directory of parts, None if another process is at it"""
    if parts is None:
        yield None
        return
    parts.mkdir(parents=True, exist_ok=True)
    directory = os.open(parts, os.O_RDONLY)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
        alone = True
    except BlockingIOError:
        alone = False
    try:
        yield parts if alone else None
    finally:
        os.close(directory)


def _read(path: Path) -> Dict[str, str]:
    try:
        content = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
