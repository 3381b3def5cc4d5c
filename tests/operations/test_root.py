"""The root tree: its parts one by one, and that of the real image"""

import asyncio
import contextlib
import os
import stat
import subprocess
from pathlib import Path

import pytest

from dffml_operations_decentralice.engine.settings import SettingError, validated
from dffml_operations_decentralice.engine.testing import run_operation
from dffml_operations_decentralice.errors import UserError
from dffml_operations_decentralice.operations import repository, root
from dffml_operations_decentralice.operations.configuration import RootSettings
from dffml_operations_decentralice.operations.root import (
    OsReleaseSettings,
    add_files,
    add_kernel,
    configure,
    merge,
    quoted,
    release_fields,
    tidy,
)
from dffml_operations_decentralice.operations.tree import inside_root

SOURCE = {"variant": "", "distribution": "Wolfi"}
MIRROR = {"variant": "mirror", "distribution": "Debian trixie in Wolfi's format"}
FEDORA = {"variant": "", "distribution": "Fedora 44"}


def want(**values):
    return validated(RootSettings, values)


def test_release_fields():
    fields = release_fields("OS DecentrAlice", "decentralice", "1", SOURCE, FEDORA)
    assert fields["PRETTY_NAME"] == "OS DecentrAlice 1"
    assert fields["IMAGE_ID"] == fields["ID"] == "decentralice"
    assert fields["IMAGE_VERSION"] == fields["VERSION_ID"] == "1"
    assert fields["DECENTRALICE_USERSPACE"] == "Wolfi"
    assert fields["DECENTRALICE_KERNEL"] == "Fedora 44"
    assert "VARIANT_ID" not in fields


def test_release_fields_of_a_mirror():
    fields = release_fields("OS DecentrAlice", "decentralice", "1", MIRROR, FEDORA)
    assert fields["VARIANT_ID"] == "mirror"
    assert fields["VARIANT"] == "Debian trixie in Wolfi's format"
    assert fields["PRETTY_NAME"] == "OS DecentrAlice 1 (mirror)"


@pytest.mark.parametrize(
    "values",
    [
        *({"id": one} for one in ("", "Upper", "a b", "a\n")),
        *({"image_version": one} for one in ("", "1/2", "1\nID=y")),
        *({"name": one} for one in ("", "X\nID=y")),
    ],
)
def test_os_release_that_is_refused(values):
    with pytest.raises(SettingError) as caught:
        validated(OsReleaseSettings, values, "os_release")
    assert caught.value.path == (*values,)


@pytest.mark.parametrize(
    "value",
    ["x", "1.2-3_4", "two words", 'a "quote"', "$HOME", "`id`", "a\\b", "", "'"],
)
def test_quoted(value):
    """As sh reads it"""
    script = f'x={quoted(value)}; printf %s "$x"'
    assert subprocess.check_output(["sh", "-c", script], text=True) == value


def run(operation, store, settings=None, **artefacts):
    running = run_operation(operation, store=store, settings=settings, **artefacts)
    return Path(asyncio.run(running))


def test_os_release(store, tmp_path):
    given = {"repository": MIRROR, "kernel": FEDORA}
    for name, description in given.items():
        repository.write(tmp_path / name, {**description, "keys": []})
        given[name] = str(tmp_path / name)
    out = run(root.os_release, store, {"name": "My OS"}, **given)
    assert 'NAME="My OS"\nID=decentralice\n' in out.read_text()
    assert "\nVARIANT_ID=mirror\n" in out.read_text()


def write(path, text="", mode=0o644):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
    return path


def test_merge(tmp_path):
    source, target = tmp_path / "source", tmp_path / "root"
    write(source / "usr/bin/tool", "x", 0o4755)
    (source / "usr/bin/link").symlink_to("tool")
    write(source / "usr/share/new/file", "y")
    (source / "usr/share/new").chmod(0o750)
    (source / "usr/share/folder").symlink_to("new")
    write(source / root.APK_DATABASE, "P:b\n")
    write(target / "usr/bin/other", "z")
    (target / "usr/bin").chmod(0o711)
    write(target / root.APK_DATABASE, "P:a\n")
    merge(source, target)
    assert stat.S_IMODE((target / "usr/bin/tool").stat().st_mode) == 0o4755
    assert os.readlink(target / "usr/bin/link") == "tool"
    assert os.readlink(target / "usr/share/folder") == "new"
    assert stat.S_IMODE((target / "usr/share/new").stat().st_mode) == 0o750
    assert stat.S_IMODE((target / "usr/bin").stat().st_mode) == 0o711
    assert (target / root.APK_DATABASE).read_text() == "P:a\nP:b\n"
    assert (target / "usr/bin/other").read_text() == "z"


@pytest.mark.parametrize("there", ["file", "link", "dangling"])
def test_merge_refuses_conflicts(tmp_path, there):
    source, target = tmp_path / "source", tmp_path / "root"
    write(source / "etc/x", "new")
    write(target / "etc/y", "old")
    if there == "file":
        write(target / "etc/x", "old")
    else:
        (target / "etc/x").symlink_to("y" if there == "link" else "z")
    with pytest.raises(UserError, match="/etc/x is in two packages"):
        merge(source, target)
    assert (target / "etc/y").read_text() == "old"


def test_merge_refuses_a_directory_for_a_file(tmp_path):
    write(tmp_path / "source/etc/x/y")
    write(tmp_path / "root/etc/x")
    with pytest.raises(UserError, match="/etc/x is in two packages"):
        merge(tmp_path / "source", tmp_path / "root")


@pytest.mark.parametrize("to", ["../outside", "{outside}"])
def test_merge_stays_inside(tmp_path, to):
    """A link of the tree that is a directory of the package's"""
    source, target, outside = (tmp_path / one for one in ("source", "root", "outside"))
    write(source / "srv/file", "x")
    outside.mkdir()
    target.mkdir()
    (target / "srv").symlink_to(to.format(outside=outside))
    with contextlib.suppress(UserError):
        merge(source, target)
        assert [path.is_file() for path in target.rglob("file")] == [True]
    assert list(outside.iterdir()) == []


def test_add_kernel(tmp_path):
    modules = tmp_path / "modules"
    for name in ("vmlinuz", "config", "modules.dep", "kernel/fs/ext4.ko", "build"):
        write(modules / "modules/6.1" / name, name)
    write(modules / "firmware/amd/x.bin")
    add_kernel(modules, tmp_path / "root")
    there = tmp_path / "root/usr/lib/modules/6.1"
    found = {str(p.relative_to(there)) for p in there.rglob("*") if p.is_file()}
    assert found == {"modules.dep", "kernel/fs/ext4.ko"}
    assert (tmp_path / "root/usr/lib/firmware/amd/x.bin").exists()


@pytest.mark.parametrize("link", [True, False])
def test_a_file_of_both_worlds(link, tmp_path):
    """Neither replaces the other's, whatever it is"""
    (tmp_path / "modules/modules/6.1").mkdir(parents=True)
    ours = write(tmp_path / "modules/firmware/amd/x.bin", "x")
    if link:
        ours.unlink()
        ours.symlink_to("y.bin")
    there = write(tmp_path / "root/usr/lib/firmware/amd/x.bin", "z")
    with pytest.raises(UserError) as caught:
        add_kernel(tmp_path / "modules", tmp_path / "root")
    assert "/usr/lib/firmware/amd/x.bin is in two packages" in caught.value.cause
    assert there.read_text() == "z"


def test_add_kernel_without_firmware(tmp_path):
    write(tmp_path / "modules/modules/6.1/modules.dep")
    (tmp_path / "modules/firmware").mkdir()
    add_kernel(tmp_path / "modules", tmp_path / "root")
    assert not (tmp_path / "root/usr/lib/firmware").exists()


def test_add_files(tmp_path):
    """Modes are ours, whatever those of the source; what is there is replaced"""
    source, target = tmp_path / "source", tmp_path / "root"
    write(source / "etc/motd", "new", 0o600)
    write(source / "usr/bin/tool", "x", 0o700)
    (source / "etc/link").symlink_to("motd")
    (source / "folder").symlink_to("etc")
    write(target / "etc/motd", "old", 0o444)
    add_files(source, target)
    assert (target / "etc/motd").read_text() == "new"
    assert stat.S_IMODE((target / "etc/motd").stat().st_mode) == 0o644
    assert stat.S_IMODE((target / "usr/bin/tool").stat().st_mode) == 0o755
    assert os.readlink(target / "etc/link") == "motd"
    assert os.readlink(target / "folder") == "etc"


def test_add_files_follows_links_inside(tmp_path):
    write(tmp_path / "source/lib/systemd/x.service", "x")
    (tmp_path / "root/usr/lib").mkdir(parents=True)
    (tmp_path / "root/lib").symlink_to("usr/lib")
    add_files(tmp_path / "source", tmp_path / "root")
    assert (tmp_path / "root/usr/lib/systemd/x.service").exists()


@pytest.mark.parametrize(
    "to", ["..", "../outside", "usr/../../outside", "again", "link", "/../outside"]
)
def test_inside_root_refuses(tmp_path, to):
    (tmp_path / "root").mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "root/link").symlink_to(to)
    (tmp_path / "root/again").symlink_to("..")
    with pytest.raises(UserError, match="leads out of the image"):
        inside_root(tmp_path / "root", Path("link/file"))


@pytest.mark.parametrize(
    "to, expected",
    [
        ("usr/lib", "usr/lib/file"),
        ("/usr/lib", "usr/lib/file"),
        ("/", "file"),
        ("usr/../var", "var/file"),
        ("lib64/x", "usr/lib/x/file"),
    ],
)
def test_inside_root(tmp_path, to, expected):
    (tmp_path / "lib").symlink_to(to)
    (tmp_path / "lib64").symlink_to("/usr/lib")
    assert inside_root(tmp_path, Path("lib/file")) == tmp_path / expected


def test_configure(tmp_path):
    write(tmp_path / "etc/os-release", "old")
    (tmp_path / "etc/machine-id").symlink_to("/nowhere")
    configure(tmp_path, want(hostname="wonderland", mask=["a.service"]))
    etc = tmp_path / "etc"
    assert (etc / "hostname").read_text() == "wonderland\n"
    assert (etc / "machine-id").read_text() == ""  # empty, not "uninitialized"
    assert not (etc / "machine-id").is_symlink()
    assert os.readlink(etc / "os-release") == "../usr/lib/os-release"
    assert os.readlink(etc / "systemd/system/a.service") == "/dev/null"
    assert (tmp_path / "proc").is_dir() and (tmp_path / "dev").is_dir()
    configure(tmp_path, want())  # may be done again


def test_tidy(tmp_path):
    for name in ("etc/passwd", "etc/passwd-", "etc/.pwd.lock", "var/x"):
        write(tmp_path / name)
    write(tmp_path / "var/cache/ldconfig/aux-cache")
    write(tmp_path / "etc/systemd/system/network-online.target.wants/x.service")
    (tmp_path / "link").symlink_to("/nowhere")
    tidy(tmp_path, 5)
    found = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")}
    assert {"etc/passwd", "etc/.updated", "var/.updated", "link"} <= found
    assert not found & {"etc/passwd-", "etc/.pwd.lock", "var/cache/ldconfig/aux-cache"}
    assert {path.lstat().st_mtime for path in [tmp_path, *tmp_path.rglob("*")]} == {5}


# The real image's


@pytest.fixture
def tree(image):
    return image.artefact("root-tree")


def test_image_says_what_it_is(tree):
    fields = (tree / "usr/lib/os-release").read_text().splitlines()
    assert {"ID=decentralice", "VARIANT_ID=mirror"} <= set(fields)
    assert os.readlink(tree / "etc/os-release") == "../usr/lib/os-release"


def test_image_has_nothing_for_a_first_boot(tree):
    assert (tree / "etc/machine-id").read_text() == ""
    for name in ("etc/.updated", "var/.updated", "etc/ld.so.cache"):
        assert (tree / name).exists()
    assert (tree / "usr/lib/udev/hwdb.bin").exists()
    assert (tree / "var/lib/systemd/catalog/database").exists()
    masked = tree / "etc/systemd/system/systemd-firstboot.service"
    assert os.readlink(masked) == "/dev/null"


def test_image_accounts(tree):
    shadow = (tree / "etc/shadow").read_text().splitlines()
    passwords = {line.split(":")[0]: line.split(":")[1] for line in shadow}
    assert all(one.startswith(("!", "*")) for one in passwords.values()), passwords
    names = {line.split(":")[0] for line in (tree / "etc/passwd").open()}
    assert {"root", "systemd-network", "systemd-resolve"} <= names
    assert any("ssi" in name for name in names)


def test_image_has_no_loose_files(tree):
    """Nobody else may write a file of root's, but in the known places"""
    loose = set()
    for folder, _, files in os.walk(tree):
        for name in files:
            path = Path(folder, name)
            if not path.is_symlink() and path.stat().st_mode & 0o002:
                loose.add(path)
    assert not loose
    assert stat.S_IMODE((tree / "tmp").stat().st_mode) == 0o1777
    assert stat.S_IMODE((tree / "root").stat().st_mode) == 0o700


def test_image_units(tree):
    """What is enabled is what was meant to be"""
    wants = tree / "etc/systemd/system"
    enabled = {path.name for path in wants.glob("*.wants/*")}
    assert any(name.startswith("ssi-service") for name in enabled)
    assert {"systemd-networkd.service", "systemd-resolved.service"} <= enabled
    assert not any("wait-online" in name for name in enabled)


def test_image_one_time(tree):
    times = {path.lstat().st_mtime for path in tree.glob("*/*")}
    assert times == {1767225600}


def test_image_loader_is_consistent(tree, image):
    """No kernel twice: it is in the initrd's UKI; its modules are here"""
    [release] = (tree / "usr/lib/modules").iterdir()
    assert (release / "modules.dep").exists() and not (release / "vmlinuz").exists()
