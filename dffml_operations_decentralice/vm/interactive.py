"""
A machine for a person: the serial console is the terminal

The disk is left as it is: what is written goes to an overlay that ends with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Callable, Iterator, List

from ..engine import commands
from ..errors import UserError, VmError
from .accelerator import Accelerator, find_accelerator
from .qemu import (
    QEMU,
    Firmware,
    Machine,
    find_firmware,
    image_format,
    overlay_argv,
    qemu_argv,
)

QUIT = "Ctrl-A X ends the machine at once (Ctrl-A H: help); `poweroff` is gentler"
HURRIED = (1, 2)  # exit statuses of a QEMU that did not get to run


@dataclass(frozen=True)
class InteractiveSettings:
    """How the machine is made"""

    memory: int = 2048
    cpus: int = 2
    accelerator: str = "auto"
    firmware_code: str = ""
    firmware_vars: str = ""
    qemu: str = QEMU
    persist: bool = False  # write to the disk itself


async def boot_interactive(
    disk: Path,
    settings: InteractiveSettings,
    memo: Path,
    say: Callable[[str], None] = lambda text: print(text, file=sys.stderr),
) -> int:
    """
    Boot a disk with the console on the terminal; QEMU's exit status. ``memo``: where
    the answer about the accelerator is kept.
    """
    if not disk.is_file():
        raise UserError(
            f"there is no disk {disk}",
            remedy="build one: dffml service decentralice build",
        )
    firmware = find_firmware(settings.firmware_code, settings.firmware_vars)
    with tempfile.TemporaryDirectory(prefix="decentralice-boot-") as name:
        work = Path(name)
        accelerator = await _accelerator(settings, firmware, work / "probe", memo)
        say(f"accelerator {accelerator.name}: {accelerator.reason}")
        shutil.copyfile(firmware.variables, work / "variables")
        target = str(disk.resolve())
        if not settings.persist:
            await _finished(overlay_argv(target, str(work / "disk.qcow2")), work)
            target = "disk.qcow2"
        say(QUIT)
        machine = interactive_machine(settings, firmware, accelerator.name, target)
        if settings.persist:
            kind = image_format(target)
            machine = replace(machine, disk_format=kind, disposable=False)
        status = await _on_terminal(qemu_argv(machine, settings.qemu), work)
    if status in HURRIED:
        raise VmError(
            f"QEMU exited with {status}",
            remedy="its message is above; or set `accelerator: tcg` for boot_verify",
        )
    return status


def interactive_machine(
    settings: InteractiveSettings, firmware: Firmware, accelerator: str, disk: str
) -> Machine:
    """A machine with its console on the terminal and a way out to the network"""
    return Machine(
        accelerator=accelerator,
        cpus=settings.cpus,
        memory=settings.memory,
        firmware_code=firmware.code,
        firmware_variables="variables",
        disk=disk,
        serial="stdio",
        network="open",
        reboot=True,
    )


async def _accelerator(
    settings: InteractiveSettings, firmware: Firmware, work: Path, memo: Path
) -> Accelerator:
    if settings.accelerator != "auto":
        return Accelerator(settings.accelerator, "set")
    work.mkdir()
    memo.mkdir(parents=True, exist_ok=True)
    return await find_accelerator(firmware, work, memo, settings.qemu)


async def _finished(argv: List[str], work: Path) -> None:
    await commands.run(
        [commands.find_tool(argv[0]), *argv[1:]],
        name=argv[0],
        env=commands.environment(work),
        log=work / f"{argv[0]}.log",
    )


async def _on_terminal(argv: List[str], work: Path) -> int:
    """
    In the session and foreground of the terminal, or it could not read from it.
    Dies with this process, by bwrap, as everything else does.
    """
    words = [commands.find_tool(argv[0]), *argv[1:]]
    view = ("--dev-bind", "/", "/", "--chdir", str(work), "--die-with-parent")
    with _terminal_kept():
        process = await asyncio.create_subprocess_exec(
            *(commands.find_tool("bwrap"), *view, "--", *words),
            env={"TERM": os.environ.get("TERM", "vt220"), **commands.environment(work)},
        )
        try:
            return await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


@contextlib.contextmanager
def _terminal_kept() -> Iterator[None]:
    """QEMU sets the terminal to raw; killed, it does not set it back"""
    if not sys.stdin.isatty():
        yield
        return
    import termios  # of terminals only

    before = termios.tcgetattr(sys.stdin)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
