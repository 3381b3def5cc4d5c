"""Layers, as the kernel's overlayfs merges them"""

import json
import os
import shutil
import subprocess
import sys

import pytest

from dffml_operations_decentralice.loader import Unresolved, check
from dffml_operations_decentralice.loader.layers import Layers

from . import real
from .test_dynamic import library, program
from .writer import write

UPPER, LOWER = "upper", "lower"
# The same walk on the mounted file system, in a namespace of its own
WALK = """
import json, os, sys
found = {}
for folder, names, files in os.walk("."):
    for name in files:
        path = os.path.join(folder, name)
        if not os.path.islink(path):
            found[path[1:]] = open(path).read()
print(json.dumps(found))
"""
MOUNT = 'mount -t overlay -o "$1" overlay "$2" && cd "$2" && exec "$3" -c "$4"'


def overlayfs(tmp_path, *layers):
    """Files and their contents, as the kernel has them; skips if it may not mount"""
    point = tmp_path / "point"
    point.mkdir()
    options = f"userxattr,lowerdir={':'.join(map(str, layers))}"
    user = ["--user", "--map-root-user"] if os.geteuid() else []
    argv = ["unshare", "--mount", *user, "sh", "-c", MOUNT, "sh", options, str(point)]
    done = subprocess.run(
        [*argv, sys.executable, WALK], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    if done.returncode == 32 or b"mount" in done.stderr:
        pytest.skip(done.stderr.decode())
    return json.loads(done.stdout)


def put(tmp_path, what):
    """A file, by its layer; links by ``->``, directories by a slash at the end"""
    path, _, to = what.partition(" -> ")
    place = tmp_path / path
    if to:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(to)
    elif path.endswith("/"):
        place.mkdir(parents=True)
    else:
        write(place, path.encode())


@pytest.mark.parametrize(
    "entries, seen",
    [
        (["upper/a", "lower/b"], {"/a": UPPER, "/b": LOWER}),
        (["upper/a", "lower/a"], {"/a": UPPER}),
        (
            ["upper/d/a", "lower/d/a", "lower/d/b", "lower/d/e/c"],
            {"/d/a": UPPER, "/d/b": LOWER, "/d/e/c": LOWER},
        ),
        # A link hides a directory, whole: Wolfi's /usr/lib64 those of Fedora
        (
            ["upper/lib/a", "upper/lib64 -> lib", "lower/lib64/b", "lower/lib/c"],
            {"/lib/a": UPPER, "/lib/c": LOWER},
        ),
        (["upper/d", "lower/d/a"], {"/d": UPPER}),
        (["upper/d/", "lower/d", "lower/e"], {"/e": LOWER}),
        (["upper/d/", "lower/d -> e", "lower/e/a"], {"/e/a": LOWER}),
    ],
)
def test_merged(entries, seen, tmp_path):
    for name in (UPPER, LOWER):
        (tmp_path / name).mkdir()
    for entry in entries:
        put(tmp_path, entry)
    layers = [tmp_path / UPPER, tmp_path / LOWER]
    tree = Layers([str(one) for one in layers])
    found = {one.inside: tree.read(one.inside).decode() for one in tree.files()}
    assert {path: text.partition("/")[0] for path, text in found.items()} == seen
    assert found == overlayfs(tmp_path, *layers)


def test_three(tmp_path):
    """The middle one's file ends what it hides"""
    for entry in ("a/d/x", "b/d", "c/d/y"):
        put(tmp_path, entry)
    layers = [tmp_path / name for name in "abc"]
    tree = Layers([str(one) for one in layers])
    found = {one.inside: tree.read(one.inside).decode() for one in tree.files()}
    assert found == {"/d/x": "a/d/x"} == overlayfs(tmp_path, *layers)


def test_opaque(tmp_path):
    for entry in ("upper/d/a", "lower/d/b"):
        put(tmp_path, entry)
    try:
        os.setxattr(tmp_path / "upper/d", "user.overlay.opaque", b"y")
    except OSError:
        pytest.skip("a file system without attributes")
    layers = [tmp_path / UPPER, tmp_path / LOWER]
    tree = Layers([str(one) for one in layers])
    assert tree.names("/d") == ["a"] and tree.find("/d/b") is None
    assert overlayfs(tmp_path, *layers) == {"/d/a": "upper/d/a"}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes devices")
def test_whiteout(tmp_path):
    for entry in ("upper/a", "lower/b", "lower/d/c"):
        put(tmp_path, entry)
    for name in "bd":
        try:
            os.mknod(tmp_path / UPPER / name, 0o020000, 0)
        except PermissionError:
            pytest.skip("this root makes no devices")
    layers = [tmp_path / UPPER, tmp_path / LOWER]
    tree = Layers([str(one) for one in layers])
    assert tree.names("/") == ["a"]
    assert tree.find("/b") is None and tree.find("/d/c") is None
    assert overlayfs(tmp_path, *layers) == {"/a": "upper/a"}


def test_links_and_views(tmp_path):
    for entry in (
        *("upper/one -> /two/a", "lower/two/a", "upper/two/b -> a"),
        *("lower/r/x", "upper/r/y -> /x"),
    ):
        put(tmp_path, entry)
    tree = Layers([str(tmp_path / UPPER), str(tmp_path / LOWER)])
    assert tree.resolve("/one").inside == tree.resolve("/two/b").inside == "/two/a"
    assert tree.target("/two/b") == "a"
    assert tree.below("/r").read("/y") == b"lower/r/x"


def test_hidden_lib64(tmp_path):
    """What the initrd's overlay does to Fedora's systemd, and how it is mended"""
    init, hidden = "/usr/lib/systemd/systemd", "fedora/usr/lib64/systemd/liba.so"
    real.copy(real.host_loader(), tmp_path / "wolfi" / real.LOADER[1:])
    (tmp_path / "wolfi/usr/lib").mkdir(parents=True)
    (tmp_path / "wolfi/usr/lib64").symlink_to("lib")
    write(
        tmp_path / "fedora" / init[1:],
        program("liba.so", runpath="/usr/lib64/systemd"),
    )
    write(tmp_path / hidden, library())
    (found,) = check(str(tmp_path), layers=["/wolfi", "/fedora"])["findings"]
    assert (found["file"], found["what"]) == (init, "liba.so")
    there = tmp_path / "fedora/usr/lib/systemd/liba.so"
    shutil.move(str(tmp_path / hidden), str(there))
    assert check(str(tmp_path), layers=["/wolfi", "/fedora"])["findings"] == []
    with pytest.raises(Unresolved):
        check(str(tmp_path), layers=["/wolfi", "/none"])
