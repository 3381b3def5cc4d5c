"""Wolfi's side of the mirror: Debian packages to a signed ``.apk`` repository"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, List

from ...engine import Step
from . import apk, deb, fetched, keys, own, wolfi
from .layout import Claims
from .work import each

KEY = "mirror.rsa.pub"


async def build(step: Step, folder: Path, out: Path, key_file: str = "") -> None:
    """The repository of the Debian packages in a folder"""
    listed = await step.thread(fetched.read_list, folder)
    key = await keys.apk_key(step, key_file)
    repository = out / apk.ARCH
    repository.mkdir(parents=True)
    debs = await step.thread(fetched.read_all, folder, listed)
    await _convert(step, debs, listed["suite"], repository)
    await _sign(step, repository, key)
    (out / KEY).write_bytes(key.with_name(KEY).read_bytes())
    description = describe(listed["suite"])
    (out / "repository.json").write_text(json.dumps(description, indent=1) + "\n")


def describe(suite: str) -> Dict[str, Any]:
    """``repository.json``: where the packages are, and who signed them"""
    return {
        "variant": "mirror",
        "distribution": f"Debian {suite} in Wolfi's format",
        "repositories": ["."],
        "keys": [KEY],
    }


async def _convert(step: Step, debs: List[deb.Deb], suite: str, folder: Path) -> None:
    provider = deb.provider_of(debs)
    claims = Claims()

    async def convert(one: deb.Deb) -> None:
        meta = wolfi.meta_of(one, provider, suite)
        members = await step.thread(wolfi.members_of, one)
        claims.add(meta.name, await step.thread(apk.write, folder, meta, members))

    ours = own.usable(own.packages(step.files / "mirror/userspace"), provider)
    # The biggest first, else one of them comes last and alone
    by_size = sorted(debs, key=lambda one: -one.path.stat().st_size)
    await each(step, "apk", by_size, convert)
    bundle = next((one for one in debs if one.name == "ca-certificates"), None)
    for package in ours:
        if package.name == "ca-certificates-bundle" and bundle:
            package.members.append(await step.thread(wolfi.certificates, bundle))
        meta = apk.Meta(
            name=package.name,
            version=f"{package.version}-r0",
            description=package.description,
            origin=package.name,
            depends=package.depends,
            license="MIT",
        )
        claims.add(meta.name, apk.write(folder, meta, package.members))
    claims.check()
    step.say(f"{len(debs)} packages of Debian's, {len(ours)} of ours")


async def _sign(step: Step, folder: Path, key: Path) -> None:
    """Sign the packages and their index; both commands use the key's file name"""
    names = sorted(path.name for path in folder.glob("*.apk"))
    quiet = ("--log-level", "warn")
    await step.run("melange", "sign", *quiet, "-k", key, *names, cwd=folder)
    index = ("index", *quiet, "-o", "APKINDEX.tar.gz", "--signing-key", key)
    await step.run("melange", *index, *names, cwd=folder)
