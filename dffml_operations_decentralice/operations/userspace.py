"""
Userspace from Wolfi: solved and installed by apko, fetched and verified by us

apko believes its cache. So each package is fetched here and checked against the lock, and
apko's library installs from those files alone.
"""

import json
import os
from pathlib import Path
from typing import Any, Dict, List

from ..engine import Step, operation, setting, settings
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


@operation(tools=("apko",), volatile=True)
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
            found[name] = await apko.lock(step, config, step.work, name)
        if lock_file.set_aside(wanted.lock):
            step.unpinned()
    check_lock(found)
    step.out.write_text(lock_file.dump(found))
    return UserspaceLock(str(step.out))


def configuration(repository: str, packages: List[str]) -> Dict[str, Any]:
    """
    apko's configuration. Its text is part of apko's lock, so what depends on this
    machine is behind a link ``repository`` in the working directory.

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


def packages_of(lock: Dict[str, Any], name: str) -> List[Dict[str, Any]]:
    """The packages of a set in a lock: ``name``, ``version``, ``url``, ``checksum``…"""
    return lock[name]["contents"]["packages"]


def check_lock(lock: Dict[str, Any]) -> None:
    """Refuse a lock that does not say exactly what each package is"""
    for name in SETS:
        try:
            packages = packages_of(lock, name)
            for one in packages:
                stem(one)
                texts = [one["url"], one["checksum"], one["data"]["checksum"]]
                if not all(isinstance(text, str) for text in texts):
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


@operation
async def fetch_userspace(
    step: Step, repository: UserspaceRepository, lock: UserspaceLock
) -> UserspacePackages:
    """
    Every locked package, each checked against the hashes in the lock, and taken apart
    as `apk.unpack` does
    """
    content = json.loads(Path(lock).read_text())
    wanted = {stem(one): one for name in SETS for one in packages_of(content, name)}
    step.out.mkdir()
    step.say(f"{len(wanted)} packages")
    await fetch_all(
        Download(
            source=address(repository, one["url"]), target=step.work / f"{name}.apk"
        )
        for name, one in sorted(wanted.items())
    )
    await step.thread(unpack_all, step.work, wanted, step.out)
    return UserspacePackages(str(step.out))


def unpack_all(folder: Path, wanted: Dict[str, Dict[str, Any]], out: Path) -> None:
    """Verify and unpack the packages of a folder, which is emptied"""
    for name, one in sorted(wanted.items()):
        file = folder / f"{name}.apk"
        apk.unpack(file, one["checksum"], one["data"]["checksum"], out / name)
        file.unlink()


@operation(tools=("apko-install",))
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


@operation(tools=("apko-install",))
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
    stems = [f"packages/{stem(one)}" for one in packages_of(content, name)]
    await apko.install(step, config, content[name], stems, step.work, step.out)
    step.say(f"{len(stems)} packages")
