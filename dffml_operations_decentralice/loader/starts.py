"""
Who is started in a tree from the moment that the initrd hands over to it

Also what is loaded by name, and so is no library that a program needs: modules of PAM
and NSS. What only the running machine knows is left out, as what generators write.
"""

import os
import re
import shlex
from typing import Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from .dynamic import DEFAULT_PATH, Environment, Loader
from .tree import Tree, Unresolved
from .units import BUS_SERVICES, TRUE, Unit, Units, parse

# What systemd in the initrd executes first: itself, as it is in the new root
INITS = (
    "/usr/lib/systemd/systemd",
    "/lib/systemd/systemd",
    "/sbin/init",
    "/etc/init",
    "/bin/init",
    "/bin/sh",
)
HELPERS = {
    "PID 1": (
        "/usr/lib/systemd/systemd-executor",
        "/usr/lib/systemd/systemd-shutdown",
    ),
    "kernel": ("/sbin/modprobe",),
}
GENERATORS = (
    "system-generators",
    "system-environment-generators",
    "user-generators",
    "user-environment-generators",
)
LIBRARY_FOLDERS = ("/etc/systemd", "/usr/local/lib/systemd", "/usr/lib/systemd")
UDEV = ("/usr/lib/udev", "/lib/udev")
RULES = ("/etc/udev/rules.d", "/usr/lib/udev/rules.d", "/lib/udev/rules.d")
RULE = re.compile(
    r'(?:RUN|PROGRAM|IMPORT\{program\}|RUN\{program\})\s*[+:=]?=\s*"((?:[^"\\]|\\.)*)"'
)
COMMANDS = (
    "ExecCondition",
    "ExecStartPre",
    "ExecStart",
    "ExecStartPost",
    "ExecReload",
    "ExecStop",
    "ExecStopPost",
)
CONDITIONS = ("ConditionPathExists", "ConditionFileIsExecutable", "AssertPathExists")
PACKAGED = ("/usr/", "/etc/", "/bin/", "/sbin/", "/lib/", "/opt/")
OF_TYPES = {"mount": ("/bin/mount", "/bin/umount"), "swap": ("/sbin/swapon",)}
# What generators start, and who logs in, and the end of it all
BY_OTHERS = {
    "getty.target": ("serial-getty@ttyS0.service",),
    "local-fs.target": (
        "systemd-fsck-root.service",
        "systemd-growfs-root.service",
        "systemd-remount-fs.service",
    ),
    "systemd-logind.service": (
        "user@0.service",
        "user-runtime-dir@0.service",
        "poweroff.target",
        "reboot.target",
    ),
}
AGETTY, LOGIN = "agetty", "/bin/login"
PAM = ("/etc/pam.d", "/usr/lib/pam.d")
PAM_KINDS = ("auth", "account", "password", "session")
PAM_LIBRARY = "libpam.so.0"
HARMLESS = ("optional", "sufficient")  # when such a module cannot be loaded
NSS = "/etc/nsswitch.conf"


class Start(NamedTuple):
    """A program that is started, or a library that is loaded by its name"""

    path: str
    by: Tuple[str, ...]  # from what the boot asks for to what starts it
    environment: Environment = Environment()
    root: str = ""  # RootDirectory=
    may_miss: bool = False
    is_library: bool = False


def starts(loader: Loader, init: str = "") -> Iterator[Start]:
    """
    All of a tree; `init` is what the kernel's command line says. PID 1 comes first, as
    its loader finds what comes by name.
    """
    tree = loader.tree
    yield pid_1(tree, init)
    for who, paths in HELPERS.items():
        for path in paths:
            yield Start(path, (who,), may_miss=True)
    for kind in GENERATORS:
        for path in in_folders(tree, [f"{one}/{kind}" for one in LIBRARY_FOLDERS]):
            yield Start(path, (kind,))
    yield from of_units(loader)
    yield from of_udev(tree)
    yield from of_bus(tree)
    for path in shells(tree):
        yield Start(path, ("/etc/passwd",))
    yield from of_pam(loader)
    yield from of_nss(loader)


def pid_1(tree: Tree, init: str) -> Start:
    """The first of those that the initrd's systemd executes"""
    if init:
        return Start(init, (f"kernel's init={init}",))
    there = [path for path in INITS if tree.find(path)]
    return Start((there or ["/sbin/init"])[0], ("the initrd's switch-root",))


def in_folders(tree: Tree, folders: Sequence[str]) -> List[str]:
    """The programs of several folders; a name in a foremost one hides those behind"""
    found: Dict[str, str] = {}
    for folder in folders:
        for name in tree.names(folder):
            found.setdefault(name, f"{folder}/{name}")
    return [path for path in found.values() if is_program(tree, path)]


def is_program(tree: Tree, path: str) -> bool:
    place = tree.find(path)
    return place is not None and place.is_executable


def of_units(loader: Loader) -> Iterator[Start]:
    """The commands of each unit that a boot may start"""
    tree = loader.tree
    general = manager_environment(tree)
    for unit, why in Units(tree, BY_OTHERS).started():
        # What is in an image, or behind a condition that is not met, is not looked at
        if conditions_hold(tree, unit) and not unit.last("RootImage"):
            environment = environment_of(tree, unit, general)
            for start in of_unit(loader, unit, environment):
                yield start._replace(by=(*why, unit.name, *start.by))


def of_unit(loader: Loader, unit: Unit, environment: Environment) -> Iterator[Start]:
    """The commands of one unit"""
    for path in OF_TYPES.get(unit.name.rpartition(".")[2], ()):
        yield Start(path, ())
    root = unit.expanded(unit.last("RootDirectory")) or ""
    only_start = unit.last("RootDirectoryStartOnly").lower() in TRUE
    for key in COMMANDS:
        own = root if key == "ExecStart" or not only_start else ""
        for line in unit.all(key):
            start = command(loader, unit, line, own, environment)
            if start is None:
                continue
            yield start._replace(by=(f"{key}=",))
            if os.path.basename(start.path) == AGETTY:
                yield Start(LOGIN, (f"{key}=", AGETTY), environment, start.root)


def command(
    loader: Loader, unit: Unit, line: str, root: str, environment: Environment
) -> Optional[Start]:
    """The program of an Exec line, None if only the running machine knows it"""
    stripped = line.lstrip("-@:+!|")
    marks = line[: len(line) - len(stripped)]
    words = words_of(stripped)
    path = unit.expanded(words[0]) if words else None
    if not path or path.startswith("$"):
        return None
    root = "" if "+" in marks else root
    if "/" not in path:
        path = (not root and loader.which(path)) or f"/usr/bin/{path}"
    return Start(path, (), environment, root, may_miss="-" in marks)


def words_of(text: str) -> List[str]:
    """Words of a line with quotes, which may be broken"""
    try:
        return shlex.split(text)
    except ValueError:
        return text.split()


def conditions_hold(tree: Tree, unit: Unit) -> bool:
    """False if a path which is missing in the tree has systemd skip the unit"""
    for key in CONDITIONS:
        for value in unit.all(key, "Unit"):
            if value.startswith(PACKAGED) and tree.find(value) is None:
                return False
    return True


def environment_of(tree: Tree, unit: Unit, given: Dict[str, str]) -> Environment:
    """What a unit's programs are started with"""
    found = dict(given)
    for line in unit.all("Environment"):
        found.update(assignments(unit.expanded(line) or ""))
    for line in unit.all("EnvironmentFile"):
        path = unit.expanded(line.lstrip("-"))
        for one in tree.text(path).splitlines() if path else []:
            if not one.lstrip().startswith(("#", ";")):
                found.update(assignments(one))
    for line in unit.all("UnsetEnvironment"):
        for name in words_of(line):
            found.pop(name.partition("=")[0], None)
    user = unit.last("User") if unit.last("DynamicUser") in ("", "no") else "dynamic"
    return Environment(
        found.get("LD_LIBRARY_PATH", ""),
        found.get("PATH", DEFAULT_PATH),
        user in ("", "root", "0"),
    )


def manager_environment(tree: Tree) -> Dict[str, str]:
    """DefaultEnvironment= of system.conf and its drop-ins"""
    found: Dict[str, str] = {}
    files = ["/usr/lib/systemd/system.conf", "/etc/systemd/system.conf"]
    for folder in ("/usr/lib/systemd/system.conf.d", "/etc/systemd/system.conf.d"):
        files += [f"{folder}/{name}" for name in tree.names(folder)]
    for path in files:
        for key, value in parse(tree.text(path)).get("Manager", []):
            if key == "DefaultEnvironment":
                found.update(assignments(value))
    return found


def assignments(text: str) -> Dict[str, str]:
    pairs = [word.partition("=") for word in words_of(text)]
    return {name: value for name, equals, value in pairs if equals}


def of_udev(tree: Tree) -> Iterator[Start]:
    """udev's own helpers, and programs of rules, which it does without if they miss"""
    for path in in_folders(tree, UDEV):
        yield Start(path, ("udev",))
    rules: Dict[str, str] = {}
    for folder in RULES:
        for name in tree.names(folder):
            rules.setdefault(name, f"{folder}/{name}")
    for name, path in rules.items():
        if name.endswith(".rules"):
            for program in programs_of_rules(tree.text(path)):
                full = program if "/" in program else f"{UDEV[0]}/{program}"
                yield Start(full, ("udev", name), may_miss=True)


def programs_of_rules(text: str) -> Iterator[str]:
    """https://www.freedesktop.org/software/systemd/man/udev.html"""
    for line in text.replace("\\\n", "").splitlines():
        for value in RULE.findall("" if line.lstrip()[:1] == "#" else line):
            program = (words_of(value) or [""])[0]
            if program and "$" not in program and "%" not in program:
                yield program


def of_bus(tree: Tree) -> Iterator[Start]:
    """What a message to a bus name starts without systemd"""
    for name in tree.names(BUS_SERVICES):
        said = dict(parse(tree.text(f"{BUS_SERVICES}/{name}")).get("D-BUS Service", []))
        words = words_of(said.get("Exec", ""))
        if words and "SystemdService" not in said:
            yield Start(words[0], ("dbus", name))


def shells(tree: Tree) -> List[str]:
    """Of who may log in"""
    lines = [line.split(":") for line in tree.text("/etc/passwd").splitlines()]
    found = [line[6] for line in lines if len(line) == 7 and line[6]]
    return [one for one in dict.fromkeys(found) if is_program(tree, one)]


def of_pam(loader: Loader) -> Iterator[Start]:
    """Modules that services name. https://man7.org/linux/man-pages/man5/pam.d.5.html"""
    tree = loader.tree
    folders = pam_folders(loader)
    seen = set()
    for folder in PAM:
        for service in tree.names(folder):
            text = tree.text(f"{folder}/{service}").replace("\\\n", " ")
            for module, harmless in pam_modules(text):
                paths = [module]
                if not module.startswith("/"):
                    paths = [f"{one}/{module}" for one in folders] or [module]
                path = next((one for one in paths if tree.find(one)), paths[0])
                if (path, harmless) not in seen:
                    seen.add((path, harmless))
                    by = ("PAM", f"{folder}/{service}")
                    yield Start(path, by, may_miss=harmless, is_library=True)


def pam_modules(text: str) -> Iterator[Tuple[str, bool]]:
    """Modules of one service, and whether it does without"""
    for line in text.splitlines():
        rule = re.match(r"\s*(-?)(\w+)\s+(\[[^\]]*\]|\w+)\s+(\S+)", line)
        if rule and rule[2].lower() in PAM_KINDS:
            control = rule[3].lower()
            if control not in ("include", "substack"):
                yield rule[4], bool(rule[1]) or control in HARMLESS


def pam_folders(loader: Loader) -> List[str]:
    """Where libpam looks, which is compiled into it"""
    place = loader.named(PAM_LIBRARY)
    if place is None:
        return []
    try:
        raw = loader.tree.read(place.inside)
    except Unresolved:
        return []
    found = re.findall(rb"(/[\x21-\x7e]+/security)(?:/\$ISA)?/?\0", raw)
    return [os.fsdecode(one) for one in dict.fromkeys(found)]


def of_nss(loader: Loader) -> Iterator[Start]:
    """
    Modules that are there: glibc goes on without the others, and has `files` and `dns`
    itself. https://man7.org/linux/man-pages/man5/nsswitch.conf.5.html
    """
    for line in loader.tree.text(NSS).splitlines():
        services = re.sub(r"\[[^\]]*\]", " ", line.partition("#")[0].partition(":")[2])
        for name in services.split():
            place = loader.named(f"libnss_{name}.so.2") if "/" not in name else None
            if place is not None:
                yield Start(place.inside, ("NSS", NSS), is_library=True)
