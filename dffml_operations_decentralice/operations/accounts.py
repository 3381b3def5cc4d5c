"""
Users and groups of the image, and who may become root

The lines are written here and not by useradd, which takes its numbers from what is
there and its dates from the day. https://man7.org/linux/man-pages/man5/passwd.5.html
"""

import base64
import binascii
import os
import re
import shutil
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Dict,
    Iterable,
    Iterator,
    List,
    NamedTuple,
    Optional,
    Set,
    Tuple,
)

from ..engine import setting, settings
from ..engine.settings import Problem, refused
from .tree import is_program, package, resolved

if TYPE_CHECKING:
    from .configuration import RootSettings

OF = "compose_root"
NAME = r"[a-z_][a-z0-9_-]{0,30}"
PASSWORD_HASH = re.compile(r"\$(y|gy|7|2b|6|5)\$[./A-Za-z0-9$=,+-]+")
SSH_KEY = re.compile(r"((?:ssh|ecdsa|sk)-\S+) ([A-Za-z0-9+/]+=*)(?: .*)?")
FIRST, LAST = 1000, 60000  # of people, as login.defs has it
# A user's part of the numbers that are for user namespaces, subuid(5)
SUBIDS_FIRST, SUBIDS = 100000, 65536
DAY = 86400  # seconds
SUDOERS = "etc/sudoers.d/50-settings"
NO_PASSWORD = "*"  # not "!": of an account that is locked, sshd takes no key either


def hash_problem(value: str) -> str:
    """What is wrong with a hash; nothing of it is told"""
    if not value or PASSWORD_HASH.fullmatch(value):
        return ""
    return "is no hash of crypt(5): `openssl passwd -6` or `mkpasswd` makes one"


def key_problem(value: str) -> str:
    """
    What is wrong with a public key as authorized_keys has it, without options. In its
    Base64 the type stands once more: https://www.rfc-editor.org/rfc/rfc4253#section-6.6
    """
    found = SSH_KEY.fullmatch(value)
    if not found:
        return "it must be `type base64 comment`, the line of an `id_*.pub`"
    try:
        parts = ssh_strings(base64.b64decode(found[2], validate=True))
    except (binascii.Error, ValueError):
        return "its Base64 is cut short or damaged"
    inside = parts[0].decode("ascii", "replace")
    if inside != found[1]:
        return f"it says {found[1]!r}, but is {inside!r}"
    return "" if len(parts) > 1 else "there is no key in it"


def ssh_strings(blob: bytes) -> List[bytes]:
    """The strings that make up a key, each with its length in four bytes before it"""
    found = []
    while blob:
        size = int.from_bytes(blob[:4], "big")
        if len(blob) < 4 + size or not size:
            raise ValueError("cut short")
        found.append(blob[4 : 4 + size])
        blob = blob[4 + size :]
    if not found:
        raise ValueError("empty")
    return found


def absolute_path(value: str) -> str:
    """What is wrong with a path in the image"""
    if not value.startswith("/") or "\0" in value or "\n" in value:
        return "it must be an absolute path in the image"
    if ".." in value.split("/"):
        return "it leads out of the image"
    return ""


def account_path(value: str) -> str:
    """What is wrong with a path that stands in passwd(5)"""
    return absolute_path(value) or ("it has a `:`" if ":" in value else "")


@settings
class UserSettings:
    """Somebody who logs in"""

    name: str = setting("Name to log in with", pattern=NAME)
    uid: Optional[int] = setting(
        f"Number; if not given, the first that is free from {FIRST}",
        default=None,
        minimum=1,
        maximum=LAST,
    )
    gid: Optional[int] = setting(
        "Number of the group of the same name; if not given, the user's",
        default=None,
        minimum=1,
        maximum=LAST,
    )
    gecos: str = setting("Full name", default="", pattern=r"[^:\n]*")
    password_hash: str = setting(
        "crypt(5) hash of the password; empty: no password",
        default="",
        secret=True,
        check=hash_problem,
    )
    ssh_keys: List[str] = setting(
        "Public keys that may log in by ssh", default_factory=list, check=key_problem
    )
    groups: List[str] = setting(
        "Further groups, which must be there", default_factory=list, pattern=NAME
    )
    shell: str = setting("Login shell", default="/bin/bash", check=account_path)
    home: str = setting(
        "Home directory, made with what is in /etc/skel; empty: /home/NAME",
        default="",
        check=lambda value: account_path(value) if value else "",
    )
    sudo: bool = setting("Whether sudo makes this user root", default=False)
    sudo_password: bool = setting("Whether sudo asks for the password", default=True)

    def problems(self) -> Iterator[Problem]:
        """What the values would be together"""
        if self.name == "root":
            yield Problem(
                ("name",),
                "is root, who is there",
                "settings `root_password_hash` and `root_ssh_keys` are root's",
            )
        if self.sudo and self.sudo_password and not self.password_hash:
            yield Problem(
                ("sudo",),
                "would ask for a password that is not there",
                "give `password_hash`, or `sudo_password: false`",
            )

    @property
    def directory(self) -> str:
        """The home directory"""
        return self.home or f"/home/{self.name}"


@settings
class GroupSettings:
    """A group that packages do not bring"""

    name: str = setting("Name", pattern=NAME)
    gid: Optional[int] = setting(
        f"Number; if not given, the first that is free from {FIRST}",
        default=None,
        minimum=1,
        maximum=LAST,
    )


def account_problems(
    users: List[UserSettings], groups: List[GroupSettings]
) -> Iterator[Problem]:
    """Names, numbers and homes that are given twice"""
    # A user brings a group of the same name
    names = [(("users", at, "name"), one.name) for at, one in enumerate(users)]
    names += [(("groups", at, "name"), one.name) for at, one in enumerate(groups)]
    uids = [(("users", at, "uid"), one.uid) for at, one in enumerate(users)]
    gids: List[Tuple[tuple, Optional[int]]] = [
        (("users", at, "gid" if one.gid else "uid"), one.gid or one.uid)
        for at, one in enumerate(users)
    ]
    gids += [(("groups", at, "gid"), one.gid) for at, one in enumerate(groups)]
    homes = [(("users", at, "home"), one.directory) for at, one in enumerate(users)]
    for given in (names, uids, gids, homes):
        yield from _twice(given)


def _twice(given: Iterable[Tuple[tuple, object]]) -> Iterator[Problem]:
    seen: Dict[object, tuple] = {}
    for path, value in given:
        if value is not None and value in seen:
            first = ".".join(map(str, seen[value]))
            yield Problem(path, f"is {value!r}, as {first} is", "give another one")
        seen.setdefault(value, path)


class Account(NamedTuple):
    """A user with numbers"""

    user: UserSettings
    uid: int
    gid: int
    subid: int  # the first of its subordinate numbers


class Accounts(NamedTuple):
    """All that settings add to an image's accounts"""

    users: List[Account]
    groups: Dict[str, int]


def numbered(
    users: List[UserSettings],
    groups: List[GroupSettings],
    uids: Set[int],
    gids: Set[int],
) -> Accounts:
    """Numbers for those who have none, in the settings' order"""
    uids = uids | {one.uid for one in users if one.uid}
    own = [one.gid or one.uid for one in users] + [one.gid for one in groups]
    gids = gids | {gid for gid in own if gid}
    found = []
    for place, one in enumerate(users):
        uid = one.uid or next(n for n in range(FIRST, LAST) if n not in uids | gids)
        gid = one.gid or uid
        uids.add(uid)
        gids.add(gid)
        found.append(Account(one, uid, gid, SUBIDS_FIRST + place * SUBIDS))
    made: Dict[str, int] = {}
    for group in groups:
        gid = group.gid or next(n for n in range(FIRST, LAST) if n not in gids)
        gids.add(gid)
        made[group.name] = gid
    return Accounts(found, made)


class Database:
    """A file of lines with colons, as passwd(5), shadow(5) and group(5) are"""

    def __init__(self, path: Path):
        self.path = path
        text = path.read_text() if path.exists() else ""
        self.rows = [line.split(":") for line in text.splitlines() if line]

    def names(self) -> Set[str]:
        return {row[0] for row in self.rows}

    def numbers(self) -> Set[int]:
        return {int(row[2]) for row in self.rows if len(row) > 2 and row[2].isdigit()}

    def row(self, name: str) -> List[str]:
        """The fields of an entry, to be changed"""
        return next(row for row in self.rows if row[0] == name)

    def add(self, *fields: object) -> None:
        self.rows.append([str(one) for one in fields])

    def write(self) -> None:
        """With the mode that it has; nobody reads it meanwhile who should not"""
        mode = self.path.stat().st_mode & 0o7777 if self.path.exists() else 0o644
        self.path.touch()
        self.path.chmod(0o600)
        self.path.write_text("".join(":".join(row) + "\n" for row in self.rows))
        self.path.chmod(mode)


def set_accounts(root: Path, want: "RootSettings", epoch: int) -> None:
    """root's password and keys (locked if none is given), users, groups, sudo"""
    files = {
        name: Database(root / "etc" / name)
        for name in ("passwd", "group", "shadow", "gshadow")
    }
    files["shadow"].row("root")[1] = want.root_password_hash or "!*"
    if want.users or want.groups:
        made = check_accounts(root, want, files)
        add_lines(files, made, epoch)
        add_subids(root, made)
    files["shadow"].write()
    if want.root_ssh_keys:
        authorize(root / "root", want.root_ssh_keys, 0, 0)
    if want.users or want.groups:
        for name in ("passwd", "group", "gshadow"):
            if files[name].path.exists():
                files[name].write()
        for account in made.users:
            make_home(root, account)
        add_sudoers(root, want.users)


def check_accounts(
    root: Path, want: "RootSettings", files: Dict[str, Database]
) -> Accounts:
    """The accounts with numbers; `SettingError` if the tree has no place for one"""
    there = {name: files[name].names() for name in ("passwd", "group")}
    numbers = {name: files[name].numbers() for name in ("passwd", "group")}
    named = {one.name for one in want.users} | {one.name for one in want.groups}
    for at, one in enumerate(want.users):
        path = ("users", at)
        _free(one.name, there["passwd"] | there["group"], (*path, "name"))
        _free(one.uid, numbers["passwd"], (*path, "uid"))
        _free(one.gid or one.uid, numbers["group"], (*path, "gid"))
        if not is_program(root, one.shell):
            cause = f"is {one.shell}, which the image has not"
            remedy = f"{package('that has it')}, or take /bin/bash"
            raise refused(OF, (*path, "shell"), cause, remedy)
        for number, name in enumerate(one.groups):
            if name not in there["group"] | named:
                cause = f"is {name!r}, a group that the image has not"
                remedy = f"write it into `groups`; there are {_some(there['group'])}"
                raise refused(OF, (*path, "groups", number), cause, remedy)
        if one.sudo and not is_program(root, "/usr/bin/sudo"):
            cause = "needs a program that the image has not: sudo"
            raise refused(OF, (*path, "sudo"), cause, package("sudo"))
    for at, group in enumerate(want.groups):
        _free(group.name, there["group"], ("groups", at, "name"))
        _free(group.gid, numbers["group"], ("groups", at, "gid"))
    return numbered(want.users, want.groups, numbers["passwd"], numbers["group"])


def _free(value: object, taken: Set, path: tuple) -> None:
    if value in taken:
        raise refused(OF, path, f"is {value!r}, as a package's is", "give another one")


def _some(names: Set[str]) -> str:
    return ", ".join(sorted(names))


def add_lines(files: Dict[str, Database], made: Accounts, epoch: int) -> None:
    """Each account's lines; its password's date is that of the image"""
    for one in made.users:
        user = one.user
        files["passwd"].add(
            *(user.name, "x", one.uid, one.gid, user.gecos, user.directory, user.shell)
        )
        hashed = user.password_hash or NO_PASSWORD
        files["shadow"].add(user.name, hashed, epoch // DAY, 0, 99999, 7, "", "", "")
    groups = {**{one.user.name: one.gid for one in made.users}, **made.groups}
    for name, gid in groups.items():
        files["group"].add(name, "x", gid, "")
        files["gshadow"].add(name, "!", "", "")
    for one in made.users:
        for name in dict.fromkeys(one.user.groups):
            for file in ("group", "gshadow"):
                if name in files[file].names():
                    row = files[file].row(name)
                    row[3] = ",".join([*filter(None, row[3].split(",")), one.user.name])


def add_subids(root: Path, made: Accounts) -> None:
    """
    Numbers for containers without root

    https://man7.org/linux/man-pages/man5/subuid.5.html
    """
    for name in ("subuid", "subgid"):
        file = Database(root / "etc" / name)
        for one in made.users:
            file.add(one.user.name, one.subid, SUBIDS)
        file.write()


def make_home(root: Path, account: Account) -> None:
    """A home as useradd makes one: what is in /etc/skel, nobody else's to read"""
    home = resolved(root, account.user.directory)
    home.mkdir(parents=True, exist_ok=True)
    skeleton = root / "etc/skel"
    if skeleton.is_dir():
        shutil.copytree(skeleton, home, symlinks=True, dirs_exist_ok=True)
    if account.user.ssh_keys:
        authorize(home, account.user.ssh_keys, account.uid, account.gid)
    for directory, names, files in os.walk(home):
        for name in (*names, *files):
            path = os.path.join(directory, name)
            os.chown(path, account.uid, account.gid, follow_symlinks=False)
    os.chown(home, account.uid, account.gid)
    home.chmod(0o700)


def authorize(home: Path, keys: List[str], uid: int, gid: int) -> None:
    """sshd takes keys from a file that nobody else may write"""
    folder = home / ".ssh"
    folder.mkdir(mode=0o700, exist_ok=True)
    folder.chmod(0o700)
    file = folder / "authorized_keys"
    file.write_text("\n".join(keys) + "\n")
    file.chmod(0o600)
    for path in (folder, file):
        os.chown(path, uid, gid)


def add_sudoers(root: Path, users: List[UserSettings]) -> None:
    """https://www.sudo.ws/docs/man/sudoers.man/"""
    text = sudoers(users)
    if text:
        (root / "etc/sudoers").chmod(0o440)  # visudo refuses it with any other mode
        path = root / SUDOERS
        path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o440)


def sudoers(users: List[UserSettings]) -> str:
    """A line for each user who may become root, with or without a password"""
    lines = [
        f"{one.name} ALL=(ALL:ALL) {'' if one.sudo_password else 'NOPASSWD: '}ALL\n"
        for one in users
        if one.sudo
    ]
    return "".join(lines)
