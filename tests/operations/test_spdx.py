import json

import pytest
from spdx_tools.spdx.parser.parse_anything import parse_file
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

from dffml_operations_decentralice.operations import spdx

EPOCH = 1767225600
INFO = {
    "GoVersion": "go1.26.6",
    "Deps": [
        {"Path": "github.com/A/sdk", "Version": "v0.0.4", "Sum": "h1:YQ=="},
        {"Path": "example.org/a/v2", "Version": "v2.0.0+incompatible"},
        {
            "Path": "example.org/b",
            "Version": "v1.0.0",
            "Replace": {"Path": "example.org/c", "Version": "v1.1.0"},
        },
    ],
}
LICENCES = {
    "github.com/A/sdk@v0.0.4": "Apache-2.0 AND MIT",
    "example.org/a/v2@v2.0.0+incompatible": "Apache-2.0 OR MIT",
    "example.org/c@v1.1.0": "ISC",
}


def made(info=INFO, licences=LICENCES):
    locator = spdx.purl("example.org/service", "v0.0.3")
    top = spdx.package("service", "service", "0.0.3-r0", "Apache-2.0", locator)
    return spdx.document(top, info, licences, EPOCH)


def problems(document, folder):
    """What the SPDX project's own tools say of a document"""
    file = folder / "sbom.spdx.json"
    file.write_text(json.dumps(document))
    found = validate_full_spdx_document(parse_file(str(file)))
    return [one.validation_message for one in found]


def test_document():
    found = made()
    names = [(one["name"], one["licenseDeclared"]) for one in found["packages"]]
    assert names == [
        ("service", "Apache-2.0"),
        ("stdlib", "BSD-3-Clause"),
        ("github.com/A/sdk", "Apache-2.0 AND MIT"),
        ("example.org/a/v2", "Apache-2.0 OR MIT"),
        ("example.org/c", "ISC"),
    ]
    top, stdlib, sdk, *_ = found["packages"]
    assert top["SPDXID"] == "SPDXRef-Package-service-0.0.3-r0"  # as apko looks for it
    assert top["licenseConcluded"] == (
        "Apache-2.0 AND BSD-3-Clause AND ISC AND MIT AND (Apache-2.0 OR MIT)"
    )
    assert stdlib["versionInfo"] == "1.26.6"
    assert stdlib["downloadLocation"] == "https://go.dev/dl/go1.26.6.src.tar.gz"
    assert sdk["sourceInfo"] == "go.sum h1:YQ=="
    idents = [one["SPDXID"] for one in found["packages"]]
    assert len(set(idents)) == 5 and found["documentDescribes"] == idents[:1]
    assert [one["relatedSpdxElement"] for one in found["relationships"]] == idents


def test_document_is_valid(tmp_path):
    assert problems(made(), tmp_path) == []
    assert problems(made({**INFO, "Deps": []}, {}), tmp_path) == []


def test_other_documents_are_not(tmp_path):
    wrong = made(licences={**LICENCES, "example.org/c@v1.1.0": "Do as you please"})
    assert any("Do as you please" in one for one in problems(wrong, tmp_path))


def test_unknown_licences():
    found = made(licences={})
    assert found["packages"][2]["licenseConcluded"] == "NOASSERTION"
    assert found["packages"][0]["licenseConcluded"] == "NOASSERTION"
    assert found["packages"][0]["licenseDeclared"] == "Apache-2.0"


def test_other_content_has_another_namespace():
    assert made()["documentNamespace"] == made()["documentNamespace"]
    assert made()["documentNamespace"] != made(licences={})["documentNamespace"]


@pytest.mark.parametrize(
    "version, number",
    [
        ("go1.26.6", "1.26.6"),
        ("go1.27rc1", "1.27rc1"),
        ("go1.26.6 X:nodwarf5", "1.26.6"),
    ],
)
def test_stdlib(version, number):
    found = spdx.stdlib(version)
    assert found["versionInfo"] == number
    locator = found["externalRefs"][0]["referenceLocator"]
    assert locator == f"pkg:golang/stdlib@{number}"


@pytest.mark.parametrize(
    "expressions, expected",
    [
        (["MIT"], "MIT"),
        (["MIT", "ISC", "MIT"], "ISC AND MIT"),
        (["MIT AND ISC", "ISC"], "ISC AND MIT"),
        (["MIT OR ISC", "MIT"], "MIT AND (MIT OR ISC)"),
        (["MIT OR ISC"], "(MIT OR ISC)"),
        (["MIT", "NOASSERTION"], "NOASSERTION"),
    ],
)
def test_conjunction(expressions, expected):
    assert spdx.conjunction(expressions) == expected


@pytest.mark.parametrize(
    "path, version, locator, address",
    [
        (
            "github.com/A/bC",
            "v1.0.0",
            "pkg:golang/github.com/a/bc@v1.0.0",
            "https://proxy.golang.org/github.com/!a/b!c/@v/v1.0.0.zip",
        ),
        (
            "a.org/b/v2",
            "v2.0.0+incompatible",
            "pkg:golang/a.org/b/v2@v2.0.0%2Bincompatible",
            "https://proxy.golang.org/a.org/b/v2/@v/v2.0.0%2Bincompatible.zip",
        ),
        (
            "gopkg.in/a.v3",
            "v3.0.0-20230522175609-2e198f4a06a1",
            "pkg:golang/gopkg.in/a.v3@v3.0.0-20230522175609-2e198f4a06a1",
            "https://proxy.golang.org/gopkg.in/a.v3/@v/"
            "v3.0.0-20230522175609-2e198f4a06a1.zip",
        ),
    ],
)
def test_places_of_a_module(path, version, locator, address):
    assert spdx.purl(path, version) == locator
    assert spdx.download(path, version) == address
