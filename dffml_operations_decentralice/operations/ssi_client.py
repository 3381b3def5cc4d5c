"""
DIDs and credentials as operations, for flows of any purpose

What they make is no artefact of a build: nothing is cached, nothing is in the store. An
address is that of a Unix socket or a loopback URL; empty, the user's own service if it
is there, else the system's.
"""

from typing import Any, Dict

from dffml import op

from ..engine.operation import definition
from ..ssi import credentials
from ..ssi.client import Client
from ..types import (
    IssuerDid,
    SsiClaims,
    SsiCredential,
    SsiServiceAddress,
    SubjectDid,
    VerifiedClaims,
)

SERVICE = definition(SsiServiceAddress)


@op(
    name="decentralice_ssi_create_did",
    inputs={"service": SERVICE},
    outputs={"result": definition(IssuerDid)},
)
async def ssi_create_did(service: str) -> Dict[str, Any]:
    """A did:key whose key the service keeps: one that can issue"""
    async with Client(service) as opened:
        return {"result": await opened.create_did()}


@op(
    name="decentralice_ssi_issue_credential",
    inputs={
        "service": SERVICE,
        "issuer": definition(IssuerDid),
        "subject": definition(SubjectDid),
        "claims": definition(SsiClaims),
    },
    outputs={"result": definition(SsiCredential)},
)
async def ssi_issue_credential(
    service: str, issuer: str, subject: str, claims: Dict[str, Any]
) -> Dict[str, Any]:
    """
    A credential, as a JWT, in which the issuer says something of the subject
    https://www.w3.org/TR/vc-data-model/
    """
    async with Client(service) as opened:
        issued = await opened.issue(issuer, subject, claims)
    return {"result": issued.jwt}


@op(
    name="decentralice_ssi_verify_credential",
    inputs={"service": SERVICE, "credential": definition(SsiCredential)},
    outputs={"result": definition(VerifiedClaims)},
)
async def ssi_verify_credential(service: str, credential: str) -> Dict[str, Any]:
    """
    The claims of a credential which both its issuer's DID and the service confirm;
    raises `SignatureError` of any other
    """
    claims = credentials.verify(credential)
    async with Client(service) as opened:
        await opened.confirm(credential)
    return {"result": claims}
