"""
Known vulnerabilities of the Go modules in a program, by a database that the user gives

No step of the flow: a build does not ask what is not pinned. The command
``vulnerabilities`` runs these operations, and other flows may.

https://go.dev/doc/security/vuln/
"""

import asyncio
import json
import os
import re
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple
from urllib.parse import urlsplit
from urllib.request import url2pathname

from ..engine import Step, operation, setting, settings
from ..errors import CommandFailed, DecentrAliceError, NetworkError, UserError
from ..types import SsiServiceProgram, VulnerabilityChecker, VulnerabilityReport
from . import apko, golang
from .ssi import NAME, SUPPLY_CHAIN, SsiServiceSettings, pretty

CHECKER = "govulncheck"
PACKAGES = "golang.org/x/vuln/cmd"
INDEX = {"db": dict, "modules": list}  # what a database tells about itself
ANSWER = 30.0  # seconds that a server has
DATABASE = (
    "-database DIR, what https://vuln.go.dev/vulndb.zip has in it unpacked, or the URL "
    "of a server such as https://vuln.go.dev"
)
# What govulncheck says of one
NO_DATABASE = r"fetching vulnerabilities:|creating client:|vulndb"
NO_PROGRAM = r"unrecognized binary format|is not a file|not a Go executable"
SPACE = re.compile(r"\s*")


@operation(tools=(golang.VERSION,), files=(SUPPLY_CHAIN,), space=10)
async def build_vulnerability_checker(
    step: Step[SsiServiceSettings],
) -> VulnerabilityChecker:
    """
    Build govulncheck, of the version in ``go/supply_chain/go.mod``: a directory of
    ``govulncheck``
    """
    step.out.mkdir()
    made, goproxy = step.out / CHECKER, step.settings.goproxy
    await golang.build(step, goproxy, SUPPLY_CHAIN, made, f"{PACKAGES}/{CHECKER}")
    return VulnerabilityChecker(str(step.out))


@settings
class VulnerabilitySettings:
    database: str = setting(
        "Vulnerability database: a folder, or the URL of a server", default=""
    )


@operation(result="vulnerabilities.json", cached=False)
async def find_vulnerabilities(
    step: Step[VulnerabilitySettings],
    checker: VulnerabilityChecker,
    program: SsiServiceProgram,
) -> VulnerabilityReport:
    """
    What a database knows about a Go program, vulnerabilities.schema.json; ``program``
    may be the file itself

    govulncheck cannot know which functions a program without a symbol table has, and
    takes it to have all: the service is such a program. What is found is then certain
    of the module and its version, not of the functions.
    """
    file = Path(program, NAME) if Path(program).is_dir() else Path(program)
    database = await usable(step.settings.database)
    argv = ["-mode=binary", "-format=json", "-db", database, file]
    said_before = step.log.stat().st_size
    try:
        said = [*messages(await step.run(Path(checker, CHECKER), *argv))]
    except CommandFailed as error:
        log = apko.log_from(step.log, said_before)
        raise failure(log, database, file, error) from error
    symbols = await step.thread(golang.has_symbols, file)
    step.out.write_text(pretty(report(said, file, symbols)))
    return VulnerabilityReport(str(step.out))


async def usable(database: str) -> str:
    """
    The URL of a database, as govulncheck takes it, which for some that are none finds
    nothing and says that all is well; `UserError` or `NetworkError`
    """
    if not database:
        raise UserError(
            "no vulnerability database is given, and none comes along",
            remedy=f"give one: {DATABASE}",
        )
    try:
        parts = urlsplit(database)
    except ValueError as error:
        raise unusable(database, str(error)) from error
    if parts.scheme in ("http", "https"):
        if parts.username is not None:
            raise UserError(
                "the address of the vulnerability database has a password in it",
                remedy=f"give one without: {DATABASE}",
            )
        await check_server(database.rstrip("/"))
        return database
    path = url2pathname(parts.path) if parts.scheme == "file" else database
    folder = Path(os.path.abspath(path))
    check_folder(folder)
    return folder.as_uri()


def check_folder(folder: Path) -> None:
    """`UserError` of what is no database: https://go.dev/doc/security/vuln/database"""
    for name, shape in INDEX.items():
        file = folder / "index" / f"{name}.json"
        try:
            content = json.loads(file.read_text())
        except OSError as error:
            raise unusable(folder, f"{file}: {error.strerror}") from error
        except ValueError as error:
            raise unusable(folder, f"{file}: {error}") from error
        if not isinstance(content, shape):
            raise unusable(folder, f"{file} is of another shape")


async def check_server(url: str) -> None:
    """`UserError` or `NetworkError` if a server has no database"""
    import aiohttp

    limits = aiohttp.ClientTimeout(total=ANSWER)
    address = f"{url}/index/db.json.gz"
    try:
        async with aiohttp.ClientSession(timeout=limits, trust_env=True) as session:
            async with session.get(address) as reply:
                status = reply.status
    except aiohttp.InvalidURL as error:
        raise unusable(url, "its address is none") from error
    except (aiohttp.ClientError, OSError, asyncio.TimeoutError) as error:
        raise unreachable(url, str(error) or type(error).__name__) from error
    if status >= 500:
        raise unreachable(url, f"status {status}")
    if status != 200:
        raise unusable(url, f"{address} gives status {status}")


def unusable(database: Any, why: str) -> UserError:
    """The error of what is no database"""
    return UserError(
        f"{database} is no vulnerability database: {why}",
        remedy=f"give one: {DATABASE}",
    )


def unreachable(database: str, why: str) -> NetworkError:
    """The error of a server that cannot be asked"""
    return NetworkError(
        f"the vulnerability database {database} does not answer: {why}",
        remedy="check the network, or unpack https://vuln.go.dev/vulndb.zip and give "
        "its folder",
    )


def failure(
    said: str, database: str, program: Path, failed: CommandFailed
) -> DecentrAliceError:
    """What govulncheck's messages mean; ``failed`` if nothing is known about them"""
    lines = [line.removeprefix("govulncheck: ") for line in said.splitlines()]
    for line in lines:
        if re.search(NO_PROGRAM, line):
            return UserError(
                f"{program} is no Go program: {line}", remedy="give one: -program FILE"
            )
        if re.search(NO_DATABASE, line):
            if re.search(golang.UNREACHABLE, line):
                return unreachable(database, line)
            return unusable(database, line)
    return failed


def messages(text: str) -> Iterator[Dict[str, Any]]:
    """
    Objects that follow each other, each with one member:
    https://pkg.go.dev/golang.org/x/vuln/internal/govulncheck#Message
    """
    decoder, at = json.JSONDecoder(), 0
    while (at := SPACE.match(text, at).end()) < len(text):  # type: ignore[union-attr]
        message, at = decoder.raw_decode(text, at)
        yield message


def report(said: List[Dict[str, Any]], program: Path, symbols: bool) -> Dict[str, Any]:
    """The document, of govulncheck's messages"""
    told = {kind: value for message in said for kind, value in message.items()}
    return {
        "program": str(program),
        "go": told["SBOM"]["go_version"],
        "database": {
            "address": told["config"]["db"],
            "modified": told["config"].get("db_last_modified"),
        },
        "symbols": symbols,
        "findings": findings(said, symbols),
    }


def findings(said: List[Dict[str, Any]], symbols: bool) -> List[Dict[str, Any]]:
    """One for each vulnerability of a module; govulncheck has one for each function"""
    known = {one["osv"]["id"]: one["osv"] for one in said if "osv" in one}
    found: Dict[Tuple[str, str], Dict[str, Any]] = {}
    for finding in (one["finding"] for one in said if "finding" in one):
        ident, where = finding["osv"], finding["trace"][0]
        entry = {
            "id": ident,
            "aliases": known[ident].get("aliases", []),
            "summary": known[ident].get("summary", ""),
            "module": where["module"],
            "found": where["version"],
            "fixed": finding.get("fixed_version"),
            "functions": [] if symbols else None,
        }
        entry = found.setdefault((ident, where["module"]), entry)
        if symbols and "function" in where:
            names = (where["package"], where.get("receiver"), where["function"])
            entry["functions"].append(".".join(filter(None, names)))
    for entry in found.values():
        if symbols:
            entry["functions"].sort()
    return [found[key] for key in sorted(found)]
