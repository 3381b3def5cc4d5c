"""Fedora's parameters, and its formats: metalink, repomd, primary, key"""

import asyncio
import hashlib
import json
import os
import subprocess
from pathlib import Path

import pytest

from dffml_operations_decentralice.engine.digest import sha256
from dffml_operations_decentralice.engine.step import FILES
from dffml_operations_decentralice.engine.testing import run_operation
from dffml_operations_decentralice.errors import (
    NetworkError,
    SignatureError,
    UserError,
)
from dffml_operations_decentralice.operations import kernel, repository

from .server import served

DATA = Path(__file__).parent / "data"
KEY = FILES / "keys/RPM-GPG-KEY-fedora-44-primary"
FINGERPRINT = "36F612DCF27F7D1A48A835E4DBFCF71C6D9F90A6"
REVISION = 1776859200


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)


def run(operation, store, settings=None, **artefacts):
    running = run_operation(operation, store=store, settings=settings, **artefacts)
    return Path(asyncio.run(running))


def test_key(tmp_path):
    env = {**os.environ, "GNUPGHOME": str(tmp_path)}
    argv = ["gpg", "--batch", "--with-colons", "--show-keys", str(KEY)]
    said = subprocess.check_output(argv, env=env, text=True).splitlines()
    prints = [line.split(":")[9] for line in said if line.startswith("fpr:")]
    assert prints[0] == FINGERPRINT
    assert any("fedora-44-primary@fedoraproject.org" in line for line in said)


def test_rpm_takes_the_key(tmp_path):
    database = ["--dbpath", str(tmp_path)]
    subprocess.run(["rpmkeys", *database, "--import", str(KEY)], check=True)
    query = ["rpm", *database, "-q", "gpg-pubkey", "--qf", "%{version}\n%{summary}\n"]
    said = subprocess.check_output(query, text=True).lower()
    assert FINGERPRINT[-8:].lower() in said and "fedora" in said


def test_repository(store):
    out = run(kernel.kernel_repository, store)
    releases = "https://dl.fedoraproject.org/pub/fedora/linux/releases/44"
    updates = "https://dl.fedoraproject.org/pub/fedora/linux/updates/44"
    metalink = "https://mirrors.fedoraproject.org/metalink?arch=x86_64&repo="
    assert repository.read(str(out)) == {
        "variant": "",
        "distribution": "Fedora 44",
        "releasever": "44",
        "keys": [KEY.name],
        "repositories": [
            {
                "id": "fedora",
                "metalink": f"{metalink}fedora-44",
                "baseurl": f"{releases}/Everything/x86_64/os",
            },
            {
                "id": "updates",
                "metalink": f"{metalink}updates-released-f44",
                "baseurl": f"{updates}/Everything/x86_64",
            },
        ],
    }
    assert repository.key_digests(str(out)) == {KEY.name: sha256(KEY)}


def test_repository_of_another_release(store, tmp_path):
    with pytest.raises(UserError) as caught:
        run(kernel.kernel_repository, store, {"releasever": "45"})
    assert "Fedora 45" in caught.value.cause and "`key`" in caught.value.remedy
    key = tmp_path / "my-key"
    key.write_text("key")
    settings = {"releasever": "45", "key": str(key)}
    out = run(kernel.kernel_repository, store, settings)
    assert repository.read(str(out))["keys"] == ["RPM-GPG-KEY-fedora-45-primary"]
    assert (out / "RPM-GPG-KEY-fedora-45-primary").read_text() == "key"


class Mirror:
    """A mirror of Fedora's, and the metalink that leads to it"""

    def __init__(self, folder, server):
        self.root, self.server = folder / "fedora", server
        (self.root / "repodata").mkdir(parents=True)
        primary = (DATA / "primary.xml").read_bytes()
        (self.root / "repodata/primary.xml").write_bytes(primary)
        text = (DATA / "repomd.xml").read_text()
        text = text.format(
            revision=REVISION,
            sha256=hashlib.sha256(primary).hexdigest(),
            size=len(primary),
        )
        self.repomd = self.root / "repodata/repomd.xml"
        self.repomd.write_text(text)
        self.write_metalink(self.repomd.read_bytes())

    def write_metalink(self, repomd):
        kinds = ("md5", "sha1", "sha256", "sha512")
        text = (DATA / "metalink.xml").read_text()
        hashes = {kind: hashlib.new(kind, repomd).hexdigest() for kind in kinds}
        text = text.format(
            revision=REVISION,
            size=len(repomd),
            mirror=f"{self.server.address}/fedora",
            **hashes,
        )
        (self.root.parent / "metalink").write_text(text)

    def described(self, folder):
        """As `kernel_repository` writes it, but for the addresses"""
        folder.mkdir()
        (folder / KEY.name).write_bytes(KEY.read_bytes())
        about = kernel.fedora("44", KEY.name)
        metalink = f"{self.server.address}/metalink?arch=x86_64&repo=fedora-44"
        about["repositories"] = [
            {
                "id": "fedora",
                "metalink": metalink,
                "baseurl": "https://fedora.invalid/os",
            }
        ]
        repository.write(folder, about)
        return str(folder)


@pytest.fixture
def mirror(tmp_path):
    folder = tmp_path / "served"
    folder.mkdir()
    with served(folder) as server:
        yield Mirror(folder, server)


def lock(mirror, store, tmp_path, packages=("kernel-core",)):
    described = mirror.described(tmp_path / "described")
    settings = {"kernel": list(packages), "initrd": [], "lock": ""}
    out = run(kernel.lock_kernel_rpms, store, settings, repository=described)
    return json.loads(out.read_text())


def test_lock(mirror, store, tmp_path):
    """The newest, what it needs and no more; found by the metalink alone"""
    content = lock(mirror, store, tmp_path)
    assert [
        (one["nevra"], one["sha256"][0], one["size"], one["location"])
        for one in content["packages"]
    ] == [
        (
            "kernel-core-6.19.10-300.fc44.x86_64",
            "1",
            20971520,
            "Packages/k/kernel-core-6.19.10-300.fc44.x86_64.rpm",
        ),
        (
            "kernel-modules-core-6.19.10-300.fc44.x86_64",
            "2",
            41943040,
            "Packages/k/kernel-modules-core-6.19.10-300.fc44.x86_64.rpm",
        ),
    ]
    assert content["repositories"] == [
        {
            "id": "fedora",
            "repomd_sha256": sha256(mirror.repomd),
            "revision": str(REVISION),
        }
    ]
    assert mirror.server.asked[0] == "/metalink?arch=x86_64&repo=fedora-44"
    assert "/fedora/repodata/repomd.xml" in mirror.server.asked
    kernel.check_lock(content)


def test_mirror_that_is_not_the_metalinks(mirror, store, tmp_path):
    """Whoever changes repomd.xml on a mirror is noticed by the metalink's hashes"""
    text = mirror.repomd.read_text()
    mirror.repomd.write_text(text.replace(str(REVISION), str(REVISION - 1)))
    with pytest.raises(SignatureError) as caught:
        lock(mirror, store, tmp_path)
    assert caught.value.log and not list(store.glob("objects/*"))


def test_changed_primary(mirror, store, tmp_path):
    primary = mirror.root / "repodata/primary.xml"
    primary.write_bytes(primary.read_bytes().replace(b"1111", b"5555", 1))
    with pytest.raises(SignatureError, match="not what its hash"):
        lock(mirror, store, tmp_path)


def test_no_metalink(mirror, store, tmp_path):
    (mirror.root.parent / "metalink").unlink()
    with pytest.raises(NetworkError) as caught:
        lock(mirror, store, tmp_path)
    assert "kernel_repository" in caught.value.remedy


def test_unknown_package(mirror, store, tmp_path):
    with pytest.raises(UserError) as caught:
        lock(mirror, store, tmp_path, ["kernel-core", "no-such-package"])
    assert "no-such-package" in caught.value.cause
    assert "lock_kernel_rpms" in caught.value.remedy
