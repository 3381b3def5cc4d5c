"""
Whether what PID 1 starts will start, told before a boot

A root that is put together from two worlds fails where the dynamic loader meets a
library of the other one, and PID 1 then takes the kernel along. Nothing is run for it.
"""

import json
from pathlib import Path
from typing import Any, Dict, List, Optional

from ..engine import Step, operation, setting, settings
from ..errors import DoesNotBoot, UserError
from ..types import LoaderReport, RootTree

FORCE = "`build -force` makes the image nevertheless"


@settings
class LoaderSettings:
    init: str = setting(
        "PID 1, as `init=` on the kernel's command line; empty: what the initrd finds",
        default="",
    )
    layers: List[str] = setting(
        "Directories of the root tree which the initrd puts one over another to make "
        "the root of them, the uppermost first",
        default_factory=list,
    )
    everything: bool = setting(
        "Look at each program, script and library, not only at what PID 1 starts",
        default=False,
    )
    force: bool = setting("Go on although something would not start", default=False)


@operation(result="loader-report.json")
async def check_loader(step: Step[LoaderSettings], root: RootTree) -> LoaderReport:
    """
    The report about the root tree (loader-report.schema.json); `DoesNotBoot` if
    something in it would not start
    """
    # Not needed by a build that has nothing to do
    from ..loader import sentences

    want = step.settings
    given = (root, want.init, want.everything, want.layers)
    report = await step.thread(answered, *given)
    for line in sentences(report):
        step.say(line)
    error = refusal(report, FORCE, step.log)
    if error and not want.force:
        raise error
    step.out.write_text(json.dumps(report, indent=1, sort_keys=True) + "\n")
    return LoaderReport(str(step.out))


def answered(
    directory: str, init: str, everything: bool, layers: List[str]
) -> Dict[str, Any]:
    """The report about a tree; `UserError` if there is none"""
    from ..loader import Unresolved, check

    try:
        return check(directory, init, everything, layers)
    except Unresolved as error:
        raise UserError(
            f"check_loader: layer {error.path} {error.reason}",
            remedy="layers are directories of the tree",
        ) from error


def refusal(
    report: Dict[str, Any], nevertheless: str, log: Optional[Path] = None
) -> Optional[DoesNotBoot]:
    """What a report comes to, and how to go on; None if all would start"""
    findings = report["findings"]
    if not findings:
        return None
    more = len(findings) + report["left_out"] - 1
    also = f", and {more} more" if more else ""
    ways = " or ".join(findings[0]["routes"])
    return DoesNotBoot(
        f"would not start: {findings[0]['sentence']}{also}",
        remedy=(f"what would work: {ways}; " if ways else "") + nevertheless,
        log=log,
    )
