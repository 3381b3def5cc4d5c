"""QEMU as a process that leaves nothing behind"""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import AsyncIterator, List

from ..engine import commands, sandbox


@contextlib.asynccontextmanager
async def launched(
    argv: List[str], work: Path, log: Path
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A command of the host that runs in ``work`` as long as the block"""
    words = [commands.find_tool(argv[0]), *argv[1:]]
    words = sandbox.host_argv(commands.find_tool("bwrap"), words, work)
    async with commands.start(words, env=commands.environment(work), log=log) as it:
        yield it
