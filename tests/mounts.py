"""A script in a mount namespace of its own: what it mounts, nobody else sees"""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
REFUSED = ("unshare failed", "permission denied", "must be superuser")


def apart(script, *words):
    """The ended process; skips where the kernel does not allow it"""
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script, "sh", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    skip_if_refused(done.stderr)
    return done


def skip_if_refused(said):
    """Skip if what unshare or mount said means that there is no such namespace here"""
    if any(one in said for one in REFUSED):
        pytest.skip(f"no mount namespace here: {said.strip()}")
