"""
The keys that sign a mirror's repositories: made once for a store, and never part of a
result, a key of an action or a log

Their times are fixed, so that within a store everything is bit-identical. Other stores
have other keys: there, repositories are the same but for signatures.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ...engine import Step

BITS = 4096
OWNER = "OS DecentrAlice mirror <mirror@localhost>"
CLOCK = ("--faked-system-time", "20260101T000000!")
HOME = "/tmp/gnupg"  # in the sandbox: a socket's path has room for 107 bytes


async def apk_key(step: Step) -> Path:
    """The private RSA key ``mirror.rsa``; ``mirror.rsa.pub`` is beside it"""
    folder = step.cache("mirror-keys") / "apk"
    key = folder / "mirror.rsa"
    if not key.exists():
        draft = step.work / "apk-key"
        draft.mkdir(mode=0o700)
        private, public = draft / key.name, draft / f"{key.name}.pub"
        # apko and melange read PKCS #1
        await step.run("openssl", "genrsa", "-traditional", "-out", private, BITS)
        await step.run("openssl", "rsa", "-in", private, "-pubout", "-out", public)
        private.chmod(0o600)
        _publish(draft, folder)
    return key


async def rpm_key(step: Step) -> Path:
    """The folder with ``gnupg`` (secret) and the public ``RPM-GPG-KEY-mirror``"""
    folder = step.cache("mirror-keys") / "rpm"
    if not (folder / "RPM-GPG-KEY-mirror").exists():
        draft = step.work / "rpm-key"
        (draft / "gnupg").mkdir(parents=True)
        for one in (draft, draft / "gnupg"):
            one.chmod(0o700)
        made = ("--passphrase", "", "--quick-generate-key", OWNER)
        await gpg(step, draft, *made, f"rsa{BITS}", "sign", "never")
        exported = await gpg(step, draft, "--armor", "--export")
        (draft / "RPM-GPG-KEY-mirror").write_text(exported)
        _publish(draft, folder)
    return folder


async def gpg(step: Step, folder: Path, *argv: Any) -> str:
    """gpg with the secret keys of a folder"""
    return await with_gnupg(step, folder, "gpg", "--batch", *CLOCK, *argv)


async def with_gnupg(step: Step, folder: Path, *argv: Any, **options: Any) -> str:
    """
    A command of the host that uses the keys of a folder, in a sandbox: gpg's agent
    dies with it.
    """
    bind = {folder / "gnupg": HOME, **options.pop("bind", {})}
    env = {"GNUPGHOME": HOME, **options.pop("env", {})}
    return await step.run_in("/", *argv, bind=bind, env=env, **options)


def _publish(draft: Path, folder: Path) -> None:
    """Put new keys in place, unless another build was faster"""
    try:
        os.rename(draft, folder)
    except OSError:
        if not folder.exists():
            raise
