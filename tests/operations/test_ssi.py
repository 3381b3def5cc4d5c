import asyncio
import json
import os
import shutil
import subprocess
import tarfile
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
from dffml_operations_decentralice.operations import apk, golang, ssi

from .test_spdx import problems

FILES = Path(ssi.__file__).parent.parent / "files/ssi_service"
EPOCH = 1767225600
INFO = {
    "GoVersion": "go1.26.6",
    "Deps": [
        {"Path": "github.com/TBD54566975/ssi-sdk", "Version": "v0.0.4", "Sum": "h1:a="},
        {"Path": "github.com/tbd54566975/ssi-service", "Version": "v0.0.3"},
        {"Path": "example.org/a/v2", "Version": "v2.0.0+incompatible", "Sum": "h1:b="},
    ],
}


def installed(tool):
    try:
        return bool(find_tool(tool))
    except MissingTool:
        return False


def test_module_version():
    assert ssi.module_version(INFO) == "0.0.3"


@pytest.mark.parametrize(
    "info, named",
    [
        ({}, "has no"),
        ({"Deps": None}, "has no"),
        ({"Deps": INFO["Deps"][:1]}, "has no"),
        ({"Deps": [{"Path": ssi.MODULE, "Version": "v0.0.4-0.2024-abc"}]}, "release"),
        ({"Deps": [{"Path": ssi.MODULE, "Version": "(devel)"}]}, "release"),
    ],
)
def test_module_version_rejects(info, named):
    with pytest.raises(UserError, match=named):
        ssi.module_version(info)


def test_package_contents():
    found = {entry["dst"]: entry for entry in ssi.package_contents(FILES, EPOCH)}
    assert set(found) == {
        "/etc/skel/.config/systemd/user/sockets.target.wants/ssi-service.socket",
        "/etc/skel/.config/systemd/user/ssi-service.service",
        "/etc/skel/.config/systemd/user/ssi-service.socket",
        "/etc/ssi-service/config.toml",
        "/usr/lib/systemd/system-preset/50-ssi-service.preset",
        "/usr/lib/systemd/system/ssi-service.service",
        "/usr/lib/systemd/system/ssi-service.socket",
        "/usr/lib/sysusers.d/ssi-service.conf",
    }
    link = found.pop(
        "/etc/skel/.config/systemd/user/sockets.target.wants/ssi-service.socket"
    )
    assert (link["type"], link["src"]) == ("symlink", "../ssi-service.socket")
    for entry in found.values():
        assert entry["file_info"]["mode"] == 0o644
        assert entry["file_info"]["mtime"] == "2026-01-01T00:00:00Z"
    assert not [path for path in FILES.rglob("*") if path.is_symlink()]


def unit(path):
    """Sections of a unit: every value of each key"""
    sections, current = {}, {}
    for line in (FILES / path).read_text().splitlines():
        if line.startswith("["):
            current = sections.setdefault(line.strip("[]"), {})
        elif "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            current.setdefault(key, []).append(value)
    return sections


def test_units():
    service = unit("usr/lib/systemd/system/ssi-service.service")
    listening = unit("usr/lib/systemd/system/ssi-service.socket")
    assert service["Install"]["WantedBy"] == ["multi-user.target"]
    assert service["Service"]["ImportCredential"] == ["ssi-service.*"]
    assert listening["Install"]["WantedBy"] == ["sockets.target"]
    # the launcher takes one socket, and loopback is the only protection it has
    assert listening["Socket"]["ListenStream"] == ["127.0.0.1:3000"]
    assert listening["Socket"]["IPAddressDeny"] == ["any"]
    for path in ("usr/lib/systemd/system", "etc/skel/.config/systemd/user"):
        hardened = unit(f"{path}/ssi-service.service")["Service"]
        # the launcher's exitConfig, which no restart mends
        assert hardened["RestartPreventExitStatus"] == ["78"]
        assert hardened["Type"] == ["notify"]
        assert hardened["StateDirectoryMode"] == ["0700"]
        assert hardened["UMask"] == ["0077"]
        assert hardened["RestrictAddressFamilies"] == ["AF_UNIX"]
        assert hardened["PrivateNetwork"] == ["yes"]
        assert hardened["SystemCallFilter"][-1] == "~@privileged @resources"
    account = (FILES / "usr/lib/sysusers.d/ssi-service.conf").read_text().split()
    assert account[:3] == ["u", service["Service"]["User"][0], "970"]


def test_prune(tmp_path):
    for name in ("usr/bin/own", "usr/bin/other", "etc/x/y", "lib/real", "empty/keep/z"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "link").symlink_to("lib")
    (tmp_path / "usr/own-link").symlink_to("/nowhere")
    os.mkfifo(tmp_path / "fifo")
    ssi.prune(tmp_path, {"usr", "usr/bin", "usr/bin/own", "usr/own-link", "empty/keep"})
    left = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*"))
    assert left == [
        *("empty", "empty/keep", "usr", "usr/bin", "usr/bin/own", "usr/own-link")
    ]


# ---- with the real programs
@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """The store of the whole run, if there is one: Go's caches are large"""
    given = os.environ.get("DECENTRALICE_STORE")
    return Path(given) if given else tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def program(store):
    if not installed("go"):
        pytest.skip("Go is not installed")
    return Path(asyncio.run(run_operation(ssi.build_ssi_service, store=store)))


@pytest.fixture(scope="module")
def package(store, program):
    if not all(map(installed, ("nfpm", "melange", "openssl"))):
        pytest.skip("nfpm, melange or openssl is not installed")
    return Path(pack(store, program))


def pack(store, program):
    operation = ssi.package_ssi_service
    return asyncio.run(run_operation(operation, store=store, program=str(program)))


def install(store, package):
    operation = ssi.install_ssi_service
    return Path(
        asyncio.run(run_operation(operation, store=store, package=str(package)))
    )


def test_build(program):
    golang.require_static(program / "ssi-service")
    modules = json.loads((program / "modules.json").read_text())
    [service] = [one for one in modules["Deps"] if one["Path"] == ssi.MODULE]
    assert service == {
        "Path": ssi.MODULE,
        "Version": "v0.0.3",
        "Sum": "h1:DSvN/daCXb3crUPoLy+W8JXySfM7+UG0pW/weSthLCw=",
    }
    assert not [one for one in modules["Deps"] if "Replace" in one]
    licences = json.loads((program / "licences.json").read_text())
    named = {f"{one['Path']}@{one['Version']}" for one in modules["Deps"]}
    assert set(licences) == named
    assert set(licences.values()) == {
        *("Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "MIT"),
        *("Apache-2.0 AND BSD-3-Clause", "Apache-2.0 AND MIT", "Apache-2.0 OR MIT"),
    }
    for name in ("go-base36@v0.2.0", "go-multicodec@v0.9.0"):
        assert licences[f"github.com/multiformats/{name}"] == "Apache-2.0 OR MIT"


@pytest.mark.parametrize("folder", [ssi.SOURCES, ssi.SUPPLY_CHAIN])
def test_go_sources(program, store, folder):
    """`go vet` and `go test`, offline, from what the build has fetched"""
    env = golang.environment(store / "cache/go", "off", {})
    env = {**env, "PATH": os.environ["PATH"], "HOME": str(store)}
    sources = (FILES / ".." / folder).resolve()
    for words in (["vet"], ["test", "-count=1"]):
        argv = [find_tool("go"), *words, "-trimpath", "-tags", "jwx_es256k", "./..."]
        done = subprocess.run(argv, cwd=sources, env=env, capture_output=True)
        assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()


def test_package(package, tmp_path):
    assert json.loads((package / "repository.json").read_text()) == {
        "variant": "factory",
        "repositories": ["."],
        "keys": ["factory.rsa.pub"],
    }
    file = package / "x86_64/ssi-service-0.0.3-r0.apk"
    found = {member.path: member for member in apk.members(file)}
    assert found["usr/bin/ssi-service"].mode == 0o755
    assert "var/lib/db/sbom/ssi-service-0.0.3-r0.spdx.json" in found
    assert {member.uname for member in found.values()} <= {"root", ""}
    told = apk.pkginfo(file)
    assert told["pkgver"] == ["0.0.3-r0"] and "depend" not in told
    for path in package.rglob("*"):
        assert path.is_dir() or b"PRIVATE KEY" not in path.read_bytes()
    verify_index(package, tmp_path)


def verify_index(package, work):
    """The index's signature, by openssl: over the raw bytes behind the first member"""
    index = package / "x86_64/APKINDEX.tar.gz"
    with open(index, "rb") as opened:
        end, _ = apk._gunzip(opened, 0)
    with tarfile.open(index) as first:
        entry = first.next()
        assert entry.name == ".SIGN.RSA256.factory.rsa.pub"
        (work / "signature").write_bytes(first.extractfile(entry).read())
    (work / "signed").write_bytes(index.read_bytes()[end:])
    subprocess.run(
        ["openssl", "dgst", "-sha256", "-verify", package / "factory.rsa.pub"]
        + ["-signature", work / "signature", work / "signed"],
        check=True,
    )


def test_package_again_is_the_same(store, program, package):
    for action in (store / "actions").iterdir():
        if json.loads(action.read_text())["object"] == package.name:
            action.unlink()
    assert Path(pack(store, program)) == package
    key = store / "cache/factory-keys/factory.rsa"
    assert key.stat().st_mode & 0o777 == 0o600


def test_install(store, package, tmp_path):
    if not installed("apko-tree"):
        pytest.skip("apko-tree is not installed")
    tree = install(store, package)
    file = package / "x86_64/ssi-service-0.0.3-r0.apk"
    own = {member.path for member in apk.members(file)}
    root = tree / "root"
    left = {str(path.relative_to(root)) for path in root.rglob("*")}
    apks = {"usr/lib/apk", "usr/lib/apk/db", "usr/lib/apk/db/installed"}
    assert left == own | apks
    sbom = json.loads((root / ssi.sbom_path("0.0.3")).read_text())
    assert problems(sbom, tmp_path) == []
    assert len(sbom["packages"]) == 115  # itself, Go's library, the modules
    licences = {one["licenseDeclared"] for one in sbom["packages"]}
    assert "NOASSERTION" not in licences and "Apache-2.0 OR MIT" in licences
    lines = (root / ssi.DATABASE).read_text().splitlines()
    told = json.loads((tree / "apk.json").read_text())
    assert lines[0] == "P:ssi-service" and f"C:{told['checksum']}" in lines
    apk.verify(file, told["checksum"], told["data"])
    link = "etc/skel/.config/systemd/user/sockets.target.wants/ssi-service.socket"
    assert (root / link).resolve() == root / link.replace("sockets.target.wants/", "")


def changed(package, tmp_path, path, content):
    other = tmp_path / "other"
    shutil.copytree(package, other)
    (other / path).write_bytes(content)
    return other


def test_install_refuses_changed_package(package, tmp_path):
    if not installed("apko-tree"):
        pytest.skip("apko-tree is not installed")
    path = "x86_64/ssi-service-0.0.3-r0.apk"
    content = bytearray((package / path).read_bytes())
    content[-3000] ^= 1
    with pytest.raises(SignatureError, match="ssi-service"):
        install(tmp_path / "store", changed(package, tmp_path, path, content))


def test_install_refuses_other_key(package, tmp_path):
    if not installed("apko-tree"):
        pytest.skip("apko-tree is not installed")
    made = subprocess.run(["openssl", "genrsa", "2048"], capture_output=True).stdout
    argv = ["openssl", "rsa", "-pubout"]
    key = subprocess.run(argv, input=made, capture_output=True).stdout
    with pytest.raises(SignatureError, match="pinned"):
        install(tmp_path / "store", changed(package, tmp_path, "factory.rsa.pub", key))
    assert not list((tmp_path / "store/objects").iterdir())


def test_build_without_network(tmp_path):
    if not installed("go"):
        pytest.skip("Go is not installed")
    settings = {"goproxy": "off"}
    with pytest.raises(NetworkError, match="GOPROXY=off"):
        asyncio.run(
            run_operation(ssi.build_ssi_service, store=tmp_path, settings=settings)
        )
    assert not list((tmp_path / "objects").iterdir())
