"""Damaged objects are found, and old ones removed; those in use never"""

import json
import os
import shutil
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dffml_operations_decentralice.engine import progress, upkeep
from dffml_operations_decentralice.engine import store as stores
from dffml_operations_decentralice.engine.digest import (
    digest_of,
    manifest,
    tree_digest,
)
from dffml_operations_decentralice.engine.store import Store, parse_size
from dffml_operations_decentralice.engine.upkeep import (
    parse_age,
    prune,
    verify,
)
from dffml_operations_decentralice.errors import UserError

from ..mounts import apart
from . import sample
from .conftest import OLD, Sample, flip
from .test_operation import ROOT, fifo, left, links, process, run

ALL = ["collected", "counted.txt", "folder", "published", "text", "upper"]
LINKED = ["collected", "folder", "upper"]


@pytest.mark.parametrize(
    "text, expected",
    [
        ("0", 0),
        ("1000", 1000),
        ("1K", 1024),
        ("1.5k", 1536),
        ("3M", 3 << 20),
        ("5G", 5 << 30),
        ("5GiB", 5 << 30),
        ("5GB", 5 << 30),
        (" 2T ", 2 << 40),
    ],
)
def test_parse_size(text, expected):
    assert parse_size(text) == expected


@pytest.mark.parametrize(
    "text, expected",
    [("30s", 30), ("5m", 300), ("2h", 7200), ("14d", 14 * 86400), ("1.5w", 907200)],
)
def test_parse_age(text, expected):
    assert parse_age(text) == expected


@pytest.mark.parametrize("text", ["", "G", "-1G", "5X", "1e9", "5 G G", "five", "1,5G"])
def test_no_size(text):
    with pytest.raises(UserError) as caught:
        parse_size(text)
    assert repr(text) in caught.value.cause


@pytest.mark.parametrize("text", ["", "14", "d", "-1d", "1y", "1d2h"])
def test_no_age(text):
    with pytest.raises(UserError) as caught:
        parse_age(text)
    assert repr(text) in caught.value.cause


# Verify


def test_nothing_is_damaged(built):
    found = verify(built.store())
    assert found == {"objects": len(ALL), "skipped": 0, "damaged": [], "actions": 0}
    assert built.objects() == ALL
    assert built.build().keys() == {"publish"}


@pytest.mark.parametrize("bit", [0, 12, 31])
def test_one_bit_of_a_file(built, bit):
    """It is found and taken out; it is made again, and what comes after is as before"""
    flip(built.object("text"), bit)
    name = built.object("text").name
    found = verify(built.store())
    assert found["damaged"] == [upkeep.Damage(name, [])]
    assert "text" not in built.objects()
    ran = built.build()
    assert ran.keys() == {"write_text", "publish"}
    assert "was removed" in ran["write_text"]
    assert built.object("text").name == name
    assert verify(built.store())["damaged"] == []


def test_one_bit_in_a_tree(built):
    """The file is named"""
    flip(built.object("folder") / "deep/text", 3)
    name = built.object("folder").name
    assert verify(built.store())["damaged"] == [upkeep.Damage(name, ["deep/text"])]
    assert built.build().keys() == {"pack", "publish"}
    assert (built.object("folder") / "deep/text").read_text() == "a b\n"


def lose(tree):
    (tree / "deep/text").unlink()


def add(tree):
    (tree / "more").touch()


def change_mode(tree):
    (tree / "deep").chmod(0o700)


@pytest.mark.parametrize(
    "damage, files",
    [(lose, ["deep/text"]), (add, ["more"]), (change_mode, ["deep"])],
)
def test_damaged_tree(built, damage, files):
    damage(built.object("folder"))
    [found] = verify(built.store())["damaged"]
    assert found.files == files


@pytest.mark.parametrize("content", [None, b"", b"\xff", b"'x' 644\n"])
def test_file_cannot_be_told(built, content):
    """The manifest is damaged, too"""
    tree = built.object("folder")
    file = built.root / "manifests" / tree.name
    file.unlink() if content is None else file.write_bytes(content)
    assert verify(built.store())["damaged"] == []
    flip(tree / "deep/text")
    assert verify(built.store())["damaged"] == [upkeep.Damage(tree.name, [])]


def test_names_that_are_strange(store, tmp_path):
    made = Store(store)
    names = ["a b", "quote ' inside", "new\nline", "both ' and \"", "ümlaut", "\udcff"]
    with made.scratch("x") as scratch:
        out = scratch / "tree"
        out.mkdir()
        for name in names:
            (out / name).write_text("content")
        found = made.add(out, "tree")
    for name in names:
        flip(store / "objects" / found / name)
    [damaged] = verify(made)["damaged"]
    assert sorted(damaged.files) == sorted(repr(name)[1:-1] for name in names)


def test_tree_digest(tmp_path):
    """It is what `digest_of` says"""
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/file").write_text("x")
    lines = [line + "\n" for line in manifest(tmp_path)]
    assert tree_digest(lines) == digest_of(tmp_path)


def test_truncated_file_is_not_used(built):
    """Without a `verify`: as after a crash of the machine"""
    text = built.object("text")
    text.chmod(0o644)
    text.write_text("")
    assert "write_text" in built.build()
    assert built.object("text").read_text() == "a b\n"


@pytest.mark.parametrize(
    "content", [b"", b"{", b'{"object": "x"}', b"\xff", b"[1]", b"\x00" * 100]
)
def test_damaged_action(built, content):
    [action] = built.actions("count")
    action.write_bytes(content)
    assert verify(built.store())["actions"] == 1
    assert not action.exists()
    assert built.build().keys() == {"count", "publish"}


@pytest.mark.parametrize("part", ["parts", "object", "made"])
def test_action_of_another_type(built, part):
    [action] = built.actions("count")
    content = json.loads(action.read_text())
    for wrong in (None, [], "../../etc/passwd" if part == "object" else "x"):
        action.write_text(json.dumps({**content, part: wrong}))
        assert "count" in built.build()


def test_action_of_another_name(built):
    """Bits flipped in the parts, and JSON as before"""
    [action] = built.actions("count")
    action.write_text(action.read_text().replace("count", "count_"))
    assert verify(built.store())["actions"] == 1 and not action.exists()


def test_other_versions_are_left_alone(built, monkeypatch):
    module = sys.modules[sample.operation.__module__]
    monkeypatch.setattr(module, "FORMAT", module.FORMAT + 1)
    flip(built.object("text"))
    found = verify(built.store())
    assert found["damaged"] == [] and found["skipped"] == len(ALL) - 1
    assert built.objects() == ALL


# Prune


def test_what_was_not_used_for_longest_goes_first(built):
    store = built.store()
    order = ["pack", "upper", "collect", "write_text", "count"]
    for index, name in enumerate(order):
        built.age(*built.actions(name), OLD + index)
    built.link.unlink()
    sizes = {one.name: one.bytes for one in things(store)}
    total, first = sum(sizes.values()), sizes[built.object("folder").name]
    done = prune(store, size=total - 1)
    assert done == {
        "removed": 1,
        "freed": first,
        "objects": len(ALL) - 1,
        "bytes": total - first,
    }
    assert "folder" not in built.objects()
    assert prune(store, size=total)["removed"] == 0
    prune(store, size=total - first - 1)
    assert "upper" not in built.objects() and "text" in built.objects()


def things(store):
    return list(upkeep._things(store, upkeep.Actions(store)))


def test_a_hit_is_a_use(built):
    built.store()
    built.link.unlink()
    run(sample.write_text, built.root)
    stores._members.pop(built.root).close()
    [action] = built.actions("write_text")
    assert action.stat().st_mtime > time.time() - 3600
    prune(Store(built.root), age=3600.0)
    assert [one for one in built.objects() if one != "published"] == ["text"]


def test_age(built):
    store = built.store()
    built.link.unlink()
    assert prune(store, age=60 * 86400.0)["removed"] == 0
    assert prune(store, age=14 * 86400.0)["removed"] == len(ALL) - 1
    assert built.objects() == ["published"]  # which is new
    assert os.listdir(built.root / "manifests") == []
    assert os.listdir(built.root / "actions") == []


@pytest.mark.parametrize("how", [{"size": 0}, {"age": 0.0}, {"size": 0, "age": 0.0}])
def test_what_is_linked_stays(built, how):
    """With what links in it lead to"""
    prune(built.store(), **how)
    assert [one for one in built.objects() if one != "published"] == LINKED
    assert (built.link / "text").read_text() == "a b\n"
    assert built.build().keys() == {"write_text", "count", "publish"}


def test_keep_last_keeps_what_it_was_made_of(built):
    other = {"write_text": {"words": ["c"]}}
    built.build(**other)
    before = set(os.listdir(built.root / "objects"))
    prune(built.store(), keep_last=1)
    assert built.build(**other).keys() == {"publish"}
    gone = before - set(os.listdir(built.root / "objects"))
    assert {one.partition("-")[2] for one in gone} == {"text", "folder", "collected"}
    assert built.build().keys() == {"write_text", "pack", "collect", "publish"}


def test_keep_last_two(built):
    other = {"write_text": {"words": ["c"]}}
    built.build(**other)
    prune(built.store(), keep_last=2, size=0)
    assert built.build().keys() == built.build(**other).keys() == {"publish"}


def test_dangling_links_are_forgotten(built, tmp_path):
    second = tmp_path / "second"
    built.build(second)
    assert len(os.listdir(built.root / "roots")) == 2
    second.unlink()
    store = built.store()
    prune(store, size=0)
    [root] = (built.root / "roots").iterdir()
    assert json.loads(root.read_text())["link"] == str(built.link)
    built.link.unlink()
    built.link.symlink_to("/etc/passwd")
    prune(store, size=0)
    assert os.listdir(built.root / "roots") == []


def test_what_a_running_build_has_used_stays(built, tmp_path):
    """Another process prunes, while one is between two operations"""
    built.link.unlink()
    built.ended()
    up, go = fifo(tmp_path, "up"), fifo(tmp_path, "go")
    member = Store(built.root)  # this process is the build: it finds what is old
    run(sample.write_text, built.root)
    waiting = process(built.root, "wait_for", {"words": [str(up), str(go)]})
    assert up.read_text() == "up\n"
    script = (
        "import sys; from pathlib import Path;"
        "from dffml_operations_decentralice.engine.store import Store;"
        "from dffml_operations_decentralice.engine.upkeep import prune;"
        "print(prune(Store(Path(sys.argv[1])), size=0)['removed'])"
    )
    argv = [sys.executable, "-c", script, str(built.root)]
    subprocess.run(argv, check=True, cwd=ROOT)
    assert [one for one in built.objects() if one != "published"] == ["text"]
    go.write_text("go\n")
    assert waiting.communicate()[0]
    assert member.root.exists() and waiting.returncode == 0


def test_locked_actions_and_prune_at_once(built, tmp_path):
    """The second waits for the first and uses its result, while others prune"""
    up, go = fifo(tmp_path, "up"), fifo(tmp_path, "go")
    settings = {"words": [str(up), str(go)]}
    first = process(built.root, "wait_for", settings)
    assert up.read_text() == "up\n"
    second = process(built.root, "wait_for", settings)
    while not any(link.endswith(".lock") for link in links(f"/proc/{second.pid}/fd")):
        assert second.poll() is None
        os.sched_yield()
    store = built.store()
    prune(store, size=0)
    go.write_text("go\n")
    while first.poll() is None or second.poll() is None:
        prune(store, size=0)
    one, other = (each.communicate() for each in (first, second))
    assert one[0] and one[0] == other[0], one[1] + other[1]
    assert Path(one[0].strip()).read_text() == f"{first.pid}\n"


BUILDS = """
import asyncio, sys
from pathlib import Path
from dffml import MemoryOrchestrator
from tests.engine import sample

async def build(words):
    flow = sample.flow(Path(sys.argv[1]), write_text={"words": words})
    return [one async for one in MemoryOrchestrator.run(flow, [])]

for count in range(8):
    asyncio.run(build(["x"] * count))
    assert (Path(sys.argv[1]) / "text").read_text().split() == ["x"] * count
"""


def test_builds_while_others_prune(store, tmp_path):
    """Of what is old, nobody misses what it has found"""
    made = Sample(store, tmp_path / "result")
    for count in range(8):
        made.build(write_text={"words": ["x"] * count})
    made.link.unlink()
    made.ended()
    builds = [
        subprocess.Popen(
            [sys.executable, "-c", BUILDS, str(tmp_path / f"result{number}")],
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        for number in range(3)
    ]
    removed = 0
    while any(one.poll() is None for one in builds):
        removed += prune(Store(store), size=0)["removed"]
    for one in builds:
        said = one.communicate()[1]
        assert one.returncode == 0, said
    assert removed and verify(Store(store))["damaged"] == []
    assert os.listdir(store / "tmp") == []


def test_a_build_that_made_something_trims(store, tmp_path, monkeypatch):
    """What the last result was made of stays, whatever the limit is"""
    monkeypatch.setenv(stores.SIZE, "0")
    made = Sample(store, tmp_path / "result")
    made.build()
    assert made.objects() == ALL
    made.ended()
    other = {"write_text": {"words": ["c"]}}
    made.build(**other)
    assert made.build(**other).keys() == {"publish"}
    texts = [one for one in made.objects() if one == "text"]
    assert texts == ["text"]


def test_a_build_does_not_fail_because_of_its_store(built, monkeypatch):
    """It says so"""
    monkeypatch.setenv(stores.SIZE, "0")
    built.ended()
    built.link.unlink()
    manifest_of = built.root / "manifests" / built.object("folder").name
    manifest_of.unlink()
    manifest_of.mkdir()  # which is no file
    with progress.monitored(progress.Recorder()) as recorder:
        upkeep.trim(Store(built.root))
    assert [one["operation"] for one in recorder.events] == ["store"]
    assert recorder.events[0]["text"].startswith("could not be cut to its size")


@pytest.mark.parametrize("text", ["", "20G", "1T"])
def test_limit(monkeypatch, text):
    monkeypatch.setenv(stores.SIZE, text)
    assert stores.limit() == parse_size(text or stores.DEFAULT_SIZE)


def test_no_limit(store, monkeypatch):
    """Said before any work"""
    monkeypatch.setenv(stores.SIZE, "much")
    with pytest.raises(UserError) as caught:
        Store(store)
    assert stores.SIZE in caught.value.cause and "'much'" in caught.value.cause


def test_read_only_on_disk(built):
    tree = built.object("folder")
    assert stat.S_IMODE(tree.stat().st_mode) == 0o555
    assert stat.S_IMODE(built.object("text").stat().st_mode) == 0o444


def test_without_roots_rights(tmp_path):
    """Read-only trees are moved and removed, and nothing is left"""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        if os.geteuid() == 0:
            os.chown(folder, 65534, 65534)
        child = os.fork()
        if child == 0:
            status = 1
            try:
                if os.geteuid() == 0:
                    os.setgroups([])
                    os.setgid(65534)
                    os.setuid(65534)
                made = Sample(Path(folder, "store"), Path(folder, "result"))
                text = run(sample.write_text, made.root)[0]
                run(sample.make_folder, made.root, text=str(text))
                with made.store().scratch("x") as scratch:
                    (scratch / "a/b/c").mkdir(parents=True)
                    for name in ("a/b/c", "a/b", "a"):
                        (scratch / name).chmod(0)
                prune(made.store(), size=0)
                status = int(made.objects() != [] or left(made.root) != [])
            finally:
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 0


FULL = """
set -e
mount -t tmpfs -o size=200m tmpfs "$1"
exec env DECENTRALICE_STORE="$1/store" "$2" -c '
import os, sys
from pathlib import Path
from dffml_operations_decentralice.engine.upkeep import prune
from tests.engine.conftest import Sample
full = Path(sys.argv[1])
made = Sample(full / "store", full / "result")
made.build()
made.link.unlink()
made.ended()
# Files have a coarse clock, and what is made in one tick of it may be in use
newest = max(one.lstat().st_ctime for one in (full / "store/objects").iterdir())
clock = full / "store/in-use"
while clock.touch() or clock.stat().st_mtime <= newest:
    pass
os.system("mount -o remount,nr_inodes=%d %s" % (
    os.statvfs(full).f_files - os.statvfs(full).f_ffree, full))
try:
    (full / "more").mkdir()
except OSError as error:
    print(error.strerror)
print(prune(made.store(), size=0)["objects"], made.objects())
' "$1"
"""


def test_prune_of_what_is_full(tmp_path):
    """No directory can be made any more, in which to put what is removed"""
    done = apart(FULL, tmp_path, sys.executable)
    said = done.stdout.splitlines()
    assert said == ["No space left on device", "0 []"], done.stderr


def test_a_copied_store_is_the_same(built, tmp_path):
    """No path of it is in a key: copied elsewhere, nothing has to run"""
    copy = tmp_path / "elsewhere/copy"
    shutil.copytree(built.root, copy, symlinks=True)
    moved = Sample(copy, tmp_path / "other")
    os.environ["DECENTRALICE_STORE"] = str(copy)
    assert moved.build().keys() == {"publish"}
    assert os.readlink(moved.link).startswith(str(copy))
    assert verify(moved.store())["damaged"] == []
    assert moved.objects() == built.objects()
