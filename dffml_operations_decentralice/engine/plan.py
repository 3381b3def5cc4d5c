"""
What a flow would do, without doing it, and whether there is room for it

An operation whose inputs are known is found in the store or would run. What depends on
one that would run is not known before: the same bytes would stop it there.
"""

import shutil
from typing import Any, Dict, Iterator, List, NamedTuple, Optional
from weakref import WeakSet

from dffml import DataFlow
from dffml.df.base import OperationImplementation

from ..errors import DecentrAliceError, SpaceError
from .store import Store

UNCHANGED, RUNS, DEPENDS, ALWAYS, FAILS = (
    *("unchanged", "runs", "depends", "always", "fails"),
)


class Planned(NamedTuple):
    """What an operation would do: ``bytes`` are those of its result, estimated"""

    operation: str
    state: str
    reason: str
    bytes: int
    path: Optional[str] = None


def plan(flow: DataFlow, store: Store) -> List[Planned]:
    """Every operation of ours, each behind those that it depends on"""
    planned: Dict[str, Planned] = {}
    for name in _in_order(flow):
        action = action_of(flow, name)
        if action is not None:
            planned[name] = _planned(flow, name, action, planned, store)
    return list(planned.values())


def _planned(
    flow: DataFlow, name: str, action, planned: Dict[str, Planned], store: Store
) -> Planned:
    estimate = action.estimate(store)
    artefacts: Dict[str, str] = {}
    behind = []
    for argument in flow.operations[name].inputs:
        origins = list(_origins(flow, name, argument))
        known = [planned[one].path for one in origins if one in planned]
        if len(origins) == len(known) == 1 and known[0] is not None:
            artefacts[argument] = known[0]
        else:
            behind += origins or [argument]
    if not action.cached:
        return Planned(name, ALWAYS, "always", estimate)
    if behind:
        return Planned(name, DEPENDS, f"behind {', '.join(behind)}", estimate)
    try:
        settings = action.configured(flow.configs.get(name, {}))
        parts = action.parts(settings, artefacts, store)
    except DecentrAliceError as error:
        return Planned(name, FAILS, error.cause, estimate)
    found = action.known(store, parts)
    if found is not None:
        return Planned(name, UNCHANGED, "", 0, found["path"])
    return Planned(name, RUNS, action.why(parts, store), estimate)


def _in_order(flow: DataFlow) -> List[str]:
    """Names of operations, each behind those whose results it takes"""
    order: List[str] = []
    visited = set()

    def visit(name: str) -> None:
        if name in visited or name not in flow.operations:
            return
        visited.add(name)
        for argument in flow.operations[name].inputs:
            for origin in _origins(flow, name, argument):
                visit(origin)
        order.append(name)

    for name in flow.operations:
        visit(name)
    return order


def _origins(flow: DataFlow, name: str, argument: str) -> Iterator[str]:
    """The operations that an input comes from; what comes from a seed is not told"""
    inputs: Any = flow.flow[name].inputs if name in flow.flow else {}
    for source in inputs.get(argument, []):
        if isinstance(source, dict):
            yield from (one for one in source if one in flow.operations)


def action_of(flow: DataFlow, name: str) -> Any:
    """The action of an operation, None if it is not one of this engine's"""
    registered = flow.operations[name].name
    implementation = flow.implementations.get(registered)
    if implementation is None:
        implementation = OperationImplementation.load(registered)
    return getattr(implementation, "action", None)


_checked: "WeakSet[DataFlow]" = WeakSet()


def check_space(flow: Optional[DataFlow], store: Store) -> None:
    """
    Before the first operation of a flow runs: `SpaceError` if the results of those
    which will have to would not fit
    """
    if flow is None or flow in _checked:
        return
    _checked.add(flow)
    steps = [one for one in plan(flow, store) if one.state in (RUNS, DEPENDS)]
    needed = sum(one.bytes for one in steps)
    free = shutil.disk_usage(store.root).free
    if needed > free:
        raise SpaceError(
            f"{store.root} has {free >> 20} MB free, and about {needed >> 20} MB are "
            f"needed for the results of {len(steps)} steps",
            remedy="`dffml service decentralice store prune -size …` removes what was "
            "not used for long; or set DECENTRALICE_STORE to another file system",
        )


def summary(planned: List[Planned]) -> str:
    """A line that counts the states"""
    words = {
        UNCHANGED: "unchanged",
        RUNS: "would run",
        DEPENDS: "depend on what runs before",
        ALWAYS: "always run",
        FAILS: "would fail",
    }
    counts = {state: sum(one.state == state for one in planned) for state in words}
    said = [f"{counts[state]} {text}" for state, text in words.items() if counts[state]]
    return ", ".join(said) or "nothing to do"
