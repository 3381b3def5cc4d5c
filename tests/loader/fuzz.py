"""
Readers under bytes that a fuzzer makes up: ``python -m tests.loader.fuzz TARGET CORPUS
[OPTION OF LIBFUZZER ...]``. Whatever is raised but the one error is a crash.

https://github.com/google/atheris
"""

import os
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["dffml_operations_decentralice.loader"]):
    from dffml_operations_decentralice.loader import cache, check, elf, starts, units
    from dffml_operations_decentralice.loader.dynamic import (
        env_command,
        shebang,
        trusted_directories,
    )
    from dffml_operations_decentralice.loader.fit import build
    from dffml_operations_decentralice.loader.tree import Tree

from . import real
from .writer import write

FOLDER = Path(tempfile.mkdtemp(prefix="fuzz-"))
INIT, UNIT = "sbin/init", "usr/lib/systemd/system/default.target"


def fuzz_elf(raw: bytes) -> None:
    """One file"""
    place = Tree(str(write(FOLDER / "file", raw).parent)).resolve("/file")
    for look in (elf.read, elf.symbols, lambda one: elf.is_lazy(one, 1)):
        try:
            look(place)
        except elf.Malformed as error:
            assert error.reason


def fuzz_tree(raw: bytes) -> None:
    """PID 1 of a tree, a library of it, and a library that is not looked at before"""
    for name in (INIT, "lib/liba.so", "lib64/liba.so"):
        write(FOLDER / name, raw)
    report = check(str(FOLDER), everything=True)
    assert (report["verdict"] == "starts") is not bool(report["findings"])


def fuzz_text(raw: bytes) -> None:
    """Configuration"""
    try:
        list(cache.parse(raw))
    except (ValueError, cache.struct.error):
        pass
    text = raw.decode("utf-8", "surrogateescape")
    unit = units.Unit("a@b.service", "", units.parse(text))
    for key in starts.COMMANDS:
        for line in unit.all(key):
            starts.words_of(unit.expanded(line) or "")
    list(starts.pam_modules(text))
    starts.RULE.findall(text)
    starts.assignments(text)
    env_command(shebang(b"#!" + raw))
    trusted_directories(raw)
    build(raw)


def fuzz_units(raw: bytes) -> None:
    """All files of a tree that say who is started"""
    for name in (
        *(
            UNIT,
            "usr/lib/systemd/system/a.service",
            "etc/ld.so.conf",
            "etc/ld.so.cache",
        ),
        *("etc/passwd", "etc/nsswitch.conf", "etc/pam.d/login"),
        *("usr/lib/udev/rules.d/a.rules", "etc/systemd/system.conf"),
    ):
        write(FOLDER / name, raw)
    check(str(FOLDER))


def main() -> None:
    target = globals()[f"fuzz_{sys.argv.pop(1)}"]
    real.copy(real.host_loader(), FOLDER / real.LOADER[1:])
    own, path = os.getpid(), sys.argv[0]

    def one(raw: bytes) -> None:
        assert os.getpid() == own
        target(raw)

    atheris.Setup([path, *sys.argv[1:]], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
