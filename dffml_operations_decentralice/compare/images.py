"""Whose a byte is in a disk image or an ext4 file system"""

from __future__ import annotations

import re
import struct
import subprocess
import tempfile
import uuid
from pathlib import Path
from typing import List, NamedTuple, Optional

from ..engine.commands import find_tool
from ..errors import MissingTool
from . import Difference, at_offset, first_byte

QCOW2 = b"QFI\xfb"
GPT, SECTOR = b"EFI PART", 512
EXT4_MAGIC, SUPERBLOCK = b"\x53\xef", 1024
FIRST_LINE = re.compile(r"^(\d+)\s+(.+)$", re.MULTILINE)


class Range(NamedTuple):
    """Bytes of a disk that have a name"""

    name: str
    start: int
    end: int


def difference(stored: Path, rebuilt: Path, offset: int) -> Optional[Difference]:
    """
    Of images whose first difference is at ``offset``, in what that is; None of others,
    or without the tools that tell
    """
    heads = [_head(one) for one in (stored, rebuilt)]
    try:
        if all(head.startswith(QCOW2) for head in heads):
            return of_disks(stored, rebuilt)
        if all(_is_ext4(head) for head in heads):
            where = owner(rebuilt, heads[1], offset)
            pieces = [_piece(one, offset) for one in (stored, rebuilt)]
            return at_offset(offset, *pieces).inside(where)
    except (MissingTool, subprocess.CalledProcessError):
        pass
    return None


def _head(path: Path) -> bytes:
    with open(path, "rb") as file:
        return file.read(2 * SUPERBLOCK)


def _piece(path: Path, offset: int) -> bytes:
    with open(path, "rb") as file:
        file.seek(offset)
        return file.read(16)


def _said(tool: str, *argv: str, ok: tuple = (0,)) -> str:
    """What a program of the host prints"""
    done = subprocess.run(
        [find_tool(tool), *argv],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    if done.returncode not in ok:
        raise subprocess.CalledProcessError(done.returncode, tool)
    return done.stdout


def of_disks(stored: Path, rebuilt: Path) -> Optional[Difference]:
    """
    The partition in which the contents of two qcow2 differ; None if they only are
    written in different ways
    """
    forms = ("-f", "qcow2", "-F", "qcow2")
    said = _said("qemu-img", "compare", *forms, str(stored), str(rebuilt), ok=(0, 1))
    found = re.search(r"at offset (\d+)", said)
    if not found:
        return None
    offset = int(found[1]) // SECTOR * SECTOR
    sectors = [_of_qcow2(one, offset, 2) for one in (stored, rebuilt)]
    inside = first_byte(*sectors)
    offset += inside
    where = Range("outside of partitions", 0, 0)
    for one in partitions(rebuilt):
        if one.start <= offset < one.end:
            where = one
    pieces = [one[inside:] for one in sectors]
    return at_offset(offset - where.start, *pieces).inside(where.name)


def _of_qcow2(disk: Path, offset: int, sectors: int) -> bytes:
    """Sectors of the disk in a qcow2, from the one which has ``offset``"""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "sectors")
        words = [f"bs={SECTOR}", f"skip={offset // SECTOR}", f"if={disk}", f"of={out}"]
        last = offset // SECTOR + sectors  # qemu-img counts what it skips
        _said("qemu-img", "dd", "-f", "qcow2", "-O", "raw", f"count={last}", *words)
        return out.read_bytes()


def partitions(disk: Path) -> List[Range]:
    """
    The partitions of a qcow2's GPT

    https://uefi.org/specs/UEFI/2.10/05_GUID_Partition_Table_Format.html
    """
    header = _of_qcow2(disk, SECTOR, 1)
    if not header.startswith(GPT):
        return []
    first, count, size = struct.unpack_from("<QII", header, 72)
    table = _of_qcow2(disk, first * SECTOR, -(-count * size // SECTOR))
    found = []
    for at in range(0, count * size, size):
        start, end = struct.unpack_from("<QQ", table, at + 32)
        if uuid.UUID(bytes_le=table[at : at + 16]).int:
            name = table[at + 56 : at + size].decode("utf-16-le").rstrip("\0")
            found.append(Range(f"partition {name}", start * SECTOR, (end + 1) * SECTOR))
    return found


def _is_ext4(head: bytes) -> bool:
    return head[SUPERBLOCK + 56 : SUPERBLOCK + 58] == EXT4_MAGIC


def owner(image: Path, head: bytes, offset: int) -> str:
    """The file of an ext4 image to which a byte belongs: its inode, or its content"""
    if offset < 2 * SUPERBLOCK:
        return "superblock"
    block = offset // (1024 << struct.unpack_from("<I", head, SUPERBLOCK + 24)[0])
    in_table = inode_at(image, head, offset)
    said = "" if in_table else _said("debugfs", "-R", f"icheck {block}", str(image))
    found = re.search(rf"^{block}\s+(\d+)$", said, re.MULTILINE)
    inode = in_table or (int(found[1]) if found else None)
    if inode is None:
        return f"block {block}, of no file"
    names = FIRST_LINE.search(_said("debugfs", "-R", f"ncheck {inode}", str(image)))
    path = names[2] if names else f"inode {inode}"
    return f"inode of {path}" if in_table else path


def inode_at(image: Path, head: bytes, offset: int) -> Optional[int]:
    """The inode whose entry in a table is at an offset"""
    block_size = 1024 << struct.unpack_from("<I", head, SUPERBLOCK + 24)[0]
    per_group = struct.unpack_from("<I", head, SUPERBLOCK + 40)[0]
    size = struct.unpack_from("<H", head, SUPERBLOCK + 88)[0]
    tables = re.findall(r"Inode table at (\d+)-(\d+)", _said("dumpe2fs", str(image)))
    for group, (first, last) in enumerate(tables):
        start = int(first) * block_size
        if start <= offset < (int(last) + 1) * block_size:
            return group * per_group + (offset - start) // size + 1
    return None
