"""
What can go wrong, by who has to act

Every failure is one of these classes: it names the cause in one line, what to do in
one line, and the log where the rest is. The exit codes are part of the interface.
"""

from pathlib import Path
from typing import Any, Dict, List, Optional


class DecentrAliceError(Exception):
    """Base of all; never raised itself"""

    exit_code = 1
    kind = "error"
    told = False  # whether the monitor was told

    def __init__(self, cause: str, *, remedy: str, log: Optional[Path] = None):
        super().__init__(cause)
        self.cause = " ".join(cause.split())
        self.remedy = " ".join(remedy.split())
        self.log = log

    def lines(self) -> List[str]:
        """The lines that a person gets to read"""
        return as_lines(self.cause, self.remedy, self.log)

    def details(self) -> Dict[str, Any]:
        """What a program gets to read"""
        return {
            "kind": self.kind,
            "cause": self.cause,
            "remedy": self.remedy,
            "log": None if self.log is None else str(self.log),
            "exit_code": self.exit_code,
        }


def as_lines(cause: str, remedy: str, log: Any = None) -> List[str]:
    """A failure as lines of text"""
    found = [f"error: {cause}", f"remedy: {remedy}"]
    return found + ([f"log: {log}"] if log else [])


class UserError(DecentrAliceError):
    """Settings, files or arguments that cannot be used"""

    exit_code = 2
    kind = "user"


class MissingTool(DecentrAliceError):
    """A program or file of the host that is not there or too old"""

    exit_code = 3
    kind = "missing-tool"


class NetworkError(DecentrAliceError):
    """A server that does not answer, or not with what was asked for"""

    exit_code = 4
    kind = "network"


class SignatureError(DecentrAliceError):
    """Bytes that are not what a key, a hash or the lock says"""

    exit_code = 5
    kind = "signature"


class SpaceError(DecentrAliceError):
    """A file system without room for the result"""

    exit_code = 6
    kind = "space"


class CommandFailed(DecentrAliceError):
    """A command that ended otherwise than it should"""

    exit_code = 7
    kind = "command"


class VmError(DecentrAliceError):
    """A virtual machine that could not run: it says nothing about the image"""

    exit_code = 8
    kind = "vm"


class DoesNotBoot(DecentrAliceError):
    """An image that was booted, and failed, or of which it is known that it would"""

    exit_code = 9
    kind = "does-not-boot"


def cause(error: Optional[BaseException]) -> Optional[DecentrAliceError]:
    """Our error in a chain of dffml's"""
    seen: List[BaseException] = []
    while error is not None and error not in seen:
        if isinstance(error, DecentrAliceError):
            return error
        seen.append(error)
        error = error.__cause__ or error.__context__
    return None
