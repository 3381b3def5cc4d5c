"""
What a build costs, in CPU seconds, beside mkosi's figures for a like image; and what
the SSI service costs

    make bench            needs the mirror's packages in the store, else makes them
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Callable, Dict, List

from dffml_operations_decentralice.engine.store import default_root

from . import ssi
from .runner import OUTSIDE, Cost, adopt, cpu, run

OVERLAYS = ["mirror"]
# The functions behind `OUTSIDE`'s instances
MADE_OUTSIDE = {"mirror_userspace_repository", "mirror_kernel_repository", *OUTSIDE}
# What a kernel's update runs; the tree in which dracut runs stays as it is
OF_THE_KERNEL = {
    *("lock_kernel_rpms", "fetch_kernel_rpms", "depmod", "dracut_initrd", "build_uki"),
    *("compose_root", "check_loader", "format_root"),
    *("install_bootloader", "write_disk"),
}
TABLE = "{:34} {:>7} {:>7} {:>8}  {}"
# Debian 12, systemd-boot and UKI, 130 packages, on the reference machine
MKOSI = {
    "nothing to do": "0.68",
    "text file changed": "23-36",
    "another kernel": "87",
    "cold": "87",
}


def copied(store: Path, copy: Path) -> Path:
    """A store that knows all that another one knows, and may be thrown away"""
    subprocess.run(["cp", "-al", f"{store}/.", copy], check=True)
    return copy


def forget(store: Path, operations: Callable[[str], bool]) -> None:
    """Have a store not know the results of some operations"""
    for file in (store / "actions").iterdir():
        if operations(json.loads(file.read_text())["parts"]["operation"]):
            file.unlink()


def command() -> List[Cost]:
    """The whole command with nothing to do, the interpreter's start included"""
    argv = [sys.executable, "-m", "dffml", "service", "decentralice", "build"]
    costs = []
    for _ in range(3):
        before, started = cpu(), time.monotonic()
        subprocess.run(
            [*argv, "-overlays", *OVERLAYS],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=True,
        )
        costs.append(Cost("build", cpu() - before, time.monotonic() - started, 0, True))
    return costs[-1:]


def show(name: str, costs: List[Cost], details: bool = False) -> Dict:
    """Print a line, or one for each operation too"""
    if details:
        for one in costs:
            if one.ran:
                line = f"{one.cpu:.2f}", f"{one.wall:.2f}", f"{one.peak:.0f}", ""
                print(TABLE.format("  " + one.operation, *line))
    total = sum(one.cpu for one in costs), sum(one.wall for one in costs)
    peak = max(one.peak for one in costs)
    words = f"{total[0]:.2f}", f"{total[1]:.2f}", f"{peak:.0f}", MKOSI.get(name, "")
    print(TABLE.format(name, *words), flush=True)
    return {
        "cpu_seconds": round(total[0], 2),
        "mkosi_cpu_seconds": MKOSI.get(name, ""),
        "seconds": round(total[1], 2),
        "peak_mb": round(peak),
        "operations": {one.operation: round(one.cpu, 2) for one in costs if one.ran},
    }


def main() -> None:
    """Print the table, write bench.json"""
    adopt()
    store, found = default_root(), {}
    report = Path(os.environ.get("BENCH", "bench.json")).absolute()
    print(TABLE.format("", "CPU s", "wall s", "MB", "mkosi's CPU s"))
    run(store, OVERLAYS)
    with tempfile.TemporaryDirectory(dir=store.parent) as folder:
        os.chdir(folder)
        cold = copied(store, Path(folder, "cold"))
        forget(cold, lambda operation: operation not in MADE_OUTSIDE)
        found["cold"] = show("cold", run(cold, OVERLAYS), details=True)
        changed = {"compose_root": {"hostname": f"bench{time.time_ns() % 10**6}"}}
        costs = run(cold, OVERLAYS, changed)
        found["text"] = show("text file changed", costs, details=True)
        forget(cold, OF_THE_KERNEL.__contains__)
        costs = run(cold, OVERLAYS, changed)
        found["kernel"] = show("another kernel", costs, details=True)
        found["nothing"] = show("nothing to do", command())
        found["ssi"] = ssi.bench(store)
        os.chdir("/")  # the folder is about to go
    report.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
