"""Builds of the sample flow in a store of their own"""

import asyncio
import json
import os
import time
from pathlib import Path

import pytest
from dffml import MemoryOrchestrator

from dffml_operations_decentralice.engine import progress
from dffml_operations_decentralice.engine import store as stores
from dffml_operations_decentralice.engine.store import Store

from . import sample

OLD = time.time() - 30 * 86400


class Sample:
    """A store, the link to its result, and builds"""

    def __init__(self, root: Path, link: Path):
        self.root = root
        self.link = link

    def build(self, link=None, **configs):
        """Build; the operations that ran, with their reasons"""

        async def main():
            flow = sample.flow(link or self.link, **configs)
            return [one async for one in MemoryOrchestrator.run(flow, [])]

        with progress.monitored(progress.Recorder()) as recorder:
            asyncio.run(main())
        return {
            one["operation"]: one["reason"]
            for one in recorder.events
            if one["event"] == "start"
        }

    def ended(self):
        """As if the process that built had ended long ago: nothing is in use"""
        member = stores._members.pop(self.root, None)
        if member:
            member.close()
        stores._used.pop(self.root, None)
        for action in (self.root / "actions").iterdir():
            self.age(action)

    def age(self, action, when=OLD):
        os.utime(action, (when, when))

    def store(self) -> Store:
        """The store as another process opens it"""
        self.ended()
        return Store(self.root)

    def objects(self):
        """Names of objects, without digests"""
        return sorted(
            one.partition("-")[2] for one in os.listdir(self.root / "objects")
        )

    def object(self, name: str) -> Path:
        [found] = (self.root / "objects").glob(f"*-{name}")
        return found

    def actions(self, name: str):
        """The files of an operation's actions"""
        return [
            path
            for path in (self.root / "actions").iterdir()
            if json.loads(path.read_text())["parts"]["operation"] == name
        ]


@pytest.fixture
def built(store, tmp_path) -> Sample:
    """The sample, built"""
    made = Sample(store, tmp_path / "result")
    made.build()
    return made


def flip(path: Path, bit: int = 0) -> None:
    """One bit of a file; it is replaced, as others may be linked to it"""
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    new = path.with_name(path.name + ".new")
    new.write_bytes(content)
    new.chmod(path.stat().st_mode & 0o7777)
    new.replace(path)
