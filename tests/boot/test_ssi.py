"""The SSI service in a machine, as the build's report has it"""

import json

import jsonschema
import pytest

from dffml_operations_decentralice.operations import publish
from dffml_operations_decentralice.operations.ssi_verify import (
    document,
)
from dffml_operations_decentralice.schemas import schema
from dffml_operations_decentralice.ssi.verification import (
    FAILED,
    Verification,
)

STEPS = [
    *("boot", "unit", "reach", "readiness", "closed", "did", "resolve", "schema"),
    *("issue", "verify", "forged", "against-schema", "revocation", "suspension"),
    *("presentation", "hardening", "resources", "power-off"),
    *("boot", "unit", "reach", "readiness", "kept", "sign-again"),
]


@pytest.fixture(scope="module")
def proof(image):
    """The directory that the build has of it"""
    return image.artefact("ssi-report")


@pytest.fixture(scope="module")
def report(proof):
    return json.loads((proof / "report.json").read_text())


def test_the_service_works(image, report):
    jsonschema.validate(report, schema("ssi-report"))
    jsonschema.validate(image.report, schema("boot-report"))
    assert image.report["verdict"] == "boots"
    assert image.report["ssi_verification"] == report
    assert report["verdict"] == "works", report
    assert [one["name"] for one in report["steps"]] == STEPS
    assert {one["outcome"] for one in report["steps"]} == {"passed"}


def test_its_unit_is_hardened(report):
    assert report["measured"]["exposure"] <= 0.2


def test_what_it_costs(report):
    assert report["measured"]["rss_mib"] < 384  # MemoryHigh of its unit
    assert report["measured"]["ready_seconds"] > 0


def test_the_consoles_of_both_boots_are_kept(proof):
    console = (proof / "console.log").read_bytes()
    assert console.count(b"Linux version ") == 2


def test_a_service_that_fails_is_no_image_that_boots(image):
    """The build's verdict names the step"""
    boot = {**image.report, "reason": ""}
    work = Verification(steps=[{"name": "sign-again", "outcome": FAILED}])
    failed = document(work, FAILED, "sign-again: no", "look", boot["accelerator"])
    merged = publish.merged(boot, failed)
    jsonschema.validate(merged, schema("boot-report"))
    assert merged["verdict"] == "does-not-boot" and "sign-again" in merged["reason"]
