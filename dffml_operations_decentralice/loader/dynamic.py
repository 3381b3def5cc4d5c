"""
What execve(2) and glibc's dynamic loader would say of a program in a tree

Follows glibc's elf/dl-load.c and dl-deps.c, of 2.33 and later: https://sourceware.org/git/?p=glibc.git;a=tree;f=elf
https://man7.org/linux/man-pages/man8/ld.so.8.html
"""

import errno
import os
import re
import shlex
import stat
from typing import (
    Dict,
    Iterator,
    List,
    NamedTuple,
    Optional,
    Set,
    Tuple,
    Union,
)

from . import elf
from .cache import CACHE, CONF, Entries, cached, configured
from .elf import DF_1_NODEFLIB, EM_386, EM_X86_64, Elf, Malformed
from .fit import GLIBC_LIMIT, Fit, build, wrong_versions
from .process import Interpreter, Link, Problem, Process, Tried
from .tree import Memory, Place, Tree, Unresolved

KERNEL_RUNS = ((64, EM_X86_64), (32, EM_386))
MAX_SCRIPTS = 5  # of which one is the interpreter of another, as Linux has it
SHEBANG = 256  # bytes of a file that Linux looks at
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# Levels of x86-64 processors: libraries for those above are in folders of their own
PLAINEST = 1
LEVELS = {f"x86-64-v{number}": number for number in (2, 3, 4)}
HWCAPS = "glibc-hwcaps"
MAX_LIBRARIES = 2000  # of one program
MAX_DIRECTORIES = 256  # of one search path
TOKEN = re.compile(
    r"\$(?:\{(ORIGIN|LIB|PLATFORM)\}|(ORIGIN|LIB|PLATFORM)(?![A-Za-z0-9_]))"
)


class Environment(NamedTuple):
    """What a program is started with"""

    library_path: str = ""  # LD_LIBRARY_PATH
    path: str = DEFAULT_PATH
    as_root: bool = True


PLAIN = Environment()


class _Answer(NamedTuple):
    """How a search ended: something usable, or something that ends all searches"""

    place: Optional[Place]
    name: str
    wrong: str
    tried: Tuple[Tried, ...]


class Loader:
    """Answers about the programs of one tree, on a processor of one level"""

    def __init__(self, tree: Tree, level: int = PLAINEST):
        self.tree = tree
        self.level = level
        # By identity, as a file may have many names
        self._elves = Memory(5000)
        self._interpreters = Memory(100)
        self._fit = Fit(tree)
        self._caches: Dict[Tuple[int, int], Entries] = {}
        self._configured: Optional[List[str]] = None
        self._searches = Memory(5000)
        self._started = Memory(200)
        self.levels: Set[int] = set()  # for which there is something
        self.loaded: Set[tuple] = set()  # identities of libraries that programs loaded
        self.libraries: Set[str] = set()  # their paths

    # The kernel

    def execute(self, path: str, given: Environment = PLAIN) -> List[Problem]:
        """What execve says of a program, and then its loader; nothing is good"""
        key = (path, given)
        found: Optional[List[Problem]] = self._started.get(key)
        if found is None:
            found = self._started[key] = list(self._execute(path, given, ()))
        return found

    def _execute(
        self, path: str, given: Environment, scripts: Tuple[str, ...]
    ) -> Iterator[Problem]:
        who, kind = (
            (scripts[-1], "script-interpreter") if scripts else (path, "program")
        )
        try:
            place = self.tree.resolve(path)
            if not place.is_executable:
                raise Unresolved(path, "is no executable file", errno.EACCES)
            head = self.tree.read(path, SHEBANG)
        except Unresolved as error:
            missing = error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
            end = "missing" if missing else "unusable"
            yield Problem(f"{kind}-{end}", who, path, error.reason, chain=scripts)
            return
        if not head.startswith(b"#!"):
            yield from self._program(place, given, scripts)
            return
        words = shebang(head)
        if not words or len(scripts) == MAX_SCRIPTS:
            why = "is a script of too many scripts" if words else "names no interpreter"
            yield Problem(f"{kind}-unusable", who, path, why, chain=scripts)
            return
        scripts = (*scripts, place.inside)
        problems = list(self._execute(words[0], given, scripts))
        yield from problems
        if not problems and os.path.basename(words[0]) == "env":
            yield from self._by_env(words[1:], given, scripts)

    def _by_env(
        self, words: List[str], given: Environment, scripts: Tuple[str, ...]
    ) -> Iterator[Problem]:
        """https://man7.org/linux/man-pages/man1/env.1.html"""
        name = env_command(words)
        if not name:
            return
        path = self.which(name, given.path)
        if path is not None:
            yield from self._execute(path, given, scripts)
            return
        tried = tuple(
            Tried(f"{one}/{name}", "is no program") for one in split(given.path)
        )
        why = "is in no directory of PATH"
        yield Problem(
            "script-interpreter-missing", scripts[-1], name, why, tried, scripts
        )

    def which(self, name: str, path: str = DEFAULT_PATH) -> Optional[str]:
        """A program by its name, None if there is none"""
        if "/" in name:
            return name
        for folder in split(path):
            place = self.tree.find(f"{folder}/{name}")
            if place and place.is_executable:
                return f"{folder}/{name}"
        return None

    def _program(
        self, place: Place, given: Environment, scripts: Tuple[str, ...]
    ) -> Iterator[Problem]:
        who = place.inside
        kind = "script-interpreter-unusable" if scripts else "program-unusable"
        found = self.elf(place)
        if isinstance(found, Malformed):
            yield Problem(kind, who, who, found.reason, chain=scripts)
        elif (found.bits, found.machine) not in KERNEL_RUNS:
            why = f"is {found.kind}, which the kernel does not run"
            yield Problem(kind, who, who, why, chain=scripts)
        elif found.interpreter is not None:
            interpreter = self._interpreter_of(found)
            if isinstance(interpreter, Problem):
                yield interpreter._replace(file=who, chain=(*scripts, who))
            else:
                for problem in self._load(place, found, interpreter, given):
                    yield problem._replace(chain=(*scripts, *problem.chain))

    def _interpreter_of(self, program: Elf) -> Union[Interpreter, Problem]:
        path = program.interpreter or ""
        try:
            place = self.tree.resolve(path)
        except Unresolved as error:
            return Problem("interpreter-missing", "", path, error.reason)
        found = self.interpreter(place)
        if isinstance(found, str):
            return Problem("interpreter-unusable", "", path, found)
        if (found.elf.bits, found.elf.machine) != (program.bits, program.machine):
            why = f"is {found.elf.kind}, the program is {program.kind}"
            return Problem("interpreter-unusable", "", path, why)
        return found

    def interpreters(self) -> List[Interpreter]:
        """The dynamic loaders that were met"""
        met = self._interpreters.values()
        return [one for one in met if isinstance(one, Interpreter)]

    def named(self, name: str) -> Optional[Place]:
        """A library as dlopen(3) finds it by its name, None if it does not"""
        for interpreter in self.interpreters()[:1]:
            main = Link(interpreter.place, interpreter.elf, "")
            return self._find(name, main, Process(main, interpreter, (), False)).place
        return None

    # Objects

    def elf(self, place: Place) -> Union[Elf, Malformed]:
        """What a file says, or why it says nothing"""
        found: Union[Elf, Malformed, None] = self._elves.get(place.identity)
        if found is None:
            try:
                found = elf.read(place)
            except Malformed as error:
                found = error.with_traceback(None)
            self._elves[place.identity] = found
        return found

    def interpreter(self, place: Place) -> Union[Interpreter, str]:
        """A dynamic loader, or why it is none"""
        found: Union[Interpreter, str, None] = self._interpreters.get(place.inside)
        if found is None:
            found = self._interpreters[place.inside] = self._read_interpreter(place)
        return found

    def _read_interpreter(self, place: Place) -> Union[Interpreter, str]:
        if not place.is_executable:
            return "is no executable file"
        found = self.elf(place)
        if isinstance(found, Malformed):
            return found.reason
        try:
            raw = self.tree.read(place.inside, GLIBC_LIMIT)
        except Unresolved as error:
            return error.reason
        trusted = trusted_directories(raw)
        if not trusted:
            return "is no loader of glibc, and how others search is not known here"
        return Interpreter(place, found, trusted, build(raw))

    # glibc's loader

    def _load(
        self, place: Place, found: Elf, interpreter: Interpreter, given: Environment
    ) -> Iterator[Problem]:
        process = self._process(place, found, interpreter, given)
        links = process.first_links()
        problems = list(self._add_libraries(links, process))
        yield from problems
        yield from wrong_versions(links)
        if not problems:
            yield from self._fit.mixed(links, process.interpreter)
            yield from self._fit.symbols(links)

    def _process(
        self, place: Place, found: Elf, interpreter: Interpreter, given: Environment
    ) -> Process:
        """What a program becomes before it has libraries"""
        secure = is_secure(place, given.as_root)
        main = Link(place, found, place.inside)
        process = Process(main, interpreter, (), secure)
        allowed = "" if secure else given.library_path
        paths = self._directories(allowed, main, process, separators=":;")
        return process._replace(library_path=paths)

    def libraries_of(self, path: str, given: Environment = PLAIN) -> Dict[str, str]:
        """
        The libraries that a program loads, by the name that is asked for, as the loader
        itself lists them with ``--list``; nothing of what is no dynamic program
        """
        place = self.tree.resolve(path)
        found = self.elf(place)
        if isinstance(found, Malformed) or found.interpreter is None:
            return {}
        interpreter = self._interpreter_of(found)
        if isinstance(interpreter, Problem):
            return {}
        process = self._process(place, found, interpreter, given)
        links = process.first_links()
        list(self._add_libraries(links, process))
        return {link.asked: link.name for link in links if link.parent}

    def library(self, place: Place, interpreter: Interpreter) -> List[Problem]:
        """What dlopen(3) would say of a library; its symbols may be the program's"""
        found = self.elf(place)
        if isinstance(found, Malformed):
            path = place.inside
            return [Problem("program-unusable", path, path, found.reason)]
        process = Process(Link(place, found, place.inside), interpreter, (), False)
        links = process.first_links()
        return [*self._add_libraries(links, process), *wrong_versions(links)]

    def _add_libraries(self, links: List[Link], process: Process) -> Iterator[Problem]:
        """Breadth first, from the program, which is the first of the links"""
        loaded = {link.place.identity: link for link in links}
        by_name = {name: link for link in links for name in link.names}
        pending = [process.main]
        for link in pending:
            for name in link.elf.needed:
                name = self._expanded(name, link, process)
                if name in by_name:
                    continue
                answer = self._find(name, link, process)
                if answer.place is None or answer.wrong:
                    yield not_loaded(name, link, answer, self._advice(name))
                    continue
                known = loaded.get(answer.place.identity)
                if known is None:
                    found = self.elf(answer.place)
                    assert isinstance(found, Elf)
                    known = Link(answer.place, found, answer.name, link, name)
                    loaded[answer.place.identity] = known
                    links.append(known)
                    pending.append(known)
                    self.loaded.add(known.place.identity)
                    self.libraries.add(known.place.inside)
                known.names |= {name, answer.name}
                for one in known.names:
                    by_name.setdefault(one, known)
            if len(links) > MAX_LIBRARIES:
                why = f"needs more than {MAX_LIBRARIES} libraries"
                main = process.main.place.inside
                yield Problem("program-unusable", main, main, why, (), (main,))
                return

    def _advice(self, name: str) -> str:
        """What to say of a library that ldconfig would have found"""
        if self._configured is None:
            known = self.tree.find(CACHE)
            self._configured = [] if known else configured(self.tree)
        for folder in self._configured:
            if self.tree.find(f"{folder}/{name}"):
                return (
                    f"is in {folder}, which {CONF} names, but there is no {CACHE}, "
                    "and that alone is looked into: ldconfig makes it"
                )
        return ""

    def _find(self, name: str, link: Link, process: Process) -> _Answer:
        """One library, in the order of _dl_map_object"""
        if "/" in name:
            return self._opened([name], process.kind)
        tried: List[Tried] = []
        for paths in self._searched(name, link, process):
            answer = self._in(paths, name, process.kind)
            tried += answer.tried
            if answer.place is not None or answer.wrong:
                return answer
        return _Answer(None, "", "", tuple(tried))

    def _searched(
        self, name: str, link: Link, process: Process
    ) -> Iterator[Union[Tuple[str, ...], List[str]]]:
        """Directories, as a tuple, or files, as a list"""
        main, above = process.main, link
        if not link.elf.runpath:
            while above.parent is not None:
                if above.elf.rpath:
                    yield self._directories(above.elf.rpath, above, process)
                above = above.parent
            yield self._directories(main.elf.rpath, main, process)
        yield process.library_path
        yield self._directories(link.elf.runpath, link, process)
        no_default = link.elf.flags & DF_1_NODEFLIB
        entry = self._cached(name, process)
        trusted = tuple(process.interpreter.trusted)
        if entry and not (no_default and entry.startswith(trusted)):
            yield [entry]
        if not no_default:
            yield trusted

    def _cached(self, name: str, process: Process) -> Optional[str]:
        """What the cache has for a processor of this level"""
        if process.kind not in self._caches:
            self._caches[process.kind] = cached(self.tree, *process.kind)
        entries = self._caches[process.kind].get(name, [])
        self.levels |= {LEVELS[one.level] for one in entries if one.level in LEVELS}
        of = {"": PLAINEST, **LEVELS}
        fit = [one for one in entries if of.get(one.level, 9) <= self.level]
        best = max(fit, key=lambda one: of[one.level], default=None)
        return best.path if best else None

    def _directories(
        self, text: str, link: Link, process: Process, separators: str = ":"
    ) -> Tuple[str, ...]:
        """A search path in pieces, tokens replaced"""
        found = []
        for part in split(text, separators)[:MAX_DIRECTORIES] if text else []:
            path = self._expanded(part, link, process)
            if path or not part:  # an empty one is the working directory
                found.append(path.rstrip("/") if path.strip("/") else "/")
        return tuple(found)

    @staticmethod
    def _expanded(text: str, link: Link, process: Process) -> str:
        """$ORIGIN, $LIB and $PLATFORM replaced; empty if it must not be trusted"""
        if "$" not in text:
            return text
        values = {
            "ORIGIN": link.origin,
            "LIB": process.interpreter.lib,
            "PLATFORM": elf.MACHINES.get(process.kind[1], "").replace("-", "_"),
        }
        path = TOKEN.sub(lambda one: values[one[1] or one[2]], text)
        if process.secure and not may_expand(text, path, link, process):
            return ""
        return path

    def _in(
        self, paths: Union[Tuple[str, ...], List[str]], name: str, kind: Tuple[int, int]
    ) -> _Answer:
        if isinstance(paths, list):
            return self._opened(paths, kind)
        key = (paths, name, kind)
        found: Optional[_Answer] = self._searches.get(key)
        if found is None:
            found = self._searches[key] = self._in_directories(paths, name, kind)
        return found

    def _in_directories(
        self, paths: Tuple[str, ...], name: str, kind: Tuple[int, int]
    ) -> _Answer:
        tried: List[Tried] = []
        for folder in paths:
            place = self.tree.find(folder)
            if place is None or not place.is_directory:
                tried.append(Tried(folder, "is no directory"))
                continue
            folder = "" if folder == "/" else folder
            files = [f"{folder}/{sub}{name}" for sub in self._levels(place)]
            answer = self._opened(files, kind)
            tried += answer.tried
            # A file that cannot be opened for another reason ends this list
            if answer.place is not None or answer.wrong or answer.name:
                return answer._replace(tried=tuple(tried))
        return _Answer(None, "", "", tuple(tried))

    def _levels(self, folder: Place) -> List[str]:
        """The subdirectories that a directory has for processors up to this level"""
        there = set(self.tree.names(f"{folder.inside}/{HWCAPS}")) & set(LEVELS)
        self.levels |= {LEVELS[one] for one in there}
        fit = [one for one in sorted(there, reverse=True) if LEVELS[one] <= self.level]
        return [f"{HWCAPS}/{one}/" for one in fit] + [""]

    def _opened(self, files: List[str], kind: Tuple[int, int]) -> _Answer:
        """The first of several files that fits, as open_verify decides"""
        tried, stop = [], ""
        for path in files:
            stop = ""
            try:
                place = self.tree.resolve(path)
            except Unresolved as error:
                tried.append(Tried(path, error.reason))
                if error.errno not in (errno.ENOENT, errno.EACCES):
                    stop = path
                continue
            found = self.elf(place)
            bits = found.bits or kind[0]
            machine = found.machine or kind[1]
            if (bits, machine) != kind:
                why = f"is {elf.kind(bits, machine)}, wanted is {elf.kind(*kind)}"
                tried.append(Tried(path, why))
                continue
            return _Answer(place, path, unloadable(found), tuple(tried))
        return _Answer(None, stop, "", tuple(tried))


def not_loaded(name: str, link: Link, answer: _Answer, advice: str) -> Problem:
    """A library that is not found, or is found and cannot be loaded"""
    if answer.wrong and answer.place is not None:
        tried = (*answer.tried, Tried(answer.name, answer.wrong))
        why = f"{answer.name} {answer.wrong}"
        kind = "library-unusable"
    else:
        tried, kind = answer.tried, "library-missing"
        why = advice or "is in no directory that is searched"
        if "/" in name:
            why = answer.tried[-1].why if answer.tried else "does not exist"
    return Problem(kind, link.place.inside, name, why, tried, link.chain)


def unloadable(found: Union[Elf, Malformed]) -> str:
    """Why the loader gives up at a file of the right class and machine"""
    if isinstance(found, Malformed):
        return found.reason
    if found.type != elf.ET_DYN or found.flags & elf.DF_1_PIE:
        return "is a program, no library"
    if not found.dynamic:
        return "has no dynamic section"
    return found.unaligned


def may_expand(text: str, path: str, link: Link, process: Process) -> bool:
    """
    Whether a program that gives rights may use $ORIGIN: alone in front, and of its own
    only if that leads to a trusted directory
    """
    origins = [one for one in TOKEN.finditer(text) if "ORIGIN" in one[0]]
    if not origins:
        return True
    first = origins[0]
    rest = text[first.end() :]
    if len(origins) > 1 or first.start() or rest[:1] not in ("", "/"):
        return False
    normal = os.path.normpath(path) + "/"
    return link is not process.main or normal.startswith(process.interpreter.trusted)


def is_secure(place: Place, as_root: bool) -> bool:
    """Whether the kernel says AT_SECURE: who starts it would get rights"""
    if not as_root:
        return place.is_privileged
    mode, info = place.info.st_mode, place.info
    return bool(
        (mode & stat.S_ISUID and info.st_uid) or (mode & stat.S_ISGID and info.st_gid)
    )


def shebang(head: bytes) -> List[str]:
    """A script's interpreter and its one argument, as the kernel reads them"""
    line, end, _ = head[2:SHEBANG].partition(b"\n")
    text = os.fsdecode(line.partition(b"\0")[0]).strip(" \t")
    if not end and len(head) >= SHEBANG and not re.search(r"[ \t]", text):
        return []  # the path may go on
    interpreter, _, argument = text.replace("\t", " ").partition(" ")
    return [one for one in (interpreter, argument.strip()) if one]


def env_command(words: List[str]) -> str:
    """The program that `env` is asked to start, empty if it is not known"""
    text = " ".join(words)
    if text.startswith("-S"):
        text = text[2:]
    elif text.startswith("--split-string="):
        text = text.partition("=")[2]
    else:
        return "" if text.startswith("-") or "=" in text else text
    try:
        pieces = shlex.split(text)
    except ValueError:
        return ""
    for word in pieces:
        if word.startswith("-"):
            if word not in ("-i", "-", "--ignore-environment", "-v"):
                return ""
        elif "=" not in word:
            return word
    return ""


def split(text: str, separators: str = ":") -> List[str]:
    return re.split(f"[{re.escape(separators)}]", text)


def trusted_directories(raw: bytes) -> Tuple[str, ...]:
    """
    The directories that are compiled into a loader: glibc keeps them as one table of
    strings that begin and end with a slash, which no other strings of it do
    """
    tables = re.findall(rb"(?<=\0)(?:/[\x21-\x7e]*/\0)+", raw)
    best = max(tables, key=len, default=b"")
    return tuple(os.fsdecode(one) for one in best.split(b"\0") if one)
