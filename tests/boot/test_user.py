"""An ordinary user's build has the bytes of root's"""

import json
import subprocess
import sys

import pytest

from .. import user as users
from ..benchmarks.__main__ import MADE_OUTSIDE, OVERLAYS
from .test_reproducible import NAMES, RUN, results

pytestmark = pytest.mark.slow
DECENTRALICE = [sys.executable, "-m", "dffml", "service", "decentralice"]


@pytest.fixture(scope="module")
def user():
    yield from users.make()


def test_the_same_bytes_without_root(image, user):
    """All but the mirror and the program, which come along as root made them"""
    store = user.folder / "store"
    bring(image.store, store)
    user.take(store)
    code = "from dffml_operations_decentralice.engine import namespace\n"
    code += f"namespace.become_root()\n{RUN}"
    done = user.run(sys.executable, "-c", code, store, *OVERLAYS)
    assert done.returncode == 0, done.stderr
    made = results(store)
    assert {name: made[name] for name in NAMES} == {
        name: image.artefact(name).name for name in NAMES
    }
    # Outside of the namespace, the shadow file's group is a subordinate one
    shadow = store / "objects" / made["root-tree"] / "etc/shadow"
    assert shadow.stat().st_gid > 65535


def bring(source, store):
    """What is downloaded, compiled and mirrored, and the keys, into a new store"""
    for name in ("objects", "actions", "cache"):
        (store / name).mkdir(parents=True)
    for file in (source / "actions").iterdir():
        action = json.loads(file.read_text())
        if action["parts"]["operation"] in MADE_OUTSIDE:
            copy(file, store / "actions")
            if not (store / "objects" / action["object"]).exists():
                copy(source / "objects" / action["object"], store / "objects")
    for name in ("mirror-keys", "factory-keys"):
        copy(source / "cache" / name, store / "cache")


def copy(path, folder):
    subprocess.run(["cp", "-a", path, folder], check=True)
