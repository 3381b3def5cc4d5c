"""Every operation of the flow on a file system that is full before its result is"""

import re

import pytest

from dffml_operations_decentralice.errors import SpaceError

from . import private
from .lab import ALWAYS, ENDLESS, operations

PAGE = 4096  # the smallest that a tmpfs can be: room for a result, not for its record
TINY = 16 * PAGE
ENOUGH = 8 << 20  # bytes that a download comes to before there is no more room
REPRESENTATIVE = {"build_uki", "os_release"}


def cases():
    for name in operations():
        quick = name in REPRESENTATIVE
        yield pytest.param(name, marks=() if quick else pytest.mark.slow)


@pytest.mark.parametrize("operation", list(cases()))
def test_no_space(lab, operation):
    size = lab.size(operation)
    size = PAGE if size < TINY else min(size // 2, ENOUGH)
    with lab.forgetting(operation), private.small(lab, size):
        before = lab.state()
        build = lab.build().end()
        assert build.status == SpaceError.exit_code, build.said
        assert "Traceback" not in build.said
        complains(build, lab.store)
        assert before.damage() == []
        if operation not in ENDLESS:
            private.resize(lab, "4g")
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
