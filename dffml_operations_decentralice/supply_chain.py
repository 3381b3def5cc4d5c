"""What is known about the SSI service's program that a build made"""

import json
from pathlib import Path
from typing import Any, Dict

from .engine import history
from .engine.store import Store, default_root
from .errors import UserError
from .operations.ssi import build_ssi_service
from .operations.vulnerabilities import (
    build_vulnerability_checker,
    find_vulnerabilities,
    usable,
)

LINK = Path("result")
BUILDER = build_ssi_service.action.name


async def vulnerabilities(database: str, program: str = "") -> Dict[str, Any]:
    """
    What a database knows about a Go program, by default the service's:
    vulnerabilities.schema.json
    """
    await usable(database)  # before anything is compiled
    store = Store(default_root())
    examined = existing(Path(program)) if program else built_program(store)
    made = build_vulnerability_checker.action
    checker = await made.execute(made.configured({}), {}, store)
    asked = find_vulnerabilities.action
    settings = asked.configured({"database": database})
    artefacts = {"checker": checker, "program": str(examined)}
    found = await asked.execute(settings, artefacts, store)
    return json.loads(Path(found).read_text())


def existing(program: Path) -> Path:
    """Where a program is; `UserError` if it is not there"""
    if not program.is_file():
        raise UserError(f"no program {program}", remedy="give a Go program")
    return program.absolute()


def built_program(store: Store, link: Path = LINK) -> Path:
    """What `build_ssi_service` made for the linked result, else what it made last"""
    if link.is_symlink():
        objects = history.find_result(link).store.root / "objects"
        for name, made in history.explain(link)["objects"].items():
            if made.get("operation") == BUILDER:
                return objects / name
    last = store.last_action(BUILDER)
    if last is None or not (store.root / "objects" / last["object"]).exists():
        raise UserError(
            "no program of the SSI service was built",
            remedy="build first, or give one: -program FILE",
        )
    return store.root / "objects" / last["object"]
