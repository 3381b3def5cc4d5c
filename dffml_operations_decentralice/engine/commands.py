"""
How commands are run: an argument list, no shell, a process group of their own, their
output in a log, a time limit, and an error that says what failed and where to look
"""

import asyncio
import contextlib
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import (
    AsyncIterator,
    Awaitable,
    Collection,
    Dict,
    List,
    Mapping,
    Optional,
    TypeVar,
)

from ..errors import CommandFailed, DecentrAliceError, MissingTool
from . import signals
from .store import no_space

T = TypeVar("T")
EPOCH = 1767225600  # 2026-01-01T00:00:00Z: the time of everything that is made
ADMIN = ("/usr/local/sbin", "/usr/sbin", "/sbin")  # not in a user's PATH
KEPT = (
    *("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY"),
    *("NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR", "CURL_CA_BUNDLE"),
)
TAIL = 20  # lines of a log that an error looks at
GRACE = 5.0  # seconds from SIGTERM to SIGKILL


def search_path() -> str:
    """Beside the interpreter (console programs of packages), PATH, administration"""
    path = os.environ.get("PATH", os.defpath).split(os.pathsep)
    return os.pathsep.join([str(Path(sys.executable).parent), *path, *ADMIN])


def find_tool(name: str) -> str:
    """The absolute path of a program, or of a file of the host; else `MissingTool`"""
    found = name if name.startswith("/") else shutil.which(name, path=search_path())
    if found is None or not os.path.exists(found):
        raise MissingTool(
            f"{name} is not on this machine",
            remedy="`dffml service decentralice doctor` says what installs it",
        )
    return found


def environment(home: Path, more: Optional[Mapping[str, str]] = None) -> Dict[str, str]:
    """What a command sees: nothing of the caller's but proxies and certificates"""
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    fixed = {
        "HOME": str(home),
        "TMPDIR": str(home),  # where it is removed, whatever ends the command
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
        "SOURCE_DATE_EPOCH": str(EPOCH),
        "PATH": search_path(),
    }
    return {**kept, **fixed, **(more or {})}


async def run(
    argv: List[str],
    *,
    name: str,
    env: Mapping[str, str],
    log: Path,
    input: Optional[bytes] = None,
    ok: Collection[int] = (0,),
    timeout: Optional[float] = None,
) -> str:
    """Run a command to its end; its standard output, which goes to the log too"""
    async with start(argv, env=env, log=log, stdout=True, stdin=input) as process:
        try:
            waiting = process.communicate(input)
            output, _ = await asyncio.wait_for(waiting, timeout)
        except asyncio.TimeoutError:
            raise CommandFailed(
                f"{name} ran into its limit of {timeout:g} s",
                remedy="see the log; a slow machine may need another try",
                log=log,
            ) from None
    with open(log, "ab") as file:
        file.write(output)
    if process.returncode not in ok:
        signals.check()
        raise failure(name, process.returncode, log, output)
    return output.decode("utf-8", "replace")


@contextlib.asynccontextmanager
async def start(
    argv: List[str],
    *,
    env: Mapping[str, str],
    log: Path,
    stdout: bool = False,
    stdin: Optional[bytes] = None,
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A command that runs as long as the block"""
    signals.check()
    signals.watch()
    pipe, nothing = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
    with open(log, "ab") as file:
        process = await _spawned(
            asyncio.create_subprocess_exec(
                *argv,
                stdin=nothing if stdin is None else pipe,
                stdout=pipe if stdout else file,
                stderr=file,
                env=dict(env),
                start_new_session=True,
            )
        )
    with signals.group(process.pid):
        try:
            yield process
            if process.returncode is None:
                signals.kill(process.pid, signal.SIGTERM)
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(process.wait(), GRACE)
        finally:
            # No await before the kill: there might be no other turn of the loop
            signals.kill(process.pid)
            await in_any_case(process.wait())


async def _spawned(
    starting: Awaitable[asyncio.subprocess.Process],
) -> asyncio.subprocess.Process:
    """
    The process, once it is known. If asyncio itself is cancelled meanwhile, it ends the
    process alone: a child that bubblewrap has made by then would wait for ever.
    """
    started = asyncio.ensure_future(starting)
    try:
        return await asyncio.shield(started)
    except asyncio.CancelledError:
        process = await in_any_case(started)
        signals.kill(process.pid)
        await in_any_case(process.wait())
        raise


async def in_any_case(awaitable: Awaitable[T]) -> T:
    """What it gives, however often who waits for it is cancelled"""
    future = asyncio.ensure_future(awaitable)
    while not future.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.shield(future)
    return future.result()


def failure(
    name: str, status: Optional[int], log: Path, output: bytes
) -> DecentrAliceError:
    """The error of a command that ended with ``status``"""
    lines = [line.strip() for line in tail(log) if line.strip()]
    if any("no space left on device" in line.lower() for line in lines):
        return no_space(log.parent)
    how = f"exited with {status}"
    if status is not None and status < 0:
        how = f"was ended by {signal.Signals(-status).name}"
    said = f": {lines[-1][:200]}" if lines else ""
    return CommandFailed(f"{name} {how}{said}", remedy="see the log", log=log)


def tail(log: Path, count: int = TAIL) -> List[str]:
    """The last lines of a log"""
    with open(log, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 16384))
        return file.read().decode("utf-8", "replace").splitlines()[-count:]
