"""
govulncheck itself, with databases made here: nobody's real one changes what is expected
"""

import asyncio
import gzip
import json
import subprocess
from pathlib import Path

import jsonschema
import pytest

from dffml_operations_decentralice import schemas, supply_chain
from dffml_operations_decentralice.engine.commands import find_tool
from dffml_operations_decentralice.engine.store import Store
from dffml_operations_decentralice.engine.testing import run_operation
from dffml_operations_decentralice.errors import (
    CommandFailed,
    MissingTool,
    NetworkError,
    UserError,
)
from dffml_operations_decentralice.operations import ssi, vulnerabilities

from ..conftest import STORE, commands_in
from ..test_cli import complains
from ..upstream.server import served

MODIFIED = "2026-01-02T00:00:00Z"
GIN = "github.com/gin-gonic/gin"  # v1.9.1 is in the service


def entry(number, module, package, functions, *, fixed="", aliases=()):
    """A vulnerability: https://ossf.github.io/osv-schema/"""
    events = [{"introduced": "0"}, *([{"fixed": fixed}] if fixed else [])]
    return {
        "schema_version": "1.3.1",
        "id": f"GO-2099-{number:04}",
        "modified": MODIFIED,
        "aliases": list(aliases),
        "summary": f"number {number}",
        "affected": [
            {
                "package": {"name": module, "ecosystem": "Go"},
                "ranges": [{"type": "SEMVER", "events": events}],
                "ecosystem_specific": {
                    "imports": [{"path": package, "symbols": functions}]
                },
            }
        ],
    }


ENTRIES = [
    entry(1, GIN, GIN, ["New", "Engine.Run"], fixed="1.9.2", aliases=["CVE-2099-1"]),
    entry(2, GIN, GIN, ["New"], fixed="1.9.1"),  # the version that the service has
    entry(3, "example.org/not-there", "example.org/not-there", ["A"]),
]
OF_GO = [
    entry(4, "stdlib", "net/http", ["Client.Do", "NobodyHasThis"], fixed="1.99.0"),
    entry(5, "stdlib", "net/http", ["NobodyHasThis"]),
]


def write(folder, name, content):
    """A file of a database, as on disk and as from a server"""
    file = folder / f"{name}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content))
    Path(f"{file}.gz").write_bytes(gzip.compress(file.read_bytes()))


def database(folder, entries):
    """https://go.dev/doc/security/vuln/database"""
    modules = {}
    for one in entries:
        [affected] = one["affected"]
        fixed = affected["ranges"][0]["events"][-1].get("fixed")
        known = {"id": one["id"], "modified": MODIFIED}
        known.update({"fixed": fixed} if fixed else {})
        modules.setdefault(affected["package"]["name"], []).append(known)
        write(folder, f"ID/{one['id']}", one)
    write(folder, "index/db", {"modified": MODIFIED})
    index = [{"path": path, "vulns": vulns} for path, vulns in modules.items()]
    write(folder, "index/modules", index)
    return folder


@pytest.fixture(scope="module")
def go():
    try:
        return find_tool("go")
    except MissingTool as error:
        pytest.skip(error.cause)


@pytest.fixture(scope="module")
def program(go):
    """The service, in the store of the whole run: Go's caches are large"""
    return asyncio.run(run_operation(ssi.build_ssi_service, store=STORE))


@pytest.fixture(scope="module")
def checker(go):
    made = vulnerabilities.build_vulnerability_checker
    return asyncio.run(run_operation(made, store=STORE))


@pytest.fixture
def find(checker, program):
    def find(database, program=program):
        made = run_operation(
            vulnerabilities.find_vulnerabilities,
            store=STORE,
            settings={"database": str(database)},
            checker=checker,
            program=str(program),
        )
        found = json.loads(Path(asyncio.run(made)).read_text())
        jsonschema.validate(found, schemas.schema("vulnerabilities"))
        return found

    return find


def test_findings_of_the_service(find, program, tmp_path):
    found = find(database(tmp_path, ENTRIES))
    assert found["program"] == f"{program}/ssi-service"
    assert found["database"] == {"address": tmp_path.as_uri(), "modified": MODIFIED}
    assert found["go"].startswith("go1.")
    # the linker has left out what tells which functions there are
    assert found["symbols"] is False
    assert found["findings"] == [
        {
            "id": "GO-2099-0001",
            "aliases": ["CVE-2099-1"],
            "summary": "number 1",
            "module": GIN,
            "found": "v1.9.1",
            "fixed": "v1.9.2",
            "functions": None,
        }
    ]


def test_no_findings(find, tmp_path):
    assert find(database(tmp_path, ENTRIES[1:]))["findings"] == []


def test_functions_of_a_program_with_symbols(find, go, tmp_path):
    done = subprocess.run([go, "env", "GOROOT"], capture_output=True, text=True)
    found = find(database(tmp_path, OF_GO), Path(done.stdout.strip(), "bin/go"))
    assert found["symbols"] is True
    functions = {one["id"]: one["functions"] for one in found["findings"]}
    assert functions == {
        "GO-2099-0004": ["net/http.Client.Do"],
        "GO-2099-0005": [],
    }
    assert [one["fixed"] for one in found["findings"]] == ["v1.99.0", None]


def test_server(find, tmp_path):
    with served(database(tmp_path, ENTRIES)) as server:
        found = find(server.address + "/")
        assert len(found["findings"]) == 1
        assert "/ID/GO-2099-0001.json.gz" in server.asked
        with pytest.raises(UserError, match="status 404"):
            find(f"{server.address}/elsewhere")
    with pytest.raises(NetworkError, match="does not answer"):
        find(server.address)


def cut(folder, name):
    file = folder / f"{name}.json"
    file.write_text(file.read_text()[:-2])


@pytest.mark.parametrize(
    "damage, said",
    [
        (lambda folder: (folder / "index/db.json").unlink(), "No such file"),
        (lambda folder: (folder / "index/modules.json").unlink(), "No such file"),
        (lambda folder: cut(folder, "index/db"), "index/db.json"),
        (lambda folder: cut(folder, "index/modules"), "index/modules.json"),
        (lambda folder: write(folder, "index/db", []), "another shape"),
        (lambda folder: write(folder, "index/modules", {}), "another shape"),
        (lambda folder: cut(folder, "ID/GO-2099-0001"), "end of JSON"),
        (lambda folder: (folder / "ID/GO-2099-0001.json").unlink(), "no such file"),
        (lambda folder: (folder / "index/db.json").write_bytes(b"\xff"), "db.json"),
    ],
)
def test_damaged_databases(find, tmp_path, damage, said):
    """Of most of them govulncheck says that nothing is known"""
    damage(database(tmp_path, ENTRIES))
    with pytest.raises(UserError, match="is no vulnerability database") as raised:
        find(tmp_path)
    assert said in raised.value.cause
    assert "vulndb.zip" in raised.value.remedy


@pytest.mark.parametrize(
    "given, said",
    [
        ("", "none comes along"),
        ("/nowhere", "No such file"),
        ("file:///nowhere", "No such file"),
        ("ftp://example.org/", "No such file"),
        ("http://[", "Invalid IPv6"),
        ("http://", "is none"),
        ("https://me:secret@example.org", "has a password"),
    ],
)
def test_other_databases(given, said):
    with pytest.raises(UserError, match=said) as raised:
        asyncio.run(vulnerabilities.usable(given))
    assert "secret" not in raised.value.cause


def test_names_of_folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = database(tmp_path / "a b", [])
    (tmp_path / "c").mkdir()
    for given in ("a b", "c/../a b", str(folder), folder.as_uri()):
        assert asyncio.run(vulnerabilities.usable(given)) == folder.as_uri()


def test_other_programs(find, tmp_path):
    with pytest.raises(UserError, match="is no Go program"):
        find(database(tmp_path, ENTRIES), "/bin/sh")


FAILED = CommandFailed("govulncheck exited with 1", remedy="see the log")


@pytest.mark.parametrize(
    "said, kind, named",
    [
        (
            'govulncheck: fetching vulnerabilities: Get "https://d/x": dial tcp: no',
            NetworkError,
            "dial tcp",
        ),
        ("govulncheck: fetching vulnerabilities: invalid", UserError, "invalid"),
        ("creating client: unrecognized vulndb format", UserError, "format"),
        ("govulncheck: unrecognized binary format", UserError, "/program"),
        ("panic: runtime error", CommandFailed, "exited"),
        ("", CommandFailed, "exited"),
    ],
)
def test_failure(said, kind, named):
    error = vulnerabilities.failure(said, "https://d", Path("/program"), FAILED)
    assert type(error) is kind and named in error.cause


@pytest.mark.parametrize("text", ["", "\n", '{"a": 1}\n{"b":\n{}}\n{"c": "{"}'])
def test_messages(text):
    names = [name for one in vulnerabilities.messages(text) for name in one]
    assert names == sorted({*text} & {*"abc"})


# ---- the command
@pytest.fixture
def run(tmp_path, program):
    (tmp_path / "work").mkdir()
    run = commands_in(tmp_path / "work")
    return lambda *argv: run("vulnerabilities", *argv, DECENTRALICE_STORE=str(STORE))


def test_command(run, tmp_path):
    """Without a result it is the last program that was built"""
    done = run("-database", database(tmp_path / "db", ENTRIES))
    assert done.returncode == 7, done.stderr
    found = json.loads(done.stdout)
    jsonschema.validate(found, schemas.schema("vulnerabilities"))
    assert [one["id"] for one in found["findings"]] == ["GO-2099-0001"]
    last = done.stderr.splitlines()[-2:]
    assert last[0] == "error: known vulnerabilities: GO-2099-0001"
    assert last[1].startswith("remedy: ")
    done = run("-database", database(tmp_path / "none", []), "-progress", "json")
    assert done.returncode == 0 and json.loads(done.stdout)["findings"] == []


@pytest.mark.parametrize(
    "argv, said",
    [
        ([], "no vulnerability database is given, and none comes along"),
        (["-database", "nowhere"], "is no vulnerability database"),
        (["-database", "{db}", "-program", "nowhere"], "no program nowhere"),
    ],
)
def test_command_refuses(run, tmp_path, argv, said):
    db = str(database(tmp_path / "db", []))
    complains(run(*[word.format(db=db) for word in argv]), 2, said)


def test_program_of_the_result(tmp_path):
    """That of the linked result, not the newest"""
    root = tmp_path / "store"
    for number, name in enumerate(["a" * 32 + "-of-result", "b" * 32 + "-newest"]):
        (root / "objects" / name).mkdir(parents=True)
        action = {
            "object": name,
            "parts": {"operation": supply_chain.BUILDER},
            "made": number,
        }
        store = Store(root)
        store.record(f"{number}" * 64, supply_chain.BUILDER, action)
    assert supply_chain.built_program(store, tmp_path / "none").name.endswith("-newest")
    link = tmp_path / "result"
    link.symlink_to(root / "objects" / ("a" * 32 + "-of-result"))
    assert supply_chain.built_program(store, link).name.endswith("-of-result")


def test_no_program(tmp_path):
    with pytest.raises(UserError, match="was built") as raised:
        supply_chain.built_program(Store(tmp_path / "store"), tmp_path / "none")
    assert "-program" in raised.value.remedy
