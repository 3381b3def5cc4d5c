"""From outcomes to verdicts, and the report's schema"""

import base64
import copy
import json

import jsonschema
import pytest

from dffml_operations_decentralice.schemas import schema
from dffml_operations_decentralice.vm import outcome as ended
from dffml_operations_decentralice.vm.console import Console
from dffml_operations_decentralice.vm.expectations import Expectation
from dffml_operations_decentralice.vm.outcome import Outcome, Screenshot
from dffml_operations_decentralice.vm.verdict import make_report, progress

READY = 'HTTP/1.0 200 OK\r\n\r\n{"status":{"status":"ready"}}'
UNITS = "Id=ssi-service.service\nActiveState=active"
FAILED = json.dumps([{"unit": "a.service", "active": "failed"}])


def document(**changes):
    said = {
        "state": "running",
        "failed": "[]",
        "units": UNITS,
        "readiness": READY,
        "os_release": "VARIANT_ID=mirror",
        **changes,
    }
    coded = {k: base64.b64encode(v.encode()).decode() for k, v in said.items()}
    return json.dumps({"format": 1, **coded}).encode() + b"\n"


def report(
    ending=ended.POWERED_OFF,
    text=b"",
    raw=None,
    errors="",
    detail="",
    ssi=True,
    expectations=(),
    screenshot=None,
):
    console = Console()
    if text:
        console.feed(text, 1.0)
    if ending == ended.POWERED_OFF:
        console.reach("power-off", 2.0)
    outcome = Outcome(
        *(ending, detail, console, 2.0),
        document=raw,
        errors=errors,
        screenshot=screenshot or Screenshot(reason="there is no screen"),
    )
    return make_report(
        outcome,
        accelerator={"name": "tcg", "reason": "set"},
        disk={"digest": "0" * 64, "name": "disk.qcow2", "size": 1},
        versions={},
        require_ssi=ssi,
        expectations=expectations,
    )


def valid(found):
    jsonschema.Draft202012Validator(schema("boot-report")).validate(found)
    return found


@pytest.mark.parametrize(
    "shot, file",
    [
        (Screenshot(taken=True, stage="kernel", seconds=4.5), "screenshot.png"),
        (Screenshot(stage="kernel", reason="QEMU gave none: no PNG"), ""),
        (Screenshot(reason="no kernel was started"), ""),
    ],
)
def test_screenshot(shot, file):
    told = valid(report(raw=document(), screenshot=shot))["screenshot"]
    assert told["file"] == file
    assert bool(told["reason"]) is not bool(file)
    assert (told["stage"], told["seconds"]) == (shot.stage, shot.seconds)


def test_boots():
    found = valid(report(raw=document()))
    assert found["verdict"] == "boots"
    assert found["state"] == "running"
    assert found["failed_units"] == []
    assert found["variant"] == "mirror"
    assert found["ssi"] == {"active": "active", "ready": True, "readiness": "ready"}


HOST = Expectation("compose_root.hostname", "uname -n", ["alice"])
ZONE = Expectation("compose_root.timezone", "date +%z", ["+0000"])


def test_settings_that_are_so():
    raw = document(checks="\1alice\1+0000\n")
    found = valid(report(raw=raw, expectations=[HOST, ZONE]))
    assert found["verdict"] == "boots"
    assert [one["ok"] for one in found["settings"]] == [True, True]
    assert "checks" not in found["guest"]


def test_a_setting_that_is_not_so():
    raw = document(checks="\1bob\n\1")
    found = valid(report(raw=raw, expectations=[HOST, ZONE]))
    assert found["verdict"] == "does-not-boot"
    said = (
        "setting compose_root.hostname is not so inside: expected 'alice', seen 'bob'"
    )
    assert found["reason"] == f"{said}, and 1 more"
    assert [one["ok"] for one in found["settings"]] == [False, False]


def test_what_failed_is_told_before_settings():
    raw = document(failed=FAILED, checks="\1bob")
    found = valid(report(raw=raw, expectations=[HOST]))
    assert "a.service" in found["reason"]
    assert found["settings"][0]["ok"] is False


def test_of_what_reported_nothing_no_setting_is_told():
    assert valid(report(raw=None, expectations=[HOST]))["settings"] == []


@pytest.mark.parametrize(
    "arguments,said",
    [
        ({"raw": None}, "powered off without a report"),
        ({"raw": b"{\n"}, "cannot be read"),
        ({"raw": document(state="degraded", failed=FAILED)}, "a.service"),
        ({"raw": document(failed=FAILED)}, "a.service"),
        ({"raw": document(state="starting", jobs="1 a start running")}, "1 a start"),
        ({"raw": document(units=UNITS.replace("=active", "=failed"))}, "is failed"),
        (
            {"raw": document(units=f"{UNITS[:-6]}inactive\nLoadState=masked")},
            "ssi-service.service is masked",
        ),
        ({"raw": document(readiness="curl: (7) refused")}, "refused"),
        (
            {"raw": document(readiness=READY.replace("200 OK", "503 No"))},
            "readiness",
        ),
        ({"ending": ended.RESET}, "reset itself after stage power-on"),
        (
            {"ending": ended.FAILURE, "text": b"Kernel panic - not syncing: a\n"},
            "panic",
        ),
        (
            {"ending": ended.POWERED_OFF, "text": b"Press Enter for maintenance\n"},
            "emergency",
        ),
        (
            {
                "ending": ended.STAGE_LIMIT,
                "text": b"Linux version 6\n",
                "detail": "stage initrd was not reached within 20 s",
            },
            "stage initrd was not reached",
        ),
        ({"ending": ended.OVERALL_LIMIT, "text": b"Linux version 6\n"}, "kernel"),
    ],
)
def test_does_not_boot(arguments, said):
    found = valid(report(**arguments))
    assert found["verdict"] == "does-not-boot"
    assert said in found["reason"]
    assert found["remedy"]


@pytest.mark.parametrize(
    "arguments,said",
    [
        ({"ending": ended.KILLED, "detail": "host-signal"}, "did not get to the end"),
        (
            {"ending": ended.EXITED, "detail": "QEMU exited with 1", "errors": "No a"},
            "No a",
        ),
        ({"ending": ended.INTERNAL_ERROR, "detail": "internal-error"}, "accelerator"),
        (
            {"ending": ended.POWERED_OFF, "errors": "KVM internal error. Suberror: 1"},
            "Suberror",
        ),
        ({"ending": ended.STAGE_LIMIT}, "the firmware said nothing"),
        (
            # What it printed before counts for nothing then
            {
                "ending": ended.KILLED,
                "text": b"Kernel panic - not syncing: a\n",
            },
            "did not get to the end",
        ),
    ],
)
def test_vm_failed(arguments, said):
    found = valid(report(**arguments))
    assert found["verdict"] == "vm-failed"
    assert said in found["reason"]
    assert found["remedy"]


def test_an_image_without_the_service():
    raw = document(units="Id=ssi-service.service\nActiveState=inactive", readiness="")
    assert report(raw=raw)["verdict"] == "does-not-boot"
    assert valid(report(raw=raw, ssi=False))["verdict"] == "boots"


@pytest.mark.parametrize(
    "change",
    [
        lambda r: r.pop("stages"),
        lambda r: r.update(more=1),
        lambda r: r.update(verdict="maybe"),
        lambda r: r.update(verdict="does-not-boot"),
        lambda r: r.update(state="degraded"),
        lambda r: r.update(failed_units=["a.service"]),
        lambda r: r.update(guest=None),
        lambda r: r.update(seconds=-1),
        lambda r: r["stages"].pop("power-off"),
        lambda r: r["stages"].update(lunch=1),
        lambda r: r["disk"].update(digest="x"),
        lambda r: r["accelerator"].update(name="hvf"),
        lambda r: r["guest"].update(pid1=1),
    ],
)
def test_schema_rejects(change):
    found = copy.deepcopy(report(raw=document()))
    change(found)
    with pytest.raises(jsonschema.ValidationError):
        valid(found)


def test_schema_is_one():
    jsonschema.Draft202012Validator.check_schema(schema("boot-report"))


@pytest.mark.parametrize(
    "name,said", [("kernel", "kernel 9.8 s"), ("power-off", "powered off 9.8 s")]
)
def test_progress(name, said):
    assert progress(name, 9.84) == said
