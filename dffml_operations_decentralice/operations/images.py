"""
Several images in one go: each overlay that comes in is built, and its verdict goes out

A flow of this alone, with dffml's ``run records`` over a source, writes the verdicts
back to the source: ``dataflows/images.yaml``.
"""

import re
from pathlib import Path
from typing import Any, Dict

from dffml import op

from ..engine.operation import definition
from ..engine.settings import setting, settings
from ..errors import DecentrAliceError
from ..types import ImageVerdict, Overlays

LOCK = "os.lock.json"
LOCKED = ("lock_userspace", "lock_kernel_rpms", "publish_result")


@settings
class ImagesSettings:
    folder: str = setting(
        "Where each image has a folder for its result and its lock", default="images"
    )


@op(
    name="decentralice_build_image",
    inputs={"overlays": definition(Overlays)},
    outputs={"result": definition(ImageVerdict)},
    config_cls=ImagesSettings,
)
async def build_image(self, overlays: Overlays) -> Dict[str, Any]:
    """
    Build one image: ``overlays`` are names or files, with commas between them. What
    goes wrong is a verdict too, so that the others are built.
    """
    folder = getattr(self.parent.config, "folder", ImagesSettings().folder)
    return {"result": await verdict(Path(folder, folder_name(overlays)), overlays)}


def folder_name(overlays: str) -> str:
    """A file name for overlays: ``a/b.yaml, mirror`` is ``a-b.yaml,mirror``"""
    names = (re.sub(r"[^A-Za-z0-9._-]+", "-", one) for one in overlays.split(","))
    return ",".join(name.strip("-.") or "base" for name in names)


async def verdict(folder: Path, overlays: str) -> Dict[str, Any]:
    """What came of it: ``verdict``, ``reason``, ``disk``"""
    from .. import api

    folder.mkdir(parents=True, exist_ok=True)
    given: Dict[str, Dict[str, Any]] = {
        name: {"lock": str(folder / LOCK)} for name in LOCKED
    }
    given["publish_result"]["link"] = str(folder / "result")
    names = [one.strip() for one in overlays.split(",") if one.strip()]
    try:
        built = await api.build(names, given)
    except DecentrAliceError as error:
        return {"verdict": error.kind, "reason": error.cause, "disk": ""}
    return {"verdict": built.verdict, "reason": "", "disk": str(built.disk)}
