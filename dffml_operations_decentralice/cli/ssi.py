"""The SSI service: identities, credentials, and what its program is made of"""

import json
import os
import sys
from pathlib import Path
from typing import Any, Dict

from dffml import config, field
from dffml.util.cli.cmd import CMD

from ..errors import CommandFailed, UserError
from .command import PROGRESS, Command

SERVICE = (
    "Unix socket or loopback URL of the SSI service; by default the user's own if its "
    "socket is there, else the system's"
)
SHOWN = 5  # names in a line


@config
class VulnerabilitiesConfig:
    database: str = field(
        "Vulnerability database: a folder with what https://vuln.go.dev/vulndb.zip has "
        "in it, or the URL of a server",
        default="",
    )
    program: str = field(
        "A Go program, by default the SSI service that was built", default=""
    )
    progress: str = field(PROGRESS, default="auto")


class Vulnerabilities(Command):
    """What a database knows about the modules in the SSI service's program"""

    CONFIG = VulnerabilitiesConfig

    async def answer(self, monitor) -> Dict[str, Any]:
        """The report; if something is found, it is printed before the error"""
        from .. import supply_chain

        found = await supply_chain.vulnerabilities(self.database, self.program)
        if found["findings"]:
            print(json.dumps(found))
            ids = sorted({one["id"] for one in found["findings"]})
            more = f" and {len(ids) - SHOWN} more" if len(ids) > SHOWN else ""
            raise CommandFailed(
                f"known vulnerabilities: {', '.join(ids[:SHOWN])}{more}",
                remedy="`fixed` in the report is the version to update a module to, "
                "https://pkg.go.dev/vuln tells what each is about",
            )
        return found


@config
class DidCreateConfig:
    service: str = field(SERVICE, default="")


class DidCreate(Command):
    """Make a did:key whose key the SSI service keeps"""

    CONFIG = DidCreateConfig
    uses_store = False

    async def answer(self, monitor) -> Dict[str, Any]:
        from ..ssi.client import Client

        async with Client(self.service) as service:
            return {"did": await service.create_did()}


@config
class DidResolveConfig:
    did: str = field("The DID")
    service: str = field(SERVICE, default="")


class DidResolve(Command):
    """Print the document of a DID"""

    CONFIG = DidResolveConfig
    uses_store = False

    async def answer(self, monitor) -> Dict[str, Any]:
        from ..ssi.client import Client

        async with Client(self.service) as service:
            return await service.resolve(self.did)


class DidCommands(CMD):
    """Decentralized identifiers, by the SSI service"""

    create = DidCreate
    resolve = DidResolve


@config
class CredentialIssueConfig:
    issuer: str = field("DID whose key the service has", required=True)
    subject: str = field("DID of whom it is about", required=True)
    claims: str = field("What it says, a JSON object", required=True)
    schema: str = field("Identifier of a schema that the claims are of", default="")
    expiry: str = field("When it ends, such as 2030-01-01T00:00:00Z", default="")
    revocable: bool = field("Whether it can be revoked", default=False)
    service: str = field(SERVICE, default="")


class CredentialIssue(Command):
    """Issue a credential; prints its identifier, and itself as a JWT"""

    CONFIG = CredentialIssueConfig
    uses_store = False

    async def answer(self, monitor) -> Dict[str, Any]:
        from ..ssi.client import Client

        claims = json_object(self.claims, "-claims")
        async with Client(self.service) as service:
            issued = await service.issue(
                self.issuer,
                self.subject,
                claims,
                schema=self.schema,
                expiry=self.expiry,
                revocable=self.revocable,
            )
        return issued._asdict()


@config
class CredentialVerifyConfig:
    credential: str = field("The JWT, a file that has it, or - for standard input")
    offline: bool = field("By its issuer's DID alone, without a service", default=False)
    issuer: str = field("The DID that must have issued it", default="")
    service: str = field(SERVICE, default="")


class CredentialVerify(Command):
    """Check a credential by its issuer's DID, and by the service; prints its claims"""

    CONFIG = CredentialVerifyConfig
    uses_store = False

    async def answer(self, monitor) -> Dict[str, Any]:
        from ..ssi import credentials
        from ..ssi.client import Client

        token = credential_of(self.credential)
        claims = credentials.verify(token, self.issuer)
        if not self.offline:
            async with Client(self.service) as service:
                await service.confirm(token)
        return claims


@config
class CredentialShowConfig:
    id: str = field("Its identifier")
    service: str = field(SERVICE, default="")


class CredentialShow(Command):
    """Print a credential that the service issued, unverified"""

    CONFIG = CredentialShowConfig
    uses_store = False

    async def answer(self, monitor) -> Dict[str, Any]:
        from ..ssi import credentials
        from ..ssi.client import Client

        async with Client(self.service) as service:
            found = await service.credential(self.id)
            status = await service.status(self.id)
        claims = credentials.read(found.jwt)
        return {**found._asdict(), "claims": claims, "status": status._asdict()}


class CredentialCommands(CMD):
    """Verifiable credentials, by the SSI service or without it"""

    issue = CredentialIssue
    verify = CredentialVerify
    show = CredentialShow


def json_object(text: str, name: str) -> Dict[str, Any]:
    """The object that an option has; `UserError` if it is none"""
    try:
        found = json.loads(text)
    except ValueError as error:
        raise UserError(
            f"{name} is no JSON: {error}", remedy=f"""{name} '{{"name": "value"}}'"""
        ) from error
    if not isinstance(found, dict) or not found:
        raise UserError(
            f"{name} must be a JSON object that says something, not {text!r}",
            remedy=f"""{name} '{{"name": "value"}}'""",
        )
    return found


def credential_of(given: str) -> str:
    """The JWT that was given: itself, by a file, by standard input"""
    try:
        if given == "-":
            return sys.stdin.read().strip()
        if given.count(".") != 2 and os.path.exists(given):
            return Path(given).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"{given} cannot be read: {error}", remedy="give a file that has the JWT"
        ) from error
    return given
