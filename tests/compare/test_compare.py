"""Where two results differ first, for each format that is looked into"""

import gzip
import io
import lzma
import os
import re
import shutil
import struct
import subprocess
import tarfile
import uuid
from pathlib import Path

import pytest

from dffml_operations_decentralice.compare import first, first_offset, of_bytes
from dffml_operations_decentralice.compare.images import GPT, SECTOR
from dffml_operations_decentralice.engine.commands import search_path
from dffml_operations_decentralice.engine.digest import BLOCK

from ..efi import program


def made(tool, *argv):
    """Run a program of the host, or skip"""
    path = shutil.which(tool, path=search_path())
    if path is None:
        pytest.skip(f"no {tool}")
    subprocess.run([path, *map(str, argv)], check=True, stdout=subprocess.DEVNULL)


def lists(difference):
    return [*difference.where, difference.what, difference.stored, difference.rebuilt]


# Trees


@pytest.fixture
def trees(tmp_path):
    for name in ("one", "two"):
        tree = tmp_path / name
        (tree / "a/b").mkdir(parents=True)
        (tree / "a/b/file").write_text("x\n")
        (tree / "a.c").write_text("y\n")
        (tree / "link").symlink_to("a")
        os.mkfifo(tree / "z")
    return tmp_path / "one", tmp_path / "two"


def test_same_but_times(trees):
    os.utime(trees[1] / "a/b/file", (1, 1))
    assert first(*trees) is None


def relink(tree):
    (tree / "link").unlink()
    (tree / "link").symlink_to("b")


def retype(tree):
    (tree / "a.c").unlink()
    (tree / "a.c").mkdir()


@pytest.mark.parametrize(
    "change, expected",
    [
        (
            lambda t: (t / "a/b/file").write_text("z\n"),
            "a/b/file line 1 content 'x' 'z'",
        ),
        (lambda t: (t / "a/b").chmod(0o700), "a/b mode 0755 0700"),
        (lambda t: (t / "a/b/new").touch(), "a/b/new presence - +"),
        (lambda t: (t / "a.c").unlink(), "a.c presence + -"),
        (lambda t: (t / "z").unlink(), "z presence + -"),
        (relink, "link target a b"),
        (retype, "a.c type - d"),
    ],
)
def test_tree(trees, change, expected):
    for tree in trees:
        (tree / "a/b").chmod(0o755)
    change(trees[1])
    assert " ".join(lists(first(*trees))) == expected


def test_the_first_of_several(trees):
    (trees[1] / "link").unlink()
    (trees[1] / "a/b/file").write_text("z\n")
    assert lists(first(*trees))[0] == "link"  # what is beside comes first


def test_attribute(trees):
    try:
        os.setxattr(trees[1] / "a.c", "user.mine", b"\x01")
    except OSError:
        pytest.skip("no attributes on this file system")
    assert lists(first(*trees)) == ["a.c", "attribute user.mine", "none", "01"]


@pytest.mark.skipif(os.geteuid() != 0, reason="owners are given by root")
def test_owner(trees):
    os.chown(trees[0] / "link", 0, 42, follow_symlinks=False)
    assert lists(first(*trees)) == ["link", "owner", "0:42", "0:0"]


def test_file_and_tree(trees):
    assert lists(first(trees[0], trees[1] / "a.c")) == ["type", "directory", "file"]


# Files


@pytest.mark.parametrize(
    "stored, rebuilt, expected",
    [
        (b"", b"", None),
        (b"a\nb\n", b"a\nc\n", "line 2: content differs: 'b' -> 'c'"),
        (b"a\nb", b"a\nb\n", "byte 3: content differs: its end -> 0a"),
        (b"\0\1\2", b"\0\1\3", "byte 2: content differs: 02 -> 03"),
        (b"\xff\n", b"\xfe\n", "byte 0: content differs: ff 0a -> fe 0a"),
        (b"x" * 999, b"x" * 998 + b"y", "byte 998: content differs: 78 -> 79"),
    ],
)
def test_bytes(tmp_path, stored, rebuilt, expected):
    (tmp_path / "one").write_bytes(stored)
    (tmp_path / "two").write_bytes(rebuilt)
    found = first(tmp_path / "one", tmp_path / "two")
    assert (found and str(found)) == expected


@pytest.mark.parametrize("at", [0, BLOCK - 1, BLOCK, 5 * BLOCK + 7, 9 * BLOCK - 1])
def test_offset_in_sparse_files(tmp_path, at):
    for name in ("one", "two"):
        with open(tmp_path / name, "wb") as file:
            file.truncate(9 * BLOCK)
    with open(tmp_path / "two", "r+b") as file:
        file.seek(2 * BLOCK)
        file.write(bytes(BLOCK))  # written zeros are as holes
        file.seek(at)
        file.write(b"x")
    assert first_offset(tmp_path / "one", tmp_path / "two") == at


def cpio(**members):
    """An archive of the new format, with a trailer"""
    out = b""
    for number, (name, content) in enumerate([*members.items(), ("TRAILER!!!", b"")]):
        fields = (number, 0o100644, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name) + 1)
        out += b"070701" + b"".join(b"%08X" % one for one in (*fields, 0))
        out += name.encode() + b"\0"
        out += bytes(-len(out) % 4) + content
        out += bytes(-len(out) % 4)
    return out + bytes(-len(out) % 512)


def tar(**members):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def zstd(data):
    path = shutil.which("zstd") or pytest.skip("no zstd")
    return subprocess.run([path, "-qc"], input=data, stdout=-1, check=True).stdout


A, B = dict(etc=b"1\n", usr=b"2\n"), dict(etc=b"1\n", usr=b"3\n")
INSIDE = ["usr", "line 1", "content", "'2'", "'3'"]


@pytest.mark.parametrize(
    "stored, rebuilt, expected",
    [
        (cpio(**A), cpio(**B), INSIDE),
        (cpio(a=b"") + cpio(**A), cpio(a=b"") + cpio(**B), INSIDE),
        (cpio(a=b""), cpio(b=b""), ["order", "a", "b"]),
        (tar(**A), tar(**B), INSIDE),
        (tar(**A), tar(etc=b"1\n"), ["order", "usr", "its end"]),
        (gzip.compress(tar(**A)), gzip.compress(tar(**B)), ["unpacked", *INSIDE]),
        (lzma.compress(cpio(**A)), lzma.compress(cpio(**B)), ["unpacked", *INSIDE]),
        (
            program({".initrd": gzip.compress(cpio(**A), mtime=0)}),
            program({".initrd": gzip.compress(cpio(**B), mtime=0)}),
            ["section .initrd", "unpacked", *INSIDE],
        ),
        (
            program({".osrel": b"", ".text": b"x"}),
            program({".text": b"x"}),
            ["order", "section .osrel", "section .text"],
        ),
        (program({}, 1), program({}, 2), ["FILE_HEADER", "TimeDateStamp"]),
        # Of the same content, but packed otherwise; and damaged ones
        (gzip.compress(b"x", 1), gzip.compress(b"x", 9, mtime=1), ["byte 4"]),
        (b"\x1f\x8b1", b"\x1f\x8b2", ["byte 2"]),
        (b"MZ1", b"MZ2", ["line 1"]),
        (b"070701zz", b"070701yy", ["line 1"]),
    ],
)
def test_inside(stored, rebuilt, expected):
    assert lists(of_bytes(stored, rebuilt))[: len(expected)] == expected


def test_zstd():
    found = of_bytes(zstd(cpio(**A)), zstd(cpio(**B)))
    assert lists(found) == ["unpacked", *INSIDE]


def test_rpm(rpms):
    [one] = rpms.root.glob("Packages/bash-*.rpm")
    signed = one.read_bytes(), rpms.of_other_key.read_bytes()
    assert re.fullmatch(r"signatures, tag \d+", lists(of_bytes(*signed))[0])
    data = signed[0]
    found = lists(of_bytes(data, data[:-1] + bytes([data[-1] ^ 1])))
    assert found[0] == "payload"
    name = data.rindex(b"/usr/share/\0")
    other = lists(of_bytes(data, data[:name] + b"/usr/shard/\0" + data[name + 12 :]))
    assert re.fullmatch(r"header, tag 1118", other[0])  # DIRNAMES


# Images


def ext4(folder, image):
    """An image with one file in it, without sums"""
    (folder / "deep").mkdir(parents=True)
    (folder / "deep/file").write_bytes(b"1" * 5000)
    features = "^metadata_csum,^has_journal"
    argv = ("-q", "-t", "ext4", "-b", "1024", "-O", features, "-d", folder, image, "8M")
    made("mke2fs", *argv)
    return image


def changed(image, at, copy):
    """The image with another byte"""
    data = bytearray(image.read_bytes())
    data[at] ^= 2
    copy.write_bytes(data)
    return copy


def test_ext4(tmp_path):
    one, two = ext4(tmp_path / "a", tmp_path / "one"), tmp_path / "two"
    content = one.read_bytes().index(b"1" * 1024)
    found = lists(first(one, changed(one, content + 1000, two)))
    assert found[:3] == ["/deep/file", f"byte {content + 1000}", "content"]
    debugfs = shutil.which("debugfs", path=search_path())
    said = subprocess.check_output([debugfs, "-R", "imap /deep/file", one], text=True)
    block, offset = re.search(r"block (\d+), offset (0x\w+)", said).groups()
    inode = int(block) * 1024 + int(offset, 16)
    assert lists(first(one, changed(one, inode + 2, two)))[0] == "inode of /deep/file"
    assert lists(first(one, changed(one, 1024 + 120, two)))[0] == "superblock"
    assert "of no file" in lists(first(one, changed(one, (8 << 20) - 1, two)))[0]


def disk(path, content):
    """A qcow2 with one partition, from its sector 64 on"""
    raw = bytearray(1 << 20)
    raw[SECTOR : SECTOR + 8] = GPT
    raw[SECTOR + 72 : SECTOR + 88] = struct.pack("<QII", 2, 128, 128)
    entry = uuid.uuid4().bytes_le + bytes(16) + struct.pack("<QQQ", 64, 100, 0)
    raw[2 * SECTOR : 3 * SECTOR] = (entry + "root".encode("utf-16-le")).ljust(
        SECTOR, b"\0"
    )
    raw[64 * SECTOR : 64 * SECTOR + len(content)] = content
    path.with_suffix(".raw").write_bytes(raw)
    made("qemu-img", *"convert -f raw -O qcow2".split(), path.with_suffix(".raw"), path)
    return path


def test_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(uuid, "uuid4", lambda: uuid.UUID(int=7))
    one = disk(tmp_path / "one", b"x" * 600 + b"1")
    two = disk(tmp_path / "two", b"x" * 600 + b"2")
    found = lists(first(one, two))
    assert found[:3] == ["partition root", "byte 600", "content"]
    assert found[3].startswith("31") and found[4].startswith("32")


def test_disks_with_the_same_content(tmp_path, monkeypatch):
    monkeypatch.setattr(uuid, "uuid4", lambda: uuid.UUID(int=7))
    one = disk(tmp_path / "one", b"x")
    Path(tmp_path / "two").write_bytes(one.read_bytes() + bytes(512))
    found = lists(first(one, tmp_path / "two"))
    assert found[0].startswith("byte ") and found[2] == "its end"
