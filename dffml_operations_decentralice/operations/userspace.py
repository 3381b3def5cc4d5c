"""
Userspace from Wolfi: solved and installed by apko's packages, fetched and verified here

The chain of trust: the pinned key signs the index, that has each package's checksum,
and the lock has this and the SHA-256 of the whole file.
"""

import json
import os
import re
from pathlib import Path
from typing import Any, Dict, List

from ..engine import Step, operation, setting, settings
from ..engine.digest import sha256
from ..engine.download import Download, fetch_all
from ..errors import UserError
from ..types import (
    ToolsTree,
    UserspaceLock,
    UserspacePackages,
    UserspaceRepository,
    UserspaceTree,
)
from . import apk, apko
from . import lock as lock_file
from . import repository as repositories
from .tree import clamp_times

WOLFI = "https://packages.wolfi.dev/os"
KEY = "wolfi-signing.rsa.pub"
SETS = ("image", "tools")
CACHE = "userspace-packages"  # what the lock has fetched, and is to be unpacked


@settings
class UserspaceRepositorySettings:
    url: str = setting("Address of the repository", default=WOLFI)
    key: str = setting(
        "RSA key that signs its index, a file *.rsa.pub; empty: asked of the "
        "repository's own server over TLS, and pinned by the lock from then on",
        default="",
        file=True,
    )


@operation(volatile=True)
async def userspace_repository(
    step: Step[UserspaceRepositorySettings],
) -> UserspaceRepository:
    """
    Wolfi's repository and the key that signs its index

    https://edu.chainguard.dev/open-source/wolfi/
    """
    url = step.settings.url.rstrip("/")
    step.out.mkdir()
    given = step.settings.key
    if given and not given.endswith(".rsa.pub"):
        raise UserError(
            f"{given}: apko takes keys by files *.rsa.pub only",
            remedy="rename the key as its repository names it",
        )
    source = str(Path(given).absolute()) if given else f"{url}/{KEY}"
    name = source.rpartition("/")[2]
    await fetch_all([Download(source, step.out / name)])
    repositories.write(
        step.out,
        {
            "variant": "",
            "distribution": "Wolfi",
            "repositories": [url],
            "keys": [name],
        },
    )
    return UserspaceRepository(str(step.out))


@settings
class UserspaceLockSettings:
    packages: List[str] = setting("Packages of the image", default_factory=list)
    tools: List[str] = setting(
        "Packages of the tree whose programs build the image", default_factory=list
    )
    lock: str = setting("Lock file, used if there", default="os.lock.json", file=True)


@operation(tools=("apko-tree",), volatile=True)
async def lock_userspace(
    step: Step[UserspaceLockSettings], repository: UserspaceRepository
) -> UserspaceLock:
    """The exact packages: from the lock file if there is one, else solved by apko"""
    wanted = step.settings
    request = {
        "image": sorted(set(wanted.packages)),
        "tools": sorted(set(wanted.tools)),
        "repositories": repositories.read(repository)["repositories"],
        "keys": repositories.key_digests(repository),
    }
    found = lock_file.locked(wanted.lock, "userspace", request)
    if found is None:
        found = {"request": request}
        (step.work / "repository").symlink_to(repository)
        for name in SETS:
            config = configuration(repository, request[name])
            found[name] = await apko.resolve(step, config, step.work)
        await seal(step, repository, found)
        if lock_file.set_aside(wanted.lock):
            step.unpinned()
    check_lock(found)
    step.out.write_text(lock_file.dump(found))
    return UserspaceLock(str(step.out))


async def seal(step: Step, repository: str, lock: Dict[str, Any]) -> None:
    """
    Give each package of a lock its SHA-256, once it is what the index says. What comes
    from a server is kept for `fetch_userspace`.
    """
    cache = step.cache(CACHE)
    packages = [one for name in SETS for one in lock[name]]
    sources = {stem(one): address(repository, one["url"]) for one in packages}
    remote = {name: url for name, url in sources.items() if "://" in url}
    sizes = {stem(one): one["size"] for one in packages}
    await fetch_all(
        (
            Download(url, cache / f"{name}.apk", size=sizes[name])
            for name, url in sorted(remote.items())
        ),
        parts=step.cache(f"downloads/{step.name}"),
    )
    digests: Dict[str, str] = {}
    for one in packages:
        name = stem(one)
        if name not in digests:
            file = cache / f"{name}.apk" if name in remote else Path(sources[name])
            await step.thread(apk.verify, file, one["checksum"])
            digests[name] = await step.thread(sha256, file)
            if name in remote:
                os.replace(file, cache / digests[name])
        one["sha256"] = digests[name]


def configuration(repository: str, packages: List[str]) -> Dict[str, Any]:
    """
    apko's configuration, which is also in the image: what depends on this machine is
    behind a link ``repository`` in the working directory.

    https://github.com/chainguard-dev/apko/blob/main/docs/apko_file.md
    """
    keys = repositories.keys(repository)
    addresses = repositories.read(repository)["repositories"]
    return {
        "contents": {
            "build_repositories": [
                one if "://" in one else os.path.normpath(f"./repository/{one}")
                for one in addresses
            ],
            # What the image itself would update from; apko fails without any
            "runtime_repositories": [WOLFI],
            "keyring": [f"./repository/{key.name}" for key in keys],
            "packages": packages,
        },
        "archs": ["x86_64"],
    }


FIELDS = {"name": str, "version": str, "url": str, "checksum": str, "size": int}


def check_lock(lock: Dict[str, Any]) -> None:
    """Refuse a lock that does not say exactly what each package is"""
    for name in SETS:
        try:
            for one in lock[name]:
                stem(one)
                whole = all(isinstance(one[key], kind) for key, kind in FIELDS.items())
                if not whole or not re.fullmatch(r"[0-9a-f]{64}", one["sha256"]):
                    raise TypeError
        except (KeyError, TypeError) as error:
            raise UserError(
                f"the lock's packages of the {name} are damaged", remedy=lock_file.ANEW
            ) from error


def stem(package: Dict[str, Any]) -> str:
    """What a locked package's files are named by; refuses what is no plain name"""
    name = f"{package['name']}-{package['version']}"
    if "/" in name or name.startswith("."):
        raise UserError(f"the lock names a package {name!r}", remedy=lock_file.ANEW)
    return name


def address(repository: str, url: str) -> str:
    """Where a package is: apko writes paths as `configuration` gave them to it"""
    local = url[len("repository/") :] if url.startswith("repository/") else url
    return repositories.resolve(repository, local)


@operation(space=200)
async def fetch_userspace(
    step: Step, repository: UserspaceRepository, lock: UserspaceLock
) -> UserspacePackages:
    """
    Every locked package, each checked against the hashes in the lock, and taken apart
    as `apk.unpack` does
    """
    content = json.loads(Path(lock).read_text())
    wanted = {stem(one): one for name in SETS for one in content[name]}
    step.out.mkdir()
    size = sum(one["size"] for one in wanted.values())
    step.say(f"{len(wanted)} packages, {size / 1e6:.0f} MB")
    cache = step.cache(CACHE)
    await fetch_all(
        (
            Download(
                source=kept(cache, one["sha256"]) or address(repository, one["url"]),
                target=step.work / f"{name}.apk",
                sha256=one["sha256"],
                size=one["size"],
            )
            for name, one in sorted(wanted.items())
        ),
        parts=step.cache(f"downloads/{step.name}"),
    )
    await step.thread(unpack_all, step.work, wanted, step.out)
    for one in wanted.values():
        (cache / one["sha256"]).unlink(missing_ok=True)
    return UserspacePackages(str(step.out))


def kept(cache: Path, digest: str) -> str:
    """The file that `lock_userspace` has left, if it is as it was"""
    file = cache / digest
    return str(file) if file.exists() and sha256(file) == digest else ""


def unpack_all(folder: Path, wanted: Dict[str, Dict[str, Any]], out: Path) -> None:
    """Verify and unpack the packages of a folder, which is emptied"""
    for name, one in sorted(wanted.items()):
        file = folder / f"{name}.apk"
        apk.unpack(file, one["checksum"], None, out / name)
        file.unlink()


@operation(tools=("apko-tree",), space=110)
async def install_userspace(
    step: Step,
    repository: UserspaceRepository,
    lock: UserspaceLock,
    packages: UserspacePackages,
) -> UserspaceTree:
    """The image's userspace, as installed, and its database of hardware"""
    await install(step, repository, lock, packages, "image")
    # Large, and the same whatever the settings are
    if (step.out / "usr/bin/systemd-hwdb").exists():
        await step.run_in(
            str(step.out), *("systemd-hwdb", "--usr", "update"), writable=True
        )
    await step.thread(clamp_times, step.out, step.epoch)
    return UserspaceTree(str(step.out))


@operation(tools=("apko-tree",), space=110)
async def install_tools(
    step: Step,
    repository: UserspaceRepository,
    lock: UserspaceLock,
    packages: UserspacePackages,
) -> ToolsTree:
    """The tree whose programs build the image, so that the host's versions do not"""
    await install(step, repository, lock, packages, "tools")
    await step.thread(link_host_free, step.out)
    return ToolsTree(str(step.out))


def link_host_free(root: Path) -> None:
    """Directories which a sandbox mounts over have to be there"""
    for name in ("proc", "dev", "sys", "run", "tmp", "var/tmp"):
        (root / name).mkdir(parents=True, exist_ok=True)


async def install(step: Step, repository, lock, packages, name: str) -> None:
    """Install one set of a lock from the fetched files alone"""
    content = json.loads(Path(lock).read_text())
    for link, target in (("packages", packages), ("repository", repository)):
        (step.work / link).symlink_to(target)
    config = configuration(repository, content["request"][name])
    stems = [f"packages/{stem(one)}" for one in content[name]]
    await apko.install(step, config, content[name], stems, step.work, step.out)
    step.say(f"{len(stems)} packages")
