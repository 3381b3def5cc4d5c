"""
What the root's settings say, and the files that follow from them

Each value is checked before any work as far as it needs no tree; `check_tree` refuses
what the tree has no program, unit or data for.
"""

import dataclasses
import hashlib
import ipaddress
import json
import os
import re
import zoneinfo
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple

from ..engine import setting, settings
from ..engine.settings import Problem, is_settings, refused
from ..errors import UserError
from . import accounts
from .accounts import OF, GroupSettings, UserSettings, account_problems
from .tree import inside_root, is_program, package

HOST_NAME = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
LOCALE = r"(C|POSIX|[a-z]{2,3}(_[A-Z]{2})?)(\.[A-Za-z0-9-]+)?(@[a-z]+)?"
LOCALES_OF_LIBC = ("C", "POSIX", "C.utf8")
UNIT = r"[\w:.\\@-]+\.(service|socket|timer|target|path|mount|automount|swap|slice)"
SYSCTL = re.compile(r"[a-z0-9_]+([./][A-Za-z0-9_:*-]+)+")
INTERFACE = r"[!\w.*?\[\]-]{1,32}"
MAC = r"([0-9a-fA-F]{2}:){5}[0-9a-fA-F]{2}"
MODE = r"[0-7]{3,4}"
# Before 00-decentralice.preset: the first file that names a unit decides
PRESETS = "usr/lib/systemd/system-preset/00-configuration.preset"
SYSCTL_FILE = "etc/sysctl.d/99-settings.conf"
SSHD_FILE = "etc/ssh/sshd_config.d/10-settings.conf"
SETTINGS = "usr/lib/decentralice/settings.json"
ZONES = "usr/share/zoneinfo"
STABLE = ("etc", "usr")
UNIT_FOLDERS = ("etc/systemd/system", "usr/lib/systemd/system")
KEYMAPS = ("usr/share/keymaps", "usr/share/kbd/keymaps", "usr/lib/kbd/keymaps")


def time_zone(value: str) -> str:
    """What is wrong with the name of a time zone"""
    if value == "UTC":
        return ""
    known = zoneinfo.available_timezones()
    if value in known:
        return ""
    if known:
        return "there is no such time zone: `timedatectl list-timezones`"
    odd = not re.fullmatch(r"[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*", value)
    return "it must be a name like Europe/Berlin" * odd


def interface_address(value: str) -> str:
    """What is wrong with an address of the machine"""
    try:
        ipaddress.ip_interface(value)
    except ValueError as error:
        return str(error)
    return "" if "/" in value else "it must have a prefix, as 192.0.2.7/24"


def host_address(value: str) -> str:
    """What is wrong with an address of another one"""
    try:
        ipaddress.ip_address(value)
    except ValueError as error:
        return str(error)
    return ""


@settings
class NetworkSettings:
    """A file of systemd.network(5)"""

    name: str = setting(
        "Network devices by name, which may have `*`", default="", pattern=INTERFACE
    )
    mac: str = setting("A network device by hardware address", default="", pattern=MAC)
    dhcp: bool = setting("Whether to ask for addresses", default=True)
    address: List[str] = setting(
        "Addresses with their prefix", default_factory=list, check=interface_address
    )
    gateway: List[str] = setting(
        "Routers to everywhere", default_factory=list, check=host_address
    )
    dns: List[str] = setting("Name servers", default_factory=list, check=host_address)

    def problems(self) -> Iterator[Problem]:
        """What the values would be together"""
        if not (self.name or self.mac):
            yield Problem((), "is for no device", "give `name` or `mac`")
        if not (self.dhcp or self.address):
            yield Problem(("dhcp",), "leaves no address", "give `address`, or dhcp")


@settings
class FileSettings:
    """A file of the image"""

    content: str = setting("Its text", default="", secret=True)
    source: str = setting("A file that it is a copy of", default="", file=True)
    mode: str = setting("Its mode, octal", default="0644", pattern=MODE)
    owner: str = setting(
        "The user whose it and whose group's it is",
        default="root",
        pattern=accounts.NAME,
    )

    def problems(self) -> Iterator[Problem]:
        """What the values would be together"""
        if self.source and self.content:
            yield Problem(("source",), "is given beside `content`", "leave one out")
        if self.source and not Path(self.source).is_file():
            yield Problem(("source",), f"is {self.source}, no file", "give one")


@settings
class SshSettings:
    """The server of OpenSSH"""

    enabled: bool = setting("Whether it runs; needs its packages", default=False)
    port: int = setting("Port to listen on", default=22, minimum=1, maximum=65535)
    password_authentication: bool = setting(
        "Whether who knows a password may log in without a key", default=False
    )


@settings
class RootSettings:
    """What `compose_root` makes of the packages"""

    hostname: str = setting("Host name", default="alice", pattern=HOST_NAME)
    locale: str = setting(
        "Locale of the system; others than C.UTF-8 need their package",
        default="C.UTF-8",
        pattern=LOCALE,
    )
    timezone: str = setting(
        "Time zone; others than UTC need the package tzdata",
        default="UTC",
        check=time_zone,
    )
    keymap: str = setting(
        "Keyboard of the console, as `de`; empty: the kernel's, US; needs kbd",
        default="",
        pattern=r"[A-Za-z0-9@_.-]*",
    )
    root_password_hash: str = setting(
        "crypt(5) hash of root's password; empty: locked",
        default="",
        secret=True,
        check=accounts.hash_problem,
    )
    root_ssh_keys: List[str] = setting(
        "Public keys that may log in as root by ssh",
        default_factory=list,
        check=accounts.key_problem,
    )
    users: List[UserSettings] = setting("Who logs in", default_factory=list)
    groups: List[GroupSettings] = setting("Further groups", default_factory=list)
    network: List[NetworkSettings] = setting(
        "Network devices; those without an entry ask for addresses",
        default_factory=list,
    )
    sysctl: Dict[str, str] = setting(
        "Parameters of the kernel, each a text: `vm.swappiness: '10'`",
        default_factory=dict,
        pattern=r"[^\n]+",
    )
    ssh: SshSettings = setting("Server of ssh", default_factory=SshSettings)
    containers: str = setting(
        "Engine for containers; needs its packages", default="", choices=("", "podman")
    )
    enable: List[str] = setting(
        "Units to start at boot", default_factory=list, pattern=UNIT
    )
    disable: List[str] = setting(
        "Units not to start", default_factory=list, pattern=UNIT
    )
    mask: List[str] = setting(
        "Units that must never start", default_factory=list, pattern=UNIT
    )
    files: str = setting(
        "A directory whose files are copied into the image, owned by root",
        default="",
        file=True,
    )
    write_files: Dict[str, FileSettings] = setting(
        "Files by their absolute path in the image", default_factory=dict
    )

    def problems(self) -> Iterator[Problem]:
        """What the values would be together"""
        yield from account_problems(self.users, self.groups)
        yield from file_problems(self.files, self.write_files)
        for name in self.sysctl:
            if not SYSCTL.fullmatch(name):
                yield Problem(
                    ("sysctl", name), "is no parameter", "`sysctl -a` has their names"
                )
        for at, unit in enumerate(self.enable):
            for other in ("disable", "mask"):
                if unit in getattr(self, other):
                    yield Problem(
                        *(("enable", at), f"is {unit}, as in `{other}`", "decide")
                    )


def file_problems(files: str, single: Dict[str, FileSettings]) -> Iterator[Problem]:
    """What cannot be copied, and what would land elsewhere than it says"""
    if files and not Path(files).is_dir():
        remedy = "give a directory whose tree is as it shall be in the image"
        yield Problem(("files",), f"is {files}, no directory", remedy)
    elif files:
        for link in leading_out(Path(files)):
            yield Problem(
                ("files",),
                f"has {link}, a link to {os.readlink(Path(files, link))}",
                "links must be relative and stay below the directory",
            )
    for path in single:
        wrong = accounts.absolute_path(path)
        if wrong or path.endswith("/"):
            yield Problem(
                ("write_files", path),
                f"is no file's path: {wrong or 'it ends in /'}",
                "a path as /etc/name.conf",
            )


def leading_out(folder: Path) -> Iterator[str]:
    """
    Links in a directory that leave it: in the image they would lead to what happens to
    be there. /dev/null is everywhere, and masks units.
    """
    for directory, names, files in os.walk(folder):
        for name in sorted((*names, *files)):
            link = Path(directory, name)
            if not link.is_symlink() or os.readlink(link) == os.devnull:
                continue
            inside = Path(directory).relative_to(folder)
            to = os.path.normpath(inside / os.readlink(link))
            if to.startswith(("/", "..")):
                yield str(inside / name)


def check_tree(root: Path, want: RootSettings) -> None:
    """`SettingError` if the tree lacks what a setting needs"""
    for path, cause, remedy in lacking(root, want):
        raise refused(OF, path, cause, remedy)


def lacking(root: Path, want: RootSettings) -> Iterator[Tuple[tuple, str, str]]:
    """What settings need and the tree has not: path, cause and remedy of each"""
    for kind in ("enable", "disable", "mask"):
        for at, unit in enumerate(getattr(want, kind)):
            if not has_unit(root, unit):
                cause = f"is {unit}, a unit that the image has not"
                yield (kind, at), cause, package("that has it")
    if not has_locale(root, want.locale):
        cause = f"is {want.locale}, which the image has not"
        remedy = f"{package('glibc-locale-LANGUAGE')} (of Debian: locales-all)"
        yield ("locale",), cause, remedy
    if want.timezone != "UTC" and not (root / ZONES / want.timezone).is_file():
        cause = f"is {want.timezone}, which the image has not"
        yield ("timezone",), cause, package("tzdata")
    if want.keymap and not has_keymap(root, want.keymap):
        cause = f"is {want.keymap}, which the image has not"
        yield ("keymap",), cause, package("kbd") + " (of Debian: console-data, too)"
    programs = [(("keymap",), "/usr/bin/loadkeys", "kbd", bool(want.keymap))]
    programs += [(("ssh",), "/usr/bin/sshd", "openssh-server", want.ssh.enabled)]
    programs += [(("ssh",), "/usr/bin/ssh-keygen", "openssh-keygen", want.ssh.enabled)]
    for name in ("podman", "crun", "conmon"):
        wanted = want.containers == "podman"
        programs.append((("containers",), f"/usr/bin/{name}", name, wanted))
    for path, program, name, wanted in programs:
        if wanted and not is_program(root, program):
            cause = f"needs a program that the image has not: {program}"
            yield path, cause, package(name)


def has_unit(root: Path, unit: str) -> bool:
    """Whether a unit, or its template, is there and more than masked"""
    template = re.sub(r"@.*\.", "@.", unit)
    paths = [root / one / name for one in UNIT_FOLDERS for name in (unit, template)]
    return any(
        os.path.lexists(path)
        and not (path.is_symlink() and os.readlink(path) == os.devnull)
        for path in paths
    )


def has_locale(root: Path, name: str) -> bool:
    """Whether the C library has a locale: it writes UTF-8 as utf8"""
    base, at, modifier = name.partition("@")
    language, dot, charset = base.partition(".")
    wanted = language + dot + charset.lower().replace("-", "") + at + modifier
    return wanted in LOCALES_OF_LIBC or (root / "usr/lib/locale" / wanted).is_dir()


def has_keymap(root: Path, name: str) -> bool:
    """Whether loadkeys finds a keymap"""
    return any(
        found.name in (f"{name}.map", f"{name}.map.gz", f"{name}.kmap.gz")
        for folder in KEYMAPS
        for found in (root / folder).rglob(f"{name}.*map*")
    )


def texts(want: RootSettings) -> Dict[str, str]:
    """Files by their path, without those of `write_files`"""
    found = {
        "etc/hostname": f"{want.hostname}\n",
        "etc/locale.conf": f"LANG={want.locale}\n",
        PRESETS: preset(want),
    }
    if want.keymap:
        found["etc/vconsole.conf"] = f"KEYMAP={want.keymap}\n"
    if want.sysctl:
        lines = [f"{name} = {value}\n" for name, value in want.sysctl.items()]
        found[SYSCTL_FILE] = "".join(lines)
    if want.ssh.enabled:
        found[SSHD_FILE] = sshd_config(want)
    for at, one in enumerate(want.network):
        found[f"etc/systemd/network/{10 + at:02}-settings.network"] = network(one)
    return found


def preset(want: RootSettings) -> str:
    """https://www.freedesktop.org/software/systemd/man/systemd.preset.html"""
    lines = ["# From the settings of compose_root"]
    lines += [f"enable {unit}" for unit in (*want.enable, *implied(want))]
    lines += [f"disable {unit}" for unit in want.disable]
    return "\n".join(lines) + "\n"


def implied(want: RootSettings) -> List[str]:
    """Units that other settings are made true by"""
    found = ["sshd.service"] if want.ssh.enabled else []
    return found + (["keymap.service"] if want.keymap else [])


def additions(want: RootSettings) -> List[str]:
    """Folders of the package's ``files`` that settings bring"""
    wanted = {
        "ssh": want.ssh.enabled,
        "keymap": bool(want.keymap),
        "containers": bool(want.containers),
    }
    return [name for name, is_wanted in wanted.items() if is_wanted]


def sshd_config(want: RootSettings) -> str:
    """https://man.openbsd.org/sshd_config"""
    root = "prohibit-password" if want.root_ssh_keys else "no"
    passwords = "yes" if want.ssh.password_authentication else "no"
    return (
        f"Port {want.ssh.port}\n"
        f"PermitRootLogin {root}\n"
        f"PasswordAuthentication {passwords}\n"
    )


def network(one: NetworkSettings) -> str:
    """https://www.freedesktop.org/software/systemd/man/systemd.network.html"""
    lines = ["[Match]"]
    lines += [f"Name={one.name}"] if one.name else []
    lines += [f"MACAddress={one.mac}"] if one.mac else []
    lines += ["", "[Network]", f"DHCP={'yes' if one.dhcp else 'no'}"]
    for name, values in (
        ("Address", one.address),
        ("Gateway", one.gateway),
        ("DNS", one.dns),
    ):
        lines += [f"{name}={value}" for value in values]
    # As of devices without an entry: nothing listens that nobody asked for
    return "\n".join([*lines, "LLMNR=no", "MulticastDNS=no"]) + "\n"


def write_single(root: Path, want: RootSettings) -> None:
    """The files of `write_files`; `SettingError` if a link leads out of the image"""
    for path, one in want.write_files.items():
        try:
            target = inside_root(root, Path(path.lstrip("/")))
        except UserError as error:
            cause = f"cannot be written: {error.cause}"
            raise refused(OF, ("write_files", path), cause, error.remedy) from error
        if target.is_dir() and not target.is_symlink():
            cause, remedy = "is a directory of the image", "give a file's path"
            raise refused(OF, ("write_files", path), cause, remedy)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        target.write_bytes(content_of(one))
        target.chmod(int(one.mode, 8))


def own_single(root: Path, want: RootSettings) -> None:
    """Give the files of `write_files` to their owners, who are there by now"""
    users = accounts.Database(root / "etc/passwd")
    for path, one in want.write_files.items():
        if one.owner == "root":
            continue
        if one.owner not in users.names():
            cause = f"is {one.owner!r}, a user that the image has not"
            where = ("write_files", path, "owner")
            raise refused(OF, where, cause, "write it into `users`")
        uid, gid = map(int, users.row(one.owner)[2:4])
        target = inside_root(root, Path(path.lstrip("/")))
        os.chown(target, uid, gid)
        target.chmod(int(one.mode, 8))  # which a change of the owner may take bits of


def content_of(one: FileSettings) -> bytes:
    """What is in a file"""
    return Path(one.source).read_bytes() if one.source else one.content.encode()


def told(want: RootSettings) -> str:
    """
    The settings for the image to have: without secrets (`true` says that one is set),
    files by their digests
    """
    found = plain(want)
    found["files"] = kept(want.files) if want.files else {}
    for path, one in want.write_files.items():
        digest = hashlib.sha256(content_of(one)).hexdigest()
        found["write_files"][path] = {
            "sha256": digest,
            "mode": one.mode,
            "owner": one.owner,
        }
    return json.dumps({"compose_root": found}, indent=1, sort_keys=True) + "\n"


def kept(folder: str) -> Dict[str, str]:
    """Digests of a directory's files, of those that a running system leaves alone"""
    found = {}
    for path in sorted(Path(folder).rglob("*")):
        inside = path.relative_to(folder)
        if path.is_file() and not path.is_symlink() and inside.parts[0] in STABLE:
            found[f"/{inside}"] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def plain(value: Any) -> Any:
    """Settings as data; of a secret whether it is set"""
    if is_settings(type(value)):
        return {
            one.name: bool(getattr(value, one.name))
            if one.metadata["secret"]
            else plain(getattr(value, one.name))
            for one in dataclasses.fields(value)
        }
    if isinstance(value, list):
        return [plain(one) for one in value]
    if isinstance(value, dict):
        return {name: plain(one) for name, one in value.items()}
    return value
