"""The disk: pure functions, and real tools of the image's tools tree"""

import asyncio
import json
import subprocess
import uuid
from pathlib import Path

import pytest

from dffml_operations_decentralice.engine.digest import sparse_digest
from dffml_operations_decentralice.engine.settings import SettingError, validated
from dffml_operations_decentralice.engine.testing import run_operation
from dffml_operations_decentralice.errors import SpaceError
from dffml_operations_decentralice.operations import disk
from dffml_operations_decentralice.operations.disk import (
    MIB,
    TYPES,
    BootloaderSettings,
    PartitionSettings,
    convert_argv,
    fat_argvs,
    inode_times,
    inodes_in_use,
    layout,
    mke2fs_argv,
    sfdisk_script,
)
from dffml_operations_decentralice.operations.partitions import (
    Partition,
    partitions_of,
)

SEED = "https://example.org/os"
SMALL = {"size": 400, "esp": 64, "swap": 32, "seed": SEED}


def test_layout_of_the_recipe():
    """ESP 1-261 MiB, swap to 10491 MiB, root to the end"""
    esp, swap, root = layout(20480, 260, 10230, SEED)
    assert (esp.start, esp.start + esp.size) == (1, 261)
    assert (swap.start, swap.start + swap.size) == (261, 10491)
    assert (root.start, root.start + root.size) == (10491, 20479)


def test_layout_without_swap():
    esp, root = layout(1000, 100, 0, SEED)
    assert [esp.name, root.name] == ["esp", "root"]
    assert (root.start, root.size) == (101, 898)


def test_uuids():
    """All differ, and depend on nothing but the seed"""
    first, second = layout(20480, 260, 10230, SEED), layout(1000, 100, 64, SEED)
    found = [value for one in first for value in (one.uuid, one.file_system)]
    assert len(set(found)) == 6 and all(map(uuid.UUID, found))
    assert found == [value for one in second for value in (one.uuid, one.file_system)]
    other = layout(20480, 260, 10230, "another")
    assert not set(found) & {one.uuid for one in other}


@pytest.mark.parametrize(
    "size, esp, swap",
    [
        (20480, 63, 1024),
        (20480, 0, 1024),
        (20480, -1, 1024),
        (20480, 260, -1),
        (1000, 260, 700),
        (325, 260, 0),
        (0, 260, 0),
        (-5, 260, 0),
    ],
)
def test_sizes_that_are_refused(size, esp, swap):
    values = {"size": size, "esp": esp, "swap": swap}
    with pytest.raises(SettingError) as caught:
        validated(PartitionSettings, values, "partition")
    assert caught.value.path[0] in values and "MiB" in caught.value.remedy


def test_a_size_alone_may_be_too_small():
    """By what the others are if nothing is said"""
    with pytest.raises(SettingError, match="leaves -492 MiB"):
        validated(PartitionSettings, {"size": 10000}, "partition")


def test_smallest_layout():
    validated(PartitionSettings, {"size": 130, "esp": 64, "swap": 0}, "partition")
    assert layout(130, 64, 0, SEED)[-1].size == 64


def test_sfdisk_script():
    lines = sfdisk_script(layout(20480, 260, 10230, SEED), SEED).splitlines()
    assert lines[0] == "label: gpt" and lines[1].startswith("label-id: ")
    assert lines[2].startswith(
        f"start=1MiB, size=260MiB, type={TYPES['esp']}, name=esp"
    )
    assert len(lines) == 5 and lines[4].count(TYPES["root"]) == 1


ESP = Partition("esp", 1, 260, "u", "abcdef01-2345-6789-abcd-ef0123456789")


def test_fat_argvs():
    mkfs, mmd, *copies = fat_argvs(ESP, "decentralice.efi")
    assert mkfs[0] == "mkfs.vfat" and mkfs[mkfs.index("-i") + 1] == "abcdef01"
    assert mkfs[mkfs.index("-s") + 1] == "8"
    assert "::/EFI/Linux" in mmd
    assert [argv[-1] for argv in copies] == [
        "::/EFI/BOOT/BOOTX64.EFI",
        "::/EFI/systemd/systemd-bootx64.efi",
        "::/loader/loader.conf",
        "::/EFI/Linux/decentralice.efi",
    ]
    small = fat_argvs(ESP._replace(size=64), "x.efi")[0]
    assert small[small.index("-s") + 1] == "1"


@pytest.mark.parametrize("entry", ["", "decentralice", "a/b.efi", "../x.efi", "x.EFI"])
def test_entries_that_are_refused(entry):
    with pytest.raises(SettingError):
        validated(BootloaderSettings, {"entry": entry}, "install_bootloader")


@pytest.mark.parametrize("values", [{"timeout": -1}, {"entry": "a b.efi"}])
def test_boot_loaders_that_are_refused(values):
    with pytest.raises(SettingError) as caught:
        validated(BootloaderSettings, values, "install_bootloader")
    assert caught.value.path == (*values,)


def test_mke2fs_argv():
    argv = mke2fs_argv(Partition("root", 1, 9988, "u", "f"))
    assert argv[0] == "mke2fs" and argv[-1] == "9988M"
    assert argv[argv.index("-U") + 1] == "f" and "hash_seed=f" in " ".join(argv)


DUMPE2FS = """dumpe2fs 1.47.2 (1-Jan-2025)
Filesystem volume name:   root
Inode count:              640000
Free blocks:              1
Free inodes:              630000
"""


def test_inodes_in_use():
    assert inodes_in_use(DUMPE2FS) == 10000


def test_inode_times():
    lines = inode_times(3, 5).splitlines()
    assert lines[0] == "set_inode_field <2> atime @5"
    assert lines[-1] == "set_inode_field <3> ctime_extra 0"
    assert len(lines) == 8


def test_convert_argv():
    argv = convert_argv(["/a", "/b"])
    assert argv[0] == "convert" and argv[-2:] == ["/a", "/b"] and "qcow2" in argv


# With real tools


@pytest.fixture
def tools(image):
    return str(image.artefact("tools-tree"))


def run(operation, store, settings=None, **artefacts):
    artefacts = {name: str(path) for name, path in artefacts.items()}
    running = run_operation(operation, store=store, settings=settings, **artefacts)
    return Path(asyncio.run(running))


def formatted(store, table, root, tools):
    """A root file system; what was checked of the root does not matter to it"""
    given = {"table": table, "root": root, "checked": "report", "tools": tools}
    return run(disk.format_root, store, **given)


def joined(store, folder, table, esp, root):
    """A whole disk of these parts, as raw bytes"""
    made = run(disk.write_disk, store, table=table, esp=esp, root=root)
    raw = folder / "disk.raw"
    argv = ["qemu-img", "convert", "-O", "raw", made, raw]
    subprocess.run(argv, check=True)
    return made, raw


def tree(folder):
    root = folder / "root"
    (root / "etc").mkdir(parents=True)
    (root / "etc/hostname").write_text("small\n")
    (root / "etc/link").symlink_to("hostname")
    return root


def test_small_disk(tools, store, tmp_path):
    """Partitions, ESP and root, as programs of the host see them on the whole disk"""
    table = run(disk.partition, store, SMALL, tools=tools)
    again = run(disk.partition, tmp_path / "other", SMALL, tools=tools)
    assert again.name == table.name  # the same bits each time
    uki = tmp_path / "uki"
    uki.write_bytes(b"a kernel" * 1000)
    given = {"table": table, "uki": uki, "tools": tools}
    esp = run(disk.install_bootloader, store, {"timeout": 3}, **given)
    source = tree(tmp_path)
    root = formatted(store, table, source, tools)
    again = formatted(tmp_path / "other", table, source, tools)
    assert again.name == root.name
    made, raw = joined(store, tmp_path, table, esp, root)
    info = json.loads(
        subprocess.check_output(["qemu-img", "info", "--output=json", made])
    )
    assert info["virtual-size"] == 400 * MIB == raw.stat().st_size

    inside = ["sfdisk", "--json", "/run/disk"]
    said = sandboxed(tools, inside, {raw: "/run/disk"})
    told = json.loads(said)["partitiontable"]
    wanted = partitions_of(str(table))
    assert told["label"] == "gpt" and told["firstlba"] == 2048 or told["label"] == "gpt"
    for part, found in zip(wanted.values(), told["partitions"]):
        assert found["start"] * 512 == part.start * MIB
        assert found["size"] * 512 == part.size * MIB
        assert found["type"] == TYPES[part.name] and found["name"] == part.name
        assert found["uuid"].lower() == part.uuid
    assert "OK" in sandboxed(
        tools,
        ["sh", "-c", "sfdisk --verify /run/disk 2>&1 && echo OK"],
        {raw: "/run/disk"},
    )

    offset = f"/run/disk@@{wanted['esp'].start}M"
    listed = sandboxed(tools, ["mdir", "-/", "-b", "-i", offset], {raw: "/run/disk"})
    assert {
        "::/EFI/BOOT/BOOTX64.EFI",
        "::/EFI/systemd/systemd-bootx64.efi",
        "::/EFI/Linux/decentralice.efi",
        "::/loader/loader.conf",
    } <= set(listed.splitlines())
    config = ["mtype", "-i", offset, "::/loader/loader.conf"]
    assert "timeout 3" in sandboxed(tools, config, {raw: "/run/disk"})

    device = f"/run/disk?offset={wanted['root'].start * MIB}"
    reading = ["debugfs", "-R", "cat /etc/hostname", device]
    assert sandboxed(tools, reading, {raw: "/run/disk"}) == "small\n"
    checked = sandboxed(tools, ["e2fsck", "-fn", device], {raw: "/run/disk"})
    assert "root: " in checked
    swap = wanted["swap"]
    with open(raw, "rb") as file:
        file.seek(swap.start * MIB + 4086)
        assert file.read(10) == b"SWAPSPACE2"


def sandboxed(tools, argv, binds):
    """A program of the tools tree, by itself; what it says"""
    words = ["bwrap", "--ro-bind", tools, "/", "--dev", "/dev", "--proc", "/proc"]
    words += ["--tmpfs", "/run", "--setenv", "MTOOLS_SKIP_CHECK", "1"]
    for host, guest in binds.items():
        words += ["--bind", str(host), guest]
    words += ["--setenv", "PATH", "/usr/bin:/usr/sbin", "--", *argv]
    return subprocess.check_output(words, text=True, stderr=subprocess.DEVNULL)


def test_esp_too_small(tools, store, tmp_path):
    table = run(disk.partition, store, SMALL, tools=tools)
    uki = tmp_path / "uki"
    with open(uki, "wb") as file:
        file.truncate(70 * MIB)
    with pytest.raises(SpaceError) as caught:
        given = {"table": table, "uki": uki, "tools": tools}
        run(disk.install_bootloader, store, **given)
    assert "64 MiB" in caught.value.cause and "`esp`" in caught.value.remedy


def test_root_too_small(tools, store, tmp_path):
    settings = {**SMALL, "size": 64 + 2 + 64, "swap": 0}
    table = run(disk.partition, store, settings, tools=tools)
    root = tree(tmp_path)
    (root / "big").write_bytes(b"x" * (80 * MIB))
    with pytest.raises(SpaceError) as caught:
        formatted(store, table, root, tools)
    assert "64 MiB" in caught.value.cause and "partition" in caught.value.remedy
    assert list((store / "tmp").iterdir()) == []


def test_times_of_the_source_do_not_count(tools, store, tmp_path):
    table = run(disk.partition, store, SMALL, tools=tools)
    found = set()
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        root = tree(tmp_path / name)
        import os

        for path in [*root.rglob("*"), root]:
            os.utime(path, (1, 1), follow_symlinks=False)
        path = formatted(store, table, root, tools)
        found.add(path.name)
    assert len(found) == 1


def test_image(image):
    """The mirror's own disk: as the recipe has it"""
    said = subprocess.check_output(["qemu-img", "info", "--output=json", image.disk])
    info = json.loads(said)
    assert info["virtual-size"] == 20480 * MIB and info["format"] == "qcow2"
    assert "backing-filename" not in info
    parts = partitions_of(str(image.artefact("partition-table")))
    assert [one.name for one in parts.values()] == ["esp", "swap", "root"]
    assert image.artefact("root.img").stat().st_size == parts["root"].size * MIB
    assert image.artefact("esp.img").stat().st_size == parts["esp"].size * MIB
    name = image.artefact("root.img").name
    assert name.startswith(sparse_digest(image.artefact("root.img"))[:32])
