"""The same lock gives the same bits, elsewhere, at another time, with other habits"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from ..benchmarks.__main__ import MADE_OUTSIDE, OVERLAYS, without

ROOT = Path(__file__).parent.parent.parent
RUN = """
import pathlib, sys
from tests.benchmarks.runner import run
run(pathlib.Path(sys.argv[1]), sys.argv[2:])
"""
NAMES = "initrd.img decentralice.efi esp.img root-tree root.img disk.qcow2".split()


@pytest.mark.slow
def test_all_made_again_is_the_same(image, tmp_path):
    """Not but the mirror, whose signatures are of the store's own keys"""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "TZ": "Asia/Kathmandu"}
    env.update(LC_ALL="C", TMPDIR=str(tmp_path), HOME=str(tmp_path))
    with tempfile.TemporaryDirectory(dir=image.store.parent, prefix="a b") as folder:
        other = without(image.store, MADE_OUTSIDE, Path(folder, "store"))
        subprocess.run(
            [sys.executable, "-c", RUN, str(other), *OVERLAYS],
            cwd=tmp_path,
            env=env,
            umask=0o077,
            check=True,
        )
        actions = [json.loads(one.read_text()) for one in other.glob("actions/*")]
        made = {action["object"].partition("-")[2]: action for action in actions}
        for name in NAMES:
            assert made[name]["object"] == image.artefact(name).name, name
