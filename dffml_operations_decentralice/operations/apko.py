"""
How apko is run: a lock of exact packages first, then a tree of what is locked

apko believes what is in its cache and in its lock, and goes on without a repository
which is missing: the cache is always private and empty at first, and a warning that a
repository cannot be read is an error. The tree is made by apko's library, in
``go/tools/apko-install``: apko itself makes a compressed layer, without owners.

https://github.com/chainguard-dev/apko/blob/main/docs/apko_file.md
"""

import json
import re
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Type

import yaml

from ..engine import Step
from ..errors import (
    CommandFailed,
    DecentrAliceError,
    NetworkError,
    SignatureError,
    SpaceError,
    UserError,
)

ARCH = "x86_64"
async def lock(
    step: Step, config: Dict[str, Any], directory: Path, name: str = "apko"
) -> Dict[str, Any]:
    """
    Resolve the packages of a configuration: apko's lock. Relative paths of the
    configuration are relative to ``directory``; what is locked there one after another
    shares what was fetched.
    """
    directory.mkdir(parents=True, exist_ok=True)
    config_file, lock_file = f"{name}.yaml", f"{name}.lock.json"
    (directory / config_file).write_text(yaml.safe_dump(config, sort_keys=True))
    argv = ["apko", "lock", config_file, "--arch", ARCH, "--output", lock_file]
    said = await _run(step, directory, argv)
    if unread(said):
        raise explain(said, step.log)
    return json.loads((directory / lock_file).read_text())


async def install(
    step: Step,
    config: Dict[str, Any],
    locked: Dict[str, Any],
    stems: List[str],
    directory: Path,
    root: Path,
) -> None:
    """
    Install what `lock` answered to ``root``, with the owners that the packages give.
    ``stems`` are the packages as `apk.unpack` left them, in the lock's order; no index
    is read, no server is asked.
    """
    packages = [
        {**one, "url": stem} for one, stem in zip(locked["contents"]["packages"], stems)
    ]
    content = {**locked, "contents": {**locked["contents"], "packages": packages}}
    (directory / "install.yaml").write_text(yaml.safe_dump(config, sort_keys=True))
    (directory / "install.lock.json").write_text(json.dumps(content))
    argv = ["apko-install", "install.yaml", "install.lock.json", str(root)]
    await _run(step, directory, argv)


async def _run(step: Step, directory: Path, argv: List[str]) -> str:
    """Run apko in ``directory`` with an empty cache; what it said"""
    cache = directory / "cache"
    cache.mkdir(exist_ok=True)
    env = {"XDG_CACHE_HOME": str(cache), "TMPDIR": str(cache)}
    said_before = step.log.stat().st_size
    try:
        await step.run(*argv, cwd=directory, env=env)
    except CommandFailed as error:
        said = log_from(step.log, said_before)
        if "Error: " not in said:  # a signal, a time limit
            raise
        raise explain(said, step.log) from error
    return log_from(step.log, said_before)


def log_from(log: Path, offset: int) -> str:
    """What was written to a step's log since it had ``offset`` bytes"""
    with open(log, "rb") as file:
        file.seek(offset)
        return file.read().decode("utf-8", "replace")


class Case(NamedTuple):
    """What apko says, what it means, and what to do; groups fill in the cause"""

    pattern: str
    error: Type[DecentrAliceError]
    cause: str
    remedy: str


MISSING = r"getting local index (?P<what>[^\s:]+)"
CHANGED = "the repository changed or is damaged: fetch or make it again"
TRY_LATER = "check the network and the repository's URL, then run it again"
LOCK_AGAIN = "make the lock anew: `build -update`"

# The first that matches counts
CASES = [
    Case(
        r"no space left on device",
        SpaceError,
        "no space left while packages were installed",
        "free some, or set DECENTRALICE_STORE to another file system",
    ),
    Case(
        r"checksum in the lock file '(?P<what>[^']*)' does not match",
        UserError,
        "the lock was made of another configuration",
        LOCK_AGAIN,
    ),
    Case(
        r"(?:failed to load keyring|failed to read apk key)(?P<what>[^\n]*)",
        UserError,
        "a key of the userspace repository cannot be read{what}",
        "name an existing file that ends in .rsa.pub as the repository's key",
    ),
    Case(
        r"signature verification failed for repository index",
        SignatureError,
        "the repository's index is not signed by the pinned key",
        "do not use it; if the repository has a new key, pin that",
    ),
    Case(
        r"failed to find key name in signature file name",
        SignatureError,
        "the repository's index is not signed",
        "sign the index, or use a repository that is signed",
    ),
    Case(
        r"no signature with known key[^\n]*|no keys provided to verify signature",
        SignatureError,
        "the repository's index is signed by a key that is not pinned",
        "pin the repository's key under its own name, NAME.rsa.pub",
    ),
    Case(
        r"package \"(?P<what>[^\"]+)\" control hash mismatch",
        SignatureError,
        "the package {what} is not the one that the index or the lock names",
        CHANGED,
    ),
    Case(
        r"(?:expanding \{?(?P<what>[^\s:}]+).*)?"
        r"(?:checksum mismatch|gzip: invalid (?:checksum|header)|unexpected EOF"
        r"|flate: corrupt input)",
        SignatureError,
        "the package {what} is damaged",
        CHANGED,
    ),
    Case(
        r"failed to read repository package apk (?P<what>\S+?):? ",
        NetworkError,
        "the repository lacks {what}, which its index names",
        "make or fetch the repository again",
    ),
    Case(
        MISSING,
        NetworkError,
        "the repository {what} cannot be read",
        "check its path; it needs x86_64/APKINDEX.tar.gz",
    ),
    Case(
        r"(?:(?P<what>https?://[^\s\"]+)[\":].*?)?"
        r"(?:dial tcp|no such host|connection refused"
        r"|network is unreachable|i/o timeout|TLS handshake|x509: |connection reset"
        r"|context deadline exceeded|giving up after|proxyconnect)",
        NetworkError,
        "the userspace repository cannot be reached: {what}",
        TRY_LATER,
    ),
    Case(
        r"unable to get package apk at (?P<what>\S+):",
        NetworkError,
        "the repository does not have {what}",
        "what the lock names may be gone there: `build -update`",
    ),
    Case(
        r"(?:(?P<what>https?://[^\s\"]+)[\":].*?)?"
        r"(?:unexpected status code|indicated error code)",
        NetworkError,
        "the userspace repository does not answer as one: {what}",
        TRY_LATER,
    ),
    Case(
        r"nothing provides \"(?P<what>[^\"]+)\"",
        UserError,
        "no repository has the package {what}",
        "correct the name in the package list, or add the repository that has it",
    ),
    Case(
        r"must provide at least one repository",
        UserError,
        "no repository of packages is configured",
        "name at least one repository, and its key",
    ),
    Case(
        r"has conflicting file:? (?P<what>[^\n]+)",
        UserError,
        "two packages have the same file {what}",
        "remove one of them from the package list",
    ),
]


def explain(stderr: str, log: Optional[Path] = None) -> DecentrAliceError:
    """The error of what apko wrote to standard error"""
    lines = [line for line in stderr.splitlines() if line.strip()]
    # Not what it says of attempts: a later one may have succeeded
    counting = [line for line in lines if "Error: " in line or re.search(MISSING, line)]
    for case in CASES:
        found = re.search(case.pattern, "\n".join(counting))
        if found:
            what = found.groupdict().get("what") or ""
            return case.error(case.cause.format(what=what), remedy=case.remedy, log=log)
    said = (counting or lines or ["nothing"])[-1].partition("Error: ")
    return CommandFailed(
        f"apko failed: {(said[2] or said[0])[:300]}", remedy="see the log", log=log
    )


def unread(said: str) -> bool:
    """Whether apko warned of a repository that it goes on without"""
    return re.search(MISSING, said) is not None
