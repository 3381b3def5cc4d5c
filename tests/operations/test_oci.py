"""
The image layout: its layers one by one, read by go-containerregistry, unpacked by tar
"""

import asyncio
import gzip
import hashlib
import json
import os
import re
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from dffml_operations_decentralice.engine.commands import find_tool
from dffml_operations_decentralice.engine.digest import digest_of, entries
from dffml_operations_decentralice.engine.testing import run_operation
from dffml_operations_decentralice.errors import MissingTool, UserError
from dffml_operations_decentralice.operations import oci
from dffml_operations_decentralice.operations.oci import (
    Layer,
    layers,
    members,
    removed,
    write_tar,
)

GO = Path(oci.__file__).parent.parent / "go" / "tools"
RELEASE = """NAME="OS DecentrAlice"
IMAGE_ID=decentralice
IMAGE_VERSION=7
HOME_URL="https://example.org/os"
DECENTRALICE_USERSPACE=Wolfi
DECENTRALICE_KERNEL="Fedora 44"
"""
KEY = "org.opencontainers.image."


@pytest.fixture(scope="session")
def validate(tmp_path_factory):
    """What go-containerregistry says is wrong with a layout; empty if nothing is"""
    try:
        go = find_tool("go")
    except MissingTool as error:
        pytest.skip(error.cause)
    work = tmp_path_factory.mktemp("validate")
    for name in ("go.mod", "go.sum"):
        shutil.copy(GO / name, work)
    shutil.copy(Path(__file__).with_name("oci_validate.go"), work)
    argv = [go, "build", "-mod=readonly", "-o", "validate", "oci_validate.go"]
    subprocess.run(argv, cwd=work, check=True)

    def run(layout):
        argv = [work / "validate", layout]
        done = subprocess.run(argv, stdout=subprocess.PIPE, text=True)
        assert (done.returncode == 0) is (done.stdout == ""), done
        return done.stdout

    return run


def write(path, text="", mode=0o644):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
    return path


@pytest.fixture
def trees(tmp_path):
    """What each world gives, and a root tree that differs in all ways from them"""
    made = {name: tmp_path / name for name in ("userspace", "modules", "service")}
    made["root"] = root = tmp_path / "root"
    write(made["userspace"] / "usr/bin/tool", "tool", 0o4755)
    (made["userspace"] / "bin").symlink_to("usr/bin")
    write(made["userspace"] / "etc/changed", "as packaged")
    write(made["userspace"] / "etc/gone/a/b")
    write(made["userspace"] / "etc/gone-too")
    write(made["userspace"] / "etc/becomes-a-directory")
    write(made["userspace"] / "etc/becomes-a-link/x")
    write(made["userspace"] / "usr/share/ümlaut name", "ü")
    write(made["userspace"] / f"usr/share/{'long' * 30}/{'name' * 30}")
    shutil.copytree(made["userspace"], root, symlinks=True)
    write(made["modules"] / "modules/7.0/vmlinuz", "not in the root tree")
    write(made["modules"] / "modules/7.0/modules.dep", "dep")
    write(made["modules"] / "firmware/f.bin", "firmware")
    write(root / "usr/lib/modules/7.0/modules.dep", "dep")
    write(root / "usr/lib/firmware/f.bin", "firmware")
    write(made["service"] / "root/usr/bin/ssi-service", "service", 0o755)
    write(made["service"] / "root/etc/ssi/config", "as packaged")
    shutil.copytree(made["service"] / "root", root, dirs_exist_ok=True)
    write(root / "etc/ssi/config", "configured")
    write(root / "etc/changed", "configured")
    write(root / "etc/hostname", "alice")
    shutil.rmtree(root / "etc/gone")
    (root / "etc/gone-too").unlink()
    (root / "etc/becomes-a-directory").unlink()
    write(root / "etc/becomes-a-directory/file")
    shutil.rmtree(root / "etc/becomes-a-link")
    (root / "etc/becomes-a-link").symlink_to("changed")
    (root / "tmp").mkdir()
    (root / "tmp").chmod(0o1777)
    return made


def made_layers(trees):
    return layers(
        *(trees["userspace"], trees["modules"], trees["service"] / "root"),
        trees["root"],
        {"DECENTRALICE_USERSPACE": "Wolfi", "DECENTRALICE_KERNEL": "Fedora 44"},
    )


def test_layers_are_by_origin(trees):
    userspace, kernel, service, rest = made_layers(trees)
    assert userspace.origin == "userspace: Wolfi"
    assert set(userspace.names) == {name for name, _ in entries(trees["userspace"])}
    assert kernel.origin == "kernel modules: Fedora 44"
    assert kernel.names == {
        "usr/lib/modules": "modules",
        "usr/lib/modules/7.0": "modules/7.0",
        "usr/lib/modules/7.0/modules.dep": "modules/7.0/modules.dep",
        "usr/lib/firmware": "firmware",
        "usr/lib/firmware/f.bin": "firmware/f.bin",
    }
    assert set(service.names) == {"usr/bin/ssi-service", "etc/ssi", "etc/ssi/config"}
    files = {name for name in rest.names if (trees["root"] / name).is_file()}
    assert files == {
        *("etc/changed", "etc/hostname", "etc/ssi/config", "etc/becomes-a-link"),
        "etc/becomes-a-directory/file",
    }
    assert rest.gone == ["etc/gone", "etc/gone-too"]
    assert not userspace.gone + kernel.gone + service.gone


def test_lower_layers_do_not_depend_on_the_settings(trees):
    """Or no two images could share them"""
    before = made_layers(trees)
    write(trees["root"] / "etc/hostname", "other")
    write(trees["root"] / "usr/bin/tool", "other")
    after = made_layers(trees)
    assert before[:3] == after[:3] and before[3] != after[3]


@pytest.mark.parametrize(
    "known, wanted, expected",
    [
        ({}, {"a": "100644 "}, []),
        ({"a": "40755 -", "a/b": "40755 -", "a/b/c": "100644"}, {}, ["a"]),
        ({"a": "40755 -", "a/b": "100644"}, {"a": "40700 -"}, ["a/b"]),
        ({"a": "40755 -", "a/b": "100644"}, {"a": "120777 'x'"}, []),
        ({"a": "100644", "ab": "100644"}, {"ab": "100600"}, ["a"]),
    ],
)
def test_removed(known, wanted, expected):
    assert removed(known, wanted) == expected


def test_members(tmp_path):
    """Directories first, one time, owners by number, what is gone"""
    tree = tmp_path / "tree"
    write(tree / "d/file", "x", 0o2755)
    (tree / "d/link").symlink_to("../nowhere")
    os.link(tree / "d/file", tree / "d-other")
    names = {name: name for name in ("d/link", "d-other", "d/file", "d")}
    layer = Layer(
        "x", tree, {f"at/{name}": own for name, own in names.items()}, ["g/h"]
    )
    target = tmp_path / "layer.tar"
    digest = write_tar(layer, target, 5)
    assert digest == hashlib.sha256(target.read_bytes()).hexdigest()
    with tarfile.open(target) as tar:
        found = tar.getmembers()
        assert tar.extractfile("at/d/file").read() == b"x"
    listed = [one.name for one in found]
    assert listed == ["g/.wh.h", "at/d", "at/d/file", "at/d/link", "at/d-other"]
    assert {(one.mtime, one.uname, one.gname) for one in found} == {(5, "", "")}
    assert [one.isreg() for one in found] == [True, False, True, False, True]
    assert found[2].mode == 0o2755 and found[3].linkname == "../nowhere"
    assert (found[2].uid, found[2].gid) == (os.getuid(), os.getgid())


def test_extended_attributes(tmp_path):
    """Bytes, of which some are no text"""
    file = write(tmp_path / "tree/file")
    value = b"\x01\x00\x00\x02\xff\xfe"
    try:
        os.setxattr(file, "user.test", value)
    except OSError as error:
        pytest.skip(f"no attributes on this file system: {error}")
    write_tar(Layer("", file.parent, {"file": "file"}, []), tmp_path / "layer.tar", 0)
    out = tmp_path / "out"
    out.mkdir()
    unpack(tmp_path / "layer.tar", out)
    assert os.getxattr(out / "file", "user.test") == value


@pytest.mark.parametrize("kind", ["fifo", "whiteout"])
def test_what_cannot_be_in_a_layer(tmp_path, kind):
    name = ".wh.x" if kind == "whiteout" else "pipe"
    os.mkfifo(tmp_path / name) if kind == "fifo" else (tmp_path / name).touch()
    with pytest.raises(UserError, match=name):
        list(members(Layer("", tmp_path, {name: name}, []), 0))


def tree_of(program, target):
    """A tree with a program of the host"""
    path = shutil.which(program)
    said = subprocess.check_output(["ldd", path], text=True)
    for file in {path, *re.findall(r"/\S+", said)}:
        place = target / file.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, place)
    for name in ("proc", "dev", "sys", "run", "tmp", "var/tmp"):
        (target / name).mkdir(parents=True, exist_ok=True)
    return target


def run(store, trees, settings=None, release=RELEASE):
    """A layout of trees"""
    tools = tree_of("gzip", trees["root"].parent / "tools")
    given = {**trees, "tools": tools}
    given["release"] = write(trees["root"].parent / "os-release", release)
    running = run_operation(
        oci.write_oci,
        store=store,
        settings=settings or {},
        **{name: str(path) for name, path in given.items()},
    )
    return Path(asyncio.run(running))


def read(layout, descriptor):
    algorithm, _, digest = descriptor["digest"].partition(":")
    return json.loads((layout / "blobs" / algorithm / digest).read_text())


def documents(layout):
    """Index, manifest and configuration"""
    index = json.loads((layout / "index.json").read_text())
    [entry] = index["manifests"]
    manifest = read(layout, entry)
    return index, manifest, read(layout, manifest["config"])


def test_documents(store, trees):
    index, manifest, config = documents(run(store, trees))
    [entry] = index["manifests"]
    assert entry["annotations"] == {f"{KEY}ref.name": "decentralice:7"}
    assert (
        manifest["annotations"]
        == config["config"]["Labels"]
        == {
            f"{KEY}created": "2026-01-01T00:00:00Z",
            f"{KEY}title": "OS DecentrAlice",
            f"{KEY}version": "7",
            f"{KEY}description": "userspace of Wolfi, kernel modules of Fedora 44",
            f"{KEY}source": "https://example.org/os",
        }
    )
    assert config["config"]["Cmd"] == ["/sbin/init"]
    assert config["config"]["StopSignal"] == "SIGRTMIN+3"
    assert (config["architecture"], config["os"]) == ("amd64", "linux")
    said = [one["created_by"].partition(":")[0] for one in config["history"]]
    assert said == ["userspace", "kernel modules", "SSI service", "configuration"]
    assert len(config["rootfs"]["diff_ids"]) == len(manifest["layers"]) == 4


def test_settings(store, trees):
    settings = {"command": ["/bin/sh", "-l"], "reference": "example.org/os:edge"}
    index, _, config = documents(run(store, trees, settings))
    assert config["config"]["Cmd"] == ["/bin/sh", "-l"]
    assert index["manifests"][0]["annotations"][f"{KEY}ref.name"].endswith("os:edge")


@pytest.mark.parametrize(
    "settings",
    [{"reference": "a b"}, {"reference": ":"}, {"command": "x"}],
)
def test_settings_that_are_refused(store, trees, settings):
    with pytest.raises(UserError, match=next(iter(settings))):
        run(store, trees, settings)


def test_it_is_the_same_again(tmp_path, trees, monkeypatch):
    """In another store, place, time zone, umask, order of writing"""
    first = run(tmp_path / "one", trees)
    monkeypatch.setenv("TZ", "Pacific/Kiritimati")
    moved = {}
    for name, tree in trees.items():
        moved[name] = tmp_path / "elsewhere" / name
        for path, _ in sorted(entries(tree), reverse=True):
            target = moved[name] / path
            target.parent.mkdir(parents=True, exist_ok=True)
            subprocess.run(["cp", "-a", "-T", tree / path, target], check=True)
    assert run(tmp_path / "two", moved).name == first.name


def unpack(path, target):
    """A layer as tools apply it: first what is gone or something else, then the rest"""
    with tarfile.open(path) as tar:
        for member in tar:
            there = target / member.name
            if there.name.startswith(".wh."):
                there = there.with_name(there.name[len(".wh.") :])
                assert os.path.lexists(there), there
            elif member.isdir() or not there.is_dir() or there.is_symlink():
                continue
            shutil.rmtree(there) if there.is_dir() else there.unlink()
    subprocess.run(
        [
            *("tar", "--extract", "--preserve-permissions", "--numeric-owner"),
            *("--xattrs", "--xattrs-include=*", "--exclude=.wh.*"),
            *("-C", target, "-f", path),
        ],
        check=True,
    )


def unpacked(layout, target):
    target.mkdir()
    _, manifest, _ = documents(layout)
    for layer in manifest["layers"]:
        unpack(layout / "blobs" / layer["digest"].replace(":", "/"), target)
    return target


def test_unpacked_it_is_the_root_tree(store, trees, tmp_path):
    found = unpacked(run(store, trees), tmp_path / "unpacked")
    assert list(entries(found)) == list(entries(trees["root"]))


def test_validated(store, trees, validate, tmp_path):
    """And the validator finds what is wrong"""
    layout = run(store, trees)
    assert validate(layout) == ""
    broken = shutil.copytree(layout, tmp_path / "broken")
    _, manifest, _ = documents(broken)
    blob = broken / "blobs" / manifest["layers"][0]["digest"].replace(":", "/")
    blob.chmod(0o644)
    other = gzip.compress(gzip.decompress(blob.read_bytes()) + bytes(512))
    blob.write_bytes(other)
    assert "diffID" in validate(broken)


# The real image's


@pytest.mark.skipif(os.geteuid() != 0, reason="tar gives owners as root only")
def test_image(image, copy, validate, tmp_path):
    names = {
        **{"userspace": "userspace-tree", "modules": "kernel-modules"},
        **{"service": "ssi-service-tree", "root": "root-tree"},
        **{"release": "os-release", "tools": "tools-tree"},
    }
    given = {name: copy / "objects" / image.made_of[of] for name, of in names.items()}
    given = {name: str(path) for name, path in given.items()}
    running = run_operation(oci.write_oci, store=copy, settings={}, **given)
    layout = Path(asyncio.run(running))
    assert validate(layout) == ""
    for layer in documents(layout)[1]["layers"]:
        blob = layout / "blobs" / layer["digest"].replace(":", "/")
        assert blob.read_bytes()[:8] == b"\x1f\x8b\x08" + bytes(5)  # no name, no time
    found = unpacked(layout, tmp_path / "unpacked")
    assert image.made_of["root-tree"].startswith(digest_of(found))
    shutil.rmtree(found)
