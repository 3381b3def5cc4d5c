"""
A program while it is being loaded: its objects, and what is wrong with it
"""

import os
from typing import List, NamedTuple, Optional, Tuple

from .elf import Elf
from .tree import Place


class Tried(NamedTuple):
    """Where something was looked for"""

    path: str
    why: str  # it is not what was wanted


class Problem(NamedTuple):
    """Why a program does not start"""

    kind: str
    file: str  # which needs what is not there
    what: str
    why: str
    searched: Tuple[Tried, ...] = ()
    chain: Tuple[str, ...] = ()  # from the program to the file


class Interpreter(NamedTuple):
    """A dynamic loader"""

    place: Place
    elf: Elf
    trusted: Tuple[str, ...]  # the directories that are compiled into it
    build: str

    @property
    def lib(self) -> str:
        """What it takes $LIB for"""
        return self.trusted[0].strip("/")


class Link:
    """An object that is loaded into a process"""

    def __init__(
        self,
        place: Place,
        found: Elf,
        name: str,
        parent: Optional["Link"] = None,
        asked: str = "",
    ):
        self.place = place
        self.elf = found
        self.name = name  # the path that it was opened by
        self.parent = parent  # None of the program and of its interpreter
        self.asked = asked  # the name by which the parent needs it
        self.names = {name, asked, found.soname} - {""}

    @property
    def origin(self) -> str:
        return os.path.dirname(self.name)

    @property
    def chain(self) -> Tuple[str, ...]:
        above = self.parent.chain if self.parent else ()
        return (*above, self.place.inside)


class Process(NamedTuple):
    """What is the same for all objects of a program"""

    main: Link
    interpreter: Interpreter
    library_path: Tuple[str, ...]
    secure: bool

    @property
    def kind(self) -> Tuple[int, int]:
        return self.interpreter.elf.bits, self.interpreter.elf.machine

    def first_links(self) -> List[Link]:
        """What is there before any library: the program and its interpreter"""
        own = self.interpreter
        loader = Link(own.place, own.elf, own.place.inside)
        loader.names.add(self.main.elf.interpreter or "")
        return [self.main, loader]
