"""
What the SSI service costs on this host, beside what the last boot measured in its VM

Start to ready has in it the start of an interpreter, which hands over the socket.
Issuances are counted by the client, which runs on the same processors.
"""

import asyncio
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, Optional

from dffml_operations_decentralice.engine.history import Actions
from dffml_operations_decentralice.engine.store import Store, default_root
from dffml_operations_decentralice.engine.testing import run_operation
from dffml_operations_decentralice.operations.ssi import NAME, build_ssi_service
from dffml_operations_decentralice.ssi.client import Client

from ..ssi.conftest import Service

STARTS = 5
ISSUANCES, AT_ONCE = 2000, 50
LINE = "{:34} {:>9}  {}"


def starts(program: Path) -> float:
    """Seconds from its start to what it tells systemd, a median"""
    taken = []
    for _ in range(STARTS):
        with tempfile.TemporaryDirectory() as state:
            begun = time.monotonic()
            with Service(program, Path(state)):
                taken.append(time.monotonic() - begun)
    return statistics.median(taken)


def memory(pid: int) -> Dict[str, float]:
    """MB of a process, now (``VmRSS``) and at its peak (``VmHWM``): proc(5)"""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    return {one: int(fields[one].split()[0]) / 1024 for one in ("VmRSS", "VmHWM")}


async def issue(address: str) -> float:
    """Seconds that `ISSUANCES` take, of which `AT_ONCE` are under way"""
    async with Client(address) as client:
        issuer = await client.create_did()
        pending = iter(range(ISSUANCES))

        async def work() -> None:
            for number in pending:
                await client.issue(issuer, issuer, {"number": number})

        begun = time.monotonic()
        await asyncio.gather(*(work() for _ in range(AT_ONCE)))
        return time.monotonic() - begun


def in_vm(store: Store) -> Optional[Dict[str, Any]]:
    """The newest report of `verify_ssi` that has measured something, if there is one"""
    found = []
    for action in Actions(store):
        report = store.root / "objects" / action.content["object"] / "report.json"
        if action.operation == "verify_ssi" and report.exists():
            content = json.loads(report.read_text())
            if "ready_seconds" in content["measured"]:
                found.append((action.content["made"], content))
    return max(found, key=lambda one: one[0])[1] if found else None


def bench(root: Path) -> Dict[str, Any]:
    """Print the lines; the figures"""
    made = asyncio.run(run_operation(build_ssi_service, store=root))
    program = Path(made, NAME)
    ready = starts(program)
    with tempfile.TemporaryDirectory() as state:
        with Service(program, Path(state)) as service:
            rest = memory(service.process.pid)["VmRSS"]
            rate = ISSUANCES / asyncio.run(issue(service.address))
            peak = memory(service.process.pid)["VmHWM"]
    print(LINE.format("SSI service: start to ready", f"{ready:.3f} s", ""))
    print(LINE.format("  issuances", f"{rate:.0f}/s", f"{AT_ONCE} at once"))
    print(LINE.format("  memory at rest", f"{rest:.0f} MB", ""))
    print(LINE.format("  peak", f"{peak:.0f} MB", f"{ISSUANCES} issuances"))
    figures = {
        "ready_seconds": round(ready, 3),
        "issuances_per_second": round(rate),
        "rest_mb": round(rest),
        "peak_mb": round(peak),
    }
    report = in_vm(Store(root))
    if report is None:
        words = "-", "no boot has measured it: set `enabled` of verify_ssi"
    else:
        seconds = report["measured"]["ready_seconds"]
        words = f"{seconds:.1f} s", report["accelerator"]
        figures["vm"] = {**report["measured"], "accelerator": report["accelerator"]}
    print(LINE.format("  start to ready in the VM", *words), flush=True)
    return figures


if __name__ == "__main__":
    bench(default_root())
