"""
What would not start in a tree, why, and which way out there is

`check` gives the document that ``schemas/loader-report.schema.json`` describes.
"""

import dataclasses
import os
import re
from typing import Any, Dict, Iterator, List, Sequence, Set, Tuple

from .dynamic import KERNEL_RUNS, PLAINEST, Environment, Loader, Problem
from .elf import ET_DYN, MAGIC, OBJECT_FILE, Malformed
from .layers import Layers
from .starts import Start, starts
from .tree import Place, Tree, Unresolved, open_regular

PID_1, EVERYTHING = "pid1", "everything"
SHOWN = 12  # findings that a person gets to read at once
LIBRARY = re.compile(r"\.so(\.[\w.+-]+)?$")
DEBUG_FILES = "/usr/lib/debug/"
MAX_ELSEWHERE = 5
MAX_SEARCHED, MAX_CHAIN = 100, 40  # of one finding
MAX_FINDINGS = 1000  # that a report has; of more, it has the number

# The ways to a PID 1 (README.md), by what each of them mends: `default` and
# `init-fedora-root` mix nothing, `init-overlayfs` has all libraries in one place
UNMIXED = ("default", "init-fedora-root")
ROUTES: Dict[str, Tuple[str, ...]] = {
    "interpreter-missing": (*UNMIXED, "init-overlayfs"),
    "library-missing": (*UNMIXED, "init-overlayfs"),
    "script-interpreter-missing": (*UNMIXED, "init-overlayfs"),
    "version-missing": UNMIXED,
    "symbol-missing": UNMIXED,
    "builds-mixed": UNMIXED,
}
SENTENCES = {
    "program-missing": "{what} {why}",
    "program-unusable": "{what} {why}",
    "interpreter-missing": "{file} needs the dynamic loader {what}, which {why}",
    "interpreter-unusable": "{file} needs the dynamic loader {what}, which {why}",
    "script-interpreter-missing": "{file} is a script for {what}, which {why}",
    "script-interpreter-unusable": "{file} is a script for {what}, which {why}",
    "library-missing": "{file} needs {what}, which {why}",
    "library-unusable": "{file} needs {what}, but {why}",
    "version-missing": "{file} needs version {what}, which {why}",
    "symbol-missing": "{file} needs the symbol {what}, which {why}",
    "builds-mixed": "{file} is loaded by {what}, which {why}",
}


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that would go wrong"""

    kind: str
    file: str
    what: str
    why: str
    searched: Tuple[Dict[str, str], ...]
    needed_by: Tuple[str, ...]
    elsewhere: Tuple[str, ...]
    routes: Tuple[str, ...]
    level: int
    root: str

    @property
    def sentence(self) -> str:
        """For people"""
        text = SENTENCES[self.kind].format(**dataclasses.asdict(self))
        if self.searched and self.kind == "library-missing":
            text += " (" + ", ".join(one["path"] for one in self.searched) + ")"
        if self.elsewhere:
            text += f"; there is {', '.join(self.elsewhere)}"
        if self.level > 1:
            text += f"; on a processor of x86-64-v{self.level}"
        if self.root:
            text += f"; in {self.root}"
        return printable(f"{text} [{' -> '.join(self.needed_by)}]")

    def document(self) -> Dict[str, Any]:
        """For programs"""
        fields = {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in dataclasses.asdict(self).items()
        }
        return {**fields, "sentence": self.sentence}


def printable(text: str) -> str:
    """Names of hostile files have control characters, and bytes that are no UTF-8"""
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape").decode()
        for one in text
    )


class Check:
    """One look at a tree, on a processor of one level"""

    def __init__(self, tree: Tree, level: int):
        self.loader = Loader(tree, level)
        self.roots: Dict[str, Loader] = {"": self.loader}
        self.findings: Dict[tuple, Finding] = {}
        self.programs: Set[Tuple[str, str]] = set()
        self.others = 0  # programs that only are there
        self.libraries: Set[str] = set()
        self.left_out = 0

    def pid_1(self, init: str) -> None:
        """PID 1 and what it starts"""
        for start in starts(self.loader, init):
            self.start(start)

    def levels(self) -> Set[int]:
        """Of processors that would have loaded something else"""
        return {level for one in self.roots.values() for level in one.levels}

    def start(self, start: Start) -> None:
        try:
            loader = self.view(start.root)
        except Unresolved as error:
            why = f"is the RootDirectory= of a unit, and {error.reason}"
            missing = Problem("program-missing", start.root, start.root, why)
            self.found(missing, start, self.loader)
            return
        if start.is_library:
            self.library(start)
            return
        if start.may_miss and loader.tree.find(start.path) is None:
            return
        self.programs.add((start.root, start.path))
        for problem in loader.execute(start.path, start.environment):
            self.found(problem, start, loader)

    def view(self, root: str) -> Loader:
        """The tree as a unit with RootDirectory= sees it"""
        root = "" if root.strip("/") == "" else root
        if root not in self.roots:
            below = self.loader.tree.below(root)
            self.roots[root] = Loader(below, self.loader.level)
        return self.roots[root]

    def library(self, start: Start) -> None:
        """What is loaded by its name, by a program with PID 1's loader"""
        place = self.loader.tree.find(start.path)
        if place is None:
            if not start.may_miss:
                why = "is no library of the tree, and is loaded by its name"
                missing = Problem("library-missing", start.by[-1], start.path, why)
                self.found(missing, start, self.loader)
            return
        self.libraries.add(place.inside)
        for interpreter in self.loader.interpreters()[:1]:
            for problem in self.loader.library(place, interpreter):
                self.found(problem, start, self.loader)

    def everything(self) -> None:
        """Each program, script and library of the tree"""
        late: List[str] = []
        for place in self.loader.tree.files():
            if place.inside.startswith(DEBUG_FILES):
                continue
            head = head_of(place)
            if head == MAGIC:
                self.one(place, late)
            elif head[:2] == b"#!" and place.is_executable:
                self.program(place)
        for path in late:
            self.alone(self.loader.tree.resolve(path))

    def one(self, place: Place, late: List[str]) -> None:
        """An ELF file; libraries after programs, which may have loaded them"""
        found = self.loader.elf(place)
        if (found.bits, found.machine) not in KERNEL_RUNS:
            return  # firmware, and programs of other machines
        if isinstance(found, Malformed):
            named = place.is_executable or LIBRARY.search(place.inside)
            if named and found.reason != OBJECT_FILE:
                path = place.inside
                broken = Problem("program-unusable", path, path, found.reason)
                self.found(broken, Start(path, ()), self.loader)
        elif found.interpreter and place.is_executable:
            self.program(place)
        elif found.type == ET_DYN and found.dynamic:
            late.append(place.inside)

    def program(self, place: Place) -> None:
        start = Start(place.inside, (), Environment(as_root=False))
        self.others += 1
        for problem in self.loader.execute(start.path, start.environment):
            self.found(problem, start, self.loader)

    def alone(self, place: Place) -> None:
        """A library that no program needs: what loads it by name is not known"""
        found = self.loader.elf(place)
        if place.identity in self.loader.loaded or isinstance(found, Malformed):
            return
        for interpreter in self.loader.interpreters():
            if interpreter.elf.kind == found.kind:
                self.libraries.add(place.inside)
                for problem in self.loader.library(place, interpreter):
                    self.found(problem, Start(place.inside, ()), self.loader)
                return

    def found(self, problem: Problem, start: Start, loader: Loader) -> None:
        """Note a problem once: the first who needs it speaks for all"""
        root = start.root.rstrip("/")
        key = (root, problem.kind, problem.file, problem.what)
        if key in self.findings:
            return
        if len(self.findings) >= MAX_FINDINGS:
            self.left_out += 1
            return
        self.findings[key] = Finding(
            kind=problem.kind,
            file=problem.file,
            what=problem.what,
            why=problem.why,
            searched=tuple(one._asdict() for one in problem.searched[:MAX_SEARCHED]),
            needed_by=shortened((*start.by, *problem.chain)),
            elsewhere=(),
            # Of a program that only somebody may start, PID 1 is not the cause
            routes=ROUTES.get(problem.kind, ()) if start.by else (),
            level=loader.level,
            root=root,
        )


def shortened(chain: Sequence[str]) -> Tuple[str, ...]:
    """Each once; of a chain that only hostile files have, its ends"""
    whole = tuple(dict.fromkeys(chain))
    if len(whole) <= MAX_CHAIN:
        return whole
    return (*whole[: MAX_CHAIN // 2], "…", *whole[-MAX_CHAIN // 2 :])


def head_of(place: Place) -> bytes:
    """The first bytes of a file, none of one that cannot be read"""
    try:
        file = open_regular(place)
    except Unresolved:
        return b""
    with os.fdopen(file, "rb", buffering=0) as opened:
        return opened.read(len(MAGIC)) or b""


def check(
    directory: str,
    init: str = "",
    everything: bool = False,
    layers: Sequence[str] = (),
) -> Dict[str, Any]:
    """
    The report about a tree; `Unresolved` if one of its layers is no directory of it

    init: PID 1's path, as `init=` of the kernel's command line gives it
    everything: each ELF file and script too, not only what PID 1 starts
    layers: directories of the tree which the initrd puts one over another to make the
        root of them, the uppermost first
    """
    tree = Tree(directory)
    if layers:
        tree = Layers([tree.below(one).directory for one in layers])
    looks = [look(tree, PLAINEST, init, everything)]
    for level in sorted(looks[0].levels()):
        looks.append(look(tree, level, init, everything))
    findings = list(merged(looks))[:MAX_FINDINGS]
    return {
        "verdict": "refused" if findings else "starts",
        "scope": EVERYTHING if everything else PID_1,
        "programs": max(len(looks[0].programs), looks[0].others),
        "libraries": len(looks[0].libraries | looks[0].loader.libraries),
        "findings": [one.document() for one in located(tree, findings)],
        "left_out": sum(one.left_out for one in looks),
    }


def look(tree: Tree, level: int, init: str, everything: bool) -> Check:
    """All that is asked for, on one processor"""
    done = Check(tree, level)
    done.pid_1(init)
    if everything:
        done.everything()
    return done


def merged(looks: Sequence[Check]) -> Iterator[Finding]:
    """What is found on a plainer processor need not be told of the others"""
    seen: Set[tuple] = set()
    for one in looks:
        for key, finding in one.findings.items():
            if key not in seen:
                seen.add(key)
                yield finding


def located(tree: Tree, findings: List[Finding]) -> List[Finding]:
    """With the places of missing libraries that are somewhere else in the tree"""
    wanted: Dict[str, List[str]] = {
        os.path.basename(one.what): []
        for one in findings
        if one.kind in ("library-missing", "interpreter-missing")
    }
    if wanted:
        for place in tree.files():
            name = os.path.basename(place.inside)
            if len(wanted.get(name, [""] * MAX_ELSEWHERE)) < MAX_ELSEWHERE:
                wanted[name].append(place.inside)
    return [
        dataclasses.replace(
            one, elsewhere=tuple(wanted.get(os.path.basename(one.what), ()))
        )
        for one in findings
    ]


def sentences(report: Dict[str, Any]) -> List[str]:
    """The report for people; of many findings, the first"""
    if not report["findings"]:
        return [
            f"{report['programs']} programs and {report['libraries']} libraries: "
            "all would start"
        ]
    said = [one["sentence"] for one in report["findings"]]
    more = len(said) + report["left_out"] - SHOWN
    return said[:SHOWN] + ([f"and {more} more"] if more > 0 else [])
