from pathlib import Path

import pytest

from dffml_operations_decentralice.errors import (
    CommandFailed,
    NetworkError,
    SignatureError,
    SpaceError,
    UserError,
)
from dffml_operations_decentralice.overlays.mirror.apt_failure import failure

# What apt 2.6 says, what that is, and what has to be named
SAID = [
    (
        "Err:1 http://a.example/debian trixie InRelease\n"
        "  Could not connect to a.example:80 (192.0.2.1). - connect (111: Connection "
        "refused)\nE: Failed to fetch http://a.example/debian/dists/trixie/InRelease  "
        "Could not connect to a.example:80\n",
        NetworkError,
        "a.example",
    ),
    (
        "E: Failed to fetch http://nosuch.invalid/InRelease  Could not resolve "
        "'nosuch.invalid'\nE: Some index files failed to download.\n",
        NetworkError,
        "nosuch.invalid",
    ),
    (
        "Err:2 http://a.example/debian nosuch Release\n  404  Not Found\n"
        "E: The repository 'http://a.example/debian nosuch Release' does not have a "
        "Release file.\n",
        UserError,
        "nosuch Release",
    ),
    ("E: Unable to locate package no-such-package\n", UserError, "no-such-package"),
    (
        "E: Version '6.1.0-1' for 'linux-image-amd64' was not found\n",
        UserError,
        "6.1.0-1",
    ),
    (
        "W: GPG error: http://a.example trixie InRelease: The following signatures "
        "couldn't be verified because the public key is not available: NO_PUBKEY "
        "871920D1991BC93C\nE: The repository 'http://a.example trixie InRelease' is "
        "not signed.\n",
        SignatureError,
        "871920D1991BC93C",
    ),
    (
        "E: Failed to fetch http://a.example/hostname_3.25_amd64.deb  Hash Sum "
        "mismatch\n",
        SignatureError,
        "hostname_3.25_amd64.deb",
    ),
    (
        "E: Release file for http://a.example/InRelease is expired (invalid since "
        "9d 1h)\n",
        SignatureError,
        "expired",
    ),
    (
        "E: Failed to fetch http://a.example/a.deb  404  Not Found\n",
        NetworkError,
        "a.deb",
    ),
    ("E: You don't have enough free space in /x/archives/.\n", SpaceError, "space"),
    ("E: Something new\n", CommandFailed, "Something new"),
    ("", CommandFailed, "no message"),
]


@pytest.mark.parametrize("said, kind, named", SAID)
def test_failure(said, kind, named):
    error = failure("Reading package lists...\n" + said if said else said, Path("log"))
    assert type(error) is kind
    assert named in error.cause
    assert error.remedy
    assert "\n" not in error.cause
