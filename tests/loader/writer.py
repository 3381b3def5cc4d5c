"""
ELF files from nothing: small ones which say just what a test wants, without a compiler

A program does no more than exit with 0; what matters happens before, in the loader.
One segment holds all, at the addresses of the file's own offsets.
"""

import struct
import types
from pathlib import Path
from typing import List, Mapping, Sequence, Tuple

EXIT = bytes.fromhex("b83c00000031ff0f05")  # mov $60,%eax; xor %edi,%edi; syscall
GLOB_DAT, JUMP_SLOT = 6, 7
X86_64 = 62
NOTHING: Mapping[str, Sequence[str]] = types.MappingProxyType({})


class Names:
    """A table of strings"""

    def __init__(self):
        self.raw = b"\0"

    def add(self, text: str) -> int:
        self.raw += text.encode() + b"\0"
        return len(self.raw) - len(text.encode()) - 1


def elf_hash(name: str) -> int:
    """https://refspecs.linuxfoundation.org/elf/gabi4+/ch5.dynamic.html#hash"""
    value = 0
    for byte in name.encode():
        value = (value << 4) + byte
        high = value & 0xF0000000
        value = (value ^ high >> 24) & ~high & 0xFFFFFFFF
    return value


def verneed(names: Names, needs: Mapping[str, Sequence[str]], first: int, weak: bool):
    """The table of what is needed, and the index of each version"""
    raw, indexes, number = b"", {}, first
    for place, (file, versions) in enumerate(needs.items()):
        length = 16 * (1 + len(versions))
        last = place == len(needs) - 1
        header = (1, len(versions), names.add(file), 16, 0 if last else length)
        raw += struct.pack("<HHIII", *header)
        for at, version in enumerate(versions):
            step = 16 if at < len(versions) - 1 else 0
            fields = (elf_hash(version), 2 * weak, number, names.add(version), step)
            raw += struct.pack("<IHHII", *fields)
            indexes[version] = number
            number += 1
    return raw, indexes


def verdef(names: Names, soname: str, versions: Sequence[str]):
    """The table of what is defined; the first is the file itself"""
    raw, indexes = b"", {}
    for place, version in enumerate([soname, *versions]):
        step = 0 if place == len(versions) else 28
        fields = (1, not place, place + 1, 1, elf_hash(version), 20, step)
        raw += struct.pack("<HHHHIII", *fields)
        raw += struct.pack("<II", names.add(version), 0)
        indexes[version] = place + 1
    return raw, indexes


def elf(
    *,
    interpreter: str = "",
    needed: Sequence[str] = (),
    soname: str = "",
    rpath: str = "",
    runpath: str = "",
    needs: Mapping[str, Sequence[str]] = NOTHING,
    weak: bool = False,
    defines: Sequence[str] = (),
    exports: Sequence[Tuple[str, str]] = (),
    imports: Sequence[Tuple[str, str]] = (),
    lazy: bool = False,
    machine: int = X86_64,
    bits: int = 64,
    type: int = 3,
    flags: int = 0,
) -> bytes:
    """
    The bytes of a file. ``needs`` are versions by library, ``exports`` and ``imports``
    symbols with their versions, which may be empty; ``lazy`` imports are only called.
    """
    names = Names()
    dynamic: List[Tuple[int, int]] = [(1, names.add(one)) for one in needed]
    for tag, text in ((14, soname), (15, rpath), (29, runpath)):
        if text:
            dynamic.append((tag, names.add(text)))
    definitions, defined = verdef(names, soname, defines) if defines else (b"", {})
    requirements, required = verneed(names, needs, len(defines) + 2, weak)
    symbols, versions = struct.pack("<IBBHQQ", 0, 0, 0, 0, 0, 0), [0]
    for name, version in imports:
        symbols += struct.pack("<IBBHQQ", names.add(name), 0x12, 0, 0, 0, 0)
        versions.append(required[version] if version else 1)
    for name, version in exports:
        symbols += struct.pack("<IBBHQQ", names.add(name), 0x12, 0, 1, 64, 8)
        versions.append(defined[version] if version else 1)
    count = len(versions)
    table = struct.pack("<3I", 1, count, 1 if count > 1 else 0) + b"".join(
        struct.pack("<I", at + 1 if 0 < at < count - 1 else 0) for at in range(count)
    )
    heads = 4 + bool(interpreter)
    parts, places = bytearray(64 + 56 * heads), {}

    def put(name: str, raw: bytes) -> None:
        parts.extend(b"\0" * (-len(parts) % 16))
        places[name] = len(parts)
        parts.extend(raw)

    put("code", EXIT)
    put("interpreter", interpreter.encode() + b"\0")
    put("symbols", symbols)
    put("hash", table)
    put("versions", struct.pack(f"<{count}H", *versions))
    put("definitions", definitions)
    put("requirements", requirements)
    put("slots", b"\0" * 8 * (3 + len(imports)))
    kind = JUMP_SLOT if lazy else GLOB_DAT
    relocations = b"".join(
        struct.pack("<3Q", places["slots"] + 24 + 8 * at, at + 1 << 32 | kind, 0)
        for at in range(len(imports))
    )
    put("relocations", relocations)
    put("names", names.raw)
    dynamic += [(5, places["names"]), (10, len(names.raw))]
    dynamic += [(6, places["symbols"]), (11, 24), (4, places["hash"])]
    if definitions or requirements:
        dynamic.append((0x6FFFFFF0, places["versions"]))
    if definitions:
        dynamic += [(0x6FFFFFFC, places["definitions"]), (0x6FFFFFFD, 1 + len(defines))]
    if requirements:
        dynamic += [(0x6FFFFFFE, places["requirements"]), (0x6FFFFFFF, len(needs))]
    if relocations and lazy:
        dynamic += [(3, places["slots"]), (20, 7), (2, len(relocations))]
        dynamic.append((23, places["relocations"]))
    elif relocations:
        dynamic += [(7, places["relocations"]), (8, len(relocations)), (9, 24)]
    if flags:
        dynamic.append((0x6FFFFFFB, flags))
    put("dynamic", b"".join(struct.pack("<QQ", *one) for one in [*dynamic, (0, 0)]))
    size = len(parts)
    at, length = places["dynamic"], 16 * (len(dynamic) + 1)
    path = places["interpreter"]
    segments = [(6, 4, 64, 56 * heads, 8)]
    if interpreter:
        segments.append((3, 4, path, len(interpreter.encode()) + 1, 1))
    segments += [
        (1, 7, 0, size, 4096),
        (2, 6, at, length, 8),
        (0x6474E551, 6, 0, 0, 16),
    ]
    ident = b"\x7fELF" + bytes([1 if bits == 32 else 2, 1, 1]) + b"\0" * 9
    header = (type, machine, 1, places["code"], 64, 0, 0, 64, 56, heads, 64, 0, 0)
    parts[:64] = ident + struct.pack("<HHIQQQIHHHHHH", *header)
    for place, (what, rights, start, length, align) in enumerate(segments):
        fields = (what, rights, start, start, start, length, length, align)
        parts[64 + 56 * place : 120 + 56 * place] = struct.pack("<2I6Q", *fields)
    return bytes(parts)


def write(path: Path, raw: bytes, mode: int = 0o755) -> Path:
    """A file in a tree"""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(raw)
    path.chmod(mode)
    return path
