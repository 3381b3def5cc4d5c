"""
The bill of materials of a package with a Go program: itself, Go's standard library, and
each module in the program, with its licence

https://spdx.github.io/spdx-spec/v2.3/
"""

import hashlib
import json
import re
from datetime import datetime, timezone
from typing import Any, Dict, Iterable
from urllib.parse import quote

NOASSERTION = "NOASSERTION"
NAMESPACE = "https://decentralice.invalid/spdx"
PROXY = "https://proxy.golang.org"
STDLIB_LICENCE = "BSD-3-Clause"  # https://go.dev/LICENSE; not every Go comes with it


def document(
    top: Dict[str, Any], info: Dict[str, Any], licences: Dict[str, str], epoch: int
) -> Dict[str, Any]:
    """
    The document of ``top``, a `package` with a program: ``info`` is the program's build
    information, ``licences`` are expressions by ``module@version``, ``epoch`` is in
    seconds since 1970
    """
    contained = [stdlib(info["GoVersion"])]
    contained += [module(one.get("Replace") or one, licences) for one in info["Deps"]]
    concluded = conjunction(one["licenseConcluded"] for one in contained)
    packages = [{**top, "licenseConcluded": concluded}, *contained]
    content = json.dumps(packages, sort_keys=True).encode()
    digest = hashlib.sha256(content).hexdigest()
    name = f"{top['name']}-{top['versionInfo']}"
    related = [("SPDXRef-DOCUMENT", "DESCRIBES", top["SPDXID"])]
    related += [(top["SPDXID"], "CONTAINS", one["SPDXID"]) for one in contained]
    parts = ("spdxElementId", "relationshipType", "relatedSpdxElement")
    return {
        "SPDXID": "SPDXRef-DOCUMENT",
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "name": f"apk-{name}",
        "documentNamespace": f"{NAMESPACE}/{name}-{digest}",  # another one's differs
        "creationInfo": {
            "created": iso(epoch),
            "creators": ["Tool: dffml-operations-decentralice"],
            "licenseListVersion": "3.22",
        },
        "documentDescribes": [top["SPDXID"]],
        "packages": packages,
        "relationships": [dict(zip(parts, one)) for one in related],
    }


def module(one: Dict[str, str], licences: Dict[str, str]) -> Dict[str, Any]:
    """
    A Go module, ``Path``, ``Version`` and ``Sum`` as in build information

    The sum is no checksum as SPDX has them: it is that of a list of files, whereas
    each proxy packs its own archive. https://go.dev/ref/mod#go-sum-files
    """
    path, version = one["Path"], one["Version"]
    licence = licences.get(f"{path}@{version}", NOASSERTION)
    found = package(f"go-{path}", path, version, licence, purl(path, version))
    found["downloadLocation"] = download(path, version)
    if "Sum" in one:
        found["sourceInfo"] = f"go.sum {one['Sum']}"
    return found


def stdlib(version: str) -> Dict[str, Any]:
    """What is in every Go program, of a Go such as ``go1.26.6``"""
    release = version.split()[0]  # some tell more behind it
    number = release[len("go") :]
    locator = purl("stdlib", number)
    found = package("go-stdlib", "stdlib", number, STDLIB_LICENCE, locator)
    found["downloadLocation"] = f"https://go.dev/dl/{release}.src.tar.gz"
    return found


def package(
    ident: str, name: str, version: str, licence: str, locator: str
) -> Dict[str, Any]:
    """
    A package under a licence that it declares, which nothing that is known contradicts

    https://spdx.github.io/spdx-spec/v2.3/package-information/
    """
    reference = {
        "referenceCategory": "PACKAGE-MANAGER",
        "referenceType": "purl",
        "referenceLocator": locator,
    }
    ident = re.sub("[^A-Za-z0-9.]", "-", f"{ident}-{version}")
    return {
        "SPDXID": f"SPDXRef-Package-{ident}",
        "name": name,
        "versionInfo": version,
        "filesAnalyzed": False,
        "downloadLocation": NOASSERTION,
        "licenseConcluded": licence,
        "licenseDeclared": licence,
        "externalRefs": [reference],
    }


def conjunction(expressions: Iterable[str]) -> str:
    """All of them at once; if one is not known, the whole is not"""
    terms = set()
    for one in expressions:
        terms |= {f"({one})"} if " OR " in one else {*one.split(" AND ")}
    if NOASSERTION in terms:
        return NOASSERTION
    return " AND ".join(sorted(terms, key=lambda term: (term.startswith("("), term)))


def purl(path: str, version: str) -> str:
    """https://github.com/package-url/purl-spec/blob/main/types-doc/golang-definition.md"""
    return f"pkg:golang/{quote(path.lower())}@{quote(version, safe='')}"


def download(path: str, version: str) -> str:
    """Where Go's own proxy has a module: https://go.dev/ref/mod#goproxy-protocol"""
    path, version = (
        re.sub("[A-Z]", lambda letter: f"!{letter[0].lower()}", one)
        for one in (path, version)
    )
    return f"{PROXY}/{quote(path, safe='/!')}/@v/{quote(version, safe='!')}.zip"


def iso(seconds: int) -> str:
    """2026-01-01T00:00:00Z"""
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
