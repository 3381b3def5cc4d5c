"""What somebody sees who logs in"""

import asyncio
import re
import shutil
import subprocess

import pytest

from dffml_operations_decentralice.vm.console import strip
from dffml_operations_decentralice.vm.outcome import ACTED, SLOWER, Plan
from dffml_operations_decentralice.vm.qemu import Machine, find_firmware, overlay_argv
from dffml_operations_decentralice.vm.session import run_machine

# https://www.freedesktop.org/software/systemd/man/latest/systemd.system-credentials.html
ROOT_LOGS_IN = (("agetty.autologin", b"root"), ("login.noauth", b"yes"))


@pytest.mark.slow
def test_the_console_shows_the_motd(image, tmp_path):
    """Root's password is locked: the console's getty is told to let it in, once"""
    firmware = find_firmware()
    subprocess.run(overlay_argv(str(image.disk), str(tmp_path / "disk")), check=True)
    shutil.copy(firmware.variables, tmp_path / "variables")
    machine = Machine(
        accelerator=image.report["accelerator"]["name"],
        firmware_code=firmware.code,
        firmware_variables="variables",
        disk="disk",
        serial="serial",
        qmp="qmp",
        credentials=ROOT_LOGS_IN,
    )
    scale = SLOWER[machine.accelerator]
    said = bytearray()

    async def run():
        more = asyncio.Event()

        def heard(data, _seconds):
            said.extend(data)
            more.set()

        async def logged_in(_guest):
            while not re.search(rb"  Identity .*\r\n", said):
                more.clear()
                await more.wait()

        plan = Plan(overall=40 * scale, scale=scale, on_output=heard, act=logged_in)
        return await run_machine(machine, tmp_path, plan)

    outcome = asyncio.run(run())
    lines = [strip(line).strip() for line in said.decode().splitlines()]
    assert outcome.ending == ACTED, lines[-20:]
    # The state may be another one: the service starts beside the login
    fixed = [line.strip() for line in image.report["guest"]["motd"].splitlines()]
    assert [line for line in fixed[:-1] if line not in lines] == []
    [state] = [line for line in lines if line.startswith("Identity")]
    assert state.endswith(("is running", "has not started"))
