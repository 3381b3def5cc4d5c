"""Wolfi's parameters, and its formats as its server has them: index, key, packages"""

import asyncio
import gzip
import json
import os
import shutil
import subprocess
import zlib
from pathlib import Path

import pytest

from dffml_operations_decentralice.engine.commands import find_tool
from dffml_operations_decentralice.engine.testing import run_operation
from dffml_operations_decentralice.errors import (
    MissingTool,
    NetworkError,
    SignatureError,
    UserError,
)
from dffml_operations_decentralice.operations import repository, userspace

from .server import served

KEY = "wolfi-signing.rsa.pub"


def run(operation, store, settings=None, **artefacts):
    running = run_operation(operation, store=store, settings=settings, **artefacts)
    return Path(asyncio.run(running))


def test_parameters():
    defaults = userspace.UserspaceRepositorySettings()
    assert defaults.url == "https://packages.wolfi.dev/os" and defaults.key == ""
    assert userspace.KEY == KEY


PACKAGES = {"wolfi-baselayout": [], "bash": ["wolfi-baselayout"], "unneeded": []}


class Wolfi:
    """A server's directory: key, index, packages"""

    def __init__(self, folder, secret):
        self.os, self.secret, self.work = folder / "os", secret, folder
        self.packages = self.os / "x86_64"
        self.packages.mkdir(parents=True)
        for name, depends in PACKAGES.items():
            self.package(name, depends)
        self.index(secret)
        public = Path(f"{secret}.pub").read_bytes()
        (self.os / KEY).write_bytes(public)

    def package(self, name, depends, text="text\n"):
        content = self.work / "content"
        content.write_text(text)
        config = {
            "name": name,
            "arch": "x86_64",
            "version": "1.2",
            "version_schema": "none",
            "release": "0",
            "maintainer": "Somebody <somebody@example.org>",
            "description": name,
            "depends": depends,
            "contents": [{"src": str(content), "dst": f"/usr/share/{name}/text"}],
            "apk": {
                "arch": "x86_64",
                "signature": {"key_file": str(self.secret), "key_name": KEY},
            },
        }
        file = self.work / "nfpm.json"
        file.write_text(json.dumps(config))
        target = self.packages / f"{name}-1.2-r0.apk"
        argv = [find_tool("nfpm"), "package", "-f", file, "-p", "apk", "-t", target]
        env = {**os.environ, "SOURCE_DATE_EPOCH": "1767225600"}
        subprocess.run(argv, env=env, check=True, stdout=subprocess.DEVNULL)

    def index(self, secret):
        argv = [find_tool("melange"), "index", "--signing-key", secret]
        argv += ["-o", "APKINDEX.tar.gz"]
        argv += sorted(path.name for path in self.packages.glob("*.apk"))
        quiet = dict(check=True, stderr=subprocess.DEVNULL)
        subprocess.run(argv, cwd=self.packages, **quiet)


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """Two private keys named as Wolfi's, the second of somebody else"""
    made = []
    for owner in ("wolfi", "other"):
        path = tmp_path_factory.mktemp(owner) / "wolfi-signing.rsa"
        quiet = dict(check=True, stderr=subprocess.DEVNULL)
        argv = ["openssl", "genrsa", "-traditional", "-out", path, "2048"]
        subprocess.run(argv, **quiet)
        argv = ["openssl", "rsa", "-in", path, "-pubout", "-out", f"{path}.pub"]
        subprocess.run(argv, **quiet)
        made.append(path)
    return made


@pytest.fixture
def wolfi(tmp_path, keys, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    for tool in ("nfpm", "melange", "apko-tree", "openssl"):
        try:
            find_tool(tool)
        except MissingTool as error:
            pytest.skip(error.cause)
    folder = tmp_path / "served"
    folder.mkdir()
    made = Wolfi(folder, keys[0])
    with served(folder) as made.server:
        made.url = f"{made.server.address}/os"
        yield made


def described(wolfi, store, **settings):
    settings = {"url": wolfi.url, **settings}
    return str(run(userspace.userspace_repository, store, settings))


def lock(repository, store, packages=("bash",), **more):
    names = {"packages": list(packages), "tools": ["wolfi-baselayout"], "lock": ""}
    made = userspace.lock_userspace
    return str(run(made, store, {**names, **more}, repository=repository))


def test_repository(wolfi, store):
    """The key is the server's own; the address is as it is given"""
    out = described(wolfi, store)
    assert repository.read(out) == {
        "variant": "",
        "distribution": "Wolfi",
        "repositories": [wolfi.url],
        "keys": [KEY],
    }
    assert Path(out, KEY).read_bytes() == Path(f"{wolfi.secret}.pub").read_bytes()
    assert wolfi.server.asked == [f"/os/{KEY}"]


def test_lock_and_fetch(wolfi, store):
    out = described(wolfi, store)
    locked = lock(out, store)
    content = json.loads(Path(locked).read_text())
    names = [one["name"] for one in content["image"]]
    assert sorted(names) == ["bash", "wolfi-baselayout"]
    [bash] = [one for one in content["image"] if one["name"] == "bash"]
    assert bash["url"] == f"{wolfi.url}/x86_64/bash-1.2-r0.apk"
    assert bash["version"] == "1.2-r0" and bash["checksum"].startswith("Q1")
    assert content["request"]["keys"].keys() == {KEY}
    assert content["request"]["repositories"] == [wolfi.url]
    packages = run(userspace.fetch_userspace, store, repository=out, lock=locked)
    there = {path.name for path in packages.iterdir()}
    assert {"bash-1.2-r0.data.tar", "wolfi-baselayout-1.2-r0.control.tar.gz"} <= there
    assert not any("unneeded" in name for name in there)


def forget_fetched(store):
    shutil.rmtree(store / "cache" / userspace.CACHE)


def test_nothing_is_fetched_twice(wolfi, store):
    """What the lock had to look at is there for who unpacks it, and only for that"""
    out = described(wolfi, store)
    locked = lock(out, store)
    del wolfi.server.asked[:]
    run(userspace.fetch_userspace, store, repository=out, lock=locked)
    assert wolfi.server.asked == []
    assert not list((store / "cache" / userspace.CACHE).iterdir())


def test_what_was_fetched_is_damaged(wolfi, store):
    out = described(wolfi, store)
    locked = lock(out, store)
    for file in (store / "cache" / userspace.CACHE).iterdir():
        file.write_bytes(b"x" * file.stat().st_size)
    del wolfi.server.asked[:]
    run(userspace.fetch_userspace, store, repository=out, lock=locked)
    assert len(wolfi.server.asked) == 2


def test_index_of_another_key(wolfi, store, keys):
    """Signed, under the same name, but not by the pinned key"""
    out = described(wolfi, store)
    wolfi.index(keys[1])
    with pytest.raises(SignatureError) as caught:
        lock(out, store)
    assert "pinned" in caught.value.cause
    assert not list(store.glob("objects/*-userspace-lock"))


def test_index_without_signature(wolfi, store):
    out = described(wolfi, store)
    index = wolfi.packages / "APKINDEX.tar.gz"
    content = index.read_bytes()
    member = zlib.decompressobj(31)
    member.decompress(content)
    assert member.unused_data and gzip.decompress(member.unused_data)
    index.write_bytes(member.unused_data)
    with pytest.raises(SignatureError):
        lock(out, store)


def test_changed_package(wolfi, store):
    """Another package under the name that is locked"""
    out = described(wolfi, store)
    locked = lock(out, store)
    wolfi.package("bash", ["wolfi-baselayout"], text="another\n")
    forget_fetched(store)
    with pytest.raises(SignatureError) as caught:
        run(userspace.fetch_userspace, store, repository=out, lock=locked)
    assert "bash-1.2-r0.apk" in "\n".join(caught.value.lines())
    assert not list(store.glob("objects/*-userspace-packages"))


def test_package_that_is_gone(wolfi, store):
    out = described(wolfi, store)
    locked = lock(out, store)
    (wolfi.packages / "bash-1.2-r0.apk").unlink()
    forget_fetched(store)
    with pytest.raises(NetworkError) as caught:
        run(userspace.fetch_userspace, store, repository=out, lock=locked)
    assert "404" in caught.value.cause and "-update" in caught.value.remedy


def test_unknown_package(wolfi, store):
    with pytest.raises(UserError) as caught:
        lock(described(wolfi, store), store, ["no-such-package"])
    assert "no-such-package" in caught.value.cause


def test_server_without_key(wolfi, store):
    (wolfi.os / KEY).unlink()
    with pytest.raises(NetworkError) as caught:
        described(wolfi, store)
    assert KEY in caught.value.cause


def test_key_of_another_pin(wolfi, store, keys, tmp_path):
    """A lock of one key is not used with another"""
    out = described(wolfi, store)
    file = tmp_path / "os.lock.json"
    content = json.loads(Path(lock(out, store)).read_text())
    file.write_text(json.dumps({"version": 2, "userspace": content}))
    assert lock(out, store, lock=str(file))
    other = tmp_path / KEY
    other.write_bytes(Path(f"{keys[1]}.pub").read_bytes())
    pinned = described(wolfi, store, key=str(other))
    with pytest.raises(UserError) as caught:
        lock(pinned, store, lock=str(file))
    assert "another keys" in caught.value.cause
