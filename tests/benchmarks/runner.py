"""Runs a flow's operations one after another, and measures each"""

import asyncio
import contextlib
import ctypes
import importlib.metadata
import os
import resource
import time
from pathlib import Path
from typing import Any, Dict, Iterable, List, NamedTuple, Optional

from dffml_operations_decentralice.composition import compose
from dffml_operations_decentralice.engine import progress
from dffml_operations_decentralice.engine.store import Store

PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
SELF, CHILDREN = resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN
WITHOUT_VERDICT = {
    *("boot_verify", "verify_ssi", "collect_result", "publish_result", "get_single")
}
OUTSIDE = {  # what "packages downloaded, programs compiled, mirror made" means
    "fetch_debian_userspace",
    "fetch_debian_kernel",
    "userspace_repository",
    "kernel_repository",
    "build_ssi_service",
}


class Cost(NamedTuple):
    """What one operation took; CPU seconds are those of it and its commands"""

    operation: str
    cpu: float
    wall: float
    peak: float  # MB, the largest process so far
    ran: bool


def adopt() -> None:
    """
    Have orphans become ours. bubblewrap ends before the init of its process namespace,
    whose CPU time, that of the whole sandbox, would count for nobody.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")


def cpu() -> float:
    """CPU seconds of this process and its finished children, adopted ones included"""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    used = [resource.getrusage(who) for who in (SELF, CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def peak() -> float:
    """MB of the largest process so far"""
    return max(resource.getrusage(who).ru_maxrss for who in (SELF, CHILDREN)) / 1024


def action_of(name: str) -> Any:
    """The declared action behind an operation's name"""
    entries = importlib.metadata.entry_points()
    if hasattr(entries, "select"):
        entries = entries.select(group="dffml.operation")
    else:
        entries = entries["dffml.operation"]
    return next(entry for entry in entries if entry.name == name).load().action


def origin(sources: List[Any]) -> str:
    """The operation that makes an input"""
    return next(iter(sources[0]))


def ordered(content: Dict[str, Any]) -> List[str]:
    """Operations so that each comes behind those whose results it takes"""
    done: List[str] = []
    pending = [one for one in content["operations"] if one not in WITHOUT_VERDICT]
    while pending:
        for name in pending:
            inputs = content["flow"][name]["inputs"].values()
            if all(origin(sources) in done for sources in inputs):
                done.append(name)
                pending.remove(name)
                break
    return done


async def measure(
    store: Store, overlays: Iterable[str], extra: Optional[Dict[str, Any]] = None
) -> List[Cost]:
    """Run all up to the disk; `extra` are settings over those of the flow"""
    content = compose(list(overlays)).content
    costs, results = [], {}
    with progress.monitored(progress.Recorder()) as events:
        for name in ordered(content):
            action = action_of(content["operations"][name]["name"])
            values = {
                **(content["configs"].get(name) or {}),
                **(extra or {}).get(name, {}),
            }
            artefacts = {
                given: results[origin(sources)]
                for given, sources in content["flow"][name]["inputs"].items()
            }
            before = cpu(), time.monotonic(), events.count("end")
            results[name] = await action.execute(values, artefacts, store)
            costs.append(
                Cost(
                    name,
                    cpu() - before[0],
                    time.monotonic() - before[1],
                    peak(),
                    events.count("end") > before[2],
                )
            )
    return costs


def run(store: Path, overlays: Iterable[str], extra=None) -> List[Cost]:
    """`measure`, for a store's path"""
    adopt()
    return asyncio.run(measure(Store(store), overlays, extra))
