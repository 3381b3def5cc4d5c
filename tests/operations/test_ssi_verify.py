"""What verify_ssi makes of what it is given; with a machine: tests/boot/test_ssi.py"""

import asyncio
import json
from pathlib import Path

import jsonschema
import pytest

from dffml_operations_decentralice.engine.testing import run_operation
from dffml_operations_decentralice.errors import UserError
from dffml_operations_decentralice.operations.ssi_verify import document, verify_ssi
from dffml_operations_decentralice.schemas import schema
from dffml_operations_decentralice.ssi.verification import Verification, last_words

BOOT = {
    "verdict": "boots",
    "ssi": {"ready": True},
    "accelerator": {"name": "tcg", "reason": "set"},
}
DID = "did:key:z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooWp"


def verify(tmp_path, boot, **settings):
    folder, disk = tmp_path / "boot-report", tmp_path / "empty.raw"
    folder.mkdir()
    (folder / "report.json").write_text(json.dumps({**BOOT, **boot}))
    disk.write_bytes(bytes(4 << 20))
    running = run_operation(
        verify_ssi,
        store=tmp_path / "store",
        settings={"enabled": True, **settings},
        disk=str(disk),
        report=str(folder),
    )
    found = json.loads(Path(asyncio.run(running), "report.json").read_text())
    jsonschema.validate(found, schema("ssi-report"))
    return found


@pytest.mark.parametrize(
    "boot, settings, said",
    [
        ({}, {"enabled": False}, "`enabled` is false"),
        ({"verdict": "does-not-boot"}, {}, "was not booted"),
        ({"verdict": "vm-failed"}, {}, "was not booted"),
        ({"ssi": {"ready": False}}, {}, "no service that is ready"),
    ],
)
def test_left_out(tmp_path, boot, settings, said):
    found = verify(tmp_path, boot, **settings)
    assert (found["verdict"], found["steps"]) == ("left-out", [])
    assert said in found["reason"]


def test_a_disk_that_does_not_boot(tmp_path):
    """Whatever a report says: the step and what the console told"""
    found = verify(tmp_path, {})
    assert (found["verdict"], found["step"]) == ("failed", "boot")
    assert found["reason"].startswith("boot: no-bootable-disk")
    [step] = found["steps"]
    assert step["outcome"] == "failed" and step["seconds"] > 0


def test_a_machine_that_cannot_run(tmp_path):
    found = verify(tmp_path, {}, qemu="/bin/false")
    assert found["verdict"] == "vm-failed" and found["remedy"]


@pytest.mark.parametrize("settings", [{"accelerator": "hvf"}, {"memory": 1}])
def test_settings_that_cannot_be_used(tmp_path, settings):
    with pytest.raises(UserError, match="verify_ssi"):
        verify(tmp_path, {}, **settings)


@pytest.mark.parametrize(
    "change",
    [
        {"issuer": ""},
        {"measured": {}},
        {"reason": "x"},
        {"step": "issue"},
        {"steps": []},
        {"more": 1},
        {"verdict": "failed"},
    ],
)
def test_schema(change):
    names = ("readiness", "sign-again")
    passed = {"outcome": "passed", "detail": "", "seconds": 1}
    work = Verification(steps=[{"name": name, **passed} for name in names])
    work.issuer = work.subject = DID
    work.measured = {"exposure": 0.2, "ready_seconds": 1.0, "rss_mib": 100.0}
    found = document(work, "works", "", "", BOOT["accelerator"])
    jsonschema.validate(found, schema("ssi-report"))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**found, **change}, schema("ssi-report"))


@pytest.mark.parametrize(
    "journal, expected",
    [
        ("", "it said nothing"),
        ("Starting\nssi-service: no key\nMain process exited\n", "ssi-service: no key"),
        ("Starting\npanic: nil\ngoroutine 1\n", "panic: nil"),
        ("Starting\n\nFailed\n", "Failed"),
    ],
)
def test_last_words(journal, expected):
    assert last_words(journal) == expected
