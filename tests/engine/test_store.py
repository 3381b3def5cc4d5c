import asyncio
import fcntl
import hashlib
import json
import os
import stat
import threading
from pathlib import Path

import pytest

from dffml_operations_decentralice.engine import store as stores
from dffml_operations_decentralice.engine.store import (
    Store,
    default_root,
    key_of,
    remove_tree,
    says_no_space,
)
from dffml_operations_decentralice.errors import UserError

from ..mounts import apart


@pytest.fixture
def made(tmp_path):
    return Store(tmp_path / "store")


@pytest.mark.parametrize(
    "environment, expected",
    [
        ({"DECENTRALICE_STORE": "/s"}, "/s"),
        ({"DECENTRALICE_STORE": "s"}, "{cwd}/s"),
        ({"XDG_CACHE_HOME": "/c"}, "/c/decentralice"),
        ({"DECENTRALICE_STORE": "", "XDG_CACHE_HOME": "/c"}, "/c/decentralice"),
        ({"HOME": "/h"}, "/h/.cache/decentralice"),
        ({"HOME": "/h", "XDG_CACHE_HOME": ""}, "/h/.cache/decentralice"),
    ],
)
def test_default_root(monkeypatch, environment, expected):
    for name in ("DECENTRALICE_STORE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert str(default_root()) == expected.format(cwd=os.getcwd())


def test_key_of():
    assert key_of({"a": 1, "b": [2]}) == key_of({"b": [2], "a": 1})
    assert key_of({"a": 1}) != key_of({"a": "1"})
    assert key_of({"a": ["b", "c"]}) != key_of({"a": ["bc"]})


def test_object(made):
    with made.scratch("x") as scratch:
        (scratch / "out").write_text("text")
        name = made.add(scratch / "out", "text.txt")
        (scratch / "out").write_text("text")
        assert made.add(scratch / "out", "text.txt") == name
    path = made.root / "objects" / name
    assert path.read_text() == "text" and name.endswith("-text.txt")
    assert stat.S_IMODE(path.stat().st_mode) == 0o444
    assert made.object_digest(str(path)) == name.partition("-")[0]


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "x", "", "{root}/tmp/x", "{root}/objects/a/b"]
)
def test_no_object(made, path):
    assert made.object_digest(path.format(root=made.root)) is None


def test_record(made):
    assert made.find("key") is None and made.last("op") is None
    (made.root / "objects/abc-x").write_text("x")
    action = {"object": "abc-x", "parts": {"a": 1}, "made": 5.0}
    made.record("key", "op", action)
    assert made.find("key") == {**action, "path": str(made.root / "objects/abc-x")}
    assert made.last("op") == {"a": 1}
    (made.root / "objects/abc-x").unlink()
    assert made.find("key") is None


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b'{"object"', b"[]", b'"x"', b"null", b"{}", b"\xff\xfe", b"7"],
)
def test_damaged_action_is_absent(made, content):
    (made.root / "actions/key.json").write_bytes(content)
    (made.root / "latest/op.json").write_bytes(content)
    assert made.find("key") is None
    assert not made.last("op")


@pytest.mark.parametrize(
    "change",
    [{"object": "../x"}, {"object": 5}, {"parts": []}, {"made": "now"}, {"size": 7}],
)
def test_action_that_cannot_be(made, change):
    (made.root / "objects/abc-x").write_text("x")
    action = {"object": "abc-x", "parts": {"a": 1}, "made": 5.0, "size": 1, **change}
    (made.root / "actions/key.json").write_text(json.dumps(action))
    assert made.find("key") is None


def test_what_is_found_is_in_use(made):
    """A look at it changes nothing"""
    (made.root / "objects/abc-x").write_text("x")
    made.record("key", "op", {"object": "abc-x", "parts": {}, "made": 5.0})
    action = made.root / "actions/key.json"
    age(action)
    assert made.peek("key") and action.stat().st_mtime == 1
    assert made.find("key") and action.stat().st_mtime >= made.in_use_since()


def test_added_again(made):
    """A damaged file is replaced by the good one, a tree is marked as used"""
    with made.scratch("x") as scratch:
        (scratch / "out").write_text("text")
        name = made.add(scratch / "out", "text.txt")
        (made.root / "objects" / name).chmod(0o644)
        (made.root / "objects" / name).write_text("damaged")
        (scratch / "out").write_text("text")
        assert made.add(scratch / "out", "text.txt") == name
        assert (made.root / "objects" / name).read_text() == "text"
        for _ in range(2):
            (scratch / "tree").mkdir(exist_ok=True)
            (scratch / "tree/file").write_text("text")
            tree = made.root / "objects" / made.add(scratch / "tree", "tree")
            age(tree)
    assert tree.stat().st_mtime == 1
    assert tree.stat().st_ctime >= made.in_use_since()
    assert stat.S_IMODE(tree.stat().st_mode) == 0o555


def test_logs(made):
    """One for each action, found by its key; the last ones stay"""
    for index in range(15):
        path = made.log("op", f"{index:064x}"[::-1])
        assert path.read_bytes() == b"" and path.name.startswith("op-")
        os.utime(path, (index, index))
    made.log("other", "0" * 64)
    assert made.log("op", f"{14:064x}"[::-1]) == path
    assert len(list((made.root / "logs").glob("op-*"))) == stores.LOGS
    assert len(list((made.root / "logs").glob("other-*"))) == 1


def test_read_only_store(tmp_path):
    store = Store(tmp_path / "none", read_only=True)
    assert store.peek("key") is None and store.last("op") is None
    assert store.file_digest(Path(os.__file__))
    stores._memos.pop(store.root).write()
    assert not store.root.exists()


def test_scratch_is_gone(made):
    with pytest.raises(ValueError), made.scratch("x") as scratch:
        (scratch / "deep/er").mkdir(parents=True)
        (scratch / "deep/er/file").touch()
        (scratch / "deep/er").chmod(0o555)
        (scratch / "deep").chmod(0)
        raise ValueError
    assert not scratch.exists()


def again(store):
    """The store as another process opens it"""
    stores._swept.discard(store.root)
    return Store(store.root)


def age(path):
    os.utime(path, (1, 1), follow_symlinks=False)


def test_sweep(made):
    tmp = made.root / "tmp"
    with made.scratch("held") as held:
        age(held)
        left = tmp / "left"
        (left / "deep").mkdir(parents=True)
        (left / "lock").touch()
        # Its owner was killed before it had locked it, or while it removed it
        (tmp / "without-lock" / "deep").mkdir(parents=True)
        (tmp / "young.json").touch()
        (tmp / "old.json").touch()
        age(tmp / "old.json")
        with open(tmp / "key.lock", "w") as waiting:
            fcntl.flock(waiting, fcntl.LOCK_EX)
            age(tmp / "key.lock")
            again(made)
        there = {path.name for path in tmp.iterdir()}
    assert there == {held.name, "young.json", "key.lock"}


def test_nothing_else_is_swept(made):
    for name in ("objects/abc-x", "cache/go", "logs/x.log", "roots/x.json"):
        (made.root / name).mkdir()
        age(made.root / name)
    again(made)
    for name in ("objects/abc-x", "cache/go", "logs/x.log", "roots/x.json"):
        assert (made.root / name).exists()


def test_links_are_not_followed(made, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").touch()
    left = made.root / "tmp/left"
    left.mkdir()
    (left / "lock").touch()
    (left / "link").symlink_to(outside)
    again(made)
    assert not left.exists() and (outside / "precious").exists()


def test_one_at_a_time(made):
    """Others wait, and none of them is inside with another"""
    inside, most = [], []

    async def work():
        async with made.locked("key"):
            inside.append(1)
            most.append(len(inside))
            await asyncio.sleep(0)
            inside.pop()

    async def all_of_them():
        await asyncio.gather(*(work() for _ in range(5)))

    stores_poll, stores.POLL = stores.POLL, 0.001
    try:
        threads = [
            threading.Thread(target=lambda: asyncio.run(all_of_them()))
            for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        stores.POLL = stores_poll
    assert most == [1] * 15
    assert not (made.root / "tmp/key.lock").exists()


def test_other_keys_do_not_wait(made):
    async def both():
        async with made.locked("one"):
            async with made.locked("two"):
                return sorted(path.name for path in (made.root / "tmp").iterdir())

    assert asyncio.run(both()) == ["one.lock", "two.lock"]
    assert list((made.root / "tmp").iterdir()) == []


def test_lock_of_a_failure_is_free(made):
    async def use():
        for _ in range(2):
            with pytest.raises(ValueError):
                async with made.locked("key"):
                    raise ValueError

    asyncio.run(use())


def test_keep(made, tmp_path):
    made.keep(tmp_path / "result")
    made.keep(tmp_path / "result")
    [root] = (made.root / "roots").iterdir()
    assert json.loads(root.read_text()) == {
        "link": str(tmp_path / "result"),
        "results": [],
    }


def test_remembered(made, tmp_path):
    """By the process at once, by others when it has ended"""
    old, found = Path(os.__file__), []

    def find():
        found.append(1)
        return {"any": ["value", len(found)]}

    for _ in range(2):
        assert made.remembered(old, "what", find) == {"any": ["value", 1]}
        assert made.remembered(old, "else", find) == {"any": ["value", 2]}
    stores._memos[made.root].write()
    other = Store(made.root)
    stores._memos.pop(made.root)
    assert other.remembered(old, "what", find) == {"any": ["value", 1]}
    assert len(found) == 2


def test_what_changed_just_now_is_not_remembered(made, tmp_path):
    """Its next change may have the same times"""
    path = tmp_path / "tool"
    for text in ("1", "2", "3"):
        path.write_text(text)
        assert made.file_digest(path) == hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"\xff", b'{"%s": 5}', b'{"%s": [[], "x"]}', b'{"%s": []}']
    + [b'{"%s": [[1, 2, 3, 4], {"sha256": "x"}]}', b'{"%s": {"0": 1}}', b"null"],
)
def test_damaged_memo_is_absent(made, content):
    path = Path(os.__file__)
    content = content.replace(b"%s", str(path).encode())
    (made.root / "memo.json").write_bytes(content)
    expected = hashlib.sha256(path.read_bytes()).hexdigest()
    assert made.file_digest(path) == expected
    stores._memos.pop(made.root).write()
    assert Store(made.root).file_digest(path) == expected


def test_store_that_cannot_be(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError) as caught:
        Store(tmp_path / "file")
    assert str(tmp_path / "file") in caught.value.cause
    assert "DECENTRALICE_STORE" in caught.value.remedy


MOUNTED = """
set -e
mkdir -p "$1/left/mounted"
mount -t tmpfs tmpfs "$1/left/mounted"
touch "$1/left/mounted/precious"
"$2" -c '
import sys
from pathlib import Path
from dffml_operations_decentralice import compat
compat.install()
from dffml_operations_decentralice.engine.store import remove_tree
from dffml_operations_decentralice.errors import UserError
try:
    remove_tree(Path(sys.argv[1]))
except UserError as error:
    print(error.cause)
' "$1/left"
test -e "$1/left/mounted/precious"
"""


def test_never_across_a_mount(tmp_path):
    """In a mount namespace of its own: the host never sees the mount"""
    import sys

    done = apart(MOUNTED, tmp_path, sys.executable)
    assert f"{tmp_path}/left/mounted is mounted" in done.stdout, done.stderr
    assert done.returncode == 0


def test_remove_tree(tmp_path):
    root = tmp_path / "root"
    (root / "a/b").mkdir(parents=True)
    (root / "a/b/file").touch()
    (root / "a/link").symlink_to("/")
    (root / "a/b").chmod(0o500)
    (root / "a").chmod(0o500)
    remove_tree(root)
    assert not root.exists() and Path("/etc").exists()


@pytest.mark.parametrize(
    "said, full",
    [
        ("mcopy: write: No space left on device", True),
        ("link: no space left on device", True),
        ("package x needs 44MB more space on the / filesystem", True),
        ("package x needs 12 more inodes on the / filesystem", True),
        ("E: You don't have enough free space in /var/cache/apt/archives/.", True),
        ("the package needs more RAM", False),
        ("", False),
    ],
)
def test_commands_that_found_no_room(tmp_path, said, full):
    (tmp_path / "log").write_text(f"first\n{said}\nlast\n")
    assert says_no_space(tmp_path / "log") is full
