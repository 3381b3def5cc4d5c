"""
systemd's units in a tree: their files, drop-ins, links, and which of them a boot starts

https://www.freedesktop.org/software/systemd/man/systemd.unit.html
https://www.freedesktop.org/software/systemd/man/systemd.syntax.html
"""

import re
from typing import (
    Dict,
    Iterator,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Set,
    Tuple,
)

from .tree import Tree

FOLDERS = (
    "/etc/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
)
BUS_SERVICES = "/usr/share/dbus-1/system-services"
BUSES = ("dbus.service", "dbus-broker.service")
# What a boot asks for: DefaultDependencies= pull in the others
FIRST = ("default.target", "sysinit.target", "basic.target")
WANTED = ("Wants", "Requires", "BindsTo", "Upholds", "Sockets", "OnFailure")
LINKED = ("wants", "requires", "upholds")
TYPES = "service socket timer target path mount automount swap slice scope device"
NAME = re.compile(rf"[\w:.\\@-]+\.({'|'.join(TYPES.split())})", re.ASCII)
TRUE = ("yes", "true", "1", "on")
MAX_UNITS = 20000
MAX_NAME = 255

Sections = Dict[str, List[Tuple[str, str]]]


def parse(text: str) -> Sections:
    """Sections and their assignments in order: a key may come several times"""
    found: Sections = {}
    section: List[Tuple[str, str]] = []
    for line in _lines(text):
        if line.startswith("[") and line.endswith("]"):
            section = found.setdefault(line[1:-1], [])
        else:
            key, equals, value = line.partition("=")
            if equals:
                section.append((key.strip(), value.strip()))
    return found


def _lines(text: str) -> Iterator[str]:
    """Lines that say something, continued ones put together"""
    whole = ""
    for line in text.split("\n"):
        line = line.strip()
        if line.startswith(("#", ";")) or (not line and not whole):
            continue  # a comment does not end what is continued
        if line.endswith("\\"):
            whole += line[:-1] + " "
            continue
        whole += line
        if whole.strip():
            yield whole.strip()
        whole = ""
    if whole.strip():
        yield whole.strip()


class Unit(NamedTuple):
    """A unit as all its files say; the instance is what stands behind its @"""

    name: str
    path: str
    sections: Sections

    @property
    def instance(self) -> str:
        return self.name.rpartition(".")[0].partition("@")[2]

    def all(self, key: str, section: str = "") -> List[str]:
        """The values of a key, none of those before an empty one"""
        found: List[str] = []
        for name, value in self.sections.get(section or self.section, []):
            if name == key:
                found = [*found, value] if value else []
        return found

    def last(self, key: str, section: str = "") -> str:
        return (self.all(key, section) or [""])[-1]

    @property
    def section(self) -> str:
        return self.name.rpartition(".")[2].capitalize()

    def expanded(self, text: str) -> Optional[str]:
        """Specifiers replaced; None if one is only known in the running machine"""
        stem = self.name.rpartition(".")[0]
        known = {
            "n": self.name,
            "N": stem,
            "p": stem.partition("@")[0],
            "i": self.instance,
            "I": unescaped(self.instance),
            "t": "/run",
            "S": "/var/lib",
            "C": "/var/cache",
            "L": "/var/log",
            "E": "/etc",
            "%": "%",
        }
        letters = re.findall("%(.)", text)
        if any(letter not in known for letter in letters):
            return None
        return re.sub("%(.)", lambda one: known[one[1]], text)


def unescaped(name: str) -> str:
    """https://www.freedesktop.org/software/systemd/man/systemd-escape.html"""
    path = name.replace("-", "/")
    return re.sub(r"\\x([0-9a-f]{2})", lambda one: chr(int(one[1], 16)), path)


def template(name: str) -> str:
    """getty@tty1.service -> getty@.service"""
    stem, _, kind = name.rpartition(".")
    prefix, at, _instance = stem.partition("@")
    return f"{prefix}{at}.{kind}"


class Units:
    """The units of a tree"""

    def __init__(self, tree: Tree, by_others: Mapping[str, Sequence[str]]):
        self.tree = tree
        self.by_others = by_others  # than systemd, once a unit runs
        self._read: Dict[str, Optional[Unit]] = {}

    def get(self, name: str) -> Optional[Unit]:
        """A unit by one of its names; None if there is none, or it is masked"""
        if name not in self._read:
            self._read[name] = self._get(name)
        return self._read[name]

    def _get(self, name: str) -> Optional[Unit]:
        if len(name) > MAX_NAME or not NAME.fullmatch(name):
            return None
        for wanted in dict.fromkeys((name, template(name))):
            for folder in FOLDERS:
                place = self.tree.find(f"{folder}/{wanted}")
                if place is None:
                    if self._is_masked(f"{folder}/{wanted}"):
                        return None
                    continue
                if not place.is_file or not place.info.st_size:
                    return None  # a link to /dev/null, or an empty file
                real = self._alias(name, place.inside.rpartition("/")[2])
                text = self.tree.text(place.inside)
                sections = parse("\n".join([text, *self._drop_ins({name, real})]))
                return Unit(real, place.inside, sections)
        return None

    def _is_masked(self, path: str) -> bool:
        """A link to a device that only the running machine has"""
        return self.tree.target(path) == "/dev/null"

    @staticmethod
    def _alias(name: str, file: str) -> str:
        """The name of the file that a link leads to, with the instance of the link"""
        if not NAME.fullmatch(file):
            return name
        stem, _, kind = file.rpartition(".")
        if stem.endswith("@"):
            instance = name.rpartition(".")[0].partition("@")[2]
            return f"{stem}{instance}.{kind}"
        return file

    def _drop_ins(self, names) -> List[str]:
        """The texts of *.conf, each name of them from the foremost folder"""
        files: Dict[str, str] = {}
        for folder in FOLDERS:
            for name in sorted(names):
                for one in folders_of(name):
                    directory = f"{folder}/{one}.d"
                    for file in self.tree.names(directory):
                        if file.endswith(".conf"):
                            files.setdefault(file, f"{directory}/{file}")
        return [self.tree.text(files[name]) for name in sorted(files)]

    def linked(self, name: str) -> List[str]:
        """What the folders NAME.wants and NAME.requires ask for"""
        found = []
        for folder in FOLDERS:
            for one in dict.fromkeys((name, template(name))):
                for kind in LINKED:
                    found += self.tree.names(f"{folder}/{one}.{kind}")
        return found

    def wanted(self, unit: Unit) -> List[str]:
        """What a unit has started, by its text, its folders or its type"""
        found = [*self.linked(unit.name), *self.by_others.get(unit.name, ())]
        for key in WANTED:
            for line in unit.all(key, "Unit") + unit.all(key):
                found += (unit.expanded(line) or "").split()
        stem, _, kind = unit.name.rpartition(".")
        if kind == "socket":
            at = "@" if unit.last("Accept").lower() in TRUE else ""
            found.append(unit.last("Service") or f"{stem}{at}.service")
        elif kind in ("timer", "path"):
            found.append(unit.last("Unit") or f"{stem}.service")
        elif kind == "automount":
            found.append(f"{stem}.mount")
        return found

    def started(self) -> Iterator[Tuple[Unit, Tuple[str, ...]]]:
        """Each unit that a boot may start, and what asks for it"""
        seen: Set[str] = set()
        pending: List[Tuple[str, Tuple[str, ...]]] = [(name, ()) for name in FIRST]
        with_buses = False
        while pending and len(seen) < MAX_UNITS:
            name, why = pending.pop(0)
            unit = self.get(name)
            if unit is None or unit.name in seen:
                continue
            seen.add(unit.name)
            yield unit, why
            why = (*why, unit.name)
            pending += [(one, why) for one in self.wanted(unit)]
            if unit.name in BUSES and not with_buses:
                with_buses = True
                pending += [(one, why) for one in self._by_bus()]

    def _by_bus(self) -> List[str]:
        """Units that a message to their bus name starts"""
        found = []
        for name in self.tree.names(BUS_SERVICES):
            text = parse(self.tree.text(f"{BUS_SERVICES}/{name}"))
            for key, value in text.get("D-BUS Service", []):
                if key == "SystemdService":
                    found.append(value)
        return found


def folders_of(name: str) -> List[str]:
    """Whose drop-ins a unit takes: of its name, template, prefixes and type"""
    stem, _, kind = name.rpartition(".")
    found = [name, template(name)]
    prefix = stem.partition("@")[0]
    while "-" in prefix.rstrip("-"):
        prefix = prefix.rstrip("-").rpartition("-")[0] + "-"
        found.append(f"{prefix}.{kind}")
    return list(dict.fromkeys([*found, kind]))
