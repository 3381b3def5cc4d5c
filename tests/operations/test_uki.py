import struct
from pathlib import Path

import pytest

from dffml_operations_decentralice.drawing.canvas import Canvas
from dffml_operations_decentralice.engine.settings import SettingError, validated
from dffml_operations_decentralice.errors import UserError
from dffml_operations_decentralice.operations.partitions import Partition
from dffml_operations_decentralice.operations.uki import (
    BMP,
    MAX_CMDLINE,
    RESUME,
    UkiSettings,
    boot_loader,
    picture,
    resume,
    ukify_argv,
)


def test_ukify_argv():
    argv = ukify_argv("6.1.0", ["root=gpt-auto", "rw"])
    assert argv[:2] == ["ukify", "build"]
    assert "--cmdline=root=gpt-auto rw" in argv and "--uname=6.1.0" in argv
    assert "--splash=/run/splash.bmp" in argv


def test_picture(tmp_path):
    """What an overlay gives is shown instead of what is drawn"""
    assert picture("", "/drawn.bmp") == "/drawn.bmp"
    given = tmp_path / "given.bmp"
    given.write_bytes(Canvas(3, 2, (1, 2, 3)).bmp())
    assert picture(str(given), "/drawn.bmp") == str(given)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"BM",
        b"\x89PNG\r\n\x1a\n" + bytes(60),
        BMP.pack(b"BM", 32, 0) + bytes(60),
        BMP.pack(b"BM", 24, 1) + bytes(60),
        None,
    ],
    ids=["empty", "short", "png", "32 bits", "compressed", "missing"],
)
def test_pictures_that_are_refused(tmp_path, content):
    given = tmp_path / "given.bmp"
    if content is not None:
        given.write_bytes(content)
    with pytest.raises(UserError, match="given.bmp"):
        picture(str(given), "/drawn.bmp")


LONGEST = MAX_CMDLINE - RESUME - 1


@pytest.mark.parametrize("cmdline", [[], ["x" * LONGEST], ["a"] * (LONGEST // 2)])
def test_command_lines(cmdline):
    validated(UkiSettings, {"cmdline": cmdline}, "build_uki")


@pytest.mark.parametrize(
    "cmdline, path",
    [
        (["x" * (LONGEST + 1)], ("cmdline",)),
        (["a"] * (LONGEST // 2 + 2), ("cmdline",)),
        (["a", "a\nb"], ("cmdline", 1)),
        ([""], ("cmdline", 0)),
    ],
)
def test_command_lines_that_are_refused(cmdline, path):
    with pytest.raises(SettingError) as caught:
        validated(UkiSettings, {"cmdline": cmdline}, "build_uki")
    assert caught.value.path == path


def test_resume():
    swap = Partition("swap", 1, 64, "9ae91b15-faa5-5511-9a95-592fc8b68fbc", "f")
    word = resume({"swap": swap})
    assert word == "resume=PARTUUID=9ae91b15-faa5-5511-9a95-592fc8b68fbc"
    assert len(word) < RESUME


def test_no_resume_without_swap():
    with pytest.raises(SettingError, match="swap") as caught:
        resume({})
    assert (caught.value.of, caught.value.path) == ("build_uki", ("hibernation",))


def test_boot_loader():
    expected = "/tools/usr/lib/systemd/boot/efi/systemd-bootx64.efi"
    assert boot_loader("/tools") == Path(expected)


def sections(file):
    """The sections of a PE file, by name. https://learn.microsoft.com/windows/win32/debug/pe-format"""
    content = file.read_bytes()
    start = struct.unpack_from("<I", content, 0x3C)[0]
    assert content[start : start + 4] == b"PE\0\0"
    count, optional = struct.unpack_from("<H12xH", content, start + 6)
    found = {}
    for number in range(count):
        at = start + 24 + optional + 40 * number
        name, size, _, _, offset = struct.unpack_from("<8sIIII", content, at)
        found[name.rstrip(b"\0").decode()] = content[offset : offset + size]
    return found


def test_image(image):
    """What the UKI of the image is made of"""
    found = sections(image.artefact("decentralice.efi"))
    cmdline = found[".cmdline"].rstrip(b"\0").decode().split()
    assert {"console=ttyS0", "root=gpt-auto", "rw"} <= set(cmdline)
    assert found[".initrd"] == image.artefact("initrd.img").read_bytes()
    assert found[".splash"] == image.artefact("splash.bmp").read_bytes()
    assert found[".osrel"].rstrip(b"\0") == image.artefact("os-release").read_bytes()
    modules = image.artefact("kernel-modules") / "modules"
    [release] = modules.iterdir()
    assert found[".uname"].rstrip(b"\0").decode() == release.name
    linux = (release / "vmlinuz").read_bytes()
    assert found[".linux"][: len(linux)] == linux
