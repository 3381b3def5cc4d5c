"""
What the booted system must show of the settings that it was made of

Made of the artefacts that have them: nothing is asked of an image that it does not say.
"""

import json
from pathlib import Path
from typing import List

from ..engine import Step, operation
from ..types import (
    EspFileSystem,
    Expectations,
    PartitionTable,
    RootTree,
    ToolsTree,
    UnifiedKernelImage,
    UserspaceLock,
)
from ..vm.expectations import (
    Expectation,
    of_disk,
    of_file,
    of_kernel,
    of_packages,
    of_root,
)
from .configuration import SETTINGS
from .root import MODULES

LOADER = "loader/loader.conf"  # on the ESP


@operation
async def expect_settings(
    step: Step,
    root: RootTree,
    table: PartitionTable,
    uki: UnifiedKernelImage,
    esp: EspFileSystem,
    lock: UserspaceLock,
    tools: ToolsTree,
) -> Expectations:
    """
    JSON: a list of objects with ``setting``, the ``command`` that tells, the ``lines``
    that it must say, and whether these are ``exact``, so all of them
    """
    found = await of_image(
        step, Path(root), Path(root, MODULES), table, uki, esp, tools
    )
    found += of_packages(asked_for(lock))
    return write(step, found)


async def of_image(
    step: Step,
    root: Path,
    modules: Path,
    table: str,
    uki: str,
    esp: str,
    tools: str,
) -> List[Expectation]:
    """All but packages; ``root`` has what the build wrote, ``modules`` the kernel's"""
    settings = json.loads((root / SETTINGS).read_text())
    [release] = modules.iterdir()
    release_file = (root / "usr/lib/os-release").read_text()
    show = ("mtype", "-i", "/run/esp.img", f"::/{LOADER}")
    loader = await step.run_in(
        *(tools, *show),
        ro_bind={esp: "/run/esp.img"},
        env={"MTOOLS_SKIP_CHECK": "1"},
    )
    return [
        *of_root(settings["compose_root"]),
        *of_disk(json.loads(Path(table, "layout.json").read_text())),
        *of_kernel(release.name, await step.thread(command_line, uki)),
        *of_file("os_release", "/etc/os-release", release_file),
        *of_file("install_bootloader", f"/boot/{LOADER}", loader),
    ]


def write(step: Step, found: List[Expectation]) -> Expectations:
    """The artefact"""
    text = json.dumps([one._asdict() for one in found], indent=1)
    step.out.write_text(text + "\n")
    return Expectations(str(step.out))


def command_line(uki: str) -> str:
    """The command line in a UKI"""
    import pefile  # 0.1 s, which a build that has nothing to do need not spend

    with pefile.PE(uki, fast_load=True) as program:
        for section in program.sections:
            if section.Name.rstrip(b"\0") == b".cmdline":
                return section.get_data().rstrip(b"\0").decode().strip()
    return ""


def asked_for(lock: str) -> List[str]:
    """Packages of a lock that were asked for by name, not by what they provide"""
    locked = json.loads(Path(lock).read_text())
    names = {one["name"] for one in locked["image"]}
    return [one for one in locked["request"]["image"] if one in names]
