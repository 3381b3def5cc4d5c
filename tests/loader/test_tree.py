"""Paths in a tree, as the kernel resolves them after chroot"""

import os
import stat

import pytest

from dffml_operations_decentralice.loader.tree import Memory, Tree, Unresolved

from .writer import write

LINKS = {
    "bin": "usr/bin",
    "usr/bin/sh": "dash",
    "usr/bin/absolute": "/usr/bin/dash",
    "usr/bin/above": "../../../../usr/bin/dash",
    "usr/bin/dangling": "/nowhere",
    "usr/bin/through": "dash/x",
    "loop": "loop",
    "one": "two",
    "two": "one",
    "root": "/",
    "dot": ".",
}


@pytest.fixture
def tree(tmp_path):
    write(tmp_path / "usr/bin/dash", b"dash")
    for name, to in LINKS.items():
        (tmp_path / name).symlink_to(to)
    return Tree(str(tmp_path))


@pytest.mark.parametrize(
    "path",
    [
        "/usr/bin/dash",
        "usr/bin/dash",
        "//usr///bin/./dash",
        "/bin/dash",
        "/bin/sh",
        "/bin/absolute",
        "/bin/above",
        "/../../usr/bin/dash",
        "/bin/../bin/sh",
        "/root/root/dot/root/bin/sh",
    ],
)
def test_resolve(path, tree):
    place = tree.resolve(path)
    assert place.inside == "/usr/bin/dash" and place.is_executable
    assert tree.read(path) == b"dash"


@pytest.mark.parametrize(
    "path, reason",
    [
        ("/none", "does not exist"),
        ("/none/none", "does not exist"),
        ("/bin/dangling", "does not exist"),
        ("/bin/dash/x", "leads through what is no directory"),
        ("/bin/through", "leads through what is no directory"),
        ("/bin/dash/", "is no directory"),
        ("/loop", "is a loop of links"),
        ("/one/x", "is a loop of links"),
        ("/a\0b", "is no path"),
        ("/" + "a" * 300, "file name too long"),
    ],
)
def test_unresolved(path, reason, tree):
    with pytest.raises(Unresolved) as caught:
        tree.resolve(path)
    assert caught.value.reason == reason
    assert tree.find(path) is None
    assert tree.text(path) == "" and tree.names(path) == []


def test_the_root(tree):
    for path in ("/", "", "/..", "/dot", "/root"):
        assert tree.resolve(path).inside == "/"
    assert "usr" in tree.names("/")


def test_below(tree):
    below = tree.below("/usr")
    assert below.resolve("/bin/dash").inside == "/bin/dash"
    assert below.find("/bin/absolute") is None  # as there is no /usr in it
    with pytest.raises(Unresolved):
        tree.below("/bin/dash")


def test_files(tree):
    """Once each, links not followed"""
    assert [one.inside for one in tree.files()] == ["/usr/bin/dash"]


def test_target(tree):
    assert tree.target("/bin/dangling") == "/nowhere"
    assert tree.target("/bin/dash") == tree.target("/none/x") == ""


def test_privileged(tmp_path):
    path = write(tmp_path / "file", b"")
    assert not Tree(str(tmp_path)).resolve("/file").is_privileged
    path.chmod(0o755 | stat.S_ISGID)
    assert Tree(str(tmp_path)).resolve("/file").is_privileged


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives capabilities")
def test_capabilities(tmp_path):
    path = write(tmp_path / "file", b"")
    raw = bytes.fromhex("0100000200200000000000000000000000000000")  # cap_net_raw+ep
    os.setxattr(path, "security.capability", raw)
    assert Tree(str(tmp_path)).resolve("/file").is_privileged


def test_memory():
    memory = Memory(2)
    for key in "abc":
        memory[key] = key
    assert dict(memory) == {"b": "b", "c": "c"}
