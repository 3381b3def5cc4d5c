"""
From what came of a run to a verdict

``boots``: the system says that it runs, nothing failed, the service is ready, all
settings are so, and it powered off when asked. ``does-not-boot``: the image is at
fault. ``vm-failed``: the machine could not run, which says nothing about the image.
"""

from __future__ import annotations

from typing import Any, Dict, List, NamedTuple, Optional, Sequence

from ..guest.document import read_document
from . import outcome as ended
from .expectations import Expectation, Seen, compare
from .outcome import SCREENSHOT, Outcome
from .qemu import unavailable_accelerator
from .signs import POWER_OFF, REPORT

BOOTS, DOES_NOT_BOOT, VM_FAILED = "boots", "does-not-boot", "vm-failed"
SERVICE = "ssi-service.service"
CONSOLE = "read console.log: it ends where the boot did"


class Verdict(NamedTuple):
    """What, why, the line of the console that told, and what to do"""

    verdict: str
    reason: str = ""
    matched_line: str = ""
    remedy: str = ""


def judge(
    outcome: Outcome, guest: Optional[Dict[str, Any]], require_ssi: bool
) -> Verdict:
    """The verdict about a run"""
    return (
        _infrastructure(outcome)
        or _console(outcome)
        or _ending(outcome, guest)
        or _inside(guest or {}, require_ssi)
        or Verdict(BOOTS)
    )


def _infrastructure(outcome: Outcome) -> Optional[Verdict]:
    """The machine is at fault, not what was booted in it"""
    said = unavailable_accelerator(outcome.errors)
    last = outcome.errors.splitlines()[-1] if outcome.errors else ""
    if outcome.ending == ended.INTERNAL_ERROR or said:
        line = said or last
        reason = f"the accelerator failed: {said or outcome.detail}"
        remedy = "set `accelerator: tcg`, or boot on a host whose KVM works"
        return Verdict(VM_FAILED, reason, line, remedy)
    if outcome.ending == ended.KILLED:
        reason = f"QEMU did not get to the end: {outcome.detail}"
        return Verdict(
            VM_FAILED,
            reason,
            last,
            "boot again; something on the host ended it, or it crashed",
        )
    if outcome.ending == ended.EXITED:
        reason = f"{outcome.detail}: {last}" if last else outcome.detail
        return Verdict(VM_FAILED, reason, last, "see the step's log for QEMU's message")
    silent = outcome.ending in (ended.STAGE_LIMIT, ended.OVERALL_LIMIT)
    if silent and not outcome.console.stages:
        remedy = "try another firmware or accelerator; is the host overloaded?"
        return Verdict(VM_FAILED, "the firmware said nothing", last, remedy)
    return None


def _console(outcome: Outcome) -> Optional[Verdict]:
    found = outcome.console.failure
    if found is None:
        return None
    reason = f"{found.failure.name}: {found.failure.reason}"
    return Verdict(DOES_NOT_BOOT, reason, found.line, found.failure.remedy)


def _ending(outcome: Outcome, guest: Optional[Dict[str, Any]]) -> Optional[Verdict]:
    stage = outcome.console.reached or "power-on"
    if outcome.ending == ended.RESET:
        remedy = "read console.log: a crash before the console shows as a reset"
        return Verdict(DOES_NOT_BOOT, f"reset itself after stage {stage}", "", remedy)
    if outcome.ending == ended.STAGE_LIMIT:
        return Verdict(DOES_NOT_BOOT, f"{outcome.detail}, after {stage}", "", CONSOLE)
    if outcome.ending == ended.OVERALL_LIMIT:
        reason = f"not done after {outcome.seconds:.0f} s, at stage {stage}"
        remedy = f"{CONSOLE}; a slow host may need a higher `limit`"
        return Verdict(DOES_NOT_BOOT, reason, "", remedy)
    if guest is None:
        reason = "powered off without a report"
        if outcome.document is not None:
            reason = "the report from inside cannot be read"
        remedy = "the image needs systemd 256 or newer as PID 1, sh and coreutils"
        return Verdict(DOES_NOT_BOOT, reason, "", remedy)
    return None


def _inside(guest: Dict[str, Any], require_ssi: bool) -> Optional[Verdict]:
    failed = failed_names(guest)
    if failed:
        reason = f"{len(failed)} failed: {', '.join(failed)}"
        remedy = "`guest.errors` and console.log say why they failed"
        return Verdict(DOES_NOT_BOOT, reason, "", remedy)
    state = guest.get("state") or "unknown"
    if state != "running":
        jobs = "; ".join(guest.get("jobs") or ())
        reason = f"the system's state is {state}" + (
            f", waiting for: {jobs}" * bool(jobs)
        )
        return Verdict(DOES_NOT_BOOT, reason, "", "see `guest.jobs`, `guest.units`")
    ssi = service(guest)
    if require_ssi and not (ssi["active"] == "active" and ssi["ready"]):
        unit = (guest.get("units") or {}).get(SERVICE, {})
        loaded = unit.get("LoadState", "loaded")
        state = ssi["active"] if loaded == "loaded" else loaded  # masked, not-found
        reason = f"{SERVICE} is {state}, readiness: {ssi['readiness']}"
        remedy = (
            "`guest.units` and `guest.errors` tell of it; or set require_ssi: false"
        )
        return Verdict(DOES_NOT_BOOT, reason, "", remedy)
    return None


def unmet(seen: Sequence[Seen]) -> Optional[Verdict]:
    """The verdict about a system that is not what its settings say"""
    wrong = [one for one in seen if one.ok is False]
    if not wrong:
        return None
    first = wrong[0]
    others = f", and {len(wrong) - 1} more" if wrong[1:] else ""
    reason = (
        f"setting {first.setting} is not so inside: expected {first.expected!r}, "
        f"seen {first.seen!r}{others}"
    )
    remedy = "`settings` of the report has them all: is it changed by something else?"
    return Verdict(DOES_NOT_BOOT, reason, "", remedy)


def failed_names(guest: Dict[str, Any]) -> List[str]:
    """Names of the units that failed"""
    return [one["unit"] for one in guest.get("failed") or ()]


def service(guest: Dict[str, Any]) -> Dict[str, Any]:
    """State of the SSI service: of its unit, and what it said itself"""
    unit = (guest.get("units") or {}).get(SERVICE, {})
    asked = guest.get("readiness") or {}
    body = asked.get("body")
    status = body.get("status") if isinstance(body, dict) else None
    said = status.get("status") if isinstance(status, dict) else None
    return {
        "active": unit.get("ActiveState", "unknown"),
        "ready": said == "ready" and asked.get("http") in (200, None),
        "readiness": str(said or body or "no answer"),
    }


def make_report(
    outcome: Outcome,
    *,
    accelerator: Dict[str, str],
    disk: Dict[str, Any],
    versions: Dict[str, str],
    require_ssi: bool = True,
    expectations: Sequence[Expectation] = (),
) -> Dict[str, Any]:
    """The report, as boot-report.schema.json has it"""
    guest = None
    if outcome.document is not None:
        try:
            guest = read_document(outcome.document)
        except ValueError:
            guest = None
    found = judge(outcome, guest, require_ssi)
    inside = guest or {}
    outputs = inside.pop("checks", None) or []
    seen = compare(expectations, outputs) if guest else []
    if found.verdict == BOOTS:
        found = unmet(seen) or found
    return {
        "verdict": found.verdict,
        "reason": found.reason,
        "matched_line": found.matched_line,
        "remedy": found.remedy,
        "state": inside.get("state") or "unknown",
        "failed_units": failed_names(inside),
        "settings": [one._asdict() for one in seen],
        "reached": outcome.console.reached,
        "stages": dict(outcome.console.stages),
        "ssi": service(inside),
        "warnings": [
            {
                "name": one.failure.name,
                "matched_line": one.line,
                "stage": one.stage,
                "seconds": one.seconds,
                "remedy": one.failure.remedy,
            }
            for one in outcome.console.warnings
        ],
        "variant": (inside.get("os_release") or {}).get("VARIANT_ID", ""),
        "guest": guest,
        "accelerator": accelerator,
        "disk": disk,
        "screenshot": {
            "file": SCREENSHOT if outcome.screenshot.taken else "",
            "stage": outcome.screenshot.stage,
            "seconds": outcome.screenshot.seconds,
            "reason": outcome.screenshot.reason,
        },
        "qemu": outcome.qemu,
        "seconds": outcome.seconds,
        "versions": versions,
    }


def progress(name: str, seconds: float) -> str:
    """One line for a stage"""
    words = {REPORT: "reported from inside", POWER_OFF: "powered off"}
    return f"{words.get(name, name)} {seconds:.1f} s"
