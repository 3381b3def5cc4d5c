"""
Whether what the store has comes out again: each step is made once more, from the inputs
that the store has, and compared

No result is replaced and nothing stays. What depends on a step gets the store's result,
so that each is judged for itself. Left out are steps which ask the outside world, or
measure it, or are never remembered.
"""

import contextlib
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional

from ..errors import NetworkError, SignatureError, UserError
from . import progress
from .digest import DIGEST_LENGTH, digest_of
from .progress import emit
from .store import Store

SAME, DIFFERS, LEFT_OUT = "same", "differs", "left-out"
Compare = Callable[[Path, Path], Any]
_current: List["Check"] = []


def current() -> Optional["Check"]:
    """The check that operations take part in, instead of being run or not"""
    return _current[-1] if _current else None


@contextlib.contextmanager
def checking(compare: Compare) -> Iterator["Check"]:
    """
    Within the block every operation is checked

    compare: the first difference of two files or trees: something with ``_asdict()``
        and a text, or None
    """
    check = Check(compare)
    _current.append(check)
    try:
        yield check
    finally:
        _current.remove(check)


class Check:
    """What was found of each step, in the order in which they ended"""

    def __init__(self, compare: Compare):
        self.compare = compare
        self.steps: List[Dict[str, Any]] = []

    async def step(
        self, action: Any, settings: Any, artefacts: Dict[str, str], store: Store, found
    ) -> str:
        """Check one; what the store has of it, empty if nothing"""
        why_not = left_out(action, artefacts, found)
        if why_not:
            self._leave_out(action, why_not)
        elif found is None:
            raise UserError(
                f"the store has no result of {action.name} to compare with",
                remedy="build first, with the same overlays and settings",
            )
        else:
            await self._again(action, settings, artefacts, store, found)
        return found["path"] if found else ""

    async def _again(self, action, settings, artefacts, store: Store, found) -> None:
        log = store.log(f"{action.name}-check")
        with progress.running(action.name, "made again, to compare", log):
            started = time.monotonic()
            try:
                async with action.made(settings, artefacts, store, log) as step:
                    told = await step.thread(self._compared, found, step.out)
            except NetworkError as error:
                self._leave_out(action, error.cause)
            else:
                emit("say", operation=action.name, text=told.get("text", "the same"))
                self.steps.append({"operation": action.name, **told})
            seconds = round(time.monotonic() - started, 3)
            about = {name: found.get(name) for name in ("object", "bytes")}
            emit("end", operation=action.name, seconds=seconds, **about)

    def _compared(self, found: Dict[str, Any], out: Path) -> Dict[str, Any]:
        """The verdict on what was made again, as the report has it"""
        told = {"object": found["object"], "verdict": SAME}
        if digest_of(out) == found["object"][:DIGEST_LENGTH]:
            return told
        difference = self.compare(Path(found["path"]), out)
        if difference is None:
            text = "the object in the store is damaged: its digest is not its name's"
            return {**told, "verdict": DIFFERS, "text": text}
        told.update(difference=difference._asdict(), text=str(difference))
        return {**told, "verdict": DIFFERS}

    def _leave_out(self, action: Any, why: str) -> None:
        about = {"operation": action.name, "verdict": LEFT_OUT, "text": why}
        self.steps.append(about)
        emit("say", operation=action.name, text=f"left out: {why}")

    def of(self, verdict: str) -> List[Dict[str, Any]]:
        """The steps of a verdict"""
        return [one for one in self.steps if one["verdict"] == verdict]

    def answer(self) -> Dict[str, Any]:
        """As JSON: check-report.schema.json"""
        verdict = DIFFERS if self.of(DIFFERS) else SAME
        return {"verdict": verdict, "steps": self.steps}

    def judge(self) -> None:
        """
        Raise `SignatureError`, bytes that are not what a hash says, if a step gave
        others
        """
        found = self.of(DIFFERS)
        if found:
            names = ", ".join(one["operation"] for one in found)
            raise SignatureError(
                f"made again, {names} gave other bytes: "
                f"{found[0]['operation']}: {found[0]['text']}",
                remedy="look for what it takes from clock, machine, chance or order",
            )


def left_out(action: Any, artefacts: Dict[str, str], found: Any) -> str:
    """Why a step is not checked; empty if it is"""
    if not action.cached:
        return "it is run always, and not remembered"
    if action.volatile:
        return "it asks the outside world"
    if not action.repeatable:
        return "it measures, and is never the same twice"
    missing = [name for name, value in artefacts.items() if not value]
    if missing and found is None:
        return f"its input {missing[0]} is left out, and not in the store"
    return ""
