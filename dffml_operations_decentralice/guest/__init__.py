"""
What runs inside of a virtual machine for a verdict, the image unchanged

systemd (256 or newer) takes units from credentials, and credentials from the SMBIOS
strings that QEMU gives: https://systemd.io/CREDENTIALS,
https://www.freedesktop.org/software/systemd/man/latest/systemd.system-credentials.html
"""

from pathlib import Path
from typing import Dict

HERE = Path(__file__).parent
UNIT = "decentralice-health.service"
SCRIPT = "decentralice.health"
LIMIT = "decentralice.limit"
# The virtio-serial port which the script writes its document to
PORT = "decentralice.health"


def health_credentials(limit: float, here: Path = HERE) -> Dict[str, bytes]:
    """
    Credentials which have a system report on itself and power off. ``limit``: seconds
    that it may take from the start of the script to the end of the boot.
    """
    return {
        f"systemd.extra-unit.{UNIT}": (here / UNIT).read_bytes(),
        "systemd.unit-dropin.multi-user.target": (
            here / "multi-user.target.conf"
        ).read_bytes(),
        SCRIPT: (here / "health.sh").read_bytes(),
        LIMIT: str(max(1, int(limit))).encode(),
    }
