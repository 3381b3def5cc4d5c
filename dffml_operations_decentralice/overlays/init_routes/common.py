"""What the ways have in common"""

from pathlib import Path
from typing import Any, List

from ...engine import Step

FIELD = "DECENTRALICE_INIT"  # of os-release, which lets others have fields of their own
PID_1 = "usr/lib/systemd/systemd"
# Where systemd makes units of credentials, since 256
CREDENTIALS = "usr/lib/systemd/system-generators/systemd-debug-generator"

OURS = ("init_routes/fedora_systemd", "init_routes/credential_units")


def release_of(step: Step[Any], release: str, way: str) -> Path:
    """An os-release as the given one, with the name of the way to PID 1"""
    named = step.work / "os-release"
    named.write_text(f"{Path(release).read_text()}{FIELD}={way}\n")
    return named


def takes_units(root: Path) -> bool:
    """Whether the systemd of a tree makes units of credentials"""
    maker = root / CREDENTIALS
    return maker.is_file() and b"systemd.extra-unit." in maker.read_bytes()


def additions(step: Step[Any], root: Path) -> List[Path]:
    """Our files for a Fedora's systemd; with what an old one lacks for a verdict"""
    ours, for_old_ones = (step.files / name for name in OURS)
    return [ours] if takes_units(root) else [ours, for_old_ones]
