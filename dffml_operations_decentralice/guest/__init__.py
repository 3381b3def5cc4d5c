"""
What runs inside of a virtual machine for a verdict, the image unchanged

systemd (256 or newer) takes units from credentials, and credentials from the SMBIOS
strings that QEMU gives: https://systemd.io/CREDENTIALS,
https://www.freedesktop.org/software/systemd/man/latest/systemd.system-credentials.html.
The unit runs a script that comes by a virtio-serial port, and what it finds out goes
back by another one (a port is open once at a time).
"""

import shlex
from pathlib import Path
from typing import Dict, Sequence

HERE = Path(__file__).parent
UNIT = "decentralice-health.service"
SCRIPT_PORT = "decentralice.script"
REPORT_PORT = "decentralice.health"
# systemd 252 in an initrd reads 4096 bytes of all SMBIOS strings, imports what is whole
# in them, and a newer one after it does not look for the rest
SMBIOS_LIMIT = 4096


def health_credentials(here: Path = HERE) -> Dict[str, bytes]:
    """Credentials which have a system run what comes by the script's port"""
    target = (here / "multi-user.target.conf").read_bytes()
    return {
        f"systemd.extra-unit.{UNIT}": (here / UNIT).read_bytes(),
        "systemd.unit-dropin.multi-user.target": target,
    }


def health_script(
    limit: float, commands: Sequence[str] = (), here: Path = HERE
) -> bytes:
    """
    The script. It reports and powers off once the boot is done, at the latest ``limit``
    seconds after its own start. What the commands of sh say is in its document, too.
    """
    lines = [f"limit={max(1, int(limit))}", "checks() {", "    :"]
    lines += [f"    check {shlex.quote(command)}" for command in commands]
    head = "\n".join([*lines, "}", ""]).encode()
    return head + (here / "health.sh").read_bytes()
