"""
What a login says: which system this is, what it is made of, how its SSI service is

The text is made here but for the service's state, which the service's own unit says
anew as it starts and stops. /etc/motd is a link to the outcome: login, sshd and PAM all
show that, whatever the shell. https://man7.org/linux/man-pages/man5/motd.5.html
"""

from pathlib import Path
from typing import Dict, List

from ..guest.document import os_release
from .tree import replace_text

SHARE = "usr/share/decentralice/motd"
LINK = "../run/decentralice/motd"  # of /etc/motd
SERVICE = "ssi-service"
# How a line ends that files/root/usr/lib/decentralice/motd ends anew
NOT_STARTED = "has not started"
PID_1 = "systemd"


def write_motd(root: Path, release: Path, kernel: str, database: str) -> None:
    """Into a root tree; ``database``: apk's, of what is installed in it"""
    packages = versions((root / database).read_text())
    fields = os_release(release.read_text())
    replace_text(root / SHARE, text(fields, kernel, packages))
    motd = root / "etc/motd"
    motd.unlink(missing_ok=True)
    motd.symlink_to(LINK)


def versions(database: str) -> Dict[str, str]:
    """
    Versions of packages, by name

    https://wiki.alpinelinux.org/wiki/Apk_spec#Installed_Database_V2
    """
    found, name = {}, ""
    for line in database.splitlines():
        if line.startswith("P:"):
            name = line[2:]
        elif line.startswith("V:"):
            found[name] = line[2:]
    return found


def text(fields: Dict[str, str], kernel: str, packages: Dict[str, str]) -> str:
    """For os-release's fields, a kernel's release, and versions of packages"""
    systemd = f"{PID_1} {packages[PID_1]}" if PID_1 in packages else ""
    rows = {
        "Userspace": both(fields.get("DECENTRALICE_USERSPACE", ""), systemd),
        "Kernel": both(fields.get("DECENTRALICE_KERNEL", ""), f"Linux {kernel}"),
        "Source": fields.get("HOME_URL", ""),
    }
    if SERVICE in packages:
        rows["Identity"] = f"{SERVICE} {packages[SERVICE]} {NOT_STARTED}"
    lines: List[str] = ["", fields.get("PRETTY_NAME", ""), ""]
    lines += [f"{name:<11}{said}" for name, said in rows.items() if said]
    return "".join(f"  {line}".rstrip() + "\n" for line in [*lines, ""])


def both(one: str, other: str) -> str:
    """With a comma, if both are there"""
    return ", ".join(filter(None, (one, other)))
