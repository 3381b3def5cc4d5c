"""
Upkeep of a store: damaged objects are found and taken out, and those that nobody used
for long are removed

What is removed is moved away at once, while nobody looks anything up, and then deleted.
A running build keeps what it has used: see `Store.in_use_since`.
"""

import contextlib
import os
import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Dict, Iterable, Iterator, List, NamedTuple, Optional, Set, Tuple

from ..errors import DecentrAliceError, SpaceError, UserError
from . import signals
from .digest import DIGEST_LENGTH, size_of, tree_digest
from .history import Actions, made_of
from .progress import emit
from .store import Store, identify, key_of, limit, read_action, read_root

SPANS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}  # seconds
SHOWN = 5  # damaged files of a tree


class Thing(NamedTuple):
    """An object, bytes that it occupies, and when it was used last"""

    name: str
    bytes: int
    used: float


class Damage(NamedTuple):
    """A damaged object, and of a tree the files that can be told"""

    object: str
    files: List[str]


def parse_age(text: str) -> float:
    """``14d`` in seconds; `UserError` if it is no time"""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw])", text.strip())
    if match is None:
        raise UserError(
            f"no age: {text!r}", remedy="a number with s, m, h, d or w behind it: 14d"
        )
    return float(match[1]) * SPANS[match[2]]


def trim(store: Store) -> None:
    """
    Cut the store to its size; what the last results were made of stays. A build that
    was good does not fail because of it.
    """
    try:
        done = prune(store, size=limit(), keep_last=1)
    except (OSError, DecentrAliceError) as error:
        emit("say", operation="store", text=f"could not be cut to its size: {error}")
        return
    if done["removed"]:
        size = done["freed"] / 1e6
        said = f"{done['removed']} objects that were not used for longest are removed"
        emit("say", operation="store", text=f"{said}, {size:.1f} MB")


def prune(
    store: Store,
    *,
    size: Optional[int] = None,
    age: Optional[float] = None,
    keep_last: Optional[int] = None,
) -> Dict[str, int]:
    """
    Remove the objects that were not used for the longest time

    size: bytes that may stay
    age: seconds; what was not used since goes
    keep_last: what so many last results of each link were made of stays; if it is all
        that is said, anything else goes

    A result that is linked stays, with what it needs; what it was made of only if
    ``keep_last`` says so. Returns counts: ``removed``, ``freed``, ``objects``,
    ``bytes``; the latter two of what stays.
    """
    if size is age is None and keep_last is not None:
        age = 0.0
    try:
        return _prune(store, size, age, keep_last)
    except SpaceError:
        if not _remove_a_file(store, keep_last):
            raise
        return _prune(store, size, age, keep_last)


def _prune(
    store: Store, size: Optional[int], age: Optional[float], keep_last: Optional[int]
) -> Dict[str, int]:
    with store.scratch("prune") as trash:
        with store.index(alone=True):
            actions = Actions(store)
            things = sorted(_things(store, actions), key=lambda one: one.used)
            excess = sum(one.bytes for one in things) - size if size is not None else 0
            gone: List[Thing] = []
            if excess > 0 or age is not None:
                kept = _kept(store, actions, keep_last)
                removable = _removable(store, things, kept)
                gone = list(_superfluous(removable, excess, age))
            for thing in gone:
                _take_out(store, thing.name, trash)
            if gone:
                _forget_actions(store, actions)
    freed, total = (sum(one.bytes for one in some) for some in (gone, things))
    return {
        "removed": len(gone),
        "freed": freed,
        "objects": len(things) - len(gone),
        "bytes": total - freed,
    }


def _remove_a_file(store: Store, keep_last: Optional[int]) -> bool:
    """Where there is no room for a directory, a file that would go makes some"""
    with store.index(alone=True):
        actions = Actions(store)
        things = sorted(_things(store, actions), key=lambda one: one.used)
        for thing in _removable(store, things, _kept(store, actions, keep_last)):
            path = store.root / "objects" / thing.name
            if not path.is_dir():
                path.unlink()
                return True
    return False


def _things(store: Store, actions: Actions) -> Iterator[Thing]:
    """Each object; sizes are known from the actions, without a look at files"""
    with os.scandir(store.root / "objects") as entries:
        for entry in entries:
            found = actions.of(entry.name)
            used = max(
                [one.used for one in found],
                default=entry.stat(follow_symlinks=False).st_ctime,
            )
            sizes = [one.content.get("bytes") for one in found]
            known = [one for one in sizes if isinstance(one, int)]
            yield Thing(entry.name, known[0] if known else _size(entry), used)


def _size(entry: os.DirEntry) -> int:
    try:
        return size_of(Path(entry.path))
    except OSError:
        return 0


def _removable(store: Store, things: List[Thing], kept: Set[str]) -> Iterator[Thing]:
    in_use_since = store.in_use_since()
    for thing in things:
        if thing.name not in kept and thing.used < in_use_since:
            yield thing


def _superfluous(
    things: Iterable[Thing], excess: int, age: Optional[float]
) -> Iterator[Thing]:
    """Those of ``things``, the least recently used first, that have to go"""
    oldest = time.time() - age if age is not None else 0.0
    for thing in things:
        if excess > 0 or thing.used < oldest:
            excess -= thing.bytes
            yield thing


def roots(store: Store) -> Iterator[Tuple[Path, Dict[str, Any]]]:
    """The links that point to a result, with what is known of them"""
    for file in sorted((store.root / "roots").glob("*.json")):
        root = read_root(file)
        target = Path(os.path.realpath(root["link"]))
        try:
            ours = target.parent.samefile(store.root / "objects") and target.exists()
        except OSError:
            ours = False
        if ours:
            yield target, root
        else:  # the link is gone, or points elsewhere
            file.unlink(missing_ok=True)


def _kept(store: Store, actions: Actions, keep_last: Optional[int]) -> Set[str]:
    kept: Set[str] = set()
    for target, root in roots(store):
        kept |= _needed(store, [target.name])
        known = {one["object"]: one for one in root["results"]}
        last = {target.name: known.get(target.name, {})}
        for name in [*reversed(list(known))][: keep_last or 0]:
            last[name] = known[name]
        for name, result in [*last.items()][: keep_last or 0]:
            tree = made_of(actions, name, result.get("actions", {}))
            kept |= _needed(store, [*tree])
    return kept


def _needed(store: Store, names: Iterable[str]) -> Set[str]:
    """Objects, and those that links in them point to"""
    needed: Set[str] = set()
    pending = list(names)
    while pending:
        name = pending.pop()
        if name in needed:
            continue
        needed.add(name)
        pending += _linked(store.root / "objects" / name)
    return needed


def _linked(path: Path) -> Iterator[str]:
    """The objects that links at the top of a tree lead to"""
    objects = str(path.parent)
    with contextlib.suppress(NotADirectoryError, FileNotFoundError):
        with os.scandir(path) as entries:
            for entry in entries:
                if not entry.is_symlink():
                    continue
                to = os.path.normpath(os.path.join(path, os.readlink(entry.path)))
                if to.startswith(objects + "/"):
                    yield to[len(objects) + 1 :].partition("/")[0]


def _take_out(store: Store, name: str, trash: Path) -> None:
    path = store.root / "objects" / name
    if path.is_dir() and not path.is_symlink():
        path.chmod(0o755)  # which moving it needs, as its parent changes
    os.rename(path, trash / name)
    (store.root / "manifests" / name).unlink(missing_ok=True)


def _forget_actions(store: Store, actions: Actions) -> None:
    """Those whose object is gone, but for what explains a result"""
    explains: Set[str] = set()
    for target, root in roots(store):
        explains |= {*made_of(actions, target.name, {})}
        for result in root["results"]:
            explains |= {*made_of(actions, result["object"], result["actions"])}
    for action in actions:
        name = action.content["object"]
        if name not in explains and not (store.root / "objects" / name).exists():
            action.path.unlink(missing_ok=True)


def verify(store: Store) -> Dict[str, Any]:
    """
    Read every object again. Damaged ones are taken out: who needs them makes them anew.

    Returns ``objects``, ``skipped`` (made by another version), ``damaged`` (of
    `Damage`) and ``actions``, the number of damaged ones, which are removed.
    """
    forgotten = _drop_damaged_actions(store)
    others = _of_another_version(store)
    names = sorted(os.listdir(store.root / "objects"))
    checked = [name for name in names if name not in others]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = pool.map(lambda name: damage(store, name), checked)
        damaged = [one for one in found if one is not None]
    with store.scratch("verify") as trash, store.index(alone=True):
        for one in damaged:
            with contextlib.suppress(FileNotFoundError):
                _take_out(store, one.object, trash)
    return {
        "objects": len(checked),
        "skipped": len(names) - len(checked),
        "damaged": damaged,
        "actions": forgotten,
    }


def damage(store: Store, name: str) -> Optional[Damage]:
    """What is wrong with an object, None if nothing is"""
    signals.check()
    path = store.root / "objects" / name
    try:
        digest, lines = identify(path)
    except FileNotFoundError:
        return None  # pruned meanwhile
    except OSError as error:
        return Damage(name, [f"{error.filename or ''}: {error.strerror}"])
    if digest == name[:DIGEST_LENGTH]:
        return None
    return Damage(name, _differing(store, name, lines) if lines is not None else [])


def _differing(store: Store, name: str, found: List[str]) -> List[str]:
    """The files of a tree that its manifest has otherwise; none if that is damaged"""
    try:
        text = (store.root / "manifests" / name).read_bytes()
    except OSError:
        return []
    expected = text.decode("utf-8", "surrogateescape").splitlines(True)
    if tree_digest(expected) != name[:DIGEST_LENGTH]:
        return []
    paths = {_path(line) for line in {*expected} ^ {*found}}
    return sorted(paths)


def _path(line: str) -> str:
    """The path in a line of a manifest, as `repr` has it"""
    name = re.match(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\"""", line)
    return name[0][1:-1] if name else line


def _of_another_version(store: Store) -> Set[str]:
    """Objects that only actions of another format made: nobody finds them any more"""
    from .operation import FORMAT

    formats: Dict[str, Set[Any]] = {}
    for action in Actions(store):
        parts = action.content["parts"]
        if "format" in parts:
            name = action.content["object"]
            formats.setdefault(name, set()).add(parts["format"])
    return {name for name, found in formats.items() if FORMAT not in found}


def _drop_damaged_actions(store: Store) -> int:
    """Remove actions that cannot be read, or are not what their name says"""
    count = 0
    for path in (store.root / "actions").glob("*.json"):
        action = read_action(path)
        if action is not None:
            parts = action["parts"]
            pinned, other = parts, {**parts, "unpinned": action["object"]}
            if path.stem in (key_of(pinned), key_of(other)):
                continue
        path.unlink(missing_ok=True)
        count += 1
    return count
