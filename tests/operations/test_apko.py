import asyncio
import json
import shutil
from pathlib import Path

import pytest

from dffml_operations_decentralice.engine.step import Step
from dffml_operations_decentralice.engine.store import Store
from dffml_operations_decentralice.errors import (
    CommandFailed,
    NetworkError,
    SignatureError,
    SpaceError,
    UserError,
)
from dffml_operations_decentralice.operations import apko

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


def test_build_argv():
    assert "--offline" in apko.build_argv(local=True)
    assert "--offline" not in apko.build_argv(local=False)


@pytest.mark.parametrize(
    "urls, local",
    [
        (["./repository/x86_64/a.apk", "/mnt/b.apk"], True),
        ([], True),
        (["./a.apk", "https://example.org/b.apk"], False),
        (["http://example.org/b.apk"], False),
    ],
)
def test_is_local(tmp_path, urls, local):
    packages = [{"url": url} for url in urls]
    (tmp_path / "lock").write_text(json.dumps({"contents": {"packages": packages}}))
    assert apko.is_local(tmp_path / "lock") is local


def layout(folder, media_type):
    blobs = folder / "blobs/sha256"
    blobs.mkdir(parents=True)
    layer = {"digest": "sha256:aa", "mediaType": media_type}
    config = {"digest": "sha256:larger", "mediaType": "x"}
    (blobs / "mm").write_text(json.dumps({"layers": [layer], "config": config}))
    (folder / "index.json").write_text(
        json.dumps({"manifests": [{"digest": "sha256:mm"}]})
    )


@pytest.mark.parametrize("suffix, option", [("+gzip", "-z"), ("", None)])
def test_layer_of(tmp_path, suffix, option):
    layout(tmp_path, "application/vnd.oci.image.layer.v1.tar" + suffix)
    assert apko.layer_of(tmp_path) == (tmp_path / "blobs/sha256/aa", option)


def test_tar_argv():
    argv = apko.tar_argv(Path("/layer"), "-z", Path("/root"))
    assert argv[:3] == ["tar", "-C", "/root"]
    assert argv[-3:] == ["-z", "-f", "/layer"]
    assert "--exclude=dev/*" in argv and "--anchored" in argv


@pytest.mark.skipif(not shutil.which("apko"), reason="apko is not installed")
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
def test_lock_fails(tmp_path, contents, kind, named):
    """Whatever this apko's messages are, they are understood"""
    config = {
        "archs": ["x86_64"],
        "contents": {"packages": ["no-such-package"], **contents},
    }

    async def lock():
        store = Store(tmp_path / "store")
        with store.scratch("test") as scratch:
            step = Step("test", None, store, scratch, "out")
            await apko.lock(step, config, step.work / "apko")

    with pytest.raises(kind) as raised:
        asyncio.run(lock())
    assert named in raised.value.cause
    assert raised.value.log.read_text()
