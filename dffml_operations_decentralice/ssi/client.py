"""
Client of the SSI service's HTTP API, that of v0.0.3

https://github.com/TBD54566975/ssi-service/blob/v0.0.3/doc/swagger.yaml. The service has
no authentication: it is reached by a Unix socket or by loopback, and so is this client.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import os
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional
from urllib.parse import quote, urlsplit

from ..errors import DecentrAliceError, NetworkError, SignatureError, UserError
from .credentials import key_id

SYSTEM = "http://127.0.0.1:3000"
SOCKET = "ssi-service.sock"  # in a user's runtime directory
LIMIT = 60.0  # seconds for an answer
SAID = 300  # characters of an answer that are told
CLAIM_PATH = "$.vc.credentialSubject.{}"


class Credential(NamedTuple):
    """A credential: the service's identifier of it, and the signed JWT"""

    id: str
    jwt: str


class Verification(NamedTuple):
    """What the service says of a credential"""

    verified: bool
    reason: str


class Status(NamedTuple):
    """What its issuer says of a credential later on"""

    revoked: bool
    suspended: bool


class Client:
    """
    ::

        async with Client("/run/user/1000/ssi-service.sock") as service:
            did = await service.create_did()

    Raises `NetworkError` if the service does not answer as it should, `UserError` if it
    refuses what it was asked.
    """

    def __init__(self, address: str = "", limit: float = LIMIT):
        self.address = address or default_address()
        self._socket, self._base = parse_address(self.address)
        self._limit = limit

    async def __aenter__(self) -> Client:
        import aiohttp

        connector: Optional[aiohttp.BaseConnector] = None
        if self._socket:
            connector = aiohttp.UnixConnector(path=self._socket)
        limits = aiohttp.ClientTimeout(total=self._limit)
        # No proxy of the environment's: it is this machine that is asked
        self._session = aiohttp.ClientSession(connector=connector, timeout=limits)
        return self

    async def __aexit__(self, *_: Any) -> None:
        await self._session.close()

    async def readiness(self) -> Dict[str, Any]:
        """What the service says of its parts; `NetworkError` if one is not ready"""
        found = await self._ask("GET", "/readiness")
        status = found.get("status")
        if not isinstance(status, dict) or status.get("status") != "ready":
            raise self._wrong(f"is not ready: {status!r}")
        return found

    async def create_did(self) -> str:
        """The did:key of a new Ed25519 key, which the service keeps"""
        found = await self._ask("PUT", "/v1/dids/key", {"keyType": "Ed25519"})
        return str(self._of(found, "did", "id"))

    async def known_did(self, did: str) -> Dict[str, Any]:
        """The document of a DID that the service made"""
        found = await self._ask("GET", f"/v1/dids/key/{quote(did, safe=':')}")
        return dict(self._of(found, "did"))

    async def resolve(self, did: str) -> Dict[str, Any]:
        """The DID document of anybody's DID: https://www.w3.org/TR/did-core/"""
        found = await self._ask("GET", f"/v1/dids/resolver/{quote(did, safe=':')}")
        return dict(self._of(found, "didDocument"))

    async def create_schema(self, name: str, schema: Dict[str, Any]) -> str:
        """The identifier of a JSON Schema which credentials may be bound to"""
        found = await self._ask("PUT", "/v1/schemas", {"name": name, "schema": schema})
        return str(self._of(found, "id"))

    async def schema(self, identifier: str) -> Dict[str, Any]:
        """A JSON Schema that was created"""
        found = await self._ask("GET", f"/v1/schemas/{quote(identifier, safe='')}")
        return dict(self._of(found, "schema"))

    async def issue(
        self,
        issuer: str,
        subject: str,
        claims: Dict[str, Any],
        *,
        schema: str = "",
        expiry: str = "",
        revocable: bool = False,
        suspendable: bool = False,
    ) -> Credential:
        """
        A credential about a subject's DID, signed by the issuer's key, which the
        service must have. ``expiry``: RFC 3339; revocable or suspendable: not both.
        """
        request = {
            "issuer": issuer,
            "issuerKid": key_id(issuer),
            "subject": subject,
            "data": claims,
            **({"schemaId": schema} if schema else {}),
            **({"expiry": expiry} if expiry else {}),
            **({"revocable": True} if revocable else {}),
            **({"suspendable": True} if suspendable else {}),
        }
        return self._credential(await self._ask("PUT", "/v1/credentials", request))

    async def credential(self, identifier: str) -> Credential:
        """A credential that the service issued"""
        return self._credential(await self._ask("GET", credential_path(identifier)))

    async def verify(self, jwt: str) -> Verification:
        """What the service finds of a credential: its signature, time and schema"""
        path, request = "/v1/credentials/verification", {"credentialJwt": jwt}
        found = await self._ask("PUT", path, request)
        verified = self._of(found, "verified") is True
        return Verification(verified, str(found.get("reason", "")))

    async def confirm(self, jwt: str) -> None:
        """`SignatureError` of a credential that the service does not verify"""
        found = await self.verify(jwt)
        if not found.verified:
            raise SignatureError(
                f"the SSI service refuses the credential: {found.reason}",
                remedy="ask its issuer for another one; do not rely on this one",
            )

    async def status(self, identifier: str) -> Status:
        """Whether a credential was revoked or suspended"""
        found = await self._ask("GET", credential_path(identifier, "/status"))
        return Status(bool(found.get("revoked")), bool(found.get("suspended")))

    async def set_status(
        self, identifier: str, *, revoked: bool = False, suspended: bool = False
    ) -> Status:
        """Revoke or suspend a credential which was issued as revocable, suspendable"""
        path = credential_path(identifier, "/status")
        request = {"revoked": revoked, "suspended": suspended}
        found = await self._ask("PUT", path, request)
        return Status(bool(found.get("revoked")), bool(found.get("suspended")))

    async def define_presentation(self, claim: str) -> Dict[str, Any]:
        """A definition of what is to be presented: a credential that has a claim"""
        wanted = {"fields": [{"path": [CLAIM_PATH.format(claim)]}]}
        inputs = [{"id": claim, "name": claim, "constraints": wanted}]
        request = {"name": claim, "purpose": claim, "inputDescriptors": inputs}
        found = await self._ask("PUT", "/v1/presentations/definitions", request)
        return dict(self._of(found, "presentation_definition"))

    async def submit(self, presentation: str) -> str:
        """Hand in a presentation, a JWT; the submission's identifier"""
        request = {"submissionJwt": presentation}
        found = await self._ask("PUT", "/v1/presentations/submissions", request)
        return str(self._of(found, "id")).rpartition("/")[2]

    async def review(self, submission: str, approved: bool) -> str:
        """Decide about a submission; its status: ``approved``, ``denied``"""
        path = f"/v1/presentations/submissions/{quote(submission, safe='')}/review"
        request = {"approved": approved, "reason": "reviewed"}
        return str(self._of(await self._ask("PUT", path, request), "status"))

    def _credential(self, found: Dict[str, Any]) -> Credential:
        identifier = str(self._of(found, "id")).rpartition("/")[2]
        return Credential(identifier, str(self._of(found, "credentialJwt")))

    async def _ask(
        self, method: str, path: str, body: Optional[Dict[str, Any]] = None
    ) -> Dict[str, Any]:
        import aiohttp

        try:
            async with self._session.request(
                method, self._base + path, json=body
            ) as reply:
                text, status = await reply.text(), reply.status
        except (aiohttp.ClientError, OSError, asyncio.TimeoutError) as error:
            said = getattr(error, "strerror", None) or error or type(error).__name__
            raise self._wrong(f"does not answer: {said}") from error
        found = _object(text)
        if status >= 400:
            raise self._refusal(method, path, status, found, text)
        if found is None:
            raise self._wrong(f"answers {method} {path} with {text[:SAID]!r}")
        return found

    def _refusal(
        self,
        method: str,
        path: str,
        status: int,
        found: Optional[Dict[str, Any]],
        text: str,
    ) -> DecentrAliceError:
        """v0.0.3 says 500 of whatever it does not know"""
        said = str((found or {}).get("error") or text)[:SAID]
        if status < 500 or "not found" in said:
            return UserError(
                f"the SSI service refuses {method} {path} ({status}): {said}",
                remedy="give what it knows, in the form that it takes",
            )
        return self._wrong(f"fails at {method} {path} ({status}): {said}")

    def _wrong(self, what: str) -> NetworkError:
        return NetworkError(
            f"the SSI service at {self.address} {what}",
            remedy="`systemctl status ssi-service` (--user, of a user's) tells of it; "
            "or give another address: -service",
        )

    def _of(self, found: Dict[str, Any], *names: str) -> Any:
        value: Any = found
        for name in names:
            if not isinstance(value, dict) or name not in value:
                shown = json.dumps(found)[:SAID]
                raise self._wrong(f"answers without {'.'.join(names)}: {shown}")
            value = value[name]
        return value


def default_address() -> str:
    """The user's own service if its socket is there, else the system's"""
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    own = Path(runtime, SOCKET)
    return str(own) if runtime and own.is_socket() else SYSTEM


def parse_address(address: str) -> List[str]:
    """Path of a Unix socket, empty for TCP, and base URL; `UserError` of the rest"""
    path = address[len("unix:") :] if address.startswith("unix:") else address
    if path.startswith("/"):
        return [path, "http://localhost"]
    parts = urlsplit(address)
    try:
        host, port = parts.hostname or "", parts.port
        local = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        local, port = False, None
    if parts.scheme != "http" or not local or parts.path not in ("", "/"):
        raise UserError(
            f"{address!r} is no address of an SSI service",
            remedy=f"a Unix socket's absolute path, or a loopback URL such as {SYSTEM}",
        )
    name = f"[{host}]" if ":" in host else host
    return ["", f"http://{name}:{port or 80}"]


def credential_path(identifier: str, more: str = "") -> str:
    """Of a credential's identifier, or of the URL which v0.0.3 gives as one"""
    last = identifier.rstrip("/").rpartition("/")[2]
    return f"/v1/credentials/{quote(last, safe='')}{more}"


def _object(text: str) -> Optional[Dict[str, Any]]:
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
