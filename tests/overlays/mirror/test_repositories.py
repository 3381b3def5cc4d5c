"""
Both repositories, of real packages, as their real consumers see them

A closure of four packages, served by a server of our own which asks the host's archive
and can falsify one file.
"""

import asyncio
import hashlib
import http.server
import json
import os
import shutil
import subprocess
import tempfile
import threading
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import pytest

from dffml_operations_decentralice.engine.commands import find_tool
from dffml_operations_decentralice.engine.testing import run_operation
from dffml_operations_decentralice.errors import SignatureError, UserError
from dffml_operations_decentralice.overlays.mirror import (
    archive,
    fetched,
    keys,
    operations,
)

from .conftest import ar, control, entry, tar_xz

RELEASE = "6.1.0-1-cloud-amd64"
VERSION = "6.1.4-1"


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def server():
    """An archive: ``server.falsify`` names a part of the path whose file is changed"""
    targets = subprocess.run(
        ["apt-get", *archive.INDEX_TARGETS],
        check=True,
        text=True,
        stdout=subprocess.PIPE,
    ).stdout
    upstream = urllib.parse.urlsplit(archive.host_addresses(targets).archive)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            address = upstream._replace(path=self.path).geturl()
            try:
                with urllib.request.urlopen(address, timeout=60) as answer:
                    content = bytearray(answer.read())
            except urllib.error.HTTPError as error:
                self.send_error(error.code)
                return
            if self.server.falsify and self.server.falsify in self.path:
                content[len(content) // 2] ^= 1
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as made:
        made.falsify = ""
        made.address = f"http://127.0.0.1:{made.server_port}{upstream.path}"
        thread = threading.Thread(target=made.serve_forever)
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def fetch(store, server, falsify=""):
    server.falsify = falsify
    wanted = {"packages": ["hostname"], "archive": server.address}
    made = operations.fetch_debian_userspace
    return asyncio.run(run_operation(made, store=store, settings=wanted))


@pytest.fixture(scope="module")
def debs(store, server):
    return Path(fetch(store, server))


@pytest.fixture(scope="module")
def userspace(store, debs):
    made = operations.mirror_userspace_repository
    return Path(asyncio.run(run_operation(made, store=store, debs=str(debs))))


@pytest.fixture(scope="module")
def kernel_debs(debs, tmp_path_factory):
    """What the userspace has, and the smallest kernel"""
    folder = tmp_path_factory.mktemp("debs") / "debs"
    shutil.copytree(debs, folder)
    name = f"linux-image-{RELEASE}"
    modules = f"./lib/modules/{RELEASE}/kernel"
    files = [
        entry(f"./boot/vmlinuz-{RELEASE}", b"kernel"),
        entry(f"{modules}/fs/ext4/ext4.ko", b"\0depends=\0"),
        entry(f"{modules}/sound/snd.ko", b"\0depends=\0"),
    ]
    text = control(name, VERSION, Depends="linux-base")
    path = folder / f"{name}_{VERSION}_amd64.deb"
    path.write_bytes(
        ar(
            [
                ("debian-binary", b"2.0\n"),
                ("control.tar.xz", tar_xz([entry("./control", text.encode())])),
                ("data.tar.xz", tar_xz(files)),
            ]
        )
    )
    listed = json.loads((folder / fetched.LIST).read_text())
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    size = path.stat().st_size
    image = fetched.Package(f"file:/{path.name}", path.name, size, digest)
    listed["packages"].append(fetched.record(image))
    listed["kernel"] = {"package": name, "version": VERSION, "release": RELEASE}
    (folder / fetched.LIST).write_text(json.dumps(listed))
    return folder


@pytest.fixture(scope="module")
def kernel(store, kernel_debs):
    made = operations.mirror_kernel_repository
    return Path(asyncio.run(run_operation(made, store=store, debs=str(kernel_debs))))


def objects(store):
    return sorted(path.name for path in (store / "objects").iterdir())


def test_debs(debs):
    listed = json.loads((debs / "debs.json").read_text())
    assert listed["suite"] == "trixie"
    assert {"hostname", "libc6"} <= {one["package"] for one in listed["packages"]}
    for one in listed["packages"]:
        content = (debs / one["file"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == one["sha256"]
        assert one["uri"].startswith("http://127.0.0.1:")


@pytest.mark.parametrize("falsify", ["/hostname_", "/trixie/InRelease"])
def test_falsified_archive(store, server, debs, falsify, monkeypatch):
    before = objects(store)
    monkeypatch.setenv("DECENTRALICE_UPDATE", "9999999999")
    with pytest.raises(SignatureError):
        fetch(store, server, falsify)
    assert objects(store) == before


def test_other_keys(tmp_path, server, monkeypatch):
    """An archive which is signed, but by nobody that we know"""
    other = "/usr/share/keyrings/debian-archive-removed-keys.gpg"
    monkeypatch.setattr(archive, "KEYRING", other)
    with pytest.raises(SignatureError, match="NO_PUBKEY"):
        fetch(tmp_path / "store", server)


@pytest.mark.parametrize("side", ["userspace", "kernel"])
def test_falsified_package(store, debs, tmp_path, side):
    folder = tmp_path / "debs"
    shutil.copytree(debs, folder)
    path = next(folder.glob("hostname_*.deb"))
    path.chmod(0o644)
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)
    before = objects(store)
    made = getattr(operations, f"mirror_{side}_repository")
    with pytest.raises(SignatureError, match="hostname"):
        asyncio.run(run_operation(made, store=store, debs=str(folder)))
    assert objects(store) == before


def apko_resolve(folder, repository, key):
    """What apko's own packages answer, in a folder of its own"""
    folder.mkdir()
    (folder / "repository").symlink_to(repository)
    shutil.copyfile(key, folder / "mirror.rsa.pub")
    config = {
        "contents": {
            "build_repositories": ["./repository"],
            "runtime_repositories": ["https://example.org/none"],
            "keyring": ["./mirror.rsa.pub"],
            "packages": ["hostname"],
        },
        "archs": ["x86_64"],
    }
    (folder / "apko.yaml").write_text(json.dumps(config))
    return subprocess.run(
        [find_tool("apko-tree"), "resolve", "apko.yaml"],
        cwd=folder,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_apko_takes_the_userspace(userspace, tmp_path):
    about = json.loads((userspace / "repository.json").read_text())
    assert (about["variant"], about["repositories"]) == ("mirror", ["."])
    (key,) = about["keys"]
    done = apko_resolve(tmp_path / "good", userspace, userspace / key)
    assert done.returncode == 0, done.stderr
    names = {json.loads(line)["name"] for line in done.stdout.splitlines()}
    assert {"hostname", "libc6", "wolfi-baselayout"} <= names


def test_apko_refuses_another_key(userspace, tmp_path):
    private, public = tmp_path / "other.rsa", tmp_path / "other.rsa.pub"
    subprocess.run(["openssl", "genrsa", "-out", private, "2048"], check=True)
    argv = ["openssl", "rsa", "-in", private, "-pubout", "-out", public]
    subprocess.run(argv, check=True)
    done = apko_resolve(tmp_path / "bad", userspace, public)
    assert done.returncode == 1
    assert "signature verification failed" in done.stderr


def dnf(tmp_path, repository, *argv):
    for name in ("root", "repos", "vars"):
        (tmp_path / name).mkdir(exist_ok=True)
    (tmp_path / "repos/mirror.repo").write_text(
        f"[mirror]\nname=mirror\nbaseurl=file://{repository}\n"
    )
    return subprocess.run(
        [
            *(find_tool("dnf"), "-q", f"--installroot={tmp_path / 'root'}"),
            *("--releasever=44", f"--setopt=reposdir={tmp_path / 'repos'}"),
            *(f"--setopt=varsdir={tmp_path / 'vars'}", "--forcearch=x86_64"),
            *(f"--setopt=cachedir={tmp_path / 'cache'}", "--setopt=plugins=0", *argv),
        ],
        check=True,
        text=True,
        stdout=subprocess.PIPE,
    ).stdout


def test_dnf_takes_the_kernel(kernel, tmp_path):
    about = json.loads((kernel / "repository.json").read_text())
    assert about["repositories"] == [{"id": "mirror", "baseurl": "."}]
    assert about["releasever"] == "44"
    listed = dnf(tmp_path, kernel, "repoquery", "--qf", "%{name} %{evr}").split("\n")
    for name in ("kernel-core", "kernel-modules-core", "kernel-modules", "kernel"):
        assert f"{name} {VERSION}" in listed
    assert any(line.startswith("glibc 2.") for line in listed)
    provided = ("repoquery", "--whatprovides", f"kernel-uname-r = {RELEASE}")
    assert "kernel-core" in dnf(tmp_path, kernel, *provided)
    files = dnf(tmp_path, kernel, "repoquery", "-l", "kernel-core").split()
    assert f"/lib/modules/{RELEASE}/vmlinuz" in files


def rpmkeys(path, root):
    argv = ["--define", "_pkgverify_level all", "--dbpath", "/rpmdb", "--root", root]
    return [find_tool("rpmkeys"), *argv, *path]


def test_rpms_are_signed(kernel, tmp_path):
    packages = sorted(kernel.rglob("*.rpm"))
    checksig = rpmkeys(["--checksig", *packages], tmp_path)
    # Nobody's key is known yet
    done = subprocess.run(checksig, text=True, stdout=subprocess.PIPE)
    assert done.returncode != 0 and "SIGNATURES NOT OK" in done.stdout
    key = kernel / "RPM-GPG-KEY-mirror"
    subprocess.run(rpmkeys(["--import", key], tmp_path), check=True)
    subprocess.run(checksig, check=True)


def test_nothing_secret_is_kept(userspace, kernel, store):
    for folder in (store / "objects", store / "logs", store / "actions"):
        for path in folder.rglob("*"):
            if path.is_file():
                assert b"PRIVATE KEY" not in path.read_bytes(), path
    folder = store / "cache/mirror-keys"
    assert (folder / "apk/mirror.rsa").stat().st_mode & 0o077 == 0
    assert (folder / "rpm/gnupg").stat().st_mode & 0o077 == 0
    assert not list((store / "tmp").glob("*/work"))


def test_second_run_is_identical(userspace, kernel, debs, kernel_debs, store):
    """With the same keys, another run gives the same bits"""
    shutil.rmtree(store / "actions")
    (store / "actions").mkdir()
    for side, folder, first in (
        ("userspace", debs, userspace),
        ("kernel", kernel_debs, kernel),
    ):
        made = getattr(operations, f"mirror_{side}_repository")
        again = asyncio.run(run_operation(made, store=store, debs=str(folder)))
        assert again == str(first)


def test_no_process_is_left(kernel, store):
    """Nor gpg's agent: nothing runs in a sandbox that has a part of this store"""
    part = "/".join(store.parts[-2:])
    for path in Path("/proc").glob("[0-9]*/mountinfo"):
        try:
            mounts = path.read_text()
        except OSError:  # it ended meanwhile, or is not ours
            continue
        assert part not in mounts, path


@pytest.fixture(scope="module")
def given_keys(tmp_path_factory):
    """Keys as somebody makes them: for the packages of the userspace, and the RPMs"""
    folder = tmp_path_factory.mktemp("given")
    rsa, secret = folder / "some.pem", folder / "some.asc"
    argv = ["openssl", "genpkey", "-algorithm", "RSA", "-quiet", "-out", rsa]
    subprocess.run(argv, check=True)
    with tempfile.TemporaryDirectory(dir="/tmp") as home:  # a socket's path is short
        env = {**os.environ, "GNUPGHOME": home}
        gpg = ["gpg", "--batch", "--quiet", *keys.CLOCK]
        made = ["--passphrase", "", "--quick-generate-key", "Somebody <a@b.c>"]
        subprocess.run([*gpg, *made, "rsa2048", "sign", "never"], env=env, check=True)
        exported = subprocess.check_output([*gpg, "--export-secret-keys"], env=env)
        subprocess.run(["gpgconf", "--kill", "all"], env=env, check=True)
    secret.write_bytes(exported)
    return {"userspace": rsa, "kernel": secret}


@pytest.mark.parametrize("side", ["userspace", "kernel"])
def test_given_key(tmp_path, debs, kernel_debs, given_keys, side, request):
    """Two stores make the same; the store's own key is another one"""
    folder = debs if side == "userspace" else kernel_debs
    made = getattr(operations, f"mirror_{side}_repository")
    settings = {"key": str(given_keys[side])}
    found = [
        asyncio.run(
            run_operation(
                made, store=tmp_path / name, settings=settings, debs=str(folder)
            )
        )
        for name in ("one", "two")
    ]
    assert Path(found[0]).name == Path(found[1]).name
    assert not list((tmp_path / "one/cache").glob("*/*"))
    assert Path(found[0]).name != request.getfixturevalue(side).name
    if side == "kernel":
        test_rpms_are_signed(Path(found[0]), tmp_path / "rpm")


@pytest.mark.parametrize("side", ["userspace", "kernel"])
def test_key_that_is_none(tmp_path, debs, kernel_debs, side):
    folder = debs if side == "userspace" else kernel_debs
    made = getattr(operations, f"mirror_{side}_repository")
    (tmp_path / "key").write_text("no key")
    for name, said in (("key", "is no private key"), ("none", "no key ")):
        settings = {"key": str(tmp_path / name)}
        with pytest.raises(UserError, match=said):
            running = run_operation(
                made, store=tmp_path / "store", settings=settings, debs=str(folder)
            )
            asyncio.run(running)
