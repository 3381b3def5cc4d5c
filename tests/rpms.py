"""A small repository of real, signed RPMs, with keys of its own"""

import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Dict, List

from dffml_operations_decentralice.engine.commands import find_tool
from dffml_operations_decentralice.operations import repository

EPOCH = "1767225600"
NAMES = {
    "kernel-core": ["kernel-modules-core"],
    "kernel-modules-core": [],
    "dracut": ["bash"],
    "bash": [],
    "systemd": [],
}


def make_key(folder: Path, name: str) -> Path:
    """A key pair: NAME.secret, and NAME whose path is returned"""
    # A path of a socket has room for 107 bytes
    with tempfile.TemporaryDirectory(dir="/tmp") as home:
        env = {**os.environ, "GNUPGHOME": home}
        mail = f"{name} <{name}@example.org>"
        made = ["--passphrase", "", "--quick-generate-key", mail, "rsa2048", "sign"]
        gpg = [find_tool("gpg"), "--batch", "--quiet", "--armor"]
        try:
            subprocess.run([*gpg, *made, "never"], env=env, check=True)
            for kind, suffix in (("--export-secret-keys", ".secret"), ("--export", "")):
                exported = subprocess.check_output([*gpg, kind], env=env)
                (folder / f"{name}{suffix}").write_bytes(exported)
        finally:
            subprocess.run(["gpgconf", "--kill", "all"], env=env, check=True)
    return folder / name


def make_rpm(
    folder: Path, name: str, key: Path = None, depends: List[str] = ()
) -> Path:
    """NAME-1-1.noarch.rpm, signed by a key or not at all"""
    content = {"dst": f"/usr/share/{name}", "type": "dir"}
    signature = {"signature": {"key_file": f"{key}.secret"}} if key else {}
    config = {
        "name": name,
        "arch": "all",
        "version": "1",
        "version_schema": "none",
        "release": "1",
        "maintainer": "Somebody <somebody@example.org>",
        "description": name,
        "depends": list(depends),
        "contents": [content],
        "rpm": {"buildhost": "test", **signature},
    }
    file = folder / f"{name}.json"
    file.write_text(json.dumps(config))
    argv = [find_tool("nfpm"), "package", "-f", file, "-p", "rpm", "-t", folder]
    env = {**os.environ, "SOURCE_DATE_EPOCH": EPOCH}
    subprocess.run(argv, env=env, check=True, stdout=subprocess.DEVNULL)
    file.unlink()
    [made] = folder.glob(f"{name}-1-1.*.rpm")
    return made


def index(folder: Path, configuration: Path) -> None:
    """``repodata``; the wheel's librpm misses rpm's own configuration"""
    configuration.mkdir(exist_ok=True)
    for name in ("rpmrc", "macros"):
        (configuration / name).touch()
    env = {**os.environ, "RPM_CONFIGDIR": str(configuration)}
    argv = [
        find_tool("createrepo_c"),
        "-q",
        "--no-database",
        "--revision",
        EPOCH,
        folder,
    ]
    subprocess.run(argv, env=env, check=True)


class Rpms:
    """Repository, its description, and packages that must not be accepted"""

    def __init__(self, folder: Path):
        self.key = make_key(folder, "RPM-GPG-KEY-test")
        self.other_key = make_key(folder, "RPM-GPG-KEY-other")
        self.root = folder / "repository"
        (self.root / "Packages").mkdir(parents=True)
        for name, depends in NAMES.items():
            make_rpm(self.root / "Packages", name, self.key, depends)
        index(self.root, folder / "rpm")
        bad = folder / "bad"
        for kind, key in (("unsigned", None), ("other", self.other_key)):
            (bad / kind).mkdir(parents=True)
            make_rpm(bad / kind, "bash", key)
        self.unsigned, self.of_other_key = (
            next((bad / kind).iterdir()) for kind in ("unsigned", "other")
        )

    def described(self, folder: Path, repositories: List[Dict[str, str]] = None) -> str:
        """A `KernelRepository` of it"""
        folder.mkdir(parents=True)
        shutil.copyfile(self.key, folder / self.key.name)
        given = [{"id": "test", "baseurl": str(self.root)}]
        about = {
            "variant": "",
            "distribution": "Test",
            "releasever": "44",
            "repositories": repositories or given,
            "keys": [self.key.name],
        }
        repository.write(folder, about)
        return str(folder)
