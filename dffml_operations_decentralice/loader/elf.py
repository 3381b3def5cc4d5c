"""
What an ELF file says to the kernel and to the dynamic loader

Only what these two look at is read: program headers and what PT_DYNAMIC points to, no
sections, which a stripped file need not have. `struct` instead of pyelftools, which
takes 15 times as long for the 1500 files of a tree, and of hostile ones raises what
comes to it; tests have it say the same of every file of a system.

https://refspecs.linuxfoundation.org/elf/gabi4+/contents.html
https://refspecs.linuxfoundation.org/LSB_5.0.0/LSB-Core-generic/LSB-Core-generic/symversion.html
"""

import os
import struct
from typing import Dict, FrozenSet, List, NamedTuple, Optional, Set, Tuple

from .tree import Place, Unresolved, open_regular

MAGIC = b"\x7fELF"
ET_EXEC, ET_DYN = 2, 3
EM_386, EM_X86_64 = 3, 62
MACHINES = {3: "i386", 40: "arm", 62: "x86-64", 183: "aarch64", 243: "riscv"}
PT_LOAD, PT_DYNAMIC, PT_INTERP = 1, 2, 3
DT_NEEDED, DT_PLTRELSZ, DT_HASH, DT_STRTAB, DT_SYMTAB, DT_RELA = 1, 2, 4, 5, 6, 7
DT_RELASZ, DT_STRSZ, DT_SONAME, DT_RPATH = 8, 10, 14, 15
DT_REL, DT_RELSZ, DT_JMPREL, DT_BIND_NOW = 17, 18, 23, 24
DT_RUNPATH, DT_FLAGS = 29, 30
DT_GNU_HASH, DT_VERSYM, DT_FLAGS_1 = 0x6FFFFEF5, 0x6FFFFFF0, 0x6FFFFFFB
DT_VERDEF, DT_VERDEFNUM = 0x6FFFFFFC, 0x6FFFFFFD
DT_VERNEED, DT_VERNEEDNUM = 0x6FFFFFFE, 0x6FFFFFFF
DF_BIND_NOW = 8
DF_1_NOW, DF_1_NODEFLIB, DF_1_PIE = 1, 0x800, 0x8000000
VER_FLG_BASE, VER_FLG_WEAK = 1, 2
PAGE = 4096
OBJECT_FILE = "is neither program nor library"

# What a file may ask for. Far above all that is real, and low enough that no file takes
# memory or time: the largest tables of Debian 12 have 160 libraries, 3,000 versions.
MAX_DYNAMIC = 16384  # entries
MAX_NEEDED = 1024
MAX_STRING = 16384  # bytes
MAX_VERSIONS = 16384
MAX_SYMBOLS = 1 << 18
MAX_TABLE = 64 << 20  # bytes of names of symbols
MAX_SEGMENTS = 4096


class Malformed(Exception):
    """A file that cannot be loaded; says why, and what could be read of its header"""

    def __init__(self, reason: str, bits: int = 0, machine: int = 0):
        super().__init__(reason)
        self.reason = reason
        self.bits = bits
        self.machine = machine


class Need(NamedTuple):
    """A version that a library must define"""

    file: str
    version: str
    weak: bool


class Reference(NamedTuple):
    """A symbol that another object must define"""

    name: str
    version: str  # empty if it has none
    place: int  # in the table of symbols


class Symbols(NamedTuple):
    """The dynamic symbols of an object"""

    defined: Set[str]  # name@version, and for who asks for no version name@
    plain: Set[str]  # names that are defined without a version
    wanted: List[Reference]


class Elf(NamedTuple):
    """What matters of an ELF file; versions it defines are None if it has no table"""

    bits: int
    machine: int
    type: int
    interpreter: Optional[str] = None
    dynamic: bool = False
    needed: Tuple[str, ...] = ()
    soname: str = ""
    rpath: str = ""
    runpath: str = ""
    bind_now: bool = False
    flags: int = 0  # DT_FLAGS_1
    needs: Tuple[Need, ...] = ()
    defines: Optional[FrozenSet[str]] = None
    unaligned: str = ""  # what of its segments only the loader of libraries refuses

    @property
    def kind(self) -> str:
        """In words, such as 64-bit x86-64"""
        return kind(self.bits, self.machine)

    @property
    def is_library(self) -> bool:
        """Whether another object may load it"""
        return self.type == ET_DYN and not self.flags & DF_1_PIE


def kind(bits: int, machine: int) -> str:
    """A class and a machine in words"""
    return f"{bits}-bit {MACHINES.get(machine, f'machine {machine}')}"


def read(place: Place) -> Elf:
    """What a file says; `Malformed` if it is no ELF file that could be loaded"""
    with _File(place) as file:
        return file.elf()


def symbols(place: Place) -> Symbols:
    """The dynamic symbols of a file; `Malformed` if its tables lie"""
    with _File(place) as file:
        file.elf()
        return file.symbols()


def is_lazy(place: Place, index: int) -> bool:
    """Whether a symbol is looked up at the first call, not at the start"""
    with _File(place) as file:
        found = file.elf()
        return not found.bind_now and not file.bound_at_start(index)


# By class: the header behind e_ident, a program header and the places of its fields
# (type, offset, address, size in file, in memory, alignment), dynamic entry, symbol
# (name, info, other, section, value), relocation, word of a hash table's filter
class _Layout(NamedTuple):
    header: struct.Struct
    segment: struct.Struct
    order: Tuple[int, int, int, int, int, int]
    entry: struct.Struct
    symbol: struct.Struct
    symbol_order: Tuple[int, int, int, int, int]
    rela: struct.Struct
    rel: struct.Struct
    shift: int  # from a relocation's info to the index of its symbol
    word: int


_LAYOUTS = {
    32: _Layout(
        header=struct.Struct("<HHIIIIIHHH6x"),
        segment=struct.Struct("<8I"),
        order=(0, 1, 2, 4, 5, 7),
        entry=struct.Struct("<2I"),
        symbol=struct.Struct("<IIIBBH"),
        symbol_order=(0, 3, 4, 5, 1),
        rela=struct.Struct("<3I"),
        rel=struct.Struct("<2I"),
        shift=8,
        word=4,
    ),
    64: _Layout(
        header=struct.Struct("<HHIQQQIHHH6x"),
        segment=struct.Struct("<2I6Q"),
        order=(0, 2, 3, 5, 6, 7),
        entry=struct.Struct("<2Q"),
        symbol=struct.Struct("<IBBHQQ"),
        symbol_order=(0, 1, 2, 3, 4),
        rela=struct.Struct("<3Q"),
        rel=struct.Struct("<2Q"),
        shift=32,
        word=8,
    ),
}
IDENT = 16  # bytes
ABIS = (0, 3)  # System V, GNU
_VERDEF, _VERDAUX = struct.Struct("<HHHHIII"), struct.Struct("<II")
_VERNEED, _VERNAUX = struct.Struct("<HHIII"), struct.Struct("<IHHII")


class Segment(NamedTuple):
    type: int
    offset: int
    address: int
    size: int
    memory: int
    alignment: int


class _File:
    """An open file, and the tables that were found in it"""

    def __init__(self, place: Place):
        self.place = place
        self.bits = self.machine = 0
        self.segments: List[Segment] = []
        self.table: Dict[int, int] = {}

    def __enter__(self) -> "_File":
        try:
            self.file = open_regular(self.place)
        except Unresolved as error:
            raise Malformed(error.reason) from error
        self.size = os.fstat(self.file).st_size
        return self

    def __exit__(self, *_) -> None:
        os.close(self.file)

    def wrong(self, reason: str) -> Malformed:
        return Malformed(reason, self.bits, self.machine)

    def raw(self, offset: int, size: int, what: str) -> bytes:
        """Exactly so many bytes"""
        if offset < 0 or size < 0 or offset + size > self.size:
            raise self.wrong(f"ends before its {what}")
        try:
            found = os.pread(self.file, size, offset)
        except OSError as error:
            raise self.wrong(f"cannot be read: {error.strerror}") from error
        if len(found) != size:
            raise self.wrong(f"ends before its {what}")
        return found

    def offset(self, address: int, what: str) -> int:
        """Where in the file is what will be at an address"""
        for one in self.segments:
            if one.type == PT_LOAD and 0 <= address - one.address < one.size:
                return address - one.address + one.offset
        raise self.wrong(f"has its {what} in no segment")

    def string(self, index: int, what: str) -> str:
        """One of DT_STRTAB"""
        if not 0 <= index < self.table.get(DT_STRSZ, 0):
            raise self.wrong(f"has its {what} outside the table of names")
        start = self.offset(self.table.get(DT_STRTAB, 0), "names") + index
        for length in (256, MAX_STRING):
            length = min(length, self.size - start)
            text, end, _ = self.raw(start, max(length, 0), what).partition(b"\0")
            if end:
                return os.fsdecode(text)
        raise self.wrong(f"has a {what} without an end")

    def elf(self) -> Elf:
        ident = os.pread(self.file, IDENT, 0)
        if not ident.startswith(MAGIC):
            raise self.wrong("is no ELF file")
        self._ident(ident)
        layout = self.layout = _LAYOUTS[self.bits]
        head = self.raw(IDENT, layout.header.size, "header")
        fields = layout.header.unpack(head)
        type_, machine, version, _entry, start, _sections, _flags, *sizes = fields
        self.machine = machine
        if version != 1:
            raise self.wrong("is of an unknown version of ELF")
        if type_ not in (ET_EXEC, ET_DYN):
            raise self.wrong(OBJECT_FILE)
        _size, length, count = sizes
        if length != layout.segment.size:
            raise self.wrong("has program headers of another size")
        self._segments(start, count)
        found = Elf(self.bits, machine, type_, self._interpreter())
        return self._dynamic(found._replace(unaligned=self._unaligned()))

    def _ident(self, ident: bytes) -> None:
        """In the loader's order: what it skips comes before what it gives up at"""
        if len(ident) < IDENT:
            raise self.wrong("ends in its header")
        self.bits = {1: 32, 2: 64}.get(ident[4], 0)
        if not self.bits:
            raise self.wrong("is neither 32-bit nor 64-bit")
        if len(header := os.pread(self.file, 4, IDENT)) == 4:
            self.machine = struct.unpack("<HH", header)[1]
        if ident[5] != 1:
            raise self.wrong("is not little-endian")
        if ident[6] != 1:
            raise self.wrong("is of an unknown version of ELF")
        if ident[7] not in ABIS:
            raise self.wrong(f"is for another system (ABI {ident[7]})")

    def _segments(self, start: int, count: int) -> None:
        if count > MAX_SEGMENTS:
            raise self.wrong(f"has {count} segments")
        layout = self.layout
        raw = self.raw(start, count * layout.segment.size, "program headers")
        for fields in layout.segment.iter_unpack(raw):
            one = Segment(*(fields[place] for place in layout.order))
            if one.type == PT_LOAD:
                if one.offset + one.size > self.size:
                    raise self.wrong("is cut off: it ends before a segment does")
                if one.memory < one.size:
                    raise self.wrong("has a segment larger than its memory")
            self.segments.append(one)

    def _unaligned(self) -> str:
        """Kept apart: the kernel, which loads programs, does not mind"""
        loads = [one for one in self.segments if one.type == PT_LOAD]
        if not loads:
            return "has nothing to load"
        for one in loads:
            if one.alignment & (PAGE - 1):
                return "has a segment that is not aligned to pages"
            if one.alignment and (one.address - one.offset) & (one.alignment - 1):
                return "has a segment whose address does not fit its place"
        return ""

    def _interpreter(self) -> Optional[str]:
        for one in self.segments:
            if one.type == PT_INTERP:
                if not 2 <= one.size <= PAGE:
                    raise self.wrong(f"has an interpreter's path of {one.size} bytes")
                path = self.raw(one.offset, one.size, "interpreter's path")
                if path[-1]:
                    raise self.wrong("has an interpreter's path without an end")
                return os.fsdecode(path.partition(b"\0")[0])
        return None

    def _dynamic(self, found: Elf) -> Elf:
        segment = next((x for x in self.segments if x.type == PT_DYNAMIC), None)
        if segment is None:
            return found
        needed: List[int] = []
        size = self.layout.entry.size
        length = min(segment.size // size, MAX_DYNAMIC) * size
        raw = self.raw(segment.offset, length, "dynamic section")
        for tag, value in self.layout.entry.iter_unpack(raw):
            if not tag:
                break
            if tag == DT_NEEDED:
                needed.append(value)
            else:
                self.table[tag] = value
        else:
            raise self.wrong("has a dynamic section without an end")
        if len(needed) > MAX_NEEDED:
            raise self.wrong(f"needs {len(needed)} libraries")
        table = self.table

        def text(tag: int, what: str) -> str:
            return self.string(table[tag], what) if tag in table else ""

        flags = table.get(DT_FLAGS_1, 0)
        now = DT_BIND_NOW in table or table.get(DT_FLAGS, 0) & DF_BIND_NOW
        return found._replace(
            dynamic=True,
            needed=tuple(self.string(one, "library's name") for one in needed),
            soname=text(DT_SONAME, "own name"),
            # Where there are both, the older one does not count
            rpath="" if DT_RUNPATH in table else text(DT_RPATH, "search path"),
            runpath=text(DT_RUNPATH, "search path"),
            bind_now=bool(now or flags & DF_1_NOW),
            flags=flags,
            needs=tuple(need for need, _index in self.version_needs()),
            defines=self.version_definitions(),
        )

    def _chain(self, tag: int, layout: struct.Struct, what: str):
        """The records of a table where each says how far away the next one is"""
        if tag not in self.table:
            return
        place = self.offset(self.table[tag], what)
        for _ in range(MAX_VERSIONS):
            fields = layout.unpack(self.raw(place, layout.size, what))
            yield place, fields
            if not fields[-1]:
                return
            place += fields[-1]
        raise self.wrong(f"has more than {MAX_VERSIONS} {what}")

    def _definitions(self):
        """Version and index of each one that is defined"""
        what = "versions"
        for place, fields in self._chain(DT_VERDEF, _VERDEF, what):
            version, flags, index, _count, _hash, aux, _next = fields
            if version != 1:
                raise self.wrong("has a table of versions of an unknown kind")
            raw = self.raw(place + aux, _VERDAUX.size, what)
            name = self.string(_VERDAUX.unpack(raw)[0], "version")
            yield name, index, bool(flags & VER_FLG_BASE)

    def version_definitions(self) -> Optional[FrozenSet[str]]:
        if DT_VERDEF not in self.table:
            return None
        return frozenset(name for name, _index, _base in self._definitions())

    def version_needs(self) -> List[Tuple[Need, int]]:
        """What is needed, and its index in the table of symbols' versions"""
        what, found = "needed versions", []
        for place, fields in self._chain(DT_VERNEED, _VERNEED, what):
            version, _count, file, aux, _next = fields
            if version != 1:
                raise self.wrong("has a table of versions of an unknown kind")
            name = self.string(file, "library's name")
            place += aux
            while True:
                raw = self.raw(place, _VERNAUX.size, what)
                _hash, flags, index, text, step = _VERNAUX.unpack(raw)
                weak = bool(flags & VER_FLG_WEAK)
                found.append((Need(name, self.string(text, "version"), weak), index))
                if not step:
                    break
                if len(found) > MAX_VERSIONS:
                    raise self.wrong(f"has more than {MAX_VERSIONS} {what}")
                place += step
        return found

    def symbols(self) -> Symbols:
        count, size = self._symbol_count(), self.layout.symbol.size
        if not count:
            return Symbols(set(), set(), [])
        start = self.offset(self.table.get(DT_SYMTAB, 0), "symbols")
        raw = self.raw(start, count * size, "symbols")
        length = min(self.table.get(DT_STRSZ, 0), MAX_TABLE)
        start = self.offset(self.table.get(DT_STRTAB, 0), "names")
        names = self.raw(start, length, "names")
        versions = self._symbol_versions(count)
        of = self._version_names()
        defined: Set[str] = set()
        plain: Set[str] = set()
        wanted: List[Reference] = []
        where = self.layout.symbol_order
        for index, fields in enumerate(self.layout.symbol.iter_unpack(raw)):
            at, info, other, section, value = (fields[place] for place in where)
            binding, hidden = info >> 4, other & 3 in (1, 2)
            if not binding or hidden or not at:
                continue
            version = of.get(versions[index] & 0x7FFF, "") if versions else ""
            end = names.find(b"\0", at)
            if end < 0:
                raise self.wrong("has a symbol's name without an end")
            name = os.fsdecode(names[at:end])
            if section:
                # Of no place in memory is only what is absolute or of a thread
                if value or section == 0xFFF1 or info & 15 == 6:
                    defined.add(name + "@")
                    if version:
                        defined.add(f"{name}@{version}")
                    else:
                        plain.add(name)
            elif binding == 1:
                wanted.append(Reference(name, version, index))
        return Symbols(defined, plain, wanted)

    def _version_names(self) -> Dict[int, str]:
        found = {index: need.version for need, index in self.version_needs()}
        for name, index, base in self._definitions():
            if not base:
                found[index & 0x7FFF] = name
        return found

    def _symbol_versions(self, count: int) -> Tuple[int, ...]:
        if DT_VERSYM not in self.table:
            return ()
        start = self.offset(self.table[DT_VERSYM], "symbols' versions")
        raw = self.raw(start, 2 * count, "symbols' versions")
        return struct.unpack(f"<{count}H", raw)

    def _symbol_count(self) -> int:
        """Told by nothing but the hash tables"""
        what = "hash table"
        if DT_HASH in self.table:
            start = self.offset(self.table[DT_HASH], what)
            count = struct.unpack("<2I", self.raw(start, 8, what))[1]
        elif DT_GNU_HASH in self.table:
            count = self._gnu_count(self.offset(self.table[DT_GNU_HASH], what))
        else:
            return 0
        if count > MAX_SYMBOLS:
            raise self.wrong(f"has {count} symbols")
        return count

    def _gnu_count(self, start: int) -> int:
        """https://sourceware.org/gnu-gabi/program-loading-and-dynamic-linking.txt"""
        what = "hash table"
        head = struct.unpack("<4I", self.raw(start, 16, what))
        buckets, first, filters, _shift = head
        if buckets > MAX_SYMBOLS or filters > MAX_SYMBOLS:
            raise self.wrong(f"has a hash table of {buckets} buckets")
        start += 16 + filters * self.layout.word
        raw = self.raw(start, 4 * buckets, what)
        last = max(struct.unpack(f"<{buckets}I", raw), default=0)
        if last < first:
            return first
        start += 4 * buckets
        for index in range(last - first, MAX_SYMBOLS):
            (value,) = struct.unpack("<I", self.raw(start + 4 * index, 4, what))
            if value & 1:
                return first + index + 1
        raise self.wrong("has a hash table without an end")

    def bound_at_start(self, index: int) -> bool:
        """Whether data, not only a call, refers to a symbol"""
        for tag, length, layout in (
            (DT_RELA, DT_RELASZ, self.layout.rela),
            (DT_REL, DT_RELSZ, self.layout.rel),
        ):
            if tag not in self.table:
                continue
            size = min(self.table.get(length, 0), MAX_TABLE)
            start = self.offset(self.table[tag], "relocations")
            raw = self.raw(start, size - size % layout.size, "relocations")
            # Some linkers have those of calls, DT_JMPREL, among them, at the end
            calls = self.table.get(DT_JMPREL, 0) - self.table[tag]
            if 0 < calls < len(raw):
                raw = raw[: calls - calls % layout.size]
            shift = self.layout.shift
            if any(one[1] >> shift == index for one in layout.iter_unpack(raw)):
                return True
        return False
