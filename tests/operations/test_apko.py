import asyncio
import hashlib
import os
import stat
import tarfile
from pathlib import Path

import pytest

from dffml_operations_decentralice.engine.commands import find_tool
from dffml_operations_decentralice.engine.step import Step
from dffml_operations_decentralice.engine.store import Store
from dffml_operations_decentralice.errors import (
    CommandFailed,
    MissingTool,
    NetworkError,
    SignatureError,
    SpaceError,
    UserError,
)
from dffml_operations_decentralice.operations import apk, apko

from .test_apk import info, package, tar

LOCKING = "Error: failed to get package list for image: "
EXPANDING = LOCKING + "calculating world: expanding bash: expanding bash: "
INSTALLING = (
    'Error: building "amd64" layer: failed installation from lockfile good.json: '
    "installing packages: expanding {bash ./repo/x86_64/bash-5.2-r0.apk Q10aOg=}: "
)
INDEX = LOCKING + "error getting repository indexes: reading index "
WARN = "2026/11/24 14:56:53 WARN getting local index ./repo/x86_64/APKINDEX.tar.gz: "
WARN += "stat: stat ./repo/x86_64/APKINDEX.tar.gz: no such file or directory\n"

# What apko 1.2.39 says, what that is, and what has to be named
SAID = [
    (
        EXPANDING + "checking sums: checksum mismatch: usr/bin/bash header was d3, "
        "computed 15",
        SignatureError,
        "bash",
    ),
    (
        INSTALLING + "expanding bash: checking sums: checksum mismatch: usr/bin/bash "
        "header was d3, computed 15",
        SignatureError,
        "bash",
    ),
    (EXPANDING + "expandApk error 3: gzip: invalid checksum", SignatureError, "bash"),
    (
        INSTALLING + "after 3 attempts: expanding bash: hashing usr/bin/bash: "
        "unexpected EOF",
        SignatureError,
        "bash",
    ),
    (
        LOCKING + 'package "bash" control hash mismatch: expected Q1a got Q1b',
        SignatureError,
        "bash",
    ),
    (
        INDEX + "./repo/x86_64/APKINDEX.tar.gz: signature verification failed for "
        "repository index, for all provided keys",
        SignatureError,
        "pinned",
    ),
    (
        INDEX + "x: failed to find key name in signature file name: DESCRIPTION",
        SignatureError,
        "not signed",
    ),
    (
        INDEX + "x: no signature with known key (one of: [a.rsa.pub]) found in "
        "repository index",
        SignatureError,
        "key",
    ),
    (INDEX + "x: no keys provided to verify signature", SignatureError, "key"),
    (
        "Error: failed to load keyring k.rsa.pub: open k.rsa.pub: no such file or "
        "directory",
        UserError,
        "k.rsa.pub",
    ),
    (
        "Error: locking config: initializing apk: failed to initialize apk keyring: "
        "failed to read apk key: open k.rsa.pub: no such file or directory",
        UserError,
        "k.rsa.pub",
    ),
    (
        "Error: locking config: checksum in the lock file 'good.json' does not matches "
        "the original config: 'apko.yaml' (maybe regenerate the lock file)",
        UserError,
        "another configuration",
    ),
    (
        EXPANDING + 'fetching package "bash": failed to read repository package apk '
        "./repo/x86_64/bash-5.2-r0.apk: open x: no such file or directory",
        NetworkError,
        "./repo/x86_64/bash-5.2-r0.apk",
    ),
    (
        WARN + LOCKING + 'solving "bash" constraint: nothing provides "bash"',
        NetworkError,
        "./repo/x86_64/APKINDEX.tar.gz cannot be read",
    ),
    (WARN, NetworkError, "./repo/x86_64/APKINDEX.tar.gz cannot be read"),
    (
        LOCKING + 'solving "a" constraint: nothing provides "no-such-package"',
        UserError,
        "no-such-package",
    ),
    (
        INDEX + 'https://example.org/os/x86_64/APKINDEX.tar.gz: Head "https://example'
        '.org/os/x86_64/APKINDEX.tar.gz": HEAD x giving up after 5 attempt(s): Head "x"'
        ": dial tcp 192.0.2.1:443: connect: connection refused",
        NetworkError,
        "https://example.org/os/x86_64/APKINDEX.tar.gz",
    ),
    (
        INDEX + "https://a.invalid/x86_64/APKINDEX.tar.gz: dial tcp: lookup a.invalid "
        "on 192.0.2.53:53: no such host",
        NetworkError,
        "https://a.invalid/",
    ),
    (
        INDEX + "http://a.example/x86_64/APKINDEX.tar.gz: unexpected status code 404",
        NetworkError,
        "http://a.example/x86_64/APKINDEX.tar.gz",
    ),
    (
        INSTALLING + 'fetching package "bash": unable to get package apk at '
        "http://a.example/x86_64/bash-5.2-r0.apk: GET http://a.example/x86_64/bash-5.2"
        "-r0.apk: unexpected status code: 404",
        NetworkError,
        "http://a.example/x86_64/bash-5.2-r0.apk",
    ),
    (
        'Error: installing packages: packages map[a:a b:b] has conflicting file: "x/y"',
        UserError,
        "x/y",
    ),
    (
        "Error: initializing apk: failed to initialize apk repositories: must provide "
        "at least one repository",
        UserError,
        "no repository",
    ),
    (EXPANDING + "write /tmp/x: no space left on device", SpaceError, "space"),
    ("Error: something else", CommandFailed, "something else"),
    ("panic: x", CommandFailed, "panic: x"),
    ("", CommandFailed, "nothing"),
    (
        "WARN retrying fetch of a (attempt 2/3) after error: unexpected EOF\n"
        "Error: something else",
        CommandFailed,
        "something else",
    ),
]


@pytest.mark.parametrize("said, kind, named", SAID)
def test_explain(said, kind, named):
    error = apko.explain(said, Path("/store/logs/x.log"))
    assert type(error) is kind
    assert named in error.cause
    assert error.remedy
    assert error.log == Path("/store/logs/x.log")


def test_unread():
    assert apko.unread(WARN)
    assert not apko.unread("INFO Discovered 0 auto-discovered keys\nWARN other")


def tool(name):
    try:
        return find_tool(name)
    except MissingTool as error:
        pytest.skip(error.cause)


def in_a_step(tmp_path, work):
    """Run ``work(step)`` as in an operation"""

    async def run():
        store = Store(tmp_path / "store")
        with store.scratch("test") as scratch:
            return await work(Step("test", None, store, scratch, "out"))

    return asyncio.run(run())


@pytest.mark.parametrize(
    "contents, kind, named",
    [
        ({"build_repositories": ["./nowhere"]}, NetworkError, "./nowhere"),
        ({"build_repositories": []}, UserError, "no repository"),
        (
            {"build_repositories": ["./nowhere"], "keyring": ["./k.rsa.pub"]},
            UserError,
            "k.rsa.pub",
        ),
    ],
)
def test_resolve_fails(tmp_path, contents, kind, named):
    """Whatever this apko's messages are, they are understood"""
    config = {
        "archs": ["x86_64"],
        "contents": {"packages": ["no-such-package"], **contents},
    }

    tool("apko-tree")
    with pytest.raises(kind) as raised:
        in_a_step(tmp_path, lambda step: apko.resolve(step, config, step.work))
    assert named in raised.value.cause
    assert raised.value.log.read_text()


def entry(name, content=b"", **fields):
    """A member as apk writes them, its checksum with it"""
    checksum = {"APK-TOOLS.checksum.SHA1": hashlib.sha1(content).hexdigest()}
    member = info(name, **{"uname": "root", "gname": "root", **fields})
    if member.type in (tarfile.REGTYPE, tarfile.SYMTYPE):
        member.pax_headers = {**checksum, **member.pax_headers}
    return member, content


def folder(name, mode=0o755, **fields):
    return entry(name, type=tarfile.DIRTYPE, mode=mode, **fields)


def link(name, target, type=tarfile.SYMTYPE):
    return entry(name, type=type, linkname=target)


BASE = [
    *(folder("etc"), folder("usr"), folder("usr/bin"), folder("var")),
    folder("var/tmp/", mode=0o1777),
    entry("etc/passwd", b"root:x:0:0::/root:/bin/sh\nme:x:1000:7::/:/bin/sh\n"),
    entry("etc/group", b"root:x:0:\nshadow:x:42:\n"),
    link("bin", "/usr/bin"),
]
ATTRIBUTE = {"SCHILY.xattr.user.test": "value"}
FILES = [
    entry("usr/bin/plain", b"text", mode=0o755, pax_headers=dict(ATTRIBUTE)),
    entry("usr/bin/named", b"x", mode=0o2755, gname="shadow"),  # whose number is 0
    entry("bin/through-link", b"x", mode=0o4755, uname="me", gname="root"),
    entry("usr/bin/numbered", b"x", mode=0o644, uname="who", gname="who", uid=5, gid=6),
    link("usr/bin/twin", "usr/bin/plain", tarfile.LNKTYPE),
    link("usr/bin/symlink", "plain"),
]


def installed(tmp_path, *packages):
    """The tree of packages (name, members), installed in this order"""
    tool("apko-tree")
    locked, stems = [], []
    for name, members in packages:
        file = tmp_path / f"{name}.apk"
        q1, datahash = package(file, tar(members), more=f"origin = {name}\n", name=name)
        apk.unpack(file, q1, datahash, tmp_path / name)
        found = {"name": name, "version": "1-r0", "size": file.stat().st_size}
        locked.append({**found, "checksum": q1})
        stems.append(str(tmp_path / name))
    config = {
        "archs": ["x86_64"],
        "contents": {
            "packages": [name for name, _ in packages],
            "build_repositories": ["./nowhere"],
            "runtime_repositories": ["https://example.org/os"],
        },
    }
    root = tmp_path / "root"
    args = config, locked, stems
    in_a_step(tmp_path, lambda step: apko.install(step, *args, step.work, root))
    return root


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files to others")
def test_install(tmp_path):
    root = installed(tmp_path, ("base", BASE), ("files", FILES))
    owners = {
        "usr/bin/plain": (0, 0, 0o755),
        "usr/bin/named": (0, 42, 0o2755),
        "usr/bin/through-link": (1000, 0, 0o4755),
        "usr/bin/numbered": (5, 6, 0o644),
        "var/tmp": (0, 0, 0o1777),
        "etc/passwd": (0, 0, 0o644),
    }
    for name, wanted in owners.items():
        found = (root / name).lstat()
        mode = stat.S_IMODE(found.st_mode)
        assert (found.st_uid, found.st_gid, mode) == wanted, name
    assert (root / "usr/bin/plain").samefile(root / "usr/bin/twin")
    assert os.getxattr(root / "usr/bin/plain", "user.test") == b"value"
    assert os.readlink(root / "bin") == "/usr/bin"
    assert os.readlink(root / "usr/bin/symlink") == "plain"
    assert not any((root / "dev").iterdir())
    text = (root / "etc/apk/repositories").read_text()
    assert text.split() == ["https://example.org/os"]
    database = (root / "usr/lib/apk/db/installed").read_text().splitlines()
    assert f"S:{(tmp_path / 'base.apk').stat().st_size}" in database
    assert (root / "etc/apk/world").read_text().split() == ["base", "files"]


def test_install_refuses_two_of_one_file(tmp_path):
    other = [entry("usr/bin/plain", b"other")]
    with pytest.raises(UserError, match="two packages have the same file"):
        installed(tmp_path, ("base", BASE), ("files", FILES), ("other", other))
