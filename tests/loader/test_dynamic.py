"""
What is predicted of small trees, and what happens in them: the real kernel and the real
loader are asked each time
"""

import os
import re
import stat
from pathlib import Path
from typing import Any, Dict, NamedTuple, Optional, Tuple

import pytest

from dffml_operations_decentralice.loader.dynamic import (
    Environment,
    Loader,
    env_command,
    shebang,
    trusted_directories,
)
from dffml_operations_decentralice.loader.fit import build
from dffml_operations_decentralice.loader.tree import Tree

from . import real
from .real import LOADER
from .writer import elf, write

LIB = real.trusted()[0].rstrip("/")  # /lib64, /lib/x86_64-linux-gnu, …
PROGRAM = "/bin/program"
NODEFLIB, PIE = 0x800, 0x8000000


def program(*needed: str, **more: Any) -> bytes:
    return elf(**{"interpreter": LOADER, "needed": needed, **more})


def library(soname: str = "", **more: Any) -> bytes:
    return elf(soname=soname, **more)


class Link(NamedTuple):
    to: str


class Script(NamedTuple):
    """Of its first line, as shells take what the kernel refuses"""

    line: bytes
    mode: int = 0o755


class Case(NamedTuple):
    """Files by path; what is wrong, None if nothing is"""

    wrong: Optional[str]
    what: str  # that is told to be missing
    files: Dict[str, Any]
    env: Dict[str, str] = {}
    as_user: bool = False
    mode: int = 0o755
    ldconfig: bool = False
    host: Tuple[str, ...] = ()  # libraries of the host that come along


A, B = f"{LIB}/liba.so", f"{LIB}/libb.so"
VERSIONED = dict(defines=["V_1", "V_2"], exports=[("f", "V_1"), ("g", "V_2")])
CUT = library("liba.so")[:600]
FOREIGN = library("liba.so", machine=183)
SHORT = library("liba.so", bits=32, machine=3)
LOOP = {"/loop/liba.so": Link("libb.so"), "/loop/libb.so": Link("liba.so")}
# What the loader itself says by name
SAID = ("library-missing", "library-unusable", "version-missing", "symbol-missing")
TRUE = b"#!/bin/program\n"

CASES = {
    "static": Case(None, "", {PROGRAM: elf()}),
    "no library": Case(None, "", {PROGRAM: program()}),
    "found": Case(None, "", {PROGRAM: program("liba.so"), A: library()}),
    "chain": Case(
        None,
        "",
        {PROGRAM: program("liba.so"), A: library(needed=["libb.so"]), B: library()},
    ),
    "circle": Case(
        None,
        "",
        {
            PROGRAM: program("liba.so"),
            A: library(needed=["libb.so"]),
            B: library(needed=["liba.so"]),
        },
    ),
    "missing": Case("library-missing", "liba.so", {PROGRAM: program("liba.so")}),
    "missing further away": Case(
        "library-missing",
        "libb.so",
        {PROGRAM: program("liba.so"), A: library(needed=["libb.so"])},
    ),
    # Class and machine: passed over, as if the file were not there
    "wrong class": Case(
        "library-missing", "liba.so", {PROGRAM: program("liba.so"), A: SHORT}
    ),
    "wrong machine": Case(
        "library-missing", "liba.so", {PROGRAM: program("liba.so"), A: FOREIGN}
    ),
    "wrong class, then the right one": Case(
        None,
        "",
        {
            PROGRAM: program("liba.so", runpath="/a:/b:/c"),
            "/a/liba.so": SHORT,
            "/b/liba.so": FOREIGN,
            "/c/liba.so": library(),
        },
    ),
    # What else is wrong with a file is the end, though a good one comes behind
    "no ELF file, then a good one": Case(
        "library-unusable",
        "liba.so",
        {
            PROGRAM: program("liba.so", runpath="/a"),
            "/a/liba.so": b"INPUT(libb.so)" * 9,
            A: library(),
        },
    ),
    "empty, then a good one": Case(
        "library-unusable",
        "liba.so",
        {
            PROGRAM: program("liba.so", runpath="/a"),
            "/a/liba.so": b"",
            A: library(),
        },
    ),
    "big-endian": Case(
        "library-unusable",
        "liba.so",
        {PROGRAM: program("liba.so"), A: library()[:5] + b"\2" + library()[6:]},
    ),
    "cut off in its header": Case(
        "library-unusable",
        "liba.so",
        {PROGRAM: program("liba.so"), A: library()[:40]},
    ),
    "a directory": Case(
        "library-unusable",
        "liba.so",
        {PROGRAM: program("liba.so"), f"{A}/file": b""},
    ),
    "a program as library": Case(
        "library-unusable",
        "liba.so",
        {PROGRAM: program("liba.so"), A: elf(flags=PIE)},
    ),
    "a program at a fixed place as library": Case(
        "library-unusable",
        "liba.so",
        {PROGRAM: program("liba.so"), A: elf(type=2)},
    ),
    "an object file": Case(
        "library-unusable",
        "liba.so",
        {PROGRAM: program("liba.so"), A: elf(type=1)},
    ),
    # Links
    "links of names": Case(
        None,
        "",
        {
            PROGRAM: program("liba.so.1"),
            f"{LIB}/liba.so.1": Link("liba.so.1.2"),
            f"{LIB}/liba.so.1.2": library("liba.so.1"),
        },
    ),
    "loop": Case(
        "library-missing",
        "liba.so",
        {PROGRAM: program("liba.so", runpath="/loop"), **LOOP},
    ),
    "loop, then a good one elsewhere": Case(
        None,
        "",
        {PROGRAM: program("liba.so", runpath="/loop"), **LOOP, A: library()},
    ),
    "loop, then a good one on the same path": Case(
        "library-missing",
        "liba.so",
        {
            PROGRAM: program("liba.so", runpath="/loop:/good"),
            **LOOP,
            "/good/liba.so": library(),
        },
    ),
    "forty links": Case(
        None,
        "",
        {
            PROGRAM: program("l0"),
            **{f"{LIB}/l{at}": Link(f"l{at + 1}") for at in range(40)},
            f"{LIB}/l40": library(),
        },
    ),
    "forty-one links": Case(
        "library-missing",
        "l0",
        {
            PROGRAM: program("l0"),
            **{f"{LIB}/l{at}": Link(f"l{at + 1}") for at in range(41)},
            f"{LIB}/l41": library(),
        },
    ),
    "dangling absolute link": Case(
        "library-missing",
        "liba.so",
        {PROGRAM: program("liba.so"), A: Link("/nowhere/liba.so")},
    ),
    "absolute link inside": Case(
        None,
        "",
        {
            PROGRAM: program("liba.so"),
            A: Link("/elsewhere/liba.so"),
            "/elsewhere/liba.so": library(),
        },
    ),
    "link above the root": Case(
        None,
        "",
        {
            PROGRAM: program("liba.so"),
            A: Link("../../../../../../../elsewhere/liba.so"),
            "/elsewhere/liba.so": library(),
        },
    ),
    # What an overlay's upper layer does: a link to a directory in a directory's place
    "hidden lib64": Case(
        "library-missing",
        "liba.so",
        {
            PROGRAM: program("liba.so", runpath="/usr/lib64/systemd"),
            "/usr/lib64": Link("lib"),
            "/usr/lib/libb.so": library(),
            "/hidden/lib64/systemd/liba.so": library(),
        },
    ),
    "lib64 put where the link leads": Case(
        None,
        "",
        {
            PROGRAM: program("liba.so", runpath="/usr/lib64/systemd"),
            "/usr/lib64": Link("lib"),
            "/usr/lib/systemd/liba.so": library(),
        },
    ),
    # Search paths
    "RPATH": Case(
        None, "", {PROGRAM: program("liba.so", rpath="/a"), "/a/liba.so": library()}
    ),
    "RUNPATH": Case(
        None, "", {PROGRAM: program("liba.so", runpath="/a"), "/a/liba.so": library()}
    ),
    "RPATH counts for the libraries' libraries": Case(
        None,
        "",
        {
            PROGRAM: program("liba.so", rpath="/a"),
            "/a/liba.so": library(needed=["libb.so"]),
            "/a/libb.so": library(),
        },
    ),
    "RUNPATH does not": Case(
        "library-missing",
        "libb.so",
        {
            PROGRAM: program("liba.so", runpath="/a"),
            "/a/liba.so": library(needed=["libb.so"]),
            "/a/libb.so": library(),
        },
    ),
    "a library's RUNPATH ends the program's RPATH": Case(
        "library-missing",
        "libb.so",
        {
            PROGRAM: program("liba.so", rpath="/a"),
            "/a/liba.so": library(needed=["libb.so"], runpath="/b"),
            "/a/libb.so": library(),
        },
    ),
    "RPATH beside RUNPATH does not count": Case(
        "library-missing",
        "liba.so",
        {
            PROGRAM: program("liba.so", rpath="/a", runpath="/b"),
            "/a/liba.so": library(),
        },
    ),
    "RPATH before LD_LIBRARY_PATH": Case(
        None,
        "",
        {
            PROGRAM: program("liba.so", rpath="/a"),
            "/a/liba.so": library(),
            "/env/liba.so": library(needed=["libx.so"]),
        },
        {"LD_LIBRARY_PATH": "/env"},
    ),
    "LD_LIBRARY_PATH before RUNPATH": Case(
        "library-missing",
        "libx.so",
        {
            PROGRAM: program("liba.so", runpath="/a"),
            "/a/liba.so": library(),
            "/env/liba.so": library(needed=["libx.so"]),
        },
        {"LD_LIBRARY_PATH": "/env"},
    ),
    "LD_LIBRARY_PATH before the trusted directories": Case(
        "library-missing",
        "libx.so",
        {
            PROGRAM: program("liba.so"),
            A: library(),
            "/env/liba.so": library(needed=["libx.so"]),
        },
        {"LD_LIBRARY_PATH": "/no;/env"},
    ),
    "LD_LIBRARY_PATH alone": Case(
        None,
        "",
        {PROGRAM: program("liba.so"), "/env/liba.so": library()},
        {"LD_LIBRARY_PATH": "/env/"},
    ),
    "an empty piece is the working directory": Case(
        None,
        "",
        {PROGRAM: program("liba.so"), "/liba.so": library()},
        {"LD_LIBRARY_PATH": "/env:"},
    ),
    "no default directories": Case(
        "library-missing",
        "liba.so",
        {PROGRAM: program("liba.so", flags=NODEFLIB), A: library()},
    ),
    # Tokens
    "$ORIGIN": Case(
        None,
        "",
        {
            "/opt/bin/real": program("liba.so", runpath="$ORIGIN/../lib"),
            PROGRAM: Link("/opt/bin/real"),
            "/opt/lib/liba.so": library(),
        },
    ),
    "$ORIGIN of a library": Case(
        None,
        "",
        {
            PROGRAM: program("liba.so", runpath="/opt/a"),
            "/opt/a/liba.so": library(needed=["libb.so"], runpath="${ORIGIN}/b"),
            "/opt/a/b/libb.so": library(),
        },
    ),
    "$LIB and $PLATFORM": Case(
        None,
        "",
        {
            PROGRAM: program("liba.so", runpath="/opt/$LIB/${PLATFORM}"),
            f"/opt/{LIB.strip('/')}/x86_64/liba.so": library(),
        },
    ),
    "no token": Case(
        "library-missing",
        "liba.so",
        {
            PROGRAM: program("liba.so", runpath="/opt/$LIBRARY"),
            f"/opt/{LIB.strip('/')}RARY/liba.so": library(),
        },
    ),
    # Names
    "a path": Case(
        None,
        "",
        {PROGRAM: program("/opt/liba.so"), "/opt/liba.so": library()},
    ),
    "a path that is not there": Case(
        "library-missing",
        "/opt/liba.so",
        {PROGRAM: program("/opt/liba.so"), A: library()},
    ),
    "a path of the wrong class": Case(
        "library-missing",
        "/opt/liba.so",
        {PROGRAM: program("/opt/liba.so"), "/opt/liba.so": SHORT},
    ),
    "a path from the working directory": Case(
        None,
        "",
        {PROGRAM: program("opt/liba.so"), "/opt/liba.so": library()},
    ),
    "loaded under its own name before": Case(
        None,
        "",
        {
            PROGRAM: program("/opt/liba.so", "libb.so"),
            "/opt/liba.so": library("libown.so"),
            B: library(needed=["libown.so"]),
        },
    ),
    "loaded under its own name too late": Case(
        "library-missing",
        "libown.so",
        {
            PROGRAM: program("libown.so", "/opt/liba.so"),
            "/opt/liba.so": library("libown.so"),
        },
    ),
    "the loader is there already": Case(
        None,
        "",
        {PROGRAM: program("ld-linux-x86-64.so.2", LOADER, "libc.so.6")},
        host=("libc.so.6",),
    ),
    # Versions
    "versions": Case(
        None,
        "",
        {
            PROGRAM: program("liba.so", needs={"liba.so": ["V_1", "V_2"]}),
            A: library("liba.so", **VERSIONED),
        },
    ),
    "version too new": Case(
        "version-missing",
        "V_3",
        {
            PROGRAM: program("liba.so", needs={"liba.so": ["V_1", "V_3"]}),
            A: library("liba.so", **VERSIONED),
        },
    ),
    "a weak version": Case(
        None,
        "",
        {
            PROGRAM: program("liba.so", needs={"liba.so": ["V_3"]}, weak=True),
            A: library("liba.so", **VERSIONED),
        },
    ),
    "a library without versions": Case(
        None,
        "",
        {
            PROGRAM: program("liba.so", needs={"liba.so": ["V_3"]}),
            A: library("liba.so"),
        },
    ),
    "version of a library that only another one needs": Case(
        "version-missing",
        "V_3",
        {
            PROGRAM: program("liba.so"),
            A: library(needed=["libb.so"], needs={"libb.so": ["V_3"]}),
            B: library("libb.so", **VERSIONED),
        },
    ),
    "version that the found one lacks, though the hidden one has it": Case(
        "version-missing",
        "V_2",
        {
            PROGRAM: program("liba.so", needs={"liba.so": ["V_2"]}),
            A: library("liba.so", **VERSIONED),
            "/env/liba.so": library("liba.so", defines=["V_1"]),
        },
        {"LD_LIBRARY_PATH": "/env"},
    ),
    "glibc of the host": Case(
        None,
        "",
        {PROGRAM: program("libc.so.6", needs={"libc.so.6": ["GLIBC_2.2.5"]})},
        host=("libc.so.6",),
    ),
    "glibc too old": Case(
        "version-missing",
        "GLIBC_2.99",
        {PROGRAM: program("libc.so.6", needs={"libc.so.6": ["GLIBC_2.99"]})},
        host=("libc.so.6",),
    ),
    # Symbols
    "symbols": Case(
        None,
        "",
        {
            PROGRAM: program(
                "liba.so",
                needs={"liba.so": ["V_1", "V_2"]},
                imports=[("f", "V_1"), ("g", "V_2"), ("g", "")],
            ),
            A: library("liba.so", **VERSIONED),
        },
    ),
    "a symbol of another version": Case(
        "symbol-missing",
        "f@V_2",
        {
            PROGRAM: program(
                "liba.so", needs={"liba.so": ["V_2"]}, imports=[("f", "V_2")]
            ),
            A: library("liba.so", **VERSIONED),
        },
    ),
    "a symbol of no library": Case(
        "symbol-missing",
        "h",
        {
            PROGRAM: program("liba.so", imports=[("h", "")]),
            A: library("liba.so", **VERSIONED),
        },
    ),
    "a symbol that is only called, and never": Case(
        None,
        "",
        {
            PROGRAM: program("liba.so", imports=[("h", "")], lazy=True),
            A: library("liba.so", **VERSIONED),
        },
    ),
    "a symbol without version where one is asked for": Case(
        None,
        "",
        {
            PROGRAM: program(
                "liba.so", needs={"liba.so": ["V_1"]}, imports=[("h", "V_1")]
            ),
            A: library("liba.so", defines=["V_1"], exports=[("h", "")]),
        },
    ),
    "a symbol from a library that does not ask for it": Case(
        None,
        "",
        {
            PROGRAM: program("liba.so", "libb.so"),
            A: library(imports=[("h", "")]),
            B: library(exports=[("h", "")]),
        },
    ),
    "private symbol of the loader": Case(
        "symbol-missing",
        "__of_another_build@GLIBC_PRIVATE",
        {
            PROGRAM: program(
                "ld-linux-x86-64.so.2",
                "libc.so.6",
                needs={"ld-linux-x86-64.so.2": ["GLIBC_PRIVATE"]},
                imports=[("__of_another_build", "GLIBC_PRIVATE")],
            )
        },
        host=("libc.so.6",),
    ),
    "private symbol of the C library": Case(
        "symbol-missing",
        "__of_another_build@GLIBC_PRIVATE",
        {
            PROGRAM: program("liba.so"),
            A: library(
                needed=["libc.so.6"],
                needs={"libc.so.6": ["GLIBC_PRIVATE"]},
                imports=[("__of_another_build", "GLIBC_PRIVATE")],
            ),
        },
        host=("libc.so.6",),
    ),
    # The kernel's side
    "no program": Case("program-missing", PROGRAM, {"/x": b""}),
    "not executable": Case("program-unusable", PROGRAM, {PROGRAM: elf()}, mode=0o644),
    "of another machine": Case(
        "program-unusable", PROGRAM, {PROGRAM: elf(machine=183)}
    ),
    "no interpreter": Case(
        "interpreter-missing",
        "/lib/ld-musl-x86_64.so.1",
        {PROGRAM: program(interpreter="/lib/ld-musl-x86_64.so.1")},
    ),
    "interpreter is no program": Case(
        "interpreter-unusable",
        "/etc/motd",
        {PROGRAM: program(interpreter="/etc/motd"), "/etc/motd": b"hello" * 20},
    ),
    "interpreter of another machine": Case(
        "interpreter-unusable",
        "/ld.so",
        {PROGRAM: program(interpreter="/ld.so"), "/ld.so": elf(machine=183)},
    ),
    "interpreter by a link": Case(
        None,
        "",
        {PROGRAM: program(interpreter="/ld.so"), "/ld.so": Link(LOADER)},
    ),
    "script": Case(
        None, "", {"/bin/true": program(), PROGRAM: Script(b"#! /bin/true -x\n")}
    ),
    "script of a script": Case(
        None,
        "",
        {
            "/bin/true": program(),
            "/bin/between": Script(b"#!/bin/true\n"),
            PROGRAM: Script(b"#!/bin/between\n"),
        },
    ),
    "script without interpreter": Case(
        "script-interpreter-missing",
        "/bin/python",
        {PROGRAM: Script(b"#!/bin/python\n")},
    ),
    "script whose interpreter lacks a library": Case(
        "library-missing",
        "liba.so",
        {"/bin/sh": program("liba.so"), PROGRAM: Script(b"#!/bin/sh\n")},
    ),
    "script with a carriage return": Case(
        "script-interpreter-missing",
        "/bin/true\r",
        {"/bin/true": program(), PROGRAM: Script(b"#!/bin/true\r\n")},
    ),
    "script of nothing": Case(
        "program-unusable",
        PROGRAM,
        {PROGRAM: Script(b"#!\n")},
    ),
    "script of itself": Case(
        "script-interpreter-unusable", PROGRAM, {PROGRAM: Script(TRUE)}
    ),
    "text": Case("program-unusable", PROGRAM, {PROGRAM: Script(b"echo hello\n")}),
    # setuid: who starts it says nothing of where libraries are
    "setuid": Case(
        None,
        "",
        {PROGRAM: program("liba.so"), A: library()},
        mode=0o4755,
        as_user=True,
    ),
    "setuid ignores LD_LIBRARY_PATH": Case(
        "library-missing",
        "liba.so",
        {PROGRAM: program("liba.so"), "/env/liba.so": library()},
        {"LD_LIBRARY_PATH": "/env"},
        mode=0o4755,
        as_user=True,
    ),
    "who is not setuid does not": Case(
        None,
        "",
        {PROGRAM: program("liba.so"), "/env/liba.so": library()},
        {"LD_LIBRARY_PATH": "/env"},
        as_user=True,
    ),
    "setuid ignores $ORIGIN": Case(
        "library-missing",
        "liba.so",
        {
            PROGRAM: program("liba.so", runpath="$ORIGIN/../opt"),
            "/opt/liba.so": library(),
        },
        mode=0o4755,
        as_user=True,
    ),
    "setuid keeps $ORIGIN to a trusted directory": Case(
        None,
        "",
        {
            PROGRAM: Link(f"{LIB}/sub/program"),
            f"{LIB}/sub/program": program("liba.so", runpath="$ORIGIN/../sub2/.."),
            A: library(),
            f"{LIB}/sub2/x": b"",
        },
        mode=0o4755,
        as_user=True,
    ),
    "setuid keeps RUNPATH": Case(
        None,
        "",
        {PROGRAM: program("liba.so", runpath="/opt"), "/opt/liba.so": library()},
        mode=0o4755,
        as_user=True,
    ),
    # ldconfig
    "a directory of ld.so.conf": Case(
        None,
        "",
        {
            PROGRAM: program("liba.so.1"),
            "/opt/liba.so.1": library("liba.so.1"),
            "/etc/ld.so.conf": b"include /etc/ld.so.conf.d/*.conf\n",
            "/etc/ld.so.conf.d/a.conf": b"# ours\n/opt\n",
        },
        ldconfig=True,
    ),
    "a relative include": Case(
        None,
        "",
        {
            PROGRAM: program("liba.so.1"),
            "/opt/liba.so.1": library("liba.so.1"),
            "/etc/ld.so.conf": b"include ld.so.conf.d/*.conf",
            "/etc/ld.so.conf.d/a.conf": b"/opt/",
        },
        ldconfig=True,
    ),
    "a directory that is not included": Case(
        "library-missing",
        "liba.so.1",
        {
            PROGRAM: program("liba.so.1"),
            "/opt/liba.so.1": library("liba.so.1"),
            "/etc/ld.so.conf": b"include ld.so.conf.d/*.conf",
            "/etc/ld.so.conf.d/a.conf.off": b"/opt/",
        },
        ldconfig=True,
    ),
    "ld.so.conf without ldconfig": Case(
        "library-missing",
        "liba.so.1",
        {
            PROGRAM: program("liba.so.1"),
            "/opt/liba.so.1": library("liba.so.1"),
            "/etc/ld.so.conf": b"/opt\n",
        },
    ),
    "the cache before the trusted directories": Case(
        "library-missing",
        "libx.so",
        {
            PROGRAM: program("liba.so.1"),
            "/opt/liba.so.1": library("liba.so.1", needed=["libx.so"]),
            f"{LIB}/liba.so.1": library("liba.so.1"),
            "/etc/ld.so.conf": b"/opt\n",
        },
        ldconfig=True,
    ),
    "a cache that is none": Case(
        None,
        "",
        {
            PROGRAM: program("liba.so"),
            A: library(),
            "/etc/ld.so.cache": b"glibc-ld.so.cache1.1" + b"\xff" * 100,
        },
    ),
}


def make(tree: Path, case: Case) -> None:
    """The case's files in a tree with the host's loader"""
    real.copy(real.host_loader(), tree / LOADER[1:])
    for path, what in case.files.items():
        place = tree / path[1:]
        if isinstance(what, Link):
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(what.to)
        elif isinstance(what, Script):
            write(place, what.line, what.mode)
        else:
            write(place, what)
    for name in case.host:
        real.copy(
            f"{os.path.dirname(real.host_loader())}/{name}", tree / LIB[1:] / name
        )
    if case.mode != 0o755:
        place = Tree(str(tree)).resolve(PROGRAM)
        os.chmod(place.host, case.mode)
    (tree / "proc").mkdir(exist_ok=True)
    tree.chmod(0o755)
    if case.ldconfig:
        real.ldconfig("-r", str(tree), "-X")


@pytest.mark.parametrize("name", CASES)
def test_the_real_loader_agrees(name, tmp_path):
    case = CASES[name]
    tree = tmp_path / "tree"
    tree.mkdir()
    make(tree, case)
    if case.mode & stat.S_ISUID and os.statvfs(tree).f_flag & os.ST_NOSUID:
        pytest.skip("a file system without setuid")
    library_path = case.env.get("LD_LIBRARY_PATH", "")
    given = Environment(library_path, as_root=not case.as_user)
    found = Loader(Tree(str(tree))).execute(PROGRAM, given)
    run = real.run_as_user if case.as_user else real.run
    starts, said = run(tree, PROGRAM, case.env)
    assert [one.kind for one in found] == ([case.wrong] if case.wrong else []), said
    assert [one.what for one in found] == ([case.what] if case.wrong else [])
    assert starts is (case.wrong is None), said
    if case.wrong in SAID:  # not that something else is wrong as well
        assert case.what.partition("@")[0] in said


def test_the_table_of_trusted_directories():
    """Found in the loader's bytes as the loader itself lists them"""
    raw = Path(real.host_loader()).read_bytes()
    assert trusted_directories(raw) == real.trusted()


def test_the_build_of_loader_and_library():
    loader = Path(real.host_loader())
    version = re.search(r'^version\.version="(.*)"$', real.diagnostics(), re.MULTILINE)
    assert version and build(loader.read_bytes()).split()[-1] == version[1]
    assert build(loader.with_name("libc.so.6").read_bytes()) == build(
        loader.read_bytes()
    )


@pytest.mark.parametrize(
    "raw, found",
    [
        (b"\0/lib/\0/usr/lib/\0", ("/lib/", "/usr/lib/")),  # Wolfi
        (b"x\0/lib64/\0/usr/lib64/\0y", ("/lib64/", "/usr/lib64/")),  # Fedora
        (b"\0/var/\0x\0/lib/a/\0/lib/\0", ("/lib/a/", "/lib/")),
        (b"\0lib/\0/lib\0", ()),
        (b"", ()),
    ],
)
def test_trusted_directories(raw, found):
    assert trusted_directories(raw) == found


@pytest.mark.parametrize(
    "head, found",
    [
        (b"#!/bin/sh\n", ["/bin/sh"]),
        (b"#! \t/bin/sh  -e -u \nx", ["/bin/sh", "-e -u"]),
        (b"#!/bin/sh", ["/bin/sh"]),
        (b"#!/bin/sh\0-e\n", ["/bin/sh"]),
        (b"#!\n/bin/sh", []),
        (b"#!   \n", []),
        (b"#!" + b"a" * 300, []),
        (b"#!/bin/sh " + b"a" * 300, ["/bin/sh", "a" * 246]),
        (b"#!/\xff\n", ["/\udcff"]),
    ],
)
def test_shebang(head, found):
    assert shebang(head) == found


@pytest.mark.parametrize(
    "words, found",
    [
        (["python3"], "python3"),
        (["-S python3 -u"], "python3"),
        (["-S", "A=b", "python3"], "python3"),
        (["--split-string=python3 -u"], "python3"),
        (["-S -i python3"], "python3"),
        (["-S -u X python3"], ""),
        (["-i"], ""),
        (["A=b"], ""),
        (["-S 'open"], ""),
        ([], ""),
    ],
)
def test_env_command(words, found):
    assert env_command(words) == found


def test_env_is_followed(tmp_path):
    files = {
        "/usr/bin/env": program(),
        PROGRAM: Script(b"#!/usr/bin/env python3\n"),
    }
    make(tmp_path, Case(None, "", files))
    (found,) = Loader(Tree(str(tmp_path))).execute(PROGRAM)
    assert (found.kind, found.what) == ("script-interpreter-missing", "python3")
    write(tmp_path / "usr/bin/python3", program("liba.so"))
    (found,) = Loader(Tree(str(tmp_path))).execute(PROGRAM)
    assert (found.kind, found.what) == ("library-missing", "liba.so")
    assert found.chain == (PROGRAM, "/usr/bin/python3")


def test_processors(tmp_path):
    """What only some processors load is wrong for these alone"""
    folder = f"{LIB}/glibc-hwcaps/x86-64-v3"
    files = {
        PROGRAM: program("liba.so"),
        A: library(),
        f"{folder}/liba.so": library(needed=["libx.so"]),
    }
    make(tmp_path, Case(None, "", files))
    tree = Tree(str(tmp_path))
    assert [len(Loader(tree, level).execute(PROGRAM)) for level in (1, 2, 3, 4)] == [
        *(0, 0, 1, 1)
    ]


def test_searched(tmp_path):
    """Each place that was tried, in order, and why it was not it"""
    files = {PROGRAM: program("liba.so", runpath="/a:/b"), "/b/liba.so": SHORT}
    make(tmp_path, Case(None, "", files))
    given = Environment(library_path="/env")
    (found,) = Loader(Tree(str(tmp_path))).execute(PROGRAM, given)
    assert [tuple(one) for one in found.searched[:3]] == [
        ("/env", "is no directory"),
        ("/a", "is no directory"),
        ("/b/liba.so", "is 32-bit i386, wanted is 64-bit x86-64"),
    ]
    assert len(found.searched) == 3 + len(real.trusted())


def test_what_ldconfig_would_find(tmp_path):
    make(tmp_path, CASES["ld.so.conf without ldconfig"])
    (found,) = Loader(Tree(str(tmp_path))).execute(PROGRAM)
    assert "/opt" in found.why and "ldconfig" in found.why


def test_how_far_a_library_goes(tmp_path):
    make(tmp_path, CASES["glibc too old"])
    (found,) = Loader(Tree(str(tmp_path))).execute(PROGRAM)
    version = build(Path(real.host_loader()).read_bytes()).split()[-1]
    assert found.why.endswith(f"goes up to GLIBC_{version}")


def test_the_libraries_of_this_machines_programs():
    """By name and path, as the loader itself lists them"""
    tree = Tree("/")
    loader = Loader(tree)
    names = tree.names("/usr/bin")
    places = [
        tree.find(f"/usr/bin/{name}") for name in names[:: max(1, len(names) // 150)]
    ]
    paths = [
        place.inside
        for place in places
        if place
        and loader.execute(place.inside) == []
        and loader.libraries_of(place.inside)
    ]
    assert len(paths) > 20
    script = real.LIST.format(real.host_loader())
    said = real.ran(["env", "-u", "LD_LIBRARY_PATH", "sh", "-c", script, "sh", *paths])
    assert real.listed(said[1]) == {path: loader.libraries_of(path) for path in paths}
