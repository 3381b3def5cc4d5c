"""The dataflows and overlays that come with the package, as files"""

import pathlib
from typing import Dict

PACKAGE = pathlib.Path(__file__).parent


def path(name: str) -> pathlib.Path:
    """
    The file of a flow (``os_decentralice.yaml``) or of an overlay (``mirror``)

    Raises ``KeyError`` which lists the known ones.
    """
    known = paths()
    try:
        return known[name]
    except KeyError:
        names = ", ".join(sorted(known)) or "none"
        raise KeyError(f"no flow or overlay {name!r} (known: {names})") from None


def paths() -> Dict[str, pathlib.Path]:
    """Each file by the name that :py:func:`path` takes."""
    return {**{file.name: file for file in folder().glob("*.yaml")}, **overlays()}


def overlays() -> Dict[str, pathlib.Path]:
    """Each overlay by its name."""
    return {file.stem: file for file in folder().glob("overlays/*.yaml")}


def folder() -> pathlib.Path:
    """Where the files are: in the package, or beside it in the source tree."""
    installed = PACKAGE / "dataflows"
    return installed if installed.is_dir() else PACKAGE.parent / "dataflows"
