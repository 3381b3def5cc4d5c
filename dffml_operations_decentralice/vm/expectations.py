"""
What a booted system must show of the settings that its image was made of

One table of functions, an entry for each setting: the command whose output tells, and
the lines that it must say. The commands run inside, with the health script; on a
machine without KVM each process that one starts costs 50 ms.
"""

from __future__ import annotations

import itertools
import json
import shlex
import zoneinfo
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence

ABSENT = "no such device"  # what a command says of what this machine does not have
TOLD = 500  # characters of an output that are told
# In winter and in summer, of a year whose rules do not change any more
MOMENTS = (1577836800, 1593561600)


class Expectation(NamedTuple):
    """Of a setting what a command of sh must say; if not exactly, then among others"""

    setting: str
    command: str
    lines: List[str]
    exact: bool = True


def read(path: str) -> List[Expectation]:
    """Of what `expect_settings` makes; none without"""
    if not path:
        return []
    return [Expectation(**one) for one in json.loads(Path(path).read_text())]


class Seen(NamedTuple):
    """What was seen; ``ok`` is None of what this machine cannot show"""

    setting: str
    expected: str
    seen: str
    ok: Optional[bool]


def compare(expectations: Sequence[Expectation], outputs: List[str]) -> List[Seen]:
    """The commands' outputs, in the order of the expectations, beside what is due"""
    found = []
    for one, output in itertools.zip_longest(
        expectations, outputs[: len(expectations)]
    ):
        said = [" ".join(line.split()) for line in (output or "").splitlines()]
        wanted = [" ".join(line.split()) for line in one.lines]
        met = said == wanted if one.exact else set(wanted) <= set(said)
        ok = None if said == [ABSENT] else met
        expected = wanted
        if not one.exact:  # of long lists what counts
            expected = wanted if met else [line for line in wanted if line not in said]
            said = [line for line in said if line in wanted] if met else said
        found.append(Seen(one.setting, told(expected), told(said), ok))
    return found


def told(lines: List[str]) -> str:
    """Lines for a report"""
    return "\n".join(lines)[:TOLD]


def of_root(settings: Dict[str, Any]) -> Iterator[Expectation]:
    """Those of `compose_root`, of its settings as the image has them"""
    for name, expect in ROOT.items():
        for path, command, lines, exact in expect(settings[name]):
            yield Expectation(f"compose_root.{name}{path}", command, lines, exact)


def of_disk(partitions: Sequence[Dict[str, Any]]) -> Iterator[Expectation]:
    """Names of partitions with their sizes in MiB"""
    lines = [f"{one['name']} {one['size']}" for one in partitions]
    yield Expectation("partition", PARTITIONS, lines, False)


# Of what the kernel says, in sectors of 512 bytes, without a process
PARTITIONS = r"""for one in /sys/class/block/*/partition; do
    block=${one%/partition} name=
    while IFS== read -r key value; do
        [ "$key" = PARTNAME ] && name=$value
    done < "$block/uevent"
    read -r size < "$block/size"
    echo "$name $((size / 2048))"
done"""
HIBERNATE = (
    "busctl call org.freedesktop.login1 /org/freedesktop/login1"
    " org.freedesktop.login1.Manager CanHibernate"
)


def of_kernel(release: str, cmdline: str) -> Iterator[Expectation]:
    """The kernel and its command line"""
    osrelease = "read -r it < /proc/sys/kernel/osrelease; echo $it"
    yield Expectation("lock_kernel_rpms.kernel", osrelease, [release])
    words = "set -f; read -r it < /proc/cmdline; printf '%s\\n' $it"
    yield Expectation("build_uki.cmdline", words, cmdline.split(), False)
    if " resume=" in f" {cmdline}":
        yield Expectation("build_uki.hibernation", HIBERNATE, ['s "yes"'])


def of_packages(
    names: Sequence[str], database: str = "/usr/lib/apk/db/installed"
) -> Iterator[Expectation]:
    """Packages that were asked for, by apk's database of them"""
    command = f"sed -n s/^P://p {database}"
    yield Expectation("lock_userspace.packages", command, list(names), False)


def of_file(setting: str, path: str, text: str) -> Iterator[Expectation]:
    """A small file that says what a setting says"""
    command = f"while read -r it; do printf '%s\\n' \"$it\"; done < {path}"
    yield Expectation(setting, command, text.splitlines())


# A row: what stands behind the setting's name, command, lines, whether they are all
Rows = Iterator[tuple]


def one_line(command: str) -> Callable[[Any], Rows]:
    """A setting whose value is what the command says"""

    def expect(value: Any) -> Rows:
        yield "", command, [str(value)], True

    return expect


def locale(value: str) -> Rows:
    """As PID 1 gives it to services, of which the health script is one"""
    yield "", "echo $LANG", [value], True


def time_zone(value: str) -> Rows:
    """Where the link leads, and what that makes of two moments"""
    if value == "UTC":
        yield "", "date +%z", ["+0000"], True
        return
    dates = "; ".join(f"date --date=@{moment} +%z" for moment in MOMENTS)
    offsets = [utc_offset(value, moment) for moment in MOMENTS]
    link = f"../usr/share/zoneinfo/{value}"
    yield "", f"readlink /etc/localtime; {dates}", [link, *offsets], True


def utc_offset(zone: str, moment: int) -> str:
    """What ``date +%z`` says in a time zone at a moment"""
    here = datetime.fromtimestamp(moment, timezone.utc)
    return here.astimezone(zoneinfo.ZoneInfo(zone)).strftime("%z")


def keymap(value: str) -> Rows:
    """Set by our unit, or by systemd's"""
    units = "keymap.service systemd-vconsole-setup.service"
    if value:
        command = f"cat /etc/vconsole.conf; systemctl is-active {units}"
        yield "", command, [f"KEYMAP={value}", "active"], False


def password(name: str, is_set: bool) -> tuple:
    """P: a password, L: none that could be given. passwd(1)"""
    command = f"set -- $(passwd --status {name}); echo $2"
    return command, ["P" if is_set else "L"], True


def root_password(value: bool) -> Rows:
    yield ("", *password("root", value))


def keys_of(home: str, keys: List[str]) -> tuple:
    """The keys that sshd takes"""
    return f"cat {shlex.quote(home)}/.ssh/authorized_keys", keys, True


def root_keys(value: List[str]) -> Rows:
    if value:
        yield ("", *keys_of("/root", value))


def users(value: List[Dict[str, Any]]) -> Rows:
    """Each one's line in passwd, home, password, groups, keys, rights"""
    for number, one in enumerate(value):
        name, home = one["name"], one["home"] or f"/home/{one['name']}"
        path, quoted = f"[{number}]", shlex.quote(home)
        fields = [name, one["uid"], one["gecos"], home, one["shell"]]
        cut = "1,3,5-7" if one["uid"] else "1,5-7"
        line = ":".join(str(field) for field in fields if field is not None)
        yield path, f"getent passwd {name} | cut -d : -f {cut}", [line], True
        yield f"{path}.home", f"stat -c '%U %a' {quoted}", [f"{name} 700"], True
        yield (f"{path}.password_hash", *password(name, one["password_hash"]))
        if one["groups"]:
            groups = f"id -nG {name} | tr ' ' '\\n'"
            yield f"{path}.groups", groups, one["groups"], False
        if one["ssh_keys"]:
            yield (f"{path}.ssh_keys", *keys_of(home, one["ssh_keys"]))
        if one["sudo"]:
            right = f"(ALL : ALL) {'' if one['sudo_password'] else 'NOPASSWD: '}ALL"
            yield f"{path}.sudo", f"sudo -n -l -U {name}", [right], False


def groups(value: List[Dict[str, Any]]) -> Rows:
    for number, one in enumerate(value):
        cut = "1,3" if one["gid"] else "1"
        line = ":".join(str(one[field]) for field in ("name", "gid") if one[field])
        command = f"getent group {one['name']} | cut -d : -f {cut}"
        yield f"[{number}]", command, [line], True


WORDS = "tr -s ' ' '\\n'"
NETWORK = {
    "address": f"ip -oneline address show dev $device | {WORDS}",
    "gateway": f"(ip route; ip -6 route) | grep ^default | {WORDS}",
    "dns": f"resolvectl dns $device | {WORDS}",
}


def network(value: List[Dict[str, Any]]) -> Rows:
    """Of the device that it is for, if this machine has it"""
    for number, one in enumerate(value):
        tests = [f'case "${{link##*/}}" in {one["name"]}) ;; *) continue; esac;']
        if one["mac"]:
            tests.append("read -r mac < $link/address;")
            tests.append(f'[ "$mac" = {one["mac"].lower()} ] || continue;')
        found = "" if one["name"] else "*"
        tests[0] = tests[0].replace(" in )", f" in {found})")
        find = f"for link in /sys/class/net/*; do {' '.join(tests)}"
        find = f"device=; {find} device=${{link##*/}}; done;"
        for name, command in NETWORK.items():
            if one[name]:
                show = f'[ "$device" ] && {command} || echo {ABSENT}'
                yield f"[{number}].{name}", f"{find} {show}", one[name], False


def sysctl(value: Dict[str, str]) -> Rows:
    """sysctl(8): of `.` and `/` the first that is in a name separates"""
    for name, text in value.items():
        first = next(sign for sign in name if sign in "./")
        path = name.translate(str.maketrans("./", "/.")) if first == "." else name
        yield f".{name}", f"cat /proc/sys/{path}", [text], True


def ssh(value: Dict[str, Any]) -> Rows:
    """What the server that runs has made of its configuration"""
    if value["enabled"]:
        yield ".enabled", "systemctl is-active sshd.service", ["active"], True
        passwords = "yes" if value["password_authentication"] else "no"
        lines = [f"port {value['port']}", f"passwordauthentication {passwords}"]
        yield "", "sshd -T", lines, False


def containers(value: str) -> Rows:
    if value:
        yield "", f"{value} --version | cut -d ' ' -f 1", [value], True


def unit_states(state: str, also: str = "") -> Callable[[List[str]], Rows]:
    """Units by the state of their files, systemctl(1)"""

    def expect(value: List[str]) -> Rows:
        if value:
            command = f"systemctl is-enabled {' '.join(map(shlex.quote, value))}"
            same = f" | sed 's/^\\({also}\\)$/{state}/'" if also else ""
            yield "", command + same, [state] * len(value), True

    return expect


def digests(value: Dict[str, str]) -> Rows:
    """Files by their SHA-256"""
    if value:
        paths = " ".join(map(shlex.quote, value))
        lines = [f"{digest} {path}" for path, digest in value.items()]
        yield "", f"sha256sum -- {paths}", lines, True


def single_files(value: Dict[str, Dict[str, str]]) -> Rows:
    for path, one in value.items():
        quoted, mode = shlex.quote(path), f"{int(one['mode'], 8):o}"
        command = f"sha256sum < {quoted} | cut -c -64; stat -c '%a %U' {quoted}"
        yield f".{path}", command, [one["sha256"], f"{mode} {one['owner']}"], True


ROOT: Dict[str, Callable[[Any], Rows]] = {
    "hostname": one_line("read -r it < /proc/sys/kernel/hostname; echo $it"),
    "locale": locale,
    "timezone": time_zone,
    "keymap": keymap,
    "root_password_hash": root_password,
    "root_ssh_keys": root_keys,
    "users": users,
    "groups": groups,
    "network": network,
    "sysctl": sysctl,
    "ssh": ssh,
    "containers": containers,
    "enable": unit_states("enabled", r"alias\|indirect"),
    "disable": unit_states("disabled", "indirect"),
    "mask": unit_states("masked"),
    "files": digests,
    "write_files": single_files,
}
