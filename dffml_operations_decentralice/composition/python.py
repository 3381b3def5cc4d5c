"""
Overlays that are Python classes, registered as entry points

Their operations are attributes: one that has the name of an operation of the flow
replaces it, others are added, and are wired by the definitions of what they take. The
attribute ``configs`` has settings as a YAML overlay has them, ``results`` the
definitions of what a run gives besides.
"""

import importlib.metadata
from typing import Any, Dict

from dffml import DataFlow

from ..errors import UserError


def installed(group: str) -> Dict[str, importlib.metadata.EntryPoint]:
    """The entry points of a group, by name"""
    found: Any = importlib.metadata.entry_points()
    if hasattr(found, "select"):  # since Python 3.10
        return {one.name: one for one in found.select(group=group)}
    return {one.name: one for one in found.get(group, [])}


def content(name: str, entry_point: importlib.metadata.EntryPoint) -> Dict[str, Any]:
    """The part of a flow that a class is; `UserError` if it is none"""
    try:
        overlay = entry_point.load()
    except Exception as error:  # of an import
        raise UserError(
            f"overlay {name!r}: {entry_point.value} cannot be loaded: {error!r}"[:300],
            remedy="mend or remove the package that registers it",
        ) from error
    members = {
        one: member
        for one, member in vars(overlay).items()
        if getattr(member, "op", None) is not None
        # Of a module only what it has itself, not what it imports
        and (isinstance(overlay, type) or member.imp.__module__ == overlay.__name__)
    }
    exported = DataFlow(operations=members).export(linked=True) if members else {}
    parts = ("definitions", "operations")
    found: Dict[str, Any] = {part: exported.get(part, {}) for part in parts}
    found["configs"] = getattr(overlay, "configs", {})
    found["seed"] = [
        {"definition": "get_single_spec", "origin": "seed", "value": [one.__name__]}
        for one in getattr(overlay, "results", ())
    ]
    if not (members or found["configs"]):
        raise UserError(
            f"overlay {name!r}: {entry_point.value} has neither operations nor configs",
            remedy="its operations are attributes, its settings are in `configs`",
        )
    return found
