"""Programs in a tree, started for real"""

import functools
import os
import re
import shutil
import subprocess
import sys
import types
from pathlib import Path
from typing import Dict, Mapping, Sequence, Tuple

import pytest

from dffml_operations_decentralice.engine.commands import find_tool
from dffml_operations_decentralice.errors import MissingTool
from dffml_operations_decentralice.loader import elf
from dffml_operations_decentralice.loader.tree import Tree

LOADER = "/lib64/ld-linux-x86-64.so.2"
NOTHING: Mapping[str, str] = types.MappingProxyType({})
# A shell's words, which list the libraries of its arguments; see `listed`
LIST = 'for one in "$@"; do echo "== $one"; {} --list "$one"; done'
# $ORIGIN of a program is what /proc says
WITH_PROC = 'mount --rbind /proc "$1/proc" && shift && exec "$@"'
# chroot(2) and another user, without bubblewrap, under which no program gets rights
AS_USER = """
import os, sys
os.chroot(sys.argv[1])
os.chdir("/")
os.setgroups([])
os.setgid(1)
os.setuid(1)
try:
    env = dict(one.split("=", 1) for one in sys.argv[3:])
    os.execve(sys.argv[2], [sys.argv[2]], env)
except OSError as error:
    print(error, file=sys.stderr)
    os._exit(127)
"""


@functools.lru_cache(None)
def host_loader() -> str:
    """The host's own, as its `true` names it"""
    place = Tree("/").resolve(find_tool("true"))
    found = elf.read(place).interpreter
    assert found, "`true` of the host is static"
    return os.path.realpath(found)


@functools.lru_cache(None)
def diagnostics() -> str:
    """What the host's loader says of itself"""
    argv = [host_loader(), "--list-diagnostics"]
    return subprocess.check_output(argv, text=True, errors="replace")


def trusted(said: str = "") -> Tuple[str, ...]:
    """The directories that a loader says it trusts"""
    pattern = r'^path\.system_dirs\[0x\w+\]="(.*)"$'
    return tuple(re.findall(pattern, said or diagnostics(), re.MULTILINE))


def ldconfig(*argv: str) -> str:
    """What ldconfig does and says; only root has it work in a tree"""
    try:
        program = find_tool("ldconfig")
    except MissingTool as error:
        pytest.skip(error.cause)
    if "-r" in argv and os.geteuid():
        pytest.skip("ldconfig of a tree needs root")
    return subprocess.check_output([program, *argv], text=True)


def listed(said: str) -> Dict[str, Dict[str, str]]:
    """
    What ``--list`` said of several programs, each behind a line ``== PATH``: libraries
    by the name that was asked for
    """
    found: Dict[str, Dict[str, str]] = {}
    program = ""
    for line in said.splitlines():
        if line.startswith("== "):
            program = line[3:]
            found[program] = {}
        library = re.match(r"\t(\S+) => (/.*) \(0x", line)
        if library and "/ld-linux" not in library[2]:
            found[program][library[1]] = library[2]
    return found


def copy(source: str, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(os.path.realpath(source), target)
    target.chmod(0o755)


def run(tree: Path, path: str, env: Mapping[str, str] = NOTHING) -> Tuple[bool, str]:
    """Whether a program of a tree exits with 0 there, and what it said"""
    argv = [find_tool("bwrap"), "--unshare-pid", "--die-with-parent", "--clearenv"]
    argv += ["--bind", str(tree), "/", "--proc", "/proc"]
    for name, value in env.items():
        argv += ["--setenv", name, value]
    return ran([*argv, "--chdir", "/", "--", path])


def run_as_user(
    tree: Path, path: str, env: Mapping[str, str] = NOTHING
) -> Tuple[bool, str]:
    """The same as who is not root, so that setuid programs get rights"""
    if os.geteuid():
        pytest.skip("only root becomes another user")
    words = [f"{name}={value}" for name, value in env.items()]
    argv = [sys.executable, "-c", AS_USER, str(tree), path, *words]
    return ran(["unshare", "--mount", "sh", "-c", WITH_PROC, "sh", str(tree), *argv])


def ran(argv: Sequence[str]) -> Tuple[bool, str]:
    done = subprocess.run(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=60,
    )
    return done.returncode == 0, done.stdout
