"""An ordinary user's build has the bytes of root's"""

import sys

import pytest

from .. import user as users
from ..benchmarks.__main__ import MADE_OUTSIDE, OVERLAYS
from .test_reproducible import NAMES, RUN, bring, results

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def user():
    yield from users.make()


def test_the_same_bytes_without_root(image, user):
    """All but the mirror and the program, which come along as root made them"""
    store = bring(image.store, user.folder / "store", MADE_OUTSIDE, "-a")
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
