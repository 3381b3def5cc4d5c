"""
How apko's own packages are run: exact packages first, then a tree of them

The program is ``go/tools/apko-tree``. To apko a missing repository is no error;
here it is one.

https://github.com/chainguard-dev/apko/blob/main/docs/apko_file.md
"""

import json
import re
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Tuple, Type

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


async def resolve(
    step: Step, config: Dict[str, Any], directory: Path
) -> List[Dict[str, Any]]:
    """
    The exact packages that a configuration asks for, in the order in which they are to
    be installed: ``name``, ``version``, ``url``, ``checksum`` (of the control part, as
    the signed index has it) and ``size`` in bytes. Relative paths are relative to
    ``directory``.
    """
    file = directory / "resolve.yaml"
    file.write_text(yaml.safe_dump(config, sort_keys=True))
    answer, said = await _run(step, directory, ["apko-tree", "resolve", file.name])
    if unread(said):
        raise explain(said, step.log)
    return [json.loads(line) for line in answer.splitlines()]


async def install(
    step: Step,
    config: Dict[str, Any],
    packages: List[Dict[str, Any]],
    stems: List[str],
    directory: Path,
    root: Path,
) -> None:
    """
    Make the tree ``root`` of what `resolve` answered, with the owners that the packages
    give. ``stems`` are the packages as `apk.unpack` left them, in their order; no index
    is read, no server is asked.
    """
    (directory / "install.yaml").write_text(yaml.safe_dump(config, sort_keys=True))
    content = lock_file(packages, stems)
    (directory / "install.lock.json").write_text(json.dumps(content))
    argv = ["apko-tree", "install", "install.yaml", "install.lock.json", str(root)]
    await _run(step, directory, argv)


def lock_file(packages: List[Dict[str, Any]], stems: List[str]) -> Dict[str, Any]:
    """A lock file of apko's, with what is read of it"""
    locked = [
        {
            "name": one["name"],
            "version": one["version"],
            "architecture": ARCH,
            "checksum": one["checksum"],
            "url": stem,
            "data": {"range": f"bytes=0-{one['size'] - 1}"},
        }
        for one, stem in zip(packages, stems)
    ]
    return {"version": "v1", "contents": {"packages": locked}}


async def _run(step: Step, directory: Path, argv: List[str]) -> Tuple[str, str]:
    """Run apko-tree in ``directory``; its answer, and what else it said"""
    said_before = step.log.stat().st_size
    try:
        answer = await step.run(*argv, cwd=directory)
    except CommandFailed as error:
        said = log_from(step.log, said_before)
        if "Error: " not in said:  # a signal, a time limit
            raise
        raise explain(said, step.log) from error
    return answer, log_from(step.log, said_before)


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
