"""Upkeep of the store"""

import asyncio
import functools
import os
import sys
from typing import Any

from dffml import config, field
from dffml.util.cli.cmd import CMD

from ..errors import SignatureError, UserError
from .command import Command


class StoreVerify(Command):
    """Read every object of the store again, and take out those that are damaged"""

    async def answer(self, monitor) -> Any:
        from ..engine import upkeep

        found = await asyncio.to_thread(upkeep.verify, own_store())
        for one in found["damaged"]:
            files = f": {', '.join(one.files[: upkeep.SHOWN])}" if one.files else ""
            print(f"damaged: {one.object}{files}", file=sys.stderr)
        if found["damaged"]:
            raise SignatureError(
                f"{len(found['damaged'])} of {found['objects']} objects are not what "
                "their names say",
                remedy="they were taken out: build again, which makes them anew",
            )
        return found


@config
class PruneConfig:
    size: str = field("What may stay, such as 5G", default="")
    age: str = field("Remove what was not used for so long, such as 14d", default="")
    keep_last: int = field(
        "Keep what so many last results of each link were made of", default=0
    )


class StorePrune(Command):
    """
    Remove objects from the store, those first that were not used for longest; results
    that are linked stay. Without an option, as much as every build does by itself.
    """

    CONFIG = PruneConfig

    async def answer(self, monitor) -> Any:
        from ..engine import upkeep
        from ..engine.store import limit, parse_size

        size = parse_size(self.size) if self.size else None
        age = upkeep.parse_age(self.age) if self.age else None
        store, keep_last = own_store(), self.keep_last or None
        if size is age is keep_last is None:
            size, keep_last = limit(), 1
        prune = functools.partial(upkeep.prune, size=size, age=age, keep_last=keep_last)
        return await asyncio.to_thread(prune, store)


def own_store() -> Any:
    """The store, as who made it sees it: owners are part of what is verified"""
    from ..engine.store import Store, default_root

    root = default_root()
    if root.exists() and root.stat().st_uid != os.geteuid():
        raise UserError(
            f"the store {root} is somebody else's",
            remedy="run it as who builds with it, or set DECENTRALICE_STORE",
        )
    return Store(root)


class StoreCommands(CMD):
    """Upkeep of the store"""

    verify = StoreVerify
    prune = StorePrune
