"""
Plans, explanations and changes as lines for a reader
"""

import time
from typing import Any, Dict, Iterator, List, Set

from .digest import DIGEST_LENGTH
from .history import is_digest
from .plan import FAILS, RUNS, UNCHANGED, Planned

SHORT = 8  # characters of a digest that a reader gets
LONG = 60  # characters of a value


def size(count: Any) -> str:
    """1234567 -> 1.2 MB"""
    if not isinstance(count, (int, float)):
        return "?"
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def when(seconds: Any) -> str:
    """Local time of seconds since 1970"""
    if not isinstance(seconds, (int, float)):
        return "?"
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def steps(planned: List[Planned]) -> List[str]:
    """A line for each operation"""
    words = {UNCHANGED: "unchanged", RUNS: "would run: ", FAILS: "would fail: "}
    return [
        f"{one.operation}: {words.get(one.state, '')}{one.reason}" for one in planned
    ]


def tree(explained: Dict[str, Any]) -> List[str]:
    """What `history.explain` found, as a tree; shared parts once"""
    return list(_branch(explained["objects"], "", explained["result"], "", "", set()))


def _branch(
    objects: Dict[str, Any], label: str, name: str, first: str, rest: str, seen: Set
) -> Iterator[str]:
    known = objects.get(name) or {}
    label = f"{label}: " if label else ""
    if not known:
        yield f"{first}{label}{short(name)} (given, or no longer known)"
        return
    said = f"{first}{label}{known['operation']} {short(name)}"
    if name in seen:
        yield f"{said} (above)"
        return
    seen.add(name)
    took = f"{known['seconds']:.1f} s" if known["seconds"] is not None else "?"
    yield f"{said}  {when(known['made'])}  {took}  {size(known['bytes'])}"
    inputs = list(known["inputs"].items())
    for index, (argument, value) in enumerate(inputs):
        last = index == len(inputs) - 1
        branch, below = ("└─ ", "   ") if last else ("├─ ", "│  ")
        yield from _branch(objects, argument, value, rest + branch, rest + below, seen)


def short(value: Any) -> str:
    """A value that fits in a line; of an object its short digest and name"""
    text = value if isinstance(value, str) else repr(value)
    digest, dash, name = text.partition("-")
    if is_digest(digest) and len(digest) >= DIGEST_LENGTH:
        return digest[:SHORT] + dash + name
    return text if len(text) <= LONG else text[: LONG - 1] + "…"


def changes(found: Dict[str, Any]) -> List[str]:
    """What `history.why` found"""
    if found["since"] is None:
        return [f"{short(found['result'])}: no run before it is known"]
    lines = [f"since {when(found['since'])}:"]
    for name, one in found["operations"].items():
        if one["state"] == "unchanged":
            continue
        said = "the same result" if one["same"] else "another result"
        state = {"changed": said, "new": "new", "gone": "gone"}[one["state"]]
        lines.append(f"{name}: {state}")
        lines += [
            f"  {change['part']}: {short(change['old'])} -> {short(change['new'])}"
            for change in one["changes"]
        ]
    return lines if len(lines) > 1 else [*lines, "nothing changed"]
