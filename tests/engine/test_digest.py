import hashlib
import os

import pytest

from dffml_operations_decentralice.engine import digest
from dffml_operations_decentralice.engine.digest import BLOCK, digest_of, manifest


def tree(root):
    (root / "bin").mkdir(parents=True)
    (root / "bin/tool").write_text("#!/bin/sh\n")
    (root / "bin/tool").chmod(0o755)
    (root / "bin").chmod(0o755)
    (root / "text").write_text("text\n")
    (root / "text").chmod(0o644)
    (root / "link").symlink_to("bin/tool")
    root.chmod(0o755)
    return root


def write(path, content):
    path.chmod(0o600)
    path.write_text(content)
    path.chmod(0o644)


def replace_link(path):
    path.unlink()
    path.symlink_to("bin/other")


def link_becomes_file(path):
    path.unlink()
    path.write_text("bin/tool")


CHANGES = {
    "content": lambda root: write(root / "text", "tExt\n"),
    "size": lambda root: write(root / "text", "text"),
    "name": lambda root: (root / "text").rename(root / "text2"),
    "place": lambda root: (root / "text").rename(root / "bin/text"),
    "more": lambda root: (root / "more").touch(),
    "less": lambda root: (root / "text").unlink(),
    "mode": lambda root: (root / "text").chmod(0o600),
    "setuid": lambda root: (root / "bin/tool").chmod(0o4755),
    "mode of a directory": lambda root: (root / "bin").chmod(0o700),
    "target": lambda root: replace_link(root / "link"),
    "type": lambda root: link_becomes_file(root / "link"),
    "empty directory": lambda root: (root / "empty").mkdir(),
    "fifo": lambda root: os.mkfifo(root / "fifo"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_is_content(tmp_path, change):
    before = digest_of(tree(tmp_path / "tree"))
    change(tmp_path / "tree")
    assert digest_of(tmp_path / "tree") != before


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a file to another user")
@pytest.mark.parametrize("owner", [(1, 0), (0, 1)])
def test_owner_is_content(tmp_path, owner):
    before = digest_of(tree(tmp_path / "tree"))
    os.chown(tmp_path / "tree/text", *owner)
    assert digest_of(tmp_path / "tree") != before


def test_attribute_is_content(tmp_path):
    before = digest_of(tree(tmp_path / "tree"))
    try:
        os.setxattr(tmp_path / "tree/text", "user.x", b"y")
    except OSError as error:
        pytest.skip(f"no extended attributes here: {error}")
    assert digest_of(tmp_path / "tree") != before
    assert "user.x=79" in "\n".join(manifest(tmp_path / "tree"))


def test_what_is_no_content(tmp_path):
    first = tree(tmp_path / "first")
    second = tree(tmp_path / "elsewhere")
    os.utime(second / "text", (1, 1))
    os.utime(second / "bin", (1, 1))
    assert digest_of(first) == digest_of(second)


def test_manifest(tmp_path):
    root = tree(tmp_path / "tree")
    (root / "odd \n name").touch(mode=0o644)
    owner = f"{os.getuid()}:{os.getgid()}"
    nothing = hashlib.sha256(b"").hexdigest()
    script, text = (
        hashlib.sha256(content).hexdigest() for content in (b"#!/bin/sh\n", b"text\n")
    )
    assert [line for line in manifest(root)] == [
        f"'bin' 40755 {owner} -",
        f"'link' 120777 {owner} 'bin/tool'",
        f"'odd \\n name' 100644 {owner} 0 {nothing}",
        f"'text' 100644 {owner} 5 {text}",
        f"'bin/tool' 100755 {owner} 10 {script}",
    ]


def test_name_that_is_no_utf8(tmp_path):
    os.close(os.open(os.fsencode(tmp_path) + b"/\xff", os.O_CREAT))
    assert digest_of(tmp_path)


def test_file_by_itself(tmp_path):
    """Mode and time of a file are not its content: the store sets them"""
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_bytes(b"x")
    two.write_bytes(b"x")
    two.chmod(0o444)
    assert digest_of(one) == digest_of(two)
    assert len(digest_of(one)) == digest.DIGEST_LENGTH


SIZES = [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK]


def test_sizes_differ(tmp_path):
    found = set()
    for size in SIZES:
        path = tmp_path / str(size)
        path.write_bytes(b"x" * size)
        found.add(digest_of(path))
        path.write_bytes(bytes(size))
        if size:
            found.add(digest_of(path))
    assert len(found) == 2 * len(SIZES) - 1


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("data_at", [None, 0, BLOCK - 1, BLOCK, 2 * BLOCK + 5])
def test_holes_are_zeros(tmp_path, size, data_at):
    content = bytearray(size)
    holes, written = tmp_path / "holes", tmp_path / "written"
    holes.touch()
    os.truncate(holes, size)
    if data_at is not None and data_at < size:
        content[data_at] = 1
        with open(holes, "r+b") as file:
            file.seek(data_at)
            file.write(b"\1")
    written.write_bytes(content)
    assert digest_of(holes) == digest_of(written)


@pytest.mark.parametrize("first, second", [(0, BLOCK), (BLOCK, 2 * BLOCK), (5, 6)])
def test_where_the_data_is_counts(tmp_path, first, second):
    paths = []
    for offset in (first, second):
        path = tmp_path / str(offset)
        path.touch()
        os.truncate(path, 3 * BLOCK)
        with open(path, "r+b") as file:
            file.seek(offset)
            file.write(b"\1")
        paths.append(path)
    assert digest_of(paths[0]) != digest_of(paths[1])


def test_sparse_file_is_quick(tmp_path, monkeypatch):
    """100 GB of nothing: blocks read are counted, not seconds"""
    path = tmp_path / "disk"
    path.touch()
    os.truncate(path, 100 << 30)
    with open(path, "r+b") as file:
        file.seek(50 << 30)
        file.write(b"x")
    read, real = [], os.pread
    monkeypatch.setattr(
        os, "pread", lambda fd, size, at: read.append(at) or real(fd, size, at)
    )
    assert digest_of(path)
    assert len(read) <= 2


def test_sha256(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"x" * (BLOCK + 1))
    assert digest.sha256(path) == hashlib.sha256(b"x" * (BLOCK + 1)).hexdigest()


def test_size_of(tmp_path):
    root = tree(tmp_path / "tree")
    before = digest.size_of(root)
    (root / "big").write_bytes(b"x" * BLOCK)
    assert digest.size_of(root) - before >= BLOCK
    (root / "hole").touch()
    os.truncate(root / "hole", 10 << 30)
    assert digest.size_of(root) < before + 2 * BLOCK
