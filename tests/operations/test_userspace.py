"""Wolfi's side; what apko itself does is tested with it (test_apko)"""

import asyncio
import copy
import gzip
import json
import stat
from pathlib import Path

import pytest

from dffml_operations_decentralice.engine.digest import sha256
from dffml_operations_decentralice.engine.testing import run_operation
from dffml_operations_decentralice.errors import (
    NetworkError,
    SignatureError,
    UserError,
)
from dffml_operations_decentralice.operations import apk, repository, userspace
from dffml_operations_decentralice.operations.userspace import (
    address,
    check_lock,
    configuration,
    stem,
)

from .test_apk import package

PACKAGE = {
    "name": "bash",
    "version": "5.2-r0",
    "url": "https://packages.wolfi.dev/os/x86_64/bash-5.2-r0.apk",
    "checksum": "Q1abc",
    "size": 5,
    "sha256": "0" * 64,
}


def lock(*packages):
    return {"image": list(packages), "tools": copy.deepcopy(list(packages))}


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
        {**PACKAGE, "sha256": "0" * 63},
        {**PACKAGE, "sha256": None},
        {**PACKAGE, "size": "5"},
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
    "damaged",
    [{}, {"image": {}}, {"image": []}, {"image": None}, {"image": [], "tools": None}],
)
def test_check_lock_refuses_what_is_none(damaged):
    with pytest.raises(UserError):
        check_lock(damaged)


def test_stem():
    assert stem(PACKAGE) == "bash-5.2-r0"


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
    found = configuration(described, ["bash"])
    assert found == {
        "contents": {
            "build_repositories": ["repository", "https://packages.wolfi.dev/os"],
            "runtime_repositories": ["https://packages.wolfi.dev/os"],
            "keyring": ["./repository/k.rsa.pub"],
            "packages": ["bash"],
        },
        "archs": ["x86_64"],
    }
    assert str(tmp_path) not in json.dumps(found)


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


def files(name):
    """What a package is taken apart to"""
    return name + apk.CONTROL, name + apk.DATA


def test_fetch_refuses_other_bytes(store, tmp_path):
    """What a lock names and a repository has must be the same"""
    (tmp_path / "repository/x86_64").mkdir(parents=True)
    file = tmp_path / "repository/x86_64/x-1-r0.apk"
    checksum, _ = package(file)
    repository.write(tmp_path / "repository", {"keys": [], "repositories": ["."]})
    found = {
        "name": "x",
        "version": "1-r0",
        "url": "repository/x86_64/x-1-r0.apk",
        "checksum": checksum,
        "size": file.stat().st_size,
        "sha256": sha256(file),
    }
    locked = tmp_path / "lock"
    locked.write_text(json.dumps(lock(found)))
    given = {"repository": str(tmp_path / "repository"), "lock": str(locked)}
    out = run(userspace.fetch_userspace, store, **given)
    assert {path.name for path in out.iterdir()} == set(files("x-1-r0"))
    content = file.read_bytes()
    package(file, packed=gzip.compress(b"other", mtime=0))
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
    names = {one["name"] for one in lock["image"]}
    assert {"systemd", "bash", "wolfi-baselayout"} <= names
    there = {path.name for path in image.artefact("userspace-packages").iterdir()}
    wanted = {stem(one) for name in userspace.SETS for one in lock[name]}
    assert there == {name for one in wanted for name in files(one)}


def test_owners_of_the_image(image):
    """Those which packages' archives give to others than root, and special bits"""
    root = image.artefact("userspace-tree")
    shadow, passwd = (root / "etc/shadow").lstat(), (root / "usr/bin/passwd").lstat()
    assert shadow.st_gid != 0 and stat.S_IMODE(shadow.st_mode) == 0o640
    assert passwd.st_uid == 0 and stat.S_IMODE(passwd.st_mode) == 0o4755
    assert stat.S_IMODE((root / "var/tmp").lstat().st_mode) == 0o1777


def test_tools(image):
    tools = image.artefact("tools-tree")
    for name in ("ukify", "mke2fs", "sfdisk", "mkfs.vfat", "mcopy", "debugfs"):
        assert (tools / "usr/bin" / name).exists() or (
            tools / "usr/sbin" / name
        ).exists()
    for name in ("proc", "dev", "run", "tmp", "var/tmp"):
        assert (tools / name).is_dir()
