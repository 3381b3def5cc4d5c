"""An overlay in ten lines: the names of the image's programs, beside the image"""

from pathlib import Path
from typing import NewType

from dffml_operations_decentralice.engine import Step, operation
from dffml_operations_decentralice.types import RootTree

ProgramList = NewType("ProgramList", str)


class Inventory:
    results = [ProgramList]
    configs = {"publish_result": {"link": "inventoried"}}

    @operation
    async def list_programs(step: Step, root: RootTree) -> ProgramList:
        names = sorted(path.name for path in Path(root, "usr/bin").iterdir())
        step.out.write_text("\n".join(names) + "\n")
        return ProgramList(str(step.out))
