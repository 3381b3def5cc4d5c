"""The calls of `api` for programs that are not asynchronous"""

import asyncio
import functools
from typing import Any, Callable, Coroutine

from . import api


def synchronous(call: Callable[..., Coroutine]) -> Callable[..., Any]:
    """A call that runs to its end"""

    @functools.wraps(call)
    def run(*arguments: Any, **options: Any) -> Any:
        return asyncio.run(call(*arguments, **options))

    return run


build = synchronous(api.build)
boot_verify = synchronous(api.boot_verify)
reproduce = synchronous(api.reproduce)
upstreams = synchronous(api.upstreams)
