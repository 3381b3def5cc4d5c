"""
The keys that sign a mirror's repositories: given, or made once for a store, and never
part of a result or a log

Their times are fixed, so that with the same keys everything is bit-identical. Other
stores make other keys: there, repositories are the same but for signatures, and the
image but for the public key in it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Awaitable

from ...engine import Step
from ...errors import CommandFailed, UserError

BITS = 4096
OWNER = "OS DecentrAlice mirror <mirror@localhost>"
CLOCK = ("--faked-system-time", "20260101T000000!")
HOME = "/tmp/gnupg"  # in the sandbox: a socket's path has room for 107 bytes


async def apk_key(step: Step, given: str = "") -> Path:
    """
    The private RSA key ``mirror.rsa``; ``mirror.rsa.pub`` is beside it

    given: a PEM file of such a key, else the store's own is used
    """
    folder = step.cache("mirror-keys") / "apk"
    key = folder / "mirror.rsa"
    if given or not key.exists():
        draft = step.work / "apk-key"
        draft.mkdir(mode=0o700)
        private, public = draft / key.name, draft / f"{key.name}.pub"
        # apko and melange read PKCS #1
        made = ("rsa", "-in", checked(given)) if given else ("genrsa",)
        argv = (*made, "-traditional", "-out", private, *([] if given else [BITS]))
        await usable(given, step.run("openssl", *argv))
        await step.run("openssl", "rsa", "-in", private, "-pubout", "-out", public)
        private.chmod(0o600)
        if given:
            return private
        _publish(draft, folder)
    return key


async def rpm_key(step: Step, given: str = "") -> Path:
    """
    The folder with ``gnupg`` (secret) and the public ``RPM-GPG-KEY-mirror``

    given: a file of an OpenPGP secret key without a passphrase, not younger than
        `CLOCK` says, else the store's own is used
    """
    folder = step.cache("mirror-keys") / "rpm"
    if given or not (folder / "RPM-GPG-KEY-mirror").exists():
        draft = step.work / "rpm-key"
        (draft / "gnupg").mkdir(parents=True)
        for one in (draft, draft / "gnupg"):
            one.chmod(0o700)
        if given:
            secret = {"input": checked(given).read_bytes()}
            await usable(given, gpg(step, draft, "--import", **secret))
        else:
            made = ("--passphrase", "", "--quick-generate-key", OWNER)
            await gpg(step, draft, *made, f"rsa{BITS}", "sign", "never")
        exported = await gpg(step, draft, "--armor", "--export")
        (draft / "RPM-GPG-KEY-mirror").write_text(exported)
        if given:
            return draft
        _publish(draft, folder)
    return folder


def checked(given: str) -> Path:
    """The file of a key; `UserError` if there is none"""
    if not Path(given).is_file():
        raise UserError(f"no key {given}", remedy="give the file of a private key")
    return Path(given)


async def usable(given: str, reading: Awaitable[str]) -> str:
    """Wait for the command that reads a key; a given one that is none is the user's"""
    try:
        return await reading
    except CommandFailed as error:
        if not given:
            raise
        raise UserError(
            f"{given} is no private key that can be used: {error.cause}",
            remedy="give one without a passphrase, as the setting's text says",
            log=error.log,
        ) from error


async def fingerprint(step: Step, folder: Path) -> str:
    """Of the one secret key in a folder of `rpm_key`"""
    said = await gpg(step, folder, "--with-colons", "--list-secret-keys")
    lines = (line.split(":") for line in said.splitlines())
    return next(fields[9] for fields in lines if fields[0] == "fpr")


async def gpg(step: Step, folder: Path, *argv: Any, **options: Any) -> str:
    """gpg with the secret keys of a folder"""
    words = ("gpg", "--batch", *CLOCK, *argv)
    return await with_gnupg(step, folder, *words, **options)


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
