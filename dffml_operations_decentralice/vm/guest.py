"""
A machine that is running, in the hands of who tests it

Its system reads commands of sh from the port from which the health script comes, line
by line, and answers by the other one: ports of virtio-serial, there before any network.
"""

from __future__ import annotations

import asyncio
import base64
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from ..engine import signals
from ..errors import CommandFailed, VmError
from ..guest import REPORT_PORT, SCRIPT_PORT

if TYPE_CHECKING:
    from .session import Session

# One line, as what has come of a script is read line by line. In a subshell: nothing
# of one command is left for the next
LINE = (
    "export LC_ALL=C SYSTEMD_COLORS=0 SYSTEMD_PAGER=; "
    '(eval "$(printf %s {command} | base64 -d)") > /run/decentralice.out 2>&1 '
    "< /dev/null; status=$?; printf '%s %s\\n' $status "
    '"$(base64 -w 0 /run/decentralice.out)" > /dev/virtio-ports/{port}\n'
)


class Answer(NamedTuple):
    """Exit status and output (both of them) of a command"""

    status: int
    output: str


class Guest:
    """What runs in a machine"""

    def __init__(self, session: Session):
        self._session = session
        self._asked = 0

    async def ask(self, command: str) -> Answer:
        """Have the system's sh run a command, as root"""
        out = await self._out()
        coded = base64.b64encode(command.encode()).decode()
        out.write(LINE.format(command=coded, port=REPORT_PORT).encode())
        number = self._asked
        self._asked += 1
        async with self._session.told:
            await self._session.told.wait_for(lambda: self._answers() > number)
        status, _, output = self._session.document.split(b"\n")[number].partition(b" ")
        text = base64.b64decode(output).decode("utf-8", "replace")
        return Answer(int(status), text.strip())

    async def run(self, command: str) -> str:
        """The output of a command; `CommandFailed` if it fails"""
        status, output = await self.ask(command)
        if status:
            raise CommandFailed(
                f"in the machine, {command!r} exited with {status}: {output[-300:]}",
                remedy="console.log and the system's journal may tell why",
            )
        return output

    async def forwarded(self, port: int) -> int:
        """The host's port on 127.0.0.1 that leads to one of the machine"""
        words = {"command-line": "info usernet"}
        said = await self._session.ask("human-monitor-command", **words)
        return forwarded(said, port)

    async def power_off(self) -> None:
        """Shut down, and wait for it"""
        await self._leave("systemctl poweroff --no-block")

    async def hibernate(self) -> None:
        """Keep what is in memory on the disk, and wait for the machine's end"""
        await self._leave("systemctl hibernate")

    async def _leave(self, command: str) -> None:
        out = await self._out()
        out.write(f"{command}\n".encode())
        await self._ended()

    async def cut(self) -> None:
        """Kill QEMU, as a power cut does"""
        signals.kill(self._session.process.pid)
        await self._ended()

    def _answers(self) -> int:
        return self._session.document.count(b"\n")

    async def _out(self) -> asyncio.StreamWriter:
        async with self._session.told:
            await self._session.told.wait_for(lambda: SCRIPT_PORT in self._session.outs)
        return self._session.outs[SCRIPT_PORT]

    async def _ended(self) -> None:
        await asyncio.wait({self._session.ended})


def forwarded(said: Any, port: int) -> int:
    """
    The host's port in what ``info usernet`` says of forwards

    https://www.qemu.org/docs/master/system/monitor.html
    """
    for line in str(said).splitlines():
        found = re.match(r"\s*TCP\[HOST_FORWARD\]((?:\s+\S+)+)", line)
        words = found[1].split() if found else []
        # Descriptor, address and port of the host, then of the guest
        if len(words) >= 5 and words[4] == str(port):
            return int(words[2])
    raise VmError(
        f"QEMU forwards no port to {port}",
        remedy="another QEMU may; see the step's log",
    )
