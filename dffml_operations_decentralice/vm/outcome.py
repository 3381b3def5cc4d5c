"""What a run of a machine is to be stopped by, and what comes of it"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Callable, Coroutine, Mapping, Optional

from .console import Console
from .signs import LIMITS, ORDER

if TYPE_CHECKING:
    from .guest import Guest

SLOWER = {"kvm": 1, "tcg": 10}  # limits are for KVM

# How a run ends: said by the guest, by us, by QEMU
POWERED_OFF, RESET = "powered-off", "reset"
FAILURE, STAGE_LIMIT, OVERALL_LIMIT = "failure", "stage-limit", "overall-limit"
REACHED, ACTED = "reached", "acted"
KILLED, EXITED, INTERNAL_ERROR = "killed", "exited", "internal-error"

SCREENSHOT = "screenshot.png"  # in the directory of the machine


@dataclass
class Screenshot:
    """A picture of the screen, when it was taken, or why there is none"""

    taken: bool = False
    stage: str = ""
    seconds: float = 0.0
    reason: str = ""


@dataclass
class Outcome:
    """What came of a run"""

    ending: str
    detail: str
    console: Console
    seconds: float
    document: Optional[bytes] = None  # what the system reported, whole
    errors: str = ""  # what QEMU said
    qemu: str = ""  # its version
    status: Optional[int] = None  # its exit status, if it ended by itself
    screenshot: Screenshot = field(default_factory=Screenshot)


@dataclass
class Plan:
    """What a run is to be stopped by, and who is told"""

    overall: float = 600.0  # seconds
    scale: float = 1.0  # of the stages' limits
    until: str = ""  # a stage that is enough
    on_stage: Callable[[str, float], None] = lambda name, seconds: None
    on_output: Callable[[bytes, float], None] = lambda data, seconds: None
    send: Mapping[str, bytes] = field(default_factory=dict)  # by name of a port
    limits: Mapping[str, float] = field(default_factory=lambda: LIMITS)
    # Acts while the machine runs; the run ends when it returns
    act: Optional[Callable[[Guest], Coroutine[Any, Any, None]]] = None


def next_stage(stages: Mapping[str, float]) -> str:
    """The stage to wait for: that after the furthest one, which need not be the last"""
    reached = [ORDER.index(name) for name in stages if name in ORDER]
    following = max(reached, default=-1) + 1
    return ORDER[following] if following < len(ORDER) else ""
