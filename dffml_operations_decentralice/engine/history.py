"""
What a result was made from, and what changed since the one before

Both are read from the actions in the store: their parts name the inputs.
"""

import os
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Optional, Set, Tuple

from ..errors import UserError
from .digest import DIGEST_LENGTH
from .store import Store, read_action, read_root

INPUT = "input "


class Known(NamedTuple):
    """An action of the store"""

    key: str
    path: Path
    content: Dict[str, Any]
    used: float

    @property
    def operation(self) -> str:
        return str(self.content["parts"].get("operation", "?"))

    @property
    def inputs(self) -> Dict[str, str]:
        """Objects, or whatever else was given, by the names of the inputs"""
        return {
            name[len(INPUT) :]: str(value)
            for name, value in self.content["parts"].items()
            if name.startswith(INPUT)
        }


class Actions:
    """All actions of a store, by what they made"""

    def __init__(self, store: Store):
        self._by_object: Dict[str, List[Known]] = {}
        for path in (store.root / "actions").glob("*.json"):
            content = read_action(path)
            if content is not None:
                known = Known(path.stem, path, content, path.stat().st_mtime)
                self._by_object.setdefault(content["object"], []).append(known)

    def __iter__(self) -> Iterator[Known]:
        for found in self._by_object.values():
            yield from found

    def of(self, name: str) -> List[Known]:
        """The actions that made an object"""
        return self._by_object.get(name, [])

    def which(self, name: str, keys: Set[str]) -> Optional[Known]:
        """That of ``keys``, else the one that was used last"""
        found = self.of(name)
        chosen = [one for one in found if one.key in keys] or found
        return max(chosen, key=lambda one: one.used, default=None)


def made_of(
    actions: Actions, name: str, keys: Mapping[str, str]
) -> Dict[str, Optional[Known]]:
    """
    An object and all that it was made of, with their actions (None if it is not known):
    of several that made the same, those that are in ``keys``, keys by operation
    """
    found: Dict[str, Optional[Known]] = {}
    pending = [name]
    while pending:
        one = pending.pop()
        if one not in found:
            found[one] = action = actions.which(one, {*keys.values()})
            if action is not None:
                pending += reversed([*action.inputs.values()])
    return found


class Result(NamedTuple):
    """A result in the store, and the run that linked it, with the one before"""

    store: Store
    object: str
    run: Dict[str, Any]
    before: Optional[Dict[str, Any]]


def find_result(path: Path) -> Result:
    """The object that a path leads to; `UserError` if it leads to none"""
    real = Path(os.path.realpath(path))
    for folder in [real, *real.parents]:
        store = folder.parent.parent
        if folder.parent.name == "objects" and (store / "actions").is_dir():
            break
    else:
        raise UserError(
            f"{path} is no result" + ("" if path.exists() else ": it is not there"),
            remedy="give the link that a build made, or what it points to",
        )
    if not folder.exists():
        raise UserError(
            f"{path} points to what is no longer in the store", remedy="build it again"
        )
    opened = Store(store, read_only=True)
    return Result(opened, folder.name, *_runs(opened, folder.name, path))


def _runs(
    store: Store, name: str, link: Path
) -> Tuple[Dict[str, Any], Optional[Dict[str, Any]]]:
    """
    The last run that made a link lead to a result, and the one before it; of another
    path that leads there the newest one of any link
    """
    given = os.path.abspath(link)
    found = []
    for file in (store.root / "roots").glob("*.json"):
        root = read_root(file)
        runs = root["results"]
        for run, before in zip(runs, [None, *runs]):
            if run["object"] == name:
                found.append((root["link"] == given, run["time"], run, before))
    if not found:
        return {}, None
    return max(found, key=lambda one: one[:2])[2:]


def explain(path: Path) -> Dict[str, Any]:
    """
    ``result``, the name of an object, and ``objects``: by name, in the order of a walk
    from the result, ``operation``, ``made`` (seconds since 1970), ``seconds`` that it
    took, ``bytes``, ``reason`` and ``inputs``; empty of what is not known
    """
    result = find_result(path)
    keys = result.run.get("actions", {})
    tree = made_of(Actions(result.store), result.object, keys)
    return {
        "result": result.object,
        "objects": {name: _described(one) for name, one in tree.items()},
    }


def _described(action: Optional[Known]) -> Dict[str, Any]:
    if action is None:
        return {}
    told = ("made", "seconds", "bytes", "reason")
    return {
        "operation": action.operation,
        **{name: action.content.get(name) for name in told},
        "inputs": action.inputs,
    }


def why(path: Path) -> Dict[str, Any]:
    """
    What changed between the run that made a result and the one before: ``since``
    (seconds since 1970; None if there was none) and ``operations``, each with its
    ``state`` (``unchanged``, ``changed``, ``new``, ``gone``), ``changes`` of what its
    key is made of (``part``, ``old``, ``new``), and whether it made the ``same``
    """
    result = find_result(path)
    if result.before is None:
        return {"result": result.object, "since": None, "operations": {}}
    actions = Actions(result.store)
    new, old = (
        _by_operation(made_of(actions, run["object"], run["actions"]))
        for run in (result.run, result.before)
    )
    return {
        "result": result.object,
        "since": result.before["time"],
        "operations": {
            name: compared(old.get(name), new.get(name)) for name in {**new, **old}
        },
    }


def _by_operation(tree: Mapping[str, Optional[Known]]) -> Dict[str, Dict[str, Any]]:
    known = [one for one in tree.values() if one is not None]
    return {one.operation: one.content for one in reversed(known)}


def compared(
    old: Optional[Dict[str, Any]], new: Optional[Dict[str, Any]]
) -> Dict[str, Any]:
    """What differs between two actions of an operation, one of which may be missing"""
    if old is None or new is None:
        state = "new" if old is None else "gone"
        return {"state": state, "changes": [], "same": False}
    before, after = old["parts"], new["parts"]
    changes = [
        {"part": part, "old": before.get(part), "new": after.get(part)}
        for part in sorted({*before, *after})
        if before.get(part) != after.get(part)
    ]
    state = "changed" if changes or old["made"] != new["made"] else "unchanged"
    same = old["object"] == new["object"]
    return {"state": state, "changes": changes, "same": same}


def is_digest(value: Any) -> bool:
    """Whether a part is a digest, which tells a reader nothing"""
    hexadecimal = {*"0123456789abcdef"}
    return (
        isinstance(value, str)
        and len(value) >= DIGEST_LENGTH
        and {*value} <= hexadecimal
    )
