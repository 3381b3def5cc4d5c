"""
Downloads that survive a bad network, and accept nothing but what was asked for

Retried: connections cut, stalls, 5xx. Limits are on silence, not on the whole, since a
big file on a slow line is no error. A partial file is resumed. A wrong hash is never
retried into acceptance.
"""

import asyncio
import hashlib
import os
import shutil
from pathlib import Path
from typing import Awaitable, Callable, Iterable, List, NamedTuple, Optional

from ..errors import NetworkError, SignatureError, UserError
from . import signals

ATTEMPTS = 5
FIRST_DELAY = 0.5  # seconds, doubled at each attempt
CONNECT = 15.0  # seconds until a server must have answered
SILENCE = 30.0  # seconds without a byte
AT_ONCE = 6
BLOCK = 1 << 18
RETRIED = {408, 425, 429, 500, 502, 503, 504}


class Download(NamedTuple):
    """What to fetch: an https URL or an absolute path, and what it has to be"""

    source: str
    target: Path
    sha256: Optional[str] = None
    size: Optional[int] = None


class _Again(Exception):
    """Worth another attempt"""


async def fetch_all(
    downloads: Iterable[Download], done: Callable[[Download], None] = lambda one: None
) -> None:
    """Fetch several files; all are there and right, or an error is raised"""
    places = asyncio.Semaphore(AT_ONCE)
    pending: List[Download] = list(downloads)
    remote = [one for one in pending if "://" in one.source]
    for one in pending:
        if "://" not in one.source:
            signals.check()
            await asyncio.to_thread(_copy, one)
            done(one)
    if not remote:
        return
    import aiohttp  # 0.1 s, which a build with nothing to fetch need not spend

    limits = aiohttp.ClientTimeout(total=None, connect=CONNECT, sock_read=SILENCE)
    async with aiohttp.ClientSession(
        timeout=limits, trust_env=True, auto_decompress=False
    ) as session:

        async def one_of(download: Download) -> None:
            async with places:
                await _with_retries(download, lambda: _get(session, download))
                done(download)

        tasks = [asyncio.ensure_future(one_of(one)) for one in remote]
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


async def _with_retries(
    download: Download, attempt: Callable[[], Awaitable[None]]
) -> None:
    delay, cause = FIRST_DELAY, ""
    for _ in range(ATTEMPTS):
        signals.check()
        try:
            return await attempt()
        except _Again as error:
            cause = str(error)
        await asyncio.sleep(delay)
        delay *= 2
    raise NetworkError(
        f"{download.source}: {cause}",
        remedy="check the connection, or give another address in the settings",
    )


async def _get(session, download: Download) -> None:
    import aiohttp

    part = download.target.with_name(download.target.name + ".part")
    have = part.stat().st_size if part.exists() else 0
    headers = {"Range": f"bytes={have}-"} if have else {}
    try:
        async with session.get(download.source, headers=headers) as reply:
            if reply.status == 416 and have:
                part.unlink()
                raise _Again("the partial file does not fit")
            _check_status(download, reply.status)
            mode = "ab" if reply.status == 206 else "wb"
            with open(part, mode) as file:
                async for block in reply.content.iter_chunked(BLOCK):
                    signals.check()
                    file.write(block)
    except (aiohttp.ClientError, asyncio.TimeoutError, ConnectionError) as error:
        raise _Again(str(error) or type(error).__name__) from error
    if download.size is not None and part.stat().st_size < download.size:
        raise _Again(f"{part.stat().st_size} of {download.size} bytes came")
    await asyncio.to_thread(_accept, download, part)


def _check_status(download: Download, status: int) -> None:
    if status in RETRIED:
        raise _Again(f"the server answers {status}")
    if status not in (200, 206):
        raise NetworkError(
            f"{download.source}: the server answers {status}",
            remedy="`build -update` asks the repository what it has now",
        )


def _copy(download: Download) -> None:
    part = download.target.with_name(download.target.name + ".part")
    try:
        shutil.copyfile(download.source, part)
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(
            f"{download.source} is not there",
            remedy="`build -update` asks the repository what it has now",
        ) from None
    except (IsADirectoryError, PermissionError) as error:
        raise UserError(
            f"{download.source} cannot be read: {error.strerror}",
            remedy="give a file that you may read",
        ) from error
    _accept(download, part)


def _accept(download: Download, part: Path) -> None:
    """Rename the file if it is what was asked for, remove it if not"""
    if download.sha256 is not None:
        digest = hashlib.sha256()
        with open(part, "rb") as file:
            for block in iter(lambda: file.read(BLOCK), b""):
                digest.update(block)
        if digest.hexdigest() != download.sha256:
            part.unlink()
            raise SignatureError(
                f"{download.source}: sha256 is {digest.hexdigest()}, "
                f"the lock says {download.sha256}",
                remedy="do not use it; `build -update` locks what is offered now",
            )
    os.replace(part, download.target)
