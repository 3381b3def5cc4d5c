"""
One run of a machine: what happens first of all that can end it

QEMU connects to sockets which are listened on before it starts, so not a byte is lost:
the serial console, QMP (https://www.qemu.org/docs/master/interop/qmp-spec.html), and
the port by which the system reports on itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from pathlib import Path
from typing import Any, Callable, Coroutine, Dict, List, Optional, Tuple, cast

from qemu.qmp import QMPClient, QMPError

from .console import Console, terminal_replies
from .guest import Guest
from .launch import launched
from .outcome import (
    ACTED,
    EXITED,
    FAILURE,
    INTERNAL_ERROR,
    KILLED,
    OVERALL_LIMIT,
    POWERED_OFF,
    REACHED,
    RESET,
    SCREENSHOT,
    STAGE_LIMIT,
    Outcome,
    Plan,
    Screenshot,
    next_stage,
)
from .qemu import QEMU, Machine, qemu_argv
from .signs import BEFORE_KERNEL, POWER_OFF, PROBE, REPORT

Reader = Callable[
    [asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]
]
SETTLE = 1.0  # seconds for what follows a failure: a panic's trace, the end of a line
HEARTBEAT = 1.0  # seconds between questions for the machine's status
UNANSWERED = 60.0  # seconds after which QEMU is taken for hung
DRAIN = 2.0  # seconds for what is under way when QEMU ends


async def run_machine(
    machine: Machine, work: Path, plan: Plan, qemu: str = QEMU
) -> Outcome:
    """
    Run a machine whose ``serial``, ``qmp`` and ports are names of sockets in ``work``.
    Nothing of it is left; what it did wrong is told, not raised. What the plan's
    ``act`` raises, is.
    """
    session = Session(machine, plan)
    log = work / "qemu.log"
    log.write_bytes(b"")
    async with contextlib.AsyncExitStack() as stack:
        await session.listen(work, stack)
        session.begin()
        process = await stack.enter_async_context(
            launched(qemu_argv(machine, qemu), work, log)
        )
        outcome = await session.follow(process)
    outcome.errors = log.read_text(errors="replace").strip()
    if session.error:
        raise session.error
    return outcome


class Session:
    """Brings together what happens on the sockets, with the process and in time"""

    def __init__(self, machine: Machine, plan: Plan):
        self.machine, self.plan = machine, plan
        self.console = Console(on_stage=self._staged)
        self.ended: asyncio.Future[Tuple[str, str]] = (
            asyncio.get_running_loop().create_future()
        )
        self.document = b""
        self.version = ""
        self.error: Optional[Exception] = None
        self.screenshot: Optional[Screenshot] = None
        self.told = asyncio.Condition()  # something came by a port, or QEMU connected
        self.outs: Dict[str, asyncio.StreamWriter] = {}  # by name of a port
        self._tasks: List[asyncio.Task[None]] = []
        self._readers: List[asyncio.Task[None]] = []
        self._deadline: Optional[asyncio.TimerHandle] = None
        self._failed = False

    async def listen(self, work: Path, stack: contextlib.AsyncExitStack) -> None:
        """Open the sockets"""
        # A socket's path has at most 107 bytes, that of a store may have more
        descriptor = os.open(work, os.O_RDONLY | os.O_DIRECTORY)
        stack.callback(os.close, descriptor)
        here = f"/proc/self/fd/{descriptor}"
        self.qmp = QMPClient("vm")
        await self.qmp.start_server(f"{here}/{self.machine.qmp}")
        stack.push_async_callback(self._close)
        await self._serve(f"{here}/{self.machine.serial}", self._serial, stack)
        for name, path in self.machine.ports:
            await self._serve(f"{here}/{path}", self._port, stack, name)

    async def _serve(
        self,
        path: str,
        reader: Reader,
        stack: contextlib.AsyncExitStack,
        name: str = "",
    ) -> None:
        def connected(stream: asyncio.StreamReader, out: asyncio.StreamWriter) -> None:
            # QEMU takes it from the socket when the guest opens the port
            out.write(self.plan.send.get(name, b""))
            self.outs[name] = out
            self._readers.append(asyncio.ensure_future(reader(stream, out)))

        server = await asyncio.start_unix_server(connected, path)
        stack.callback(server.close)

    def begin(self) -> None:
        """The clock starts"""
        loop = asyncio.get_running_loop()
        self.started = time.monotonic()
        loop.call_later(self.plan.overall, self.end, OVERALL_LIMIT, "")
        self._await_stage()

    def end(self, how: str, detail: str = "") -> None:
        """The first one counts"""
        if not self.ended.done():
            self.ended.set_result((how, detail))

    async def follow(self, process: asyncio.subprocess.Process) -> Outcome:
        """Until the end, whatever it is"""
        self.process = process
        self._tasks += [
            asyncio.ensure_future(self._monitor()),
            asyncio.ensure_future(self._wait(process)),
        ]
        if self.plan.act:
            self._tasks.append(asyncio.ensure_future(self._act(self.plan.act)))
        how, detail = await self.ended
        if how in (POWERED_OFF, RESET, KILLED, EXITED):
            # It ends by itself: take in what it still has to say
            await asyncio.wait({self._tasks[1]}, timeout=DRAIN)
            if self._readers:
                await asyncio.wait(self._readers, timeout=DRAIN)
        return Outcome(
            ending=how,
            detail=detail,
            console=self.console,
            seconds=round(self.now, 2),
            document=self.document if self.document.endswith(b"\n") else None,
            qemu=self.version,
            status=process.returncode,
            screenshot=self.screenshot or Screenshot(reason=self._unseen()),
        )

    async def _act(self, act: Callable[[Guest], Coroutine[Any, Any, None]]) -> None:
        try:
            await act(Guest(self))
        except Exception as error:
            self.error = error
        self.end(ACTED)

    @property
    def now(self) -> float:
        return time.monotonic() - self.started

    async def _serial(
        self, stream: asyncio.StreamReader, out: asyncio.StreamWriter
    ) -> None:
        while True:
            data = await stream.read(65536)
            if not data:
                return
            out.write(terminal_replies(data))
            self.plan.on_output(data, self.now)
            self.console.feed(data, self.now)
            if self.console.failure and not self._failed:
                self._failed = True
                self._photograph()
                loop = asyncio.get_running_loop()
                loop.call_later(SETTLE, self.end, FAILURE, "")

    async def _port(
        self, stream: asyncio.StreamReader, _out: asyncio.StreamWriter
    ) -> None:
        await self._tell()
        while True:
            data = await stream.read(65536)
            if not data:
                return
            self.document += data
            await self._tell()
            if data.endswith(b"\n"):
                self.console.reach(REPORT, self.now)

    async def _tell(self) -> None:
        async with self.told:
            self.told.notify_all()

    async def _monitor(self) -> None:
        with contextlib.suppress(QMPError, OSError, EOFError):
            await self.qmp.accept()
            version = (await self.ask("query-version"))["qemu"]
            self.version = "{major}.{minor}.{micro}".format(**version)
            self._tasks.append(asyncio.ensure_future(self._heartbeat()))
            async for event in self.qmp.events:
                data = cast(Dict[str, Any], event.get("data") or {})
                await self._event(str(event["event"]), data)

    async def ask(self, command: str, **arguments: Any) -> Any:
        """What QEMU returns of a command of QMP"""
        return await self.qmp.execute(command, arguments)

    async def _heartbeat(self) -> None:
        """Ask how it is: a QEMU that hangs sends no event"""
        while True:
            await asyncio.sleep(HEARTBEAT)
            try:
                await asyncio.wait_for(self._status(), UNANSWERED)
            except asyncio.TimeoutError:
                self.end(INTERNAL_ERROR, "QEMU does not answer")

    async def _status(self) -> None:
        status = (await self.ask("query-status"))["status"]
        if status not in ("running", "shutdown"):
            self.end(INTERNAL_ERROR, f"QEMU stopped the machine: {status}")

    async def _event(self, name: str, data: Dict[str, Any]) -> None:
        if name == "SHUTDOWN":
            reason = data.get("reason", "")
            ending = POWERED_OFF if data.get("guest") else KILLED
            if reason == "guest-reset":
                ending = RESET
            if ending == POWERED_OFF:
                self.console.reach(POWER_OFF, self.now)
            self.end(ending, reason)
        elif name == "STOP":
            await self._status()
        elif name == "VSERPORT_CHANGE" and data.get("open"):
            self.console.reach(PROBE, self.now)

    async def _wait(self, process: asyncio.subprocess.Process) -> None:
        status = await process.wait()
        if status == 0 and not self.ended.done():
            # What QMP has to say about an orderly end may be under way
            await asyncio.wait({self.ended}, timeout=DRAIN)
        # bwrap tells of a signal as shells do
        signalled = status - 128 if status > 128 else -status
        if signalled > 0 and status != 255:
            self.end(KILLED, f"QEMU was ended by signal {signalled}")
        self.end(EXITED, f"QEMU exited with {status}")

    def _staged(self, name: str, seconds: float) -> None:
        self.plan.on_stage(name, seconds)
        if name not in BEFORE_KERNEL:
            self._photograph()
        if name == self.plan.until:
            self.end(REACHED, name)
        self._await_stage()

    def _photograph(self) -> None:
        """
        Once, as soon as a kernel is heard of: the loader's picture is still there, as a
        kernel gets to its own screen later than to its serial console
        """
        if self.machine.screen and self.screenshot is None:
            self.screenshot = Screenshot(reason="the machine ended before")
            self._tasks.append(asyncio.ensure_future(self._take(self.screenshot)))

    async def _take(self, shot: Screenshot) -> None:
        shot.stage, shot.seconds = self.console.reached, round(self.now, 2)
        try:
            await self.ask("screendump", filename=SCREENSHOT, format="png")
        except (QMPError, OSError, EOFError) as error:
            shot.reason = f"QEMU gave none: {error}"
        else:
            shot.taken, shot.reason = True, ""

    def _unseen(self) -> str:
        return "no kernel was started" if self.machine.screen else "there is no screen"

    def _await_stage(self) -> None:
        if self._deadline:
            self._deadline.cancel()
        stage = next_stage(self.console.stages)
        if stage and not self.ended.done():
            limit = self.plan.limits[stage] * self.plan.scale
            detail = f"stage {stage} was not reached within {limit:g} s"
            loop = asyncio.get_running_loop()
            self._deadline = loop.call_later(limit, self.end, STAGE_LIMIT, detail)

    async def _close(self) -> None:
        if self._deadline:
            self._deadline.cancel()
        pending = [*self._tasks, *self._readers]
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
        with contextlib.suppress(QMPError, OSError, EOFError):
            await self.qmp.disconnect()
