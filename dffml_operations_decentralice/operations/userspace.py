"""
Userspace from Wolfi: solved and installed by apko, fetched and verified by us

apko believes its cache and forgets owners. So each package is fetched here and checked
against the lock, apko installs with an empty cache from those files alone, and the
owners are set from what the packages say.
"""

import json
import os
from pathlib import Path
from typing import Any, Dict, Iterable, List, NamedTuple

import yaml

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

WOLFI = "https://packages.wolfi.dev/os"
KEY = "wolfi-signing.rsa.pub"
SETS = ("image", "tools")
OWNERS = "owners.json"


class Owned(NamedTuple):
    """A file or directory of a package that is not root's, or setuid, setgid, sticky"""

    path: str
    user: str
    group: str
    uid: int
    gid: int
    mode: int


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
        for name in SETS:
            directory = step.work / name
            directory.mkdir()
            config = configuration(directory, repository, request[name])
            found[name] = await apko.lock(step, config, directory)
        if lock_file.set_aside(wanted.lock):
            step.unpinned()
    check_lock(found)
    step.out.write_text(lock_file.dump(found))
    return UserspaceLock(str(step.out))


def configuration(
    directory: Path, repository: str, packages: List[str]
) -> Dict[str, Any]:
    """
    apko's configuration. Its text is part of apko's lock, so what depends on this
    machine is behind links in the working directory.

    https://github.com/chainguard-dev/apko/blob/main/docs/apko_file.md
    """
    keys = repositories.keys(repository)
    (directory / "repository").symlink_to(repository)
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
                file_name(one)
                texts = [one["url"], one["checksum"], one["data"]["checksum"]]
                if not all(isinstance(text, str) for text in texts):
                    raise TypeError
        except (KeyError, TypeError) as error:
            raise UserError(
                f"the lock's packages of the {name} are damaged", remedy=lock_file.ANEW
            ) from error


def file_name(package: Dict[str, Any]) -> str:
    """The name of a locked package's file; refuses one that is no plain name"""
    name = f"{package['name']}-{package['version']}.apk"
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
    Every locked package, each checked against the hashes in the lock; ``owners.json``
    has the members whose owner or mode apko loses
    """
    content = json.loads(Path(lock).read_text())
    wanted = {
        file_name(one): one for name in SETS for one in packages_of(content, name)
    }
    step.out.mkdir()
    step.say(f"{len(wanted)} packages")
    await fetch_all(
        Download(
            source=address(repository, one["url"]),
            target=step.out / name,
        )
        for name, one in sorted(wanted.items())
    )
    owners = await step.thread(examine, step.out, wanted)
    (step.out / OWNERS).write_text(json.dumps(owners, indent=1, sort_keys=True))
    return UserspacePackages(str(step.out))


def examine(folder: Path, wanted: Dict[str, Dict[str, Any]]) -> Dict[str, List[Owned]]:
    """
    Check each file against the lock; of each the members whose owner or mode apko
    loses, since this is the only time that all of it is read
    """
    found = {}
    for name, one in sorted(wanted.items()):
        apk.verify(folder / name, one["checksum"], one["data"]["checksum"])
        found[name] = [
            Owned(one.path, one.uname, one.gname, one.uid, one.gid, one.mode & 0o7777)
            for one in apk.members(folder / name)
            if is_special(one)
        ]
    return {name: owned for name, owned in found.items() if owned}


def is_special(member: apk.Member) -> bool:
    """Whether apko would not install it as it is: not root's, or with a special bit"""
    foreign = {member.uname, member.gname} - {"root", ""} or member.uid or member.gid
    return bool(foreign or (member.mode & 0o7000 and member.type in ("file", "dir")))


@operation(tools=("apko", "tar"))
async def install_userspace(
    step: Step,
    repository: UserspaceRepository,
    lock: UserspaceLock,
    packages: UserspacePackages,
) -> UserspaceTree:
    """The image's userspace, as installed: owners as the packages have them"""
    await install(step, repository, lock, packages, "image")
    return UserspaceTree(str(step.out))


@operation(tools=("apko", "tar"))
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
    directory = step.work / name
    directory.mkdir()
    (directory / "packages").symlink_to(packages)
    config = configuration(directory, repository, content["request"][name])
    mine = packages_of(content, name)
    for one in mine:
        one["url"] = f"packages/{file_name(one)}"
    (directory / apko.CONFIG).write_text(yaml.safe_dump(config, sort_keys=True))
    (directory / apko.LOCK).write_text(json.dumps(content[name]))
    await apko.build(step, directory, step.out)
    owners = json.loads(Path(packages, OWNERS).read_text())
    owned = [
        Owned(*fields) for one in mine for fields in owners.get(file_name(one), [])
    ]
    changed = await step.thread(set_owners, step.out, owned)
    step.say(f"{len(mine)} packages, owners or modes of {changed} files set")


def accounts(root: Path, file: str) -> Dict[str, int]:
    """Names and numbers of passwd or group"""
    lines = (root / "etc" / file).read_text().splitlines()
    fields = [line.split(":") for line in lines if line.count(":") >= 3]
    return {one[0]: int(one[2]) for one in fields if one[2].isdigit()}


def set_owners(root: Path, owned: Iterable[Owned]) -> int:
    """
    Give owners and modes as the packages' archives have them; the number of files
    changed. Names count before numbers, which packagers may leave at 0.
    """
    users, groups = accounts(root, "passwd"), accounts(root, "group")
    changed = 0
    for one in owned:
        uid, gid = users.get(one.user, one.uid), groups.get(one.group, one.gid)
        target = root / one.path
        if not os.path.lexists(target):
            continue
        if not is_inside(root, target):
            raise UserError(
                f"a package's path leads out of the tree: {one.path}",
                remedy="do not use this package",
            )
        os.chown(target, uid, gid, follow_symlinks=False)
        if not target.is_symlink():
            target.chmod(one.mode)  # after chown, which drops setuid and setgid
        changed += 1
    return changed


def is_inside(root: Path, target: Path) -> bool:
    """Whether a path stays in a tree, its directories' links followed"""
    parent = target.parent.resolve()
    return parent == root.resolve() or root.resolve() in parent.parents
