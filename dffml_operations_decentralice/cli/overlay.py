"""Overlays and settings, shown"""

from typing import Any, Dict, List

from dffml import config, field
from dffml.util.cli.cmd import CMD, CMDOutputOverride

from ..errors import UserError
from .command import OVERLAYS, SET, Command, write


class OverlayList(Command):
    """The overlays that are installed, and where"""

    uses_store = False

    async def answer(self, monitor) -> Dict[str, str]:
        from .. import composition

        return composition.known()


@config
class OverlayDiffConfig:
    overlays: List[str] = field(OVERLAYS, default_factory=lambda: [])
    set: List[str] = field(SET, default_factory=lambda: [])
    json: bool = field("As JSON, for programs", default=False)


class OverlayDiff(Command):
    """What overlays change: operations, settings, inputs, results"""

    CONFIG = OverlayDiffConfig
    uses_store = False

    async def answer(self, monitor) -> Any:
        from ..composition import compose
        from ..composition.changes import changes

        composition = compose(self.overlays, self.given())
        composition.validate()
        found = changes(composition)
        if self.json:
            return [one._asdict() for one in found]
        print("\n".join(one.line() for one in found) or "nothing")
        return CMDOutputOverride


class OverlayCommands(CMD):
    """Parts of flows that are laid over the build"""

    list = OverlayList
    diff = OverlayDiff


@config
class DiagramConfig:
    overlays: List[str] = field(OVERLAYS, default_factory=lambda: [])
    set: List[str] = field(SET, default_factory=lambda: [])
    format: str = field("mermaid, svg or png", default="mermaid")
    output: str = field("File to write, by default standard output", default="")


class Diagram(Command):
    """Draw the flow with its overlays: what they add is green, replace yellow"""

    CONFIG = DiagramConfig
    uses_store = False

    async def answer(self, monitor) -> Any:
        from ..composition import compose, diagram

        if self.format not in diagram.FORMATS:
            raise UserError(
                f"-format cannot be {self.format!r}",
                remedy=f"one of {', '.join(diagram.FORMATS)}",
            )
        composition = compose(self.overlays, self.given())
        drawn = (
            diagram.mermaid(composition).encode()
            if self.format == "mermaid"
            else diagram.picture(composition, self.format)
        )
        write(self.output, drawn)
        return CMDOutputOverride


@config
class SettingsConfig:
    overlays: List[str] = field(OVERLAYS, default_factory=lambda: [])
    schema: bool = field("The JSON schema of overlays, for editors", default=False)


class Settings(Command):
    """All settings of the flow and of overlays, with types and defaults"""

    CONFIG = SettingsConfig
    uses_store = False

    async def answer(self, monitor) -> Any:
        from .. import flows
        from ..composition import reference

        known = reference.tables(self.overlays or sorted(flows.overlays()))
        if self.schema:
            return reference.schema(known)
        print(reference.page(known), end="")
        return CMDOutputOverride
