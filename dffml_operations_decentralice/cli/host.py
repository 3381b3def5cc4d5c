"""What this machine and the network are like, and what a tree is"""

import contextlib
import json
import os
import sys
from typing import Any, List

from dffml import config, field
from dffml.util.cli.cmd import CMDOutputOverride

from ..errors import DecentrAliceError, UserError
from .command import Command


@config
class CheckLoaderConfig:
    directory: str = field("The tree, such as a root file system's")
    init: str = field("PID 1, as `init=` of the kernel's command line", default="")
    layers: List[str] = field(
        "Directories of the tree that the initrd merges by overlayfs, uppermost first",
        default_factory=lambda: [],
    )
    everything: bool = field(
        "Each program, script and library, not only what PID 1 starts", default=False
    )
    json: bool = field("The report, for programs", default=False)


class CheckLoader(Command):
    """Whether what PID 1 starts in a tree would start; nothing of it is run"""

    CONFIG = CheckLoaderConfig
    uses_store = False

    async def answer(self, monitor) -> Any:
        from .. import loader
        from ..engine import namespace
        from ..operations.loader import answered, refusal

        if not os.path.isdir(self.directory):
            raise UserError(
                f"{self.directory} is no directory", remedy="give that of a tree"
            )
        # A store's trees have files of several owners; others may be looked at without
        with contextlib.suppress(DecentrAliceError):
            namespace.become_root()
        report = answered(self.directory, self.init, self.everything, self.layers)
        text = json.dumps(report, indent=1, sort_keys=True)
        print(text if self.json else "\n".join(loader.sentences(report)))
        error = refusal(report, "`-json` tells where was searched")
        if error:
            raise error
        return CMDOutputOverride


class Doctor(Command):
    """What this machine lacks, and the command that installs it"""

    uses_store = False

    async def answer(self, monitor) -> Any:
        from .. import doctor

        lines, status = doctor.examine()
        print("\n".join(lines))
        if status:
            sys.exit(status)
        return CMDOutputOverride


class Upstreams(Command):
    """Whether Wolfi and Fedora answer; fails if one does not"""

    uses_store = False

    async def answer(self, monitor) -> Any:
        from .. import api

        for line in await api.upstreams():
            print(line, file=sys.stderr)
        return CMDOutputOverride
