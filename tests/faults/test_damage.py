"""Stores that somebody, or a disk, did something to"""

import shutil

import pytest

from dffml_operations_decentralice.errors import UserError

from . import private
from .lab import ALWAYS

OPERATION = "partition"
READ_ONLY = 'set -e; mount --bind "$1" "$1"; mount -o remount,bind,ro "$1"'
MOUNTED = 'set -e; mkdir -p "$1" "$2"; mount --bind "$3" "$1"'


def test_read_only(lab):
    with private.entered(lab, READ_ONLY, lab.store):
        before = lab.state()
        build = lab.build().end()
        assert build.status == UserError.exit_code, build.said
        assert str(lab.store) in build.said and "DECENTRALICE_STORE" in build.said
        assert before.damage() == []


@pytest.fixture
def action(lab):
    """The record of a result which is part of the image; afterwards as it was"""
    path = lab.action(OPERATION)
    content = path.read_text()
    yield path
    path.write_text(content)


@pytest.mark.parametrize(
    "content", ["", '{"object": ', "\0" * 4096], ids=["empty", "cut", "zeros"]
)
def test_a_record_that_is_damaged(lab, action, content):
    """As after a crash of the machine: not used, made again"""
    before = lab.state()
    action.write_text(content)
    build = lab.build().end()
    assert build.status == 0, build.said
    assert build.started() == ALWAYS | {OPERATION}
    assert lab.action(OPERATION) == action
    assert before.damage() == []


def test_an_object_that_is_gone(lab):
    before = lab.state()
    shutil.rmtree(lab.store / "objects" / lab.image.made_of["partition-table"])
    build = lab.build().end()
    assert build.status == 0, build.said
    assert build.started() - ALWAYS <= {OPERATION}
    assert before.damage() == []


def test_no_tree_is_removed_across_a_mount(lab):
    """What a killed build left, and somebody has mounted something below it"""
    precious = lab.temporary / "precious"
    precious.mkdir()
    (precious / "file").write_text("x")
    left = lab.store / "tmp/partition-left"
    arguments = (left / "work", left / "out", precious)
    with private.entered(lab, MOUNTED, *arguments):
        build = lab.build().end()
        assert build.status == UserError.exit_code, build.said
        assert f"{left}/work is mounted" in build.said
    assert (precious / "file").read_text() == "x"
    again = lab.build().end()
    assert again.status == 0, again.said
    assert not left.exists()
    assert (precious / "file").read_text() == "x"


def test_what_is_not_ours_is_not_swept(lab):
    """Work of a build that lives, and a file that may be on its way"""
    fresh = lab.store / "tmp/fresh.json"
    with lab.forgetting(OPERATION):
        first = lab.build().until_held(OPERATION)
        fresh.write_text("x")
        mine = set((lab.store / "tmp").iterdir())
        other = lab.build(argv=lab.sweep()).end()
        assert other.status == 0, other.said
        assert mine == set((lab.store / "tmp").iterdir()) and len(mine) == 3
        assert first.release().end().status == 0, first.said
        assert list((lab.store / "tmp").iterdir()) == [fresh]
