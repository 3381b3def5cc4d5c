"""ldconfig's files, as ldconfig reads and writes them"""

import re

import pytest

from dffml_operations_decentralice.loader.cache import Entry, cached, configured, parse
from dffml_operations_decentralice.loader.elf import EM_X86_64
from dffml_operations_decentralice.loader.tree import Tree

from . import real
from .test_dynamic import library
from .writer import write


def test_as_ldconfig_prints_it(tmp_path):
    """-p: names, kinds and paths, in the cache's order"""
    write(tmp_path / "etc/ld.so.conf", b"/opt\n")
    for name in ("liba.so.1", "libb.so.2"):
        write(tmp_path / "opt" / name, library(name))
    v3 = tmp_path / "opt/glibc-hwcaps/x86-64-v3/liba.so.1"
    write(v3, library("liba.so.1"))
    real.ldconfig("-r", str(tmp_path), "-X")
    said = real.ldconfig("-r", str(tmp_path), "-p")
    printed = re.findall(r"^\t(\S+) \((.*?)\) => (\S+)$", said, re.MULTILINE)
    raw = (tmp_path / "etc/ld.so.cache").read_bytes()
    read = list(parse(raw))
    assert [(name, one.path) for _, name, one in read] == [
        (name, path) for name, _, path in printed
    ]
    for (_, _, one), (_, kind, _) in zip(read, printed):
        assert one.level == ("x86-64-v3" if "x86-64-v3" in kind else "")
    found = cached(Tree(str(tmp_path)), 64, EM_X86_64)
    assert found["libb.so.2"] == [Entry("/opt/libb.so.2", "")]
    assert {one.level for one in found["liba.so.1"]} == {"", "x86-64-v3"}
    assert cached(Tree(str(tmp_path)), 32, 3) == {}


def test_that_of_this_machine():
    said = real.ldconfig("-p")
    printed = set(re.findall(r"^\t(\S+) \(libc6,x86-64.*\) => (\S+)$", said, re.M))
    found = cached(Tree("/"), 64, EM_X86_64)
    assert {
        (name, one.path) for name, entries in found.items() for one in entries
    } == printed


def test_broken_caches(tmp_path):
    write(tmp_path / "etc/ld.so.conf", b"/opt\n")
    write(tmp_path / "opt/liba.so.1", library("liba.so.1"))
    write(tmp_path / "opt/glibc-hwcaps/x86-64-v2/liba.so.1", library("liba.so.1"))
    real.ldconfig("-r", str(tmp_path), "-X")
    path = tmp_path / "etc/ld.so.cache"
    raw = path.read_bytes()
    for at in range(len(raw)):
        for broken in (raw[:at], raw[:at] + b"\xff" * 4 + raw[at + 4 :]):
            path.write_bytes(broken)
            assert isinstance(cached(Tree(str(tmp_path)), 64, EM_X86_64), dict)


@pytest.mark.parametrize(
    "files, found",
    [
        ({}, []),
        ({"ld.so.conf": b""}, []),
        ({"ld.so.conf": b"/a\n\n# /b\n/c/ # d\n"}, ["/a", "/c"]),
        ({"ld.so.conf": b"include x/*.conf\n/z", "x/b.conf": b"/b"}, ["/b", "/z"]),
        (
            {"ld.so.conf": b"include /etc/x/*", "x/2": b"/2", "x/1": b"/1"},
            ["/1", "/2"],
        ),
        ({"ld.so.conf": b"include x/*", "x/.off": b"/off"}, []),
        ({"ld.so.conf": b"include ld.so.conf\n/a"}, ["/a"]),
        ({"ld.so.conf": b"hwcap 0 nosegneg\n/a\n/a\n"}, ["/a"]),
        ({"ld.so.conf": b"/a=libc6\n"}, ["/a"]),
        ({"ld.so.conf": b"\xff\0\n/a"}, ["\udcff\0", "/a"]),
    ],
)
def test_configured(files, found, tmp_path):
    for name, raw in files.items():
        write(tmp_path / "etc" / name, raw)
    assert configured(Tree(str(tmp_path))) == found
