"""Many packages, a few at a time"""

from __future__ import annotations

import asyncio
import os
import time
from typing import Awaitable, Callable, List, Sequence, TypeVar

from ...engine import Step

T = TypeVar("T")
R = TypeVar("R")

WORKERS = os.cpu_count() or 2
QUIET = 10.0  # seconds between two lines of progress


async def each(
    step: Step, what: str, items: Sequence[T], work: Callable[[T], Awaitable[R]]
) -> List[R]:
    """The results of ``work`` for all items, in order; the first error ends all"""
    gate = asyncio.Semaphore(WORKERS)
    done, said = 0, time.monotonic()

    async def one(item: T) -> R:
        nonlocal done, said
        async with gate:
            result = await work(item)
        done += 1
        if time.monotonic() - said > QUIET:
            said = time.monotonic()
            step.say(f"{what} {done}/{len(items)}")
        return result

    tasks = [asyncio.ensure_future(one(item)) for item in items]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
