"""What the ways have in common"""

from pathlib import Path
from typing import Any

from ...engine import Step

FIELD = "DECENTRALICE_INIT"  # of os-release, which lets others have fields of their own
PID_1 = "usr/lib/systemd/systemd"
# Where systemd makes units of credentials, since 256
CREDENTIALS = "usr/lib/systemd/system-generators/systemd-debug-generator"


def release_of(release: str, way: str) -> str:
    """The text of an `OsRelease`, with the name of the way to PID 1"""
    return f"{Path(release).read_text()}{FIELD}={way}\n"


def takes_units(root: Path) -> bool:
    """Whether the systemd of a tree makes units of credentials"""
    maker = root / CREDENTIALS
    return maker.is_file() and b"systemd.extra-unit." in maker.read_bytes()


def additions(step: Step[Any], way: str, root: Path) -> list:
    """Our files for a way, and what systemd lacks there for a verdict from inside"""
    files = step.files / "init_routes"
    own = [files / way] if (files / way).is_dir() else []
    return own + ([] if takes_units(root) else [files / "credential_units"])
