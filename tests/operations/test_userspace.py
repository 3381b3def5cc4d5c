"""Wolfi's side; what apko itself does is tested with it (test_apko)"""

import asyncio
import copy
import gzip
import io
import json
import os
import stat
import tarfile
from pathlib import Path

import pytest

from dffml_operations_decentralice.engine.testing import run_operation
from dffml_operations_decentralice.errors import (
    NetworkError,
    SignatureError,
    UserError,
)
from dffml_operations_decentralice.operations import apk, repository, userspace
from dffml_operations_decentralice.operations.userspace import (
    Owned,
    accounts,
    address,
    check_lock,
    configuration,
    file_name,
    is_inside,
    is_special,
    set_owners,
)

from .test_apk import package

PACKAGE = {
    "name": "bash",
    "version": "5.2-r0",
    "url": "https://packages.wolfi.dev/os/x86_64/bash-5.2-r0.apk",
    "checksum": "Q1abc",
    "data": {"checksum": "sha256-abc"},
}


def lock(*packages):
    contents = {"contents": {"packages": list(packages)}}
    return {"image": contents, "tools": copy.deepcopy(contents)}


def test_check_lock():
    check_lock(lock())
    check_lock(lock(PACKAGE))


@pytest.mark.parametrize(
    "damaged",
    [
        *({k: v for k, v in PACKAGE.items() if k != gone} for gone in PACKAGE),
        {**PACKAGE, "name": "../bash"},
        {**PACKAGE, "name": ".bash"},
        {**PACKAGE, "version": "1/2"},
        {**PACKAGE, "url": 1},
        {**PACKAGE, "checksum": None},
        {**PACKAGE, "data": None},
        {**PACKAGE, "data": {}},
        None,
        "bash",
        [],
    ],
)
def test_check_lock_refuses(damaged):
    with pytest.raises(UserError) as caught:
        check_lock(lock(PACKAGE, damaged))
    assert "-update" in caught.value.remedy


@pytest.mark.parametrize(
    "damaged", [{}, {"image": {}}, {"image": []}, {"image": {"contents": None}}]
)
def test_check_lock_refuses_what_is_none(damaged):
    with pytest.raises(UserError):
        check_lock(damaged)


def test_file_name():
    assert file_name(PACKAGE) == "bash-5.2-r0.apk"


@pytest.fixture
def described(tmp_path):
    out = tmp_path / "repository"
    repositories = [".", "https://packages.wolfi.dev/os"]
    repository.write(out, {"keys": ["k.rsa.pub"], "repositories": repositories})
    return str(out)


@pytest.mark.parametrize(
    "url, expected",
    [
        ("repository/x86_64/a.apk", "{repository}/x86_64/a.apk"),
        ("https://packages.wolfi.dev/os/a.apk", "https://packages.wolfi.dev/os/a.apk"),
        ("/srv/a.apk", "/srv/a.apk"),
    ],
)
def test_address(described, url, expected):
    assert address(described, url) == expected.format(repository=described)


def test_configuration(described, tmp_path):
    """Nothing in it depends on where the store is"""
    work = tmp_path / "work"
    work.mkdir()
    found = configuration(work, described, ["bash"])
    assert found == {
        "contents": {
            "build_repositories": ["repository", "https://packages.wolfi.dev/os"],
            "runtime_repositories": ["https://packages.wolfi.dev/os"],
            "keyring": ["./repository/k.rsa.pub"],
            "packages": ["bash"],
        },
        "archs": ["x86_64"],
    }
    assert os.readlink(work / "repository") == described
    assert str(tmp_path) not in json.dumps(found)


def etc(root, passwd="", group=""):
    (root / "etc").mkdir(parents=True)
    (root / "etc/passwd").write_text(f"root:x:0:0::/root:/bin/sh\n{passwd}")
    (root / "etc/group").write_text(f"root:x:0:\n{group}")
    return root


def test_accounts(tmp_path):
    root = etc(tmp_path, "me:x:1000:1000::/:/bin/sh\n\n# x\nbad:x:y:0:::\nshort:x\n")
    assert accounts(root, "passwd") == {"root": 0, "me": 1000}
    assert accounts(root, "group") == {"root": 0}


def archive(*members):
    """A package's data of (name, fields)"""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, fields in members:
            info = tarfile.TarInfo(name)
            info.uname = info.gname = "root"
            for field, value in fields.items():
                setattr(info, field, value)
            tar.addfile(info)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "member, special",
    [
        ({}, False),
        ({"mode": 0o755, "uname": "", "gname": ""}, False),
        ({"gname": "shadow", "gid": 42}, True),
        ({"gname": "shadow"}, True),
        ({"uid": 5}, True),
        ({"mode": 0o4755}, True),
        ({"mode": 0o1777, "type": tarfile.DIRTYPE}, True),
        ({"mode": 0o7777, "type": tarfile.SYMTYPE, "linkname": "x"}, False),
    ],
)
def test_is_special(tmp_path, member, special):
    package(tmp_path / "x.apk", archive(("x", member)))
    [found] = apk.members(tmp_path / "x.apk")
    assert is_special(found) == special


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files to others")
@pytest.mark.parametrize(
    "owned, owner",
    [
        (("root", "shadow", 0, 42), (0, 42)),
        (("root", "shadow", 0, 0), (0, 42)),  # Names count before numbers
        (("root", "shadow", 0, 7), (0, 42)),
        (("polkit", "polkit", 9, 9), (9, 9)),
        (("", "", 5, 6), (5, 6)),
        (("root", "root", 0, 0), (0, 0)),
    ],
)
def test_set_owners(tmp_path, owned, owner):
    root = etc(tmp_path / "root", group="shadow:x:42:\n")
    (root / "chage").write_text("")
    found = [Owned("chage", *owned, 0o2755), Owned("not-installed", *owned, 0o644)]
    assert set_owners(root, found) == 1
    info = (root / "chage").lstat()
    assert (info.st_uid, info.st_gid) == owner
    assert stat.S_IMODE(info.st_mode) == 0o2755


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files to others")
def test_set_owners_stays_inside(tmp_path):
    root = etc(tmp_path / "root")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").touch(mode=0o600)
    (root / "link").symlink_to(outside)
    (root / "file").symlink_to(outside / "precious")
    with pytest.raises(UserError, match="leads out of the tree: link/precious"):
        set_owners(root, [Owned("link/precious", "x", "x", 1000, 0, 0o4755)])
    set_owners(root, [Owned("file", "x", "x", 1000, 0, 0o4755)])
    info = (outside / "precious").stat()
    assert info.st_uid == os.getuid() and stat.S_IMODE(info.st_mode) == 0o600


def test_is_inside(tmp_path):
    (tmp_path / "usr/bin").mkdir(parents=True)
    (tmp_path / "bin").symlink_to("usr/bin")
    (tmp_path / "out").symlink_to("..")
    assert is_inside(tmp_path, tmp_path / "bin/x")
    assert is_inside(tmp_path, tmp_path / "x")
    assert is_inside(tmp_path, tmp_path / "out")  # the link itself
    assert not is_inside(tmp_path, tmp_path / "out/x")


def run(operation, store, settings=None, **artefacts):
    running = run_operation(operation, store=store, settings=settings, **artefacts)
    return Path(asyncio.run(running))


def test_repository_of_a_given_key(store, tmp_path):
    key = tmp_path / "mine.rsa.pub"
    key.write_text("key")
    settings = {"url": "https://example.org/os/", "key": str(key)}
    out = run(userspace.userspace_repository, store, settings)
    assert repository.read(str(out)) == {
        "variant": "",
        "distribution": "Wolfi",
        "repositories": ["https://example.org/os"],
        "keys": ["mine.rsa.pub"],
    }
    assert (out / "mine.rsa.pub").read_text() == "key"


@pytest.mark.parametrize(
    "settings, kind, named",
    [
        ({"key": "{tmp}/key.pem"}, UserError, "*.rsa.pub"),
        ({"key": "{tmp}/missing.rsa.pub"}, UserError, "missing.rsa.pub is not there"),
        ({"url": "http://127.0.0.1:9/os"}, NetworkError, "http://127.0.0.1:9/os/wolfi"),
        ({"urls": ""}, UserError, "unknown setting 'urls'"),
    ],
)
def test_repository_refuses(store, tmp_path, settings, kind, named, monkeypatch):
    monkeypatch.setattr("dffml_operations_decentralice.engine.download.FIRST_DELAY", 0)
    (tmp_path / "key.pem").touch()
    settings = {name: value.format(tmp=tmp_path) for name, value in settings.items()}
    with pytest.raises(kind, match=None) as caught:
        run(userspace.userspace_repository, store, settings)
    assert named in "\n".join(caught.value.lines())


def test_fetch_refuses_other_bytes(store, tmp_path):
    """What a lock names and a repository has must be the same"""
    (tmp_path / "repository/x86_64").mkdir(parents=True)
    file = tmp_path / "repository/x86_64/x-1-r0.apk"
    checksum, datahash = package(file)[:2]
    repository.write(tmp_path / "repository", {"keys": [], "repositories": ["."]})
    found = {
        "name": "x",
        "version": "1-r0",
        "url": "repository/x86_64/x-1-r0.apk",
        "checksum": checksum,
        "data": {"checksum": datahash},
    }
    locked = tmp_path / "lock"
    locked.write_text(json.dumps(lock(found)))
    given = {"repository": str(tmp_path / "repository"), "lock": str(locked)}
    out = run(userspace.fetch_userspace, store, **given)
    assert {path.name for path in out.iterdir()} == {"x-1-r0.apk", userspace.OWNERS}
    owners = json.loads((out / userspace.OWNERS).read_text())
    assert owners == {"x-1-r0.apk": [["usr/bin/chage", "", "shadow", 0, 42, 0o2755]]}
    content = file.read_bytes()
    other = gzip.compress(archive(("usr/bin/other", {})), mtime=0)
    package(file, packed=other)
    assert file.read_bytes() != content
    given["repository"] = str(tmp_path / "repository")
    with pytest.raises(SignatureError):
        run(userspace.fetch_userspace, store, **given)
    assert len(list((store / "objects").iterdir())) == 1
    assert list((store / "tmp").iterdir()) == []


# The real thing


def test_image(image):
    root = image.artefact("userspace-tree")
    assert (root / "usr/lib/systemd/systemd").is_file()
    lock = json.loads(image.artefact("userspace-lock").read_text())
    check_lock(lock)
    names = {one["name"] for one in userspace.packages_of(lock, "image")}
    assert {"systemd", "bash", "wolfi-baselayout"} <= names
    files = {path.name for path in image.artefact("userspace-packages").iterdir()}
    wanted = {
        file_name(one) for s in userspace.SETS for one in userspace.packages_of(lock, s)
    }
    assert files == {*wanted, userspace.OWNERS}


def test_owners_of_the_image(image):
    """Those which packages' archives give to others than root"""
    root, found = image.artefact("userspace-tree"), 0
    owners = image.artefact("userspace-packages") / userspace.OWNERS
    users, groups = accounts(root, "passwd"), accounts(root, "group")
    for members in json.loads(owners.read_text()).values():
        for one in (Owned(*fields) for fields in members):
            target = root / one.path
            if os.path.lexists(target) and not target.is_symlink():
                info = target.lstat()
                assert info.st_uid == users.get(one.user, one.uid), one
                assert info.st_gid == groups.get(one.group, one.gid), one
                assert stat.S_IMODE(info.st_mode) == one.mode, one
                found += 1
    assert found


def test_tools(image):
    tools = image.artefact("tools-tree")
    for name in ("ukify", "mke2fs", "sfdisk", "mkfs.vfat", "mcopy", "debugfs"):
        assert (tools / "usr/bin" / name).exists() or (
            tools / "usr/sbin" / name
        ).exists()
    for name in ("proc", "dev", "run", "tmp", "var/tmp"):
        assert (tools / name).is_dir()
