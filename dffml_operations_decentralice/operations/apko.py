"""
How apko is run: a lock of exact packages first, then a tree of what is locked

apko believes what is in its cache and in its lock, and goes on without a repository
which is missing: the cache is always private and empty, and a warning that a repository
cannot be read is an error. Owners are not applied by apko; whoever calls has to.

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
CONFIG, LOCK = "apko.yaml", "apko.lock.json"
LAYERS = {
    "application/vnd.oci.image.layer.v1.tar+gzip": "-z",
    "application/vnd.oci.image.layer.v1.tar": None,
}


async def lock(step: Step, config: Dict[str, Any], directory: Path) -> Dict[str, Any]:
    """
    Resolve the packages of a configuration: apko's lock, which is also written to
    ``apko.lock.json`` beside ``apko.yaml`` in ``directory``. Relative paths of the
    configuration are relative to ``directory``.
    """
    directory.mkdir(parents=True, exist_ok=True)
    (directory / CONFIG).write_text(yaml.safe_dump(config, sort_keys=True))
    argv = ["apko", "lock", CONFIG, "--arch", ARCH, "--output", LOCK]
    said = await _run(step, directory, argv)
    if unread(said):
        raise explain(said, step.log)
    return json.loads((directory / LOCK).read_text())


async def build(step: Step, directory: Path, root_out: Path) -> Path:
    """
    Install what `lock` wrote to ``directory`` and unpack it to ``root_out``; the path
    of the image's SBOM (SPDX JSON). No index is read, no server but those of packages
    is asked.
    """
    for name in ("out", "sbom"):  # which apko does not make
        (directory / name).mkdir()
    root_out.mkdir(parents=True)
    await _run(step, directory, build_argv(is_local(directory / LOCK)))
    layer, option = await step.thread(layer_of, directory / "out")
    await step.run(*tar_argv(layer, option, root_out))
    return directory / "sbom" / f"sbom-{ARCH}.spdx.json"


def build_argv(local: bool) -> List[str]:
    """
    apko's words for a build from a lock. Of an http repository the packages have to
    be fetched, as the cache is empty; of a local one nothing may be asked of a server.
    """
    argv = ["apko", "build", CONFIG, "image:latest", "out/", "--arch", ARCH]
    argv += ["--lockfile", LOCK, "--sbom-path", "sbom", "--vcs=false"]
    return argv + ["--offline"] * local


def tar_argv(layer: Path, option: Optional[str], root: Path) -> List[str]:
    """
    tar's words to unpack a layer with modes, owners and attributes, without apko's
    device nodes: the kernel makes its own, and only root could make these
    """
    argv = ["tar", "-C", str(root), "--numeric-owner", "--xattrs"]
    argv += ["--xattrs-include=*", "--anchored", "--exclude=dev/*", "-xp"]
    argv += [option] if option else []
    return [*argv, "-f", str(layer)]


def is_local(lock_file: Path) -> bool:
    """Whether each package of a lock is a file"""
    content = json.loads(lock_file.read_text())
    urls = [package["url"] for package in content["contents"]["packages"]]
    return not any(url.startswith(("http://", "https://")) for url in urls)


def layer_of(layout: Path) -> Any:
    """
    The one layer of the one image of an OCI layout, and tar's option to unpack it

    https://github.com/opencontainers/image-spec/blob/main/image-layout.md
    """
    index = json.loads((layout / "index.json").read_text())
    [image] = index["manifests"]
    manifest = json.loads(_blob(layout, image).read_text())
    [layer] = manifest["layers"]
    return _blob(layout, layer), LAYERS[layer["mediaType"]]


def _blob(layout: Path, descriptor: Dict[str, Any]) -> Path:
    algorithm, _, digest = descriptor["digest"].partition(":")
    return layout / "blobs" / algorithm / digest


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
