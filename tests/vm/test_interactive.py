"""The machine for a person"""

import asyncio
from pathlib import Path

import pytest

from dffml_operations_decentralice.errors import UserError, VmError
from dffml_operations_decentralice.vm.interactive import (
    InteractiveSettings,
    boot_interactive,
    interactive_machine,
)
from dffml_operations_decentralice.vm.qemu import Firmware, qemu_argv


def test_console_is_the_terminal_and_the_network_is_open():
    machine = interactive_machine(
        InteractiveSettings(), Firmware("code", "vars"), "tcg", "disk.qcow2"
    )
    argv = qemu_argv(machine)
    assert "mon:stdio" in argv
    assert "user,id=net0" in argv
    assert "-no-reboot" not in argv
    assert "-qmp" not in argv and "-mon" not in argv


def test_no_disk(tmp_path):
    with pytest.raises(UserError):
        asyncio.run(
            boot_interactive(tmp_path / "none", InteractiveSettings(), tmp_path)
        )


@pytest.mark.parametrize("persist", [False, True])
@pytest.mark.parametrize("status", [0, 1])
def test_what_qemu_is_given(tmp_path, persist, status):
    """A QEMU that writes to the disk which it gets, and says so"""
    qemu = tmp_path / "qemu"
    qemu.write_text(
        "#!/bin/sh\n"
        'for word; do case $word in *node-name*:*disk*) echo "$word" >&3; esac; done '
        f'3> "{tmp_path}/said"\n'
        f"[ -e disk.qcow2 ] && touch {tmp_path}/overlay\nexit {status}\n"
    )
    qemu.chmod(0o755)
    disk = tmp_path / "disk.raw"
    disk.write_bytes(bytes(1 << 20))
    said = []
    settings = InteractiveSettings(accelerator="tcg", qemu=str(qemu), persist=persist)
    run = boot_interactive(disk, settings, tmp_path / "memo", said.append)
    if status:
        with pytest.raises(VmError):
            asyncio.run(run)
    else:
        assert asyncio.run(run) == 0
    assert any("Ctrl-A X" in line for line in said)
    assert (tmp_path / "overlay").exists() is not persist
    assert (str(disk) in Path(tmp_path / "said").read_text()) is persist
