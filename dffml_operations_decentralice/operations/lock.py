"""
``os.lock.json``: which packages, exactly, an image is made of

::

    {"version": 2, "userspace": {...}, "kernel": {...}}

Each part holds the ``request`` that it answers: a lock of other packages, repositories
or keys is refused rather than used. Without a lock the repositories are asked, and what
they answer becomes the lock.
"""

import json
import os
from pathlib import Path
from typing import Any, Dict, Optional

from ..engine.operation import UPDATE
from ..errors import UserError

VERSION = 2
ANEW = "`build -update` asks the repositories anew and writes another lock"


def locked(file: str, part: str, request: Dict[str, Any]) -> Optional[Dict[str, Any]]:
    """
    What a lock file says of a part; None if there is none, or if another one is to be
    written. `UserError` if it does not fit.
    """
    path = Path(file)
    if not there(file) or set_aside(file):
        return None
    lock = read(path)
    if part not in lock:
        return None
    found = lock[part]
    if not isinstance(found, dict) or not isinstance(found.get("request"), dict):
        raise UserError(f"{path}: {part!r} is damaged", remedy=ANEW)
    difference = changed(found["request"], request)
    if difference:
        raise UserError(f"{path}: {part} is locked for {difference}", remedy=ANEW)
    return found


def there(file: str) -> bool:
    """Whether there is a lock"""
    return bool(file) and Path(file).exists()


def set_aside(file: str) -> bool:
    """
    Whether there is a lock that is not looked at. What is found instead must not be
    remembered as the answer to it: who puts it back means it.
    """
    return there(file) and bool(os.environ.get(UPDATE))


def read(path: Path) -> Dict[str, Any]:
    """A whole lock file"""
    try:
        lock = json.loads(path.read_text())
    except ValueError as error:
        raise UserError(f"{path} is no JSON: {error}", remedy=ANEW) from error
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}", remedy=ANEW) from error
    if not isinstance(lock, dict) or lock.get("version") != VERSION:
        raise UserError(f"{path} is no lock of version {VERSION}", remedy=ANEW)
    return lock


def changed(old: Dict[str, Any], new: Dict[str, Any]) -> str:
    """In words, the first thing in which two requests differ; empty if in nothing"""
    for name in sorted({*old, *new}):
        before, after = old.get(name), new.get(name)
        if before == after:
            continue
        if isinstance(before, list) and isinstance(after, list):
            only_old = [one for one in before if one not in after]
            only_new = [one for one in after if one not in before]
            return f"other {name}: -{only_old} +{only_new}"
        return f"another {name}: {before!r}, not {after!r}"
    return ""


def dump(content: Dict[str, Any]) -> str:
    """The text of a lock, the same for the same content"""
    return json.dumps(content, indent=1, sort_keys=True) + "\n"
