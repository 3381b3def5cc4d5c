"""
What says where packages come from: a directory with ``repository.json`` and its keys

Addresses are URLs, or paths relative to the directory: a repository made on the spot is
in it.
"""

import json
from pathlib import Path
from typing import Any, Dict, List

from ..engine.digest import sha256

FILE = "repository.json"


def write(out: Path, description: Dict[str, Any]) -> None:
    """Write a repository's description beside its keys"""
    out.mkdir(exist_ok=True)
    text = json.dumps(description, indent=1, sort_keys=True)
    (out / FILE).write_text(text + "\n")


def read(repository: str) -> Dict[str, Any]:
    """The description of a repository artefact"""
    return json.loads(Path(repository, FILE).read_text())


def keys(repository: str) -> List[Path]:
    """The pinned keys"""
    return [Path(repository, name) for name in read(repository)["keys"]]


def key_digests(repository: str) -> Dict[str, str]:
    """What a lock pins of them"""
    return {key.name: sha256(key) for key in keys(repository)}


def resolve(repository: str, address: str) -> str:
    """An address as a URL or an absolute path"""
    if "://" in address:
        return address
    return str(Path(repository, address).resolve())


def url(repository: str, address: str) -> str:
    """An address as a URL: dnf takes a path at its first space for two"""
    found = resolve(repository, address)
    return found if "://" in found else Path(found).as_uri()
