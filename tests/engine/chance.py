"""Small operations that are not the same twice, for tests of `build -check`"""

import itertools
import json
import os
from typing import List, NewType

from dffml_operations_decentralice.engine import Step, operation, setting, settings
from dffml_operations_decentralice.types import PublishedResult

from ..efi import program

Steady = NewType("Steady", str)
Tree = NewType("Tree", str)
Program = NewType("Program", str)
Log = NewType("Log", str)
Measured = NewType("Measured", str)

chance = itertools.count(1)


@settings
class ChanceSettings:
    varies: List[str] = setting("What is by chance", default_factory=list)


def number(step: Step, what: str) -> int:
    return next(chance) % 8 if what in step.settings.varies else 0


@operation
async def steady(step: Step) -> Steady:
    """The same each time"""
    step.out.write_text("steady\n")
    return Steady(str(step.out))


@operation
async def tree(step: Step[ChanceSettings], steady: Steady) -> Tree:
    """A tree with content, a mode and a name"""
    (step.out / "a/deep").mkdir(parents=True)
    (step.out / "b").mkdir()
    (step.out / "a/deep/text").write_text(f"same\n{number(step, 'text')}\n")
    (step.out / "b/mode").touch(mode=0o600)
    (step.out / "b/mode").chmod(0o600 + number(step, "mode"))
    if number(step, "name") % 2:
        (step.out / "b/name").touch()
    if "process" in step.settings.varies:
        (step.out / "b/process").write_text(f"{os.getpid()}\n")
    return Tree(str(step.out))


@operation(result="some.efi")
async def build_program(step: Step[ChanceSettings], tree: Tree) -> Program:
    """An EFI program"""
    line = f"quiet {number(step, 'section')}".encode()
    time = number(step, "time")
    step.out.write_bytes(program({".osrel": b"ID=x\n", ".cmdline": line}, time))
    return Program(str(step.out))


@operation
async def write_log(step: Step[ChanceSettings], program: Program) -> Log:
    """A file whose bytes have no format"""
    step.out.write_bytes(bytes(1 << 21) + b"\0\xff%d" % number(step, "bytes"))
    return Log(str(step.out))


@operation(repeatable=False)
async def measure(step: Step, log: Log) -> Measured:
    """A measurement"""
    step.out.write_bytes(os.urandom(8))
    return Measured(str(step.out))


@operation(cached=False)
async def publish(step: Step, measured: Measured) -> PublishedResult:
    """What leaves the store"""
    step.out.write_text(json.dumps({"result": "x", "lock": "l", "verdict": "boots"}))
    return PublishedResult(str(step.out))
