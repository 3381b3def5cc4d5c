"""Two builds that need the same result"""

import os
import signal

import pytest

from .lab import ALWAYS

OPERATION = "partition"


@pytest.fixture
def two(lab):
    """One at work, its command held; another that waits for it"""
    with lab.forgetting(OPERATION):
        yield lab.build().until_held(OPERATION), waiting(lab.build())


def waiting(build):
    """Until a build has the lock of an action open, which another holds"""
    folder = f"/proc/{build.process.pid}/fd"
    while not any(link.endswith(".lock") for link in links(folder)):
        assert build.process.poll() is None
        os.sched_yield()
    return build


def links(folder):
    for name in os.listdir(folder) if os.path.isdir(folder) else ():
        try:
            yield os.readlink(f"{folder}/{name}")
        except OSError:
            continue


def test_the_second_uses_what_the_first_makes(lab, two):
    before = lab.state()
    first, second = two
    first.release()
    for build in two:
        assert build.end().status == 0, build.said
    assert first.started() == ALWAYS | {OPERATION}
    assert second.started() == ALWAYS and second.told("unchanged", OPERATION)
    assert before.damage() == []


def test_the_second_does_it_if_the_first_is_killed(lab, two):
    before = lab.state()
    first, second = two
    assert first.end(signal.SIGKILL).status == -signal.SIGKILL
    first.release()  # bubblewrap dies with its parent only when it has set all up
    assert second.end().status == 0, second.said
    assert second.started() == ALWAYS | {OPERATION}
    assert lab.build().end().status == 0
    assert before.damage() == []


def test_the_second_need_not_wait(lab, two):
    first, second = two
    assert second.end(signal.SIGINT).status == 128 + signal.SIGINT, second.said
    assert first.release().end().status == 0, first.said
