"""
The image's own trees, whole and mixed as users mix them: what is told of them, and what
happens when the programs are started there
"""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from dffml_operations_decentralice.guest import UNIT
from dffml_operations_decentralice.loader import check
from dffml_operations_decentralice.loader.dynamic import Loader
from dffml_operations_decentralice.loader.starts import BY_OTHERS
from dffml_operations_decentralice.loader.tree import Tree
from dffml_operations_decentralice.loader.units import Units
from dffml_operations_decentralice.vm.console import strip

from . import real

SYSTEMD, TRUE = "/usr/lib/systemd/systemd", "/usr/bin/true"


@pytest.fixture(scope="module")
def worlds(image):
    """The root of the image, and the tree that its initrd was made in"""
    return {name: str(image.artefact(f"{name}-tree")) for name in ("root", "fedora")}


@pytest.fixture
def scratch(image, tmp_path_factory):
    """On the store's file system, for hard links"""
    folder = image.store / f"test-{os.getpid()}"
    folder.mkdir()
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize("world", ["root", "fedora"])
def test_whole(world, worlds):
    report = check(worlds[world])
    assert report["findings"] == []
    assert report["programs"] > 50 and report["libraries"] > 30


@pytest.mark.parametrize("world", ["root", "fedora"])
def test_everything(world, worlds):
    """Nothing but scripts of programs that are in another package"""
    report = check(worlds[world], everything=True)
    kinds = {one["kind"] for one in report["findings"]}
    assert kinds <= {"script-interpreter-missing"}
    assert report["libraries"] > 200


def inside(tree, *argv):
    """A program of a tree with its own /proc; as it would be in a chroot"""
    words = [
        real.find_tool("bwrap"),
        "--unshare-pid",
        "--die-with-parent",
        "--clearenv",
    ]
    words += ["--ro-bind", str(tree), "/", "--proc", "/proc", "--", *argv]
    return real.ran(words)


@pytest.mark.parametrize("world", ["root", "fedora"])
def test_the_libraries_are_those_that_the_loader_lists(world, worlds):
    """Of each program, by name and path; it is not started for that"""
    tree = Tree(worlds[world])
    loader = Loader(tree)
    paths = [one for one in programs(tree) if loader.libraries_of(one)]
    assert len(paths) > 300
    script = real.LIST.format(real.LOADER)
    _ok, said = inside(worlds[world], "/bin/sh", "-c", script, "sh", *paths)
    assert real.listed(said) == {path: loader.libraries_of(path) for path in paths}


SAID = re.compile(
    r"(?:Start(?:ed|ing)|Finished|Listening on|Reached target|Mounted|Mounting) +"
    r"([\w@:.\\-]+\.(?:service|socket|target|mount|timer|path|automount))"
)


def test_the_units_are_those_that_the_boot_started(image, worlds):
    """Of what the console shows after switch-root, all but what the test brought"""
    said = strip((image.directory / "console.log").read_text(errors="replace"))
    started = set(SAID.findall(said[said.rindex("Welcome to") :]))
    assert len(started) > 40
    units = Units(Tree(worlds["root"]), BY_OTHERS)
    told = {unit.name for unit, _why in units.started()}
    assert started - told <= {UNIT}


def programs(tree):
    for folder in ("/usr/bin", "/usr/sbin", "/usr/lib/systemd", "/usr/lib/udev"):
        for name in tree.names(folder):
            place = tree.find(f"{folder}/{name}")
            if place and place.is_executable:
                yield place.inside


def glibc(tree, name):
    """A file of glibc in a tree"""
    loader = Tree(tree).resolve(real.LOADER)
    return os.path.join(os.path.dirname(loader.host), name)


@pytest.mark.parametrize("loader", ["root", "fedora"])
@pytest.mark.parametrize("library", ["root", "fedora"])
@pytest.mark.parametrize("program", ["root", "fedora"])
def test_builds_of_glibc(loader, library, program, worlds, tmp_path):
    """Loader and C library of one build, whatever the program's is"""
    real.copy(worlds[program] + TRUE, tmp_path / "bin/program")
    real.copy(glibc(worlds[loader], "ld-linux-x86-64.so.2"), tmp_path / real.LOADER[1:])
    folder = Tree(worlds[loader]).find(real.LOADER).inside.rpartition("/")[0]
    real.copy(glibc(worlds[library], "libc.so.6"), tmp_path / folder[1:] / "libc.so.6")
    (tmp_path / "lib").exists() or (tmp_path / "lib").symlink_to("usr/lib")
    (tmp_path / "proc").mkdir()
    found = Loader(Tree(str(tmp_path))).execute("/bin/program")
    starts, said = real.run(tmp_path, "/bin/program")
    assert starts is (not found), (said, found)
    if loader != library:
        assert "builds-mixed" in {one.kind for one in found}


def test_the_panic_of_the_recipe(worlds, scratch):
    """Fedora's systemd in Wolfi's root: /sbin/init cannot load its own library"""
    subprocess.run(["cp", "-al", worlds["root"], scratch / "root"], check=True)
    systemd = scratch / "root" / SYSTEMD[1:]
    systemd.unlink()
    os.link(worlds["fedora"] + SYSTEMD, systemd)
    report = check(str(scratch / "root"))
    first = report["findings"][0]
    assert (first["file"], first["kind"]) == (SYSTEMD, "library-missing")
    assert first["what"].startswith("libsystemd-")
    assert first["needed_by"][0] == "the initrd's switch-root"
    assert "init-fedora-root" in first["routes"]
    starts, said = inside(scratch / "root", SYSTEMD, "--version")
    assert not starts and first["what"] in said


def test_another_distributions_library_path(worlds, scratch):
    """LD_LIBRARY_PATH to Fedora's libraries: the C library is not the loader's"""
    subprocess.run(["cp", "-al", worlds["root"], scratch / "root"], check=True)
    subprocess.run(["cp", "-al", worlds["fedora"], scratch / "root/fedora"], check=True)
    folder = Path("/fedora" + Tree(worlds["fedora"]).resolve(real.LOADER).inside).parent
    units = scratch / "root/etc/systemd/system/ssi-service.service.d"
    units.mkdir(parents=True, exist_ok=True)
    (units / "x.conf").write_text(
        f"[Service]\nEnvironment=LD_LIBRARY_PATH={folder}\nExecStartPre={TRUE}\n"
    )
    report = check(str(scratch / "root"))
    assert "builds-mixed" in {one["kind"] for one in report["findings"]}
    for one in report["findings"]:
        assert "ssi-service.service" in one["needed_by"]
    env = ["--setenv", "LD_LIBRARY_PATH", str(folder)]
    argv = [real.find_tool("bwrap"), "--ro-bind", str(scratch / "root"), "/", *env]
    starts, _said = real.ran([*argv, "--", TRUE])
    assert not starts
