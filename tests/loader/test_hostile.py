"""
Trees and files that somebody made to do harm, or that a full disk cut off: each one is
answered, nothing outside is read, nothing but regular files is opened
"""

import os
import stat
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from dffml_operations_decentralice.loader import check, elf, sentences
from dffml_operations_decentralice.loader.dynamic import Loader
from dffml_operations_decentralice.loader.elf import Malformed
from dffml_operations_decentralice.loader.tree import Tree, Unresolved

from . import real, writer
from .test_dynamic import LIB, PROGRAM, library, program
from .writer import write

DYNAMIC = struct.pack("<I", 2)  # PT_DYNAMIC
LIMIT = 150 << 20  # bytes of memory
FULL = writer.elf(
    interpreter=real.LOADER,
    needed=["liba.so", "libb.so"],
    soname="libfull.so",
    runpath="/a:$ORIGIN",
    needs={"liba.so": ["V_1", "V_2"], "libb.so": ["B"]},
    defines=["F_1", "F_2"],
    exports=[("one", "F_1"), ("two", "F_2")],
    imports=[("f", "V_1"), ("g", "V_2"), ("h", "B")],
)


def answered(raw: bytes, folder: Path) -> None:
    """Both readers answer, or raise the one error"""
    path = write(folder / "file", raw)
    place = Tree(str(folder)).resolve("/file")
    for look in (elf.read, elf.symbols, lambda one: elf.is_lazy(one, 1)):
        try:
            look(place)
        except Malformed as error:
            assert error.reason
    path.unlink()


def test_cut_off_at_each_byte(tmp_path):
    for length in range(len(FULL)):
        answered(FULL[:length], tmp_path)


@pytest.mark.parametrize("source", ["loader", "libc.so.6", "program"])
def test_real_files_cut_off(source, tmp_path):
    loader = Path(real.host_loader())
    sources = {"loader": loader, "program": Path(sys.executable).resolve()}
    raw = sources.get(source, loader.with_name(source)).read_bytes()
    lengths = [*range(0, 4096, 64), *range(4096, len(raw), max(64, len(raw) // 200))]
    for length in lengths:
        place = write(tmp_path / "file", raw[:length])
        with pytest.raises(Malformed):
            elf.read(Tree(str(tmp_path)).resolve("/file"))
            # Sections come last, and nothing that is loaded needs them
            assert length > len(raw) // 2
            raise Malformed("is whole enough")
        place.unlink()


@pytest.mark.parametrize("value", [0, 1, 0x7F, 0xFF])
def test_each_byte_another(value, tmp_path):
    for at in range(len(FULL)):
        answered(FULL[:at] + bytes([value]) + FULL[at + 1 :], tmp_path)


@pytest.mark.parametrize("value", [0, 1, 2**16, 2**31, 2**32 - 1, 2**63, 2**64 - 1])
def test_each_number_another(value, tmp_path):
    """Sizes, offsets, addresses and counts that lie"""
    for at in range(0, len(FULL) - 8, 4):
        answered(FULL[:at] + struct.pack("<Q", value) + FULL[at + 8 :], tmp_path)


def patched(raw: bytes, tag: int, value: int) -> bytes:
    """Another value for an entry of the dynamic section, which is a file's last part"""
    heads = [raw[64 + 56 * number :][:56] for number in range(raw[56])]
    (start,) = [
        struct.unpack_from("<Q", head, 8)[0] for head in heads if head[:4] == DYNAMIC
    ]
    (at,) = [
        place
        for place in range(start, len(raw), 16)
        if struct.unpack_from("<Q", raw, place) == (tag,)
    ]
    return raw[: at + 8] + struct.pack("<Q", value) + raw[at + 16 :]


@pytest.mark.parametrize(
    "tag, value, reason",
    [
        (5, 2**40, "in no segment"),
        (10, 2**63, "without an end|in no segment|ends before"),
        (10, 0, "outside the table"),
        (14, 2**32, "outside the table"),
        (0x6FFFFFFE, 2**64 - 1, "in no segment"),
    ],
)
def test_reasons(tag, value, reason, tmp_path):
    write(tmp_path / "file", patched(FULL, tag, value))
    try:
        found = elf.read(Tree(str(tmp_path)).resolve("/file"))
        assert tag == 10 and value and found.soname == "libfull.so"
    except Malformed as error:
        assert any(one in error.reason for one in reason.split("|"))


def test_relocations_that_lie(tmp_path):
    """Found by the fuzzer: they are read late, of a symbol that is missing"""
    raw = program(imports=[("f", "")])
    write(tmp_path / PROGRAM[1:], patched(raw, 8, 2**60))
    real.copy(real.host_loader(), tmp_path / real.LOADER[1:])
    (found,) = Loader(Tree(str(tmp_path))).execute(PROGRAM)
    assert (found.kind, found.what) == ("symbol-missing", "f")


def test_a_file_of_zeros_that_is_large(tmp_path):
    """A header that is right, and 1 TB of nothing"""
    path = write(tmp_path / "file", FULL)
    os.truncate(path, 1 << 40)
    found = elf.read(Tree(str(tmp_path)).resolve("/file"))
    assert found.soname == "libfull.so"
    assert elf.symbols(Tree(str(tmp_path)).resolve("/file")).defined


def test_nothing_but_files_is_opened(tmp_path):
    """To open a FIFO waits for ever; of a device it may do anything"""
    write(tmp_path / PROGRAM[1:], program("libfifo.so", "libsocket.so"))
    real.copy(real.host_loader(), tmp_path / real.LOADER[1:])
    folder = tmp_path / LIB[1:]
    folder.mkdir(parents=True, exist_ok=True)
    os.mkfifo(folder / "libfifo.so")
    os.mknod(folder / "libsocket.so", stat.S_IFSOCK | 0o755)
    os.mkfifo(tmp_path / "bin/init", 0o755)
    (tmp_path / "etc").mkdir()
    for name in ("ld.so.cache", "ld.so.conf", "passwd", "nsswitch.conf"):
        os.mkfifo(tmp_path / "etc" / name)
    found = Loader(Tree(str(tmp_path))).execute(PROGRAM)
    assert {(one.what, one.kind) for one in found} == {
        ("libfifo.so", "library-unusable"),
        ("libsocket.so", "library-unusable"),
    }
    report = check(str(tmp_path), everything=True)
    assert "no executable file" in report["findings"][0]["sentence"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes devices")
def test_devices(tmp_path):
    (tmp_path / "sbin").mkdir()
    try:
        os.mknod(tmp_path / "sbin/init", stat.S_IFCHR | 0o755, os.makedev(1, 5))
    except PermissionError:
        pytest.skip("this root makes no devices")
    (found,) = check(str(tmp_path), everything=True)["findings"]
    assert found["kind"] == "program-unusable"


@pytest.mark.parametrize(
    "link",
    ["/etc/passwd", "../../../../../../etc/passwd", "sub/../../../../etc/passwd"],
)
def test_links_out_of_the_tree(link, tmp_path):
    """They lead to what is inside"""
    outside, tree = tmp_path / "etc/passwd", tmp_path / "tree"
    write(outside, b"secret")
    (tree / "sub").mkdir(parents=True)
    (tree / "link").symlink_to(link)
    with pytest.raises(Unresolved):
        Tree(str(tree)).read("/link")
    write(tree / "etc/passwd", b"own")
    assert Tree(str(tree)).read("/link") == b"own"
    (tree / "etc/passwd").unlink()
    (tree / "etc").rmdir()
    (tree / "etc").symlink_to(outside.parent)
    with pytest.raises(Unresolved) as caught:
        Tree(str(tree)).read("/link")
    assert caught.value.reason == "does not exist"


@pytest.mark.parametrize("name", [b"\xff\xfe", b"a\nb", b"\x1b[31m", b"x" * 255])
def test_names(name, tmp_path):
    """A report is printed on a terminal"""
    folder = os.fsencode(tmp_path) + b"/" + name
    os.mkdir(folder)
    write(Path(os.fsdecode(folder)) / "script", b"#!/no/such\n")
    (found,) = [
        one
        for one in check(str(tmp_path), everything=True)["findings"]
        if one["kind"] == "script-interpreter-missing"
    ]
    assert found["sentence"].isprintable()
    found["sentence"].encode("utf-8")


def test_unreadable(tmp_path):
    """Not a traceback: root reads all, others are told"""
    write(tmp_path / "sbin/init", program(), 0o711)
    (tmp_path / "sbin/init").chmod(0o111)
    report = check(str(tmp_path))
    wanted = "interpreter-missing" if os.geteuid() == 0 else "program-unusable"
    assert [one["kind"] for one in report["findings"]] == [wanted]


def test_a_library_that_needs_too_much(tmp_path):
    names = [f"lib{number}.so" for number in range(2000)]
    write(tmp_path / PROGRAM[1:], program(*names))
    real.copy(real.host_loader(), tmp_path / real.LOADER[1:])
    (found,) = Loader(Tree(str(tmp_path))).execute(PROGRAM)
    assert found.why == "needs 2000 libraries"


MEASURED = """
import resource, sys
from dffml_operations_decentralice.loader import check
report = check(sys.argv[1], everything=True)
used = resource.getrusage(resource.RUSAGE_SELF)
print(report["programs"], len(report["findings"]), report["left_out"])
print(int((used.ru_utime + used.ru_stime) * 1000), used.ru_maxrss << 10)
"""


def measured(tree: Path):
    """Numbers of the report, CPU seconds and bytes, in a process of its own"""
    argv = [sys.executable, "-c", MEASURED, str(tree)]
    said = subprocess.check_output(argv, text=True).split()
    programs, findings, left_out, seconds, memory = map(int, said)
    return programs, findings + left_out, seconds / 1000, memory


@pytest.mark.slow
def test_100_000_files(tmp_path):
    """Each of them a program of its own name that lacks a library"""
    tree, count = tmp_path / "tree", 100_000
    real.copy(real.host_loader(), tree / real.LOADER[1:])
    wanted = [f"lib{number}.so" for number in range(20)]
    for folder in range(100):
        first = write(tree / f"bin/{folder}/0", program(*wanted[: folder % 3 + 1]))
        for number in range(1, count // 100):
            os.link(first, first.with_name(str(number)))
    programs, findings, seconds, memory = measured(tree)
    print(f"{seconds} CPU seconds, {memory >> 20} MB")
    assert programs == count
    assert findings > count
    assert memory < LIMIT


def test_many_libraries(tmp_path):
    """Each loads the next one: deep, and not by recursion"""
    real.copy(real.host_loader(), tmp_path / real.LOADER[1:])
    write(tmp_path / PROGRAM[1:], program("lib0.so"))
    for number in range(3000):
        file = library(f"lib{number}.so", needed=[f"lib{number + 1}.so"])
        write(tmp_path / LIB[1:] / f"lib{number}.so", file)
    (found,) = Loader(Tree(str(tmp_path))).execute(PROGRAM)
    assert found.kind == "program-unusable" and "more than" in found.why


def test_units_in_a_circle(tmp_path):
    folder = tmp_path / "usr/lib/systemd/system"
    text = b"[Unit]\nWants=default.target b.service\n[Service]\nExecStart=/bin/no\n"
    write(folder / "default.target", b"[Unit]\nWants=a.service\n")
    write(folder / "a.service", text)
    write(folder / "b.service", text + b"\\\n" * 1000 + b"[[[=\n\xff\0\n")
    (folder / "b.service.d").symlink_to(".")
    kinds = [one["needed_by"] for one in check(str(tmp_path))["findings"]]
    assert ["default.target", "a.service", "ExecStart="] in kinds


def test_configuration_that_includes_itself(tmp_path):
    write(tmp_path / "etc/ld.so.conf", b"include /etc/*\n" * 100 + b"/opt\n")
    write(tmp_path / "sbin/init", program("liba.so"))
    real.copy(real.host_loader(), tmp_path / real.LOADER[1:])
    (found,) = check(str(tmp_path))["findings"]
    assert found["what"] == "liba.so"


def test_not_a_directory(tmp_path):
    report = check(str(tmp_path / "none"), everything=True)
    assert sentences(report) == ["/sbin/init does not exist [the initrd's switch-root]"]


def test_a_version_of_many_digits(tmp_path):
    """Python refuses to read numbers of more than 4300"""
    many = "V_" + "9" * 10000
    found = library("liba.so", defines=["V_1", many])
    write(tmp_path / f"{LIB[1:]}/liba.so", found)
    write(tmp_path / PROGRAM[1:], program("liba.so", needs={"liba.so": ["V_2"]}))
    real.copy(real.host_loader(), tmp_path / real.LOADER[1:])
    (found,) = Loader(Tree(str(tmp_path))).execute(PROGRAM)
    assert found.what == "V_2"
