"""Every operation of the flow on a file system that is full before its result is"""

import re

import pytest

from dffml_operations_decentralice.errors import SpaceError

from . import private
from .lab import ALWAYS, ENDLESS, operations

TINY = 64 << 10  # bytes of a result which files, not bytes, leave no room for
FILES = 24  # those that a build makes before it begins with anything, about
ENOUGH = 8 << 20  # bytes that a download comes to before there is no more room
REPRESENTATIVE = {"build_uki", "os_release"}


def cases():
    for name in operations():
        quick = name in REPRESENTATIVE
        yield pytest.param(name, marks=() if quick else pytest.mark.slow)


@pytest.mark.parametrize("operation", list(cases()))
def test_no_space(lab, operation):
    """It is seen to beforehand that there is room; then somebody else takes it"""
    size = lab.size(operation)
    few = "" if size >= TINY else f",nr_inodes={FILES}"
    with lab.forgetting(operation), private.small(lab, f"4g{few}"):
        before = lab.state()
        room = private.used(lab) + min(size // 2, ENOUGH)
        build = lab.build()
        if size >= TINY:
            build.until_held(operation)
            private.resize(lab, str(max(room, private.used(lab))))
            build.release()
        assert build.end().status == SpaceError.exit_code, build.said
        assert "Traceback" not in build.said
        complains(build, lab.store)
        assert before.damage() == []
        if operation not in ENDLESS:
            private.resize(lab, "4g,nr_inodes=0")
            again = lab.build().end()
            assert again.status == 0, again.said
            assert again.started() - ALWAYS <= {operation}
            assert before.damage() == []


def complains(build, store):
    """In one line that names the directory and what is free there"""
    failed = [one for one in build.events if one["event"] == "failed"]
    assert failed  # side by side, several may find no room
    for one in failed:
        assert one["kind"] == SpaceError.kind, one
        assert re.search(rf"{store}.*\d+ MB free", one["cause"]), one
    assert build.said.count("error:") <= 2, build.said  # the event is one of them
