"""Looking into EFI programs, packages, archives and what is compressed"""

from __future__ import annotations

import gzip
import io
import lzma
import re
import shutil
import subprocess
import tarfile
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

from . import Difference, of_bytes

CPIO = b"070701"  # the "new" format
RPM = b"\xed\xab\xee\xdb"
RPM_HEADER = b"\x8e\xad\xe8\x01"
RPM_LEAD = 96  # bytes


class Part(NamedTuple):
    """A piece of a container: its name, what is said about it, what is in it"""

    name: str
    about: Dict[str, Any]
    content: bytes


def difference(stored: bytes, rebuilt: bytes) -> Optional[Difference]:
    """The first difference inside of a known format; None if nothing is known"""
    for matches, parts in FORMATS:
        if matches(stored) and matches(rebuilt):
            try:
                return of_parts(parts(stored), parts(rebuilt))
            except Exception:  # a damaged container is compared as bytes
                return None
    return None


def of_parts(stored: List[Part], rebuilt: List[Part]) -> Optional[Difference]:
    """The first part that differs, and in what"""
    names = [[one.name for one in parts] for parts in (stored, rebuilt)]
    if names[0] != names[1]:
        pairs = zip([*names[0], "its end"], [*names[1], "its end"])
        return Difference(
            (), "order", *next(pair for pair in pairs if len({*pair}) > 1)
        )
    for one, two in zip(stored, rebuilt):
        for what in one.about:
            if one.about[what] != two.about.get(what):
                words = map(str, (one.about[what], two.about.get(what)))
                return Difference((one.name,), what, *words)
        found = of_bytes(one.content, two.content)
        if found:
            return found.inside(one.name)
    return None


def sections(data: bytes) -> List[Part]:
    """
    Sections of a PE program, then its headers, which follow from them but for times

    https://learn.microsoft.com/en-us/windows/win32/debug/pe-format
    """
    import pefile  # 0.05 s

    program = pefile.PE(data=data, fast_load=True)
    found = [
        Part(
            f"section {one.Name.rstrip(bytes(1)).decode('utf-8', 'replace')}",
            {},
            one.get_data()[: one.Misc_VirtualSize],
        )
        for one in program.sections
    ]
    for name in ("DOS_HEADER", "FILE_HEADER", "OPTIONAL_HEADER"):
        fields = getattr(program, name).dump_dict()
        fields.pop("Structure")
        values = {what: field["Value"] for what, field in fields.items()}
        found.append(Part(name, values, b""))
    return found


def cpio_members(data: bytes) -> List[Part]:
    """
    Members of cpio archives one behind another, and what comes behind them: a
    compressed one. https://docs.kernel.org/driver-api/early-userspace/buffer-format.html
    """
    found, offset = [], 0
    while data.startswith(CPIO, offset):
        fields = [
            int(data[offset + 6 + 8 * n : offset + 14 + 8 * n], 16) for n in range(13)
        ]
        size, length = fields[6], fields[11]
        name = data[offset + 110 : offset + 109 + length].decode("utf-8", "replace")
        start = -(-(offset + 110 + length) // 4) * 4
        about = dict(zip(("inode", "mode", "uid", "gid", "links", "time"), fields))
        found.append(Part(name, about, data[start : start + size]))
        offset = -(-(start + size) // 4) * 4
        if name == "TRAILER!!!":
            offset = len(data) - len(data[offset:].lstrip(b"\0"))
    return found + [Part("behind the archive", {}, data[offset:])]


def tar_members(data: bytes) -> List[Part]:
    """Members of a tar archive; those of the three of an .apk are in one row"""
    found = []
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as tar:
        for one in tar:
            about = {
                **{"type": one.type, "mode": oct(one.mode), "target": one.linkname},
                "owner": f"{one.uid}:{one.gid} {one.uname}:{one.gname}",
                **{"time": one.mtime, "attributes": one.pax_headers},
            }
            file = tar.extractfile(one) if one.isreg() else None
            found.append(Part(one.name, about, file.read() if file else b""))
    return found


def rpm_parts(data: bytes) -> List[Part]:
    """
    Signatures, header (by tags) and payload of an RPM

    https://rpm.org/docs/4.20.x/manual/format_v4.html
    """
    found, offset = [Part("lead", {}, data[:RPM_LEAD])], RPM_LEAD
    for name in ("signatures", "header"):
        if not data.startswith(RPM_HEADER, offset):
            raise ValueError("no header of an RPM")
        count, size = (
            int.from_bytes(data[offset + at : offset + at + 4], "big") for at in (8, 12)
        )
        index, values = offset + 16, offset + 16 + 16 * count
        found += _tags(name, data[index:values], data[values : values + size])
        offset = values + size
        if name == "signatures":
            offset = -(-offset // 8) * 8
    return found + [Part("payload", {}, data[offset:])]


def _tags(name: str, index: bytes, values: bytes) -> List[Part]:
    entries = [index[at : at + 16] for at in range(0, len(index), 16)]
    numbers = [
        (int.from_bytes(one[8:12], "big"), int.from_bytes(one[:4], "big"))
        for one in entries
    ]
    ends = [at for at, _ in sorted(numbers)][1:] + [len(values)]
    return [
        Part(f"{name}, tag {tag}", {}, values[at:end])
        for (at, tag), end in zip(sorted(numbers), ends)
    ]


def unpacked(unpack: Callable[[bytes], bytes]) -> Callable[[bytes], List[Part]]:
    """The one part of what is compressed"""
    return lambda data: [Part("unpacked", {}, unpack(data))]


def unzstd(data: bytes) -> bytes:
    """By the host's program, if there is one"""
    program = shutil.which("zstd") or ""
    return subprocess.run([program, "-dcq"], input=data, stdout=-1, check=True).stdout


def starts(*magic: bytes) -> Callable[[bytes], bool]:
    """Whether a content starts so"""
    return lambda data: data.startswith(magic)


def _is_tar(data: bytes) -> bool:
    return re.fullmatch(rb"ustar[\0 ]", data[257:263]) is not None


FORMATS: Tuple[Tuple[Callable[[bytes], bool], Callable[[bytes], List[Part]]], ...] = (
    (starts(b"MZ"), sections),
    (starts(CPIO), cpio_members),
    (starts(RPM), rpm_parts),
    (_is_tar, tar_members),
    (starts(b"\x1f\x8b"), unpacked(gzip.decompress)),
    (starts(b"\xfd7zXZ\0"), unpacked(lzma.decompress)),
    (starts(b"\x28\xb5\x2f\xfd"), unpacked(unzstd)),
)
