"""What is read of ELF files, beside what pyelftools reads of them"""

import os
from pathlib import Path

import pytest
from elftools.elf.dynamic import DynamicSegment
from elftools.elf.elffile import ELFFile
from elftools.elf.gnuversions import GNUVerDefSection, GNUVerNeedSection

from dffml_operations_decentralice.loader import elf
from dffml_operations_decentralice.loader.elf import Malformed, Need
from dffml_operations_decentralice.loader.tree import Tree

from . import writer
from .writer import write

HOST = Tree("/")
MACHINES = {"EM_386": 3, "EM_X86_64": 62, "EM_AARCH64": 183, "EM_ARM": 40}


def read(path, raw):
    write(path / "file", raw)
    return elf.read(Tree(str(path)).resolve("/file"))


def theirs(path):
    """The same by pyelftools: by segments, and of versions by sections"""
    with open(path, "rb") as file:
        found = ELFFile(file)
        if found["e_type"] not in ("ET_EXEC", "ET_DYN"):
            return None  # an object file
        answer = {
            "bits": found.elfclass,
            "machine": MACHINES.get(found["e_machine"], found["e_machine"]),
            "interpreter": None,
            "needed": [],
            "soname": "",
            "rpath": "",
            "runpath": "",
        }
        for segment in found.iter_segments():
            if segment["p_type"] == "PT_INTERP":
                answer["interpreter"] = segment.get_interp_name()
            if isinstance(segment, DynamicSegment):
                for tag in segment.iter_tags():
                    name = tag.entry.d_tag.__str__().replace("DT_", "").lower()
                    if name == "needed":
                        answer["needed"].append(tag.needed)
                    elif name in ("soname", "rpath", "runpath"):
                        answer[name] = getattr(tag, name)
        if answer["runpath"]:
            answer["rpath"] = ""
        answer["defines"], answer["needs"] = None, []
        for section in found.iter_sections():
            if isinstance(section, GNUVerDefSection):
                pairs = section.iter_versions()
                answer["defines"] = {next(aux).name for _, aux in pairs}
            if isinstance(section, GNUVerNeedSection):
                for file_, versions in section.iter_versions():
                    for one in versions:
                        weak = bool(one["vna_flags"] & 2)
                        answer["needs"].append(Need(file_.name, one.name, weak))
        symbols = found.get_section_by_name(".dynsym")
        answer["wanted"] = {
            one.name
            for one in (symbols.iter_symbols() if symbols else ())
            if one["st_shndx"] == "SHN_UNDEF"
            and one["st_info"]["bind"] == "STB_GLOBAL"
            and one["st_other"]["visibility"] in ("STV_DEFAULT", "STV_PROTECTED")
            and one.name
        }
        return answer


def samples(count=25):
    """Programs and libraries of this machine, the same ones each time"""
    folders = ["/usr/bin", "/usr/sbin", "/usr/lib/x86_64-linux-gnu", "/usr/lib64"]
    found = []
    for folder in folders:
        names = HOST.names(folder)
        for name in names[:: max(1, len(names) // count)]:
            place = HOST.find(f"{folder}/{name}")
            if place and place.is_file and HOST.read(place.inside, 4) == elf.MAGIC:
                found.append(place)
    return found


def test_as_pyelftools_reads_them():
    places = samples()
    assert len(places) > 50
    for place in places:
        expected = theirs(place.host)
        if expected is None:
            continue
        found = elf.read(place)
        for name in ("bits", "machine", "interpreter", "soname", "rpath", "runpath"):
            assert getattr(found, name) == expected[name], (place.inside, name)
        assert list(found.needed) == expected["needed"], place.inside
        assert sorted(found.needs) == sorted(expected["needs"]), place.inside
        assert found.defines == expected["defines"], place.inside
        symbols = elf.symbols(place)
        wanted = {one.name for one in symbols.wanted}
        assert wanted == expected["wanted"], place.inside


def test_symbols(tmp_path):
    raw = writer.elf(
        needs={"liba.so": ["V_1"]},
        defines=["W_1"],
        exports=[("one", "W_1"), ("two", "")],
        imports=[("f", "V_1"), ("g", "")],
    )
    write(tmp_path / "file", raw)
    found = elf.symbols(Tree(str(tmp_path)).resolve("/file"))
    assert found.defined == {"one@", "one@W_1", "two@"}
    assert found.plain == {"two"}
    assert [(one.name, one.version) for one in found.wanted] == [
        ("f", "V_1"),
        ("g", ""),
    ]


@pytest.mark.parametrize("lazy", [True, False])
def test_lazy(lazy, tmp_path):
    write(tmp_path / "file", writer.elf(imports=[("f", "")], lazy=lazy))
    assert elf.is_lazy(Tree(str(tmp_path)).resolve("/file"), 1) is lazy


def test_bound_now(tmp_path):
    write(tmp_path / "file", writer.elf(imports=[("f", "")], lazy=True, flags=1))
    assert not elf.is_lazy(Tree(str(tmp_path)).resolve("/file"), 1)


@pytest.mark.parametrize(
    "raw, reason",
    [
        (b"", "is no ELF file"),
        (b"#!/bin/sh\n", "is no ELF file"),
        (b"\x7fELF", "ends in its header"),
        (b"\x7fELF" + bytes(60), "is neither 32-bit nor 64-bit"),
        (writer.elf()[:63], "ends before its header"),
        (writer.elf()[:100], "ends before its program headers"),
        (writer.elf()[:-1], "is cut off: it ends before a segment does"),
        (writer.elf(type=1), "is neither program nor library"),
        (writer.elf(interpreter="/" + "a" * 5000), "has an interpreter's path"),
        (writer.elf(needed=["a"] * 1025), "needs 1025 libraries"),
        (writer.elf(needed=["a" * 20000]), "without an end"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_malformed(raw, reason, tmp_path):
    with pytest.raises(Malformed) as caught:
        read(tmp_path, raw)
    assert reason in caught.value.reason


def test_what_is_known_of_the_malformed(tmp_path):
    """Class and machine, by which the loader passes a file over before it looks on"""
    for length in (20, 63, 100):
        with pytest.raises(Malformed) as caught:
            read(tmp_path, writer.elf(machine=183)[:length])
        assert (caught.value.bits, caught.value.machine) == (64, 183)


def test_a_program_that_is_running():
    """This one, in whatever way it was linked"""
    place = HOST.resolve(os.path.realpath("/proc/self/exe"))
    found = elf.read(place)
    assert found.kind == "64-bit x86-64" and Path(found.interpreter).exists()
