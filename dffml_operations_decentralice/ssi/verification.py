"""
Whether a service in a machine does what it is for, step by step

Nothing is taken from the service's word alone: what it signs is checked by the DIDs,
what it keeps by another boot.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import re
import secrets
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, AsyncIterator, Callable, Dict, List

from ..errors import DecentrAliceError, NetworkError, SignatureError
from . import credentials
from .client import Client, Credential

if TYPE_CHECKING:
    from ..vm.guest import Guest

PASSED, FAILED = "passed", "failed"
SERVICE, SOCKET = "ssi-service.service", "ssi-service.socket"
PORT = 3000  # where the service listens, by loopback alone
PROXY_PORT = 3001  # where it is reached from outside for the time of a test
EXPIRY = "2051-10-05T14:48:00.000Z"
PAUSE = 1.0  # seconds between questions
REMEDY = "`steps` says how far it came; console.log and the system's journal say more"
SCHEMA = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "properties": {
        "credentialSubject": {
            "type": "object",
            "properties": {"nonce": {"type": "string"}},
            "required": ["nonce"],
        }
    },
}
# Units which the image does not have, gone with the machine
PROXY = f"""set -e
cd /run/systemd/system
printf '[Socket]\\nListenStream={PROXY_PORT}\\n' > decentralice-proxy.socket
printf '[Service]\\nExecStart=%s 127.0.0.1:{PORT}\\n' \
/usr/lib/systemd/systemd-socket-proxyd > decentralice-proxy.service
systemctl daemon-reload
systemctl start decentralice-proxy.socket
timeout 120 /usr/lib/systemd/systemd-networkd-wait-online --any \
--operational-state=routable || true
"""
UNIT = f"""systemctl show --property=LoadState,ActiveState,SubState,Result,\
ExecMainStatus,ExecMainStartTimestampMonotonic,ActiveEnterTimestampMonotonic,MainPID,\
MemoryPeak {SERVICE}"""


class Wrong(Exception):
    """Something is not as it should be: what"""


def check(condition: Any, what: str) -> None:
    """Raise `Wrong` unless it is so"""
    if not condition:
        raise Wrong(what)


@dataclass
class Verification:
    """What was done, and how it ended"""

    say: Callable[[str], None] = lambda text: None
    steps: List[Dict[str, Any]] = field(default_factory=list)
    measured: Dict[str, float] = field(default_factory=dict)
    # What has to be there after another boot
    issuer: str = ""
    subject: str = ""
    schema: str = ""
    credential: Credential = Credential("", "")
    revoked: str = ""

    @property
    def failed(self) -> Dict[str, Any]:
        """The step that failed; empty if none did"""
        return next((one for one in self.steps if one["outcome"] == FAILED), {})

    @contextlib.asynccontextmanager
    async def step(self, name: str, guest: Guest) -> AsyncIterator[Dict[str, Any]]:
        """One step: recorded, whatever comes of it; the block may set ``detail``"""
        started = time.monotonic()
        ended = "the machine ended"
        done: Dict[str, Any] = {"name": name, "outcome": FAILED, "detail": ended}
        self.steps.append(done)
        try:
            yield done
            if done["outcome"] == FAILED:
                done["outcome"] = PASSED
                done["detail"] = done["detail"].replace(ended, "")
        except (Wrong, DecentrAliceError, KeyError, TypeError) as error:
            done["detail"] = str(error) if str(error) else type(error).__name__
            trouble = await diagnosis(guest)
            if trouble:
                done["detail"] = f"{trouble}; {done['detail']}"
            raise Wrong(f"{name}: {done['detail']}") from error
        finally:
            done["seconds"] = round(time.monotonic() - started, 2)
            self.say(f"{name} {done['outcome']} {done['detail']}".strip())


async def diagnosis(guest: Guest) -> str:
    """What is wrong with the service's units, in words; empty if nothing is"""
    found = await unit(guest)
    load, active = found.get("LoadState", ""), found.get("ActiveState", "")
    listening = (await guest.ask(f"systemctl is-active {SOCKET}")).output
    if load != "loaded":
        return f"{SERVICE} is {load or 'unknown'}"
    if active == "active":
        return "" if listening == "active" else f"{SOCKET} is {listening}"
    how = f"{found.get('Result')}, exit status {found.get('ExecMainStatus')}"
    said = await guest.ask(
        f"journalctl --boot --unit={SERVICE} --output=cat --no-pager --lines=60"
    )
    return f"{SERVICE} is {active} ({how}): {last_words(said.output)}"


def last_words(journal: str) -> str:
    """The last line that the service itself ended with, else the last one"""
    lines = [line.strip() for line in journal.splitlines() if line.strip()]
    own = [line for line in lines if re.match(r"ssi-service: |panic: |fatal ", line)]
    return (own or lines or ["it said nothing"])[-1][:300]


async def unit(guest: Guest) -> Dict[str, str]:
    """Properties of the service's unit"""
    pairs = (line.partition("=") for line in (await guest.run(UNIT)).splitlines())
    return {name: value for name, _, value in pairs}


async def reach(work: Verification, guest: Guest, limit: float) -> str:
    """The address by which the service of a machine is reached, once it is ready"""
    async with work.step("boot", guest) as done:
        done["detail"] = (await guest.ask("systemctl is-system-running --wait")).output
    async with work.step("unit", guest):
        found = await unit(guest)
        check(found.get("ActiveState") == "active", "it is not running")
    async with work.step("reach", guest):
        await guest.run(PROXY)
        address = f"http://127.0.0.1:{await guest.forwarded(PROXY_PORT)}"
    async with work.step("readiness", guest):
        await ready(address, limit)
    return address


async def ready(address: str, limit: float) -> None:
    """Wait until the service answers that it is ready, ``limit`` seconds"""
    end = time.monotonic() + limit
    while True:
        try:
            async with Client(address, limit) as service:
                await service.readiness()
                return
        except NetworkError:
            if time.monotonic() > end:
                raise
        await asyncio.sleep(PAUSE)


async def first_boot(
    work: Verification, guest: Guest, limit: float, exposure: float
) -> None:
    """All that the service can do; ends with the machine powered off"""
    address = await reach(work, guest, limit)
    async with work.step("closed", guest):
        await closed(await guest.forwarded(PORT), limit)
    async with Client(address, limit) as service:
        await identities(work, guest, service)
        await issuance(work, guest, service)
        await withdrawal(work, guest, service)
        await presentation(work, guest, service)
    await hardening(work, guest, exposure)
    async with work.step("power-off", guest):
        await guest.power_off()


async def second_boot(work: Verification, guest: Guest, limit: float) -> None:
    """What the first one made is there, and the issuer's key signs"""
    address = await reach(work, guest, limit)
    async with Client(address, limit) as service:
        async with work.step("kept", guest):
            await kept(work, service)
        async with work.step("sign-again", guest):
            nonce = secrets.token_hex(16)
            made = await service.issue(work.issuer, work.subject, {"nonce": nonce})
            await confirmed(service, made, work.issuer, nonce)


async def closed(port: int, limit: float) -> None:
    """The service's own port answers nobody who comes from outside"""
    said = b""
    with contextlib.suppress(OSError, asyncio.TimeoutError):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        with contextlib.closing(writer):
            writer.write(b"GET /health HTTP/1.0\r\n\r\n")
            said = await asyncio.wait_for(reader.read(100), limit)
    check(not said, f"port {PORT} answers from outside: {said!r}")


async def identities(work: Verification, guest: Guest, service: Client) -> None:
    """DIDs of issuer and subject, and what they resolve to"""
    async with work.step("did", guest):
        work.issuer = await service.create_did()
        work.subject = await service.create_did()
        check(work.issuer != work.subject, "the service made the same DID twice")
    async with work.step("resolve", guest):
        for did in (work.issuer, work.subject):
            document = await service.resolve(did)
            method = document["verificationMethod"][0]
            x = method["publicKeyJwk"]["x"]
            key = base64.urlsafe_b64decode(x + "=" * (-len(x) % 4))
            check(document["id"] == did, f"{did} resolves to {document['id']}")
            check(key == credentials.public_key(did), f"{did} has another key")
    async with work.step("schema", guest):
        work.schema = await service.create_schema("nonce", SCHEMA)
        found = await service.schema(work.schema)
        check(found["properties"] == SCHEMA["properties"], "the schema was changed")


async def issuance(work: Verification, guest: Guest, service: Client) -> None:
    """A credential which service and host accept, and forgeries which neither does"""
    nonce = secrets.token_hex(16)
    async with work.step("issue", guest):
        work.credential = await service.issue(
            work.issuer,
            work.subject,
            {"nonce": nonce},
            schema=work.schema,
            expiry=EXPIRY,
        )
    async with work.step("verify", guest):
        claims = await confirmed(service, work.credential, work.issuer, nonce)
        check(claims["sub"] == work.subject, f"the subject is {claims['sub']!r}")
    async with work.step("forged", guest):
        for how, forged in credentials.forgeries(work.credential.jwt).items():
            found = await service.verify(forged)
            check(not found.verified, f"the service accepts a credential: {how}")
            check(refused(forged, work.issuer), f"the host accepts one: {how}")
    async with work.step("against-schema", guest):
        with contextlib.suppress(DecentrAliceError):
            await service.issue(
                work.issuer, work.subject, {"x": "y"}, schema=work.schema
            )
            raise Wrong("the service issued what is against the schema")


async def confirmed(
    service: Client, given: Credential, issuer: str, nonce: str
) -> Dict[str, Any]:
    """The claims of a credential that service and host accept"""
    await service.confirm(given.jwt)
    claims = credentials.verify(given.jwt, issuer)
    found = claims["vc"]["credentialSubject"].get("nonce")
    check(found == nonce, f"the nonce is {found!r}, not {nonce!r}")
    return claims


def refused(token: str, issuer: str) -> bool:
    """Whether the host refuses a credential"""
    try:
        credentials.verify(token, issuer)
    except SignatureError:
        return True
    return False


async def withdrawal(work: Verification, guest: Guest, service: Client) -> None:
    """Credentials are revoked and suspended, each by itself"""
    async with work.step("revocation", guest):
        work.revoked = await withdrawn(work, service, "revoked", "revocable")
    async with work.step("suspension", guest):
        await withdrawn(work, service, "suspended", "suspendable")


async def withdrawn(work: Verification, service: Client, what: str, may: str) -> str:
    """The identifier of a credential that was issued, then revoked or suspended"""
    claims = {"nonce": secrets.token_hex(16)}
    options: Dict[str, Any] = {may: True}
    made = await service.issue(work.issuer, work.subject, claims, **options)
    other = await service.issue(work.issuer, work.subject, claims, **options)
    check(not any(await service.status(made.id)), f"it was {what} from the start")
    await service.set_status(made.id, **{what: True})
    check(getattr(await service.status(made.id), what), f"it is not {what}")
    check(not any(await service.status(other.id)), f"another one is {what}, too")
    return made.id


async def presentation(work: Verification, guest: Guest, service: Client) -> None:
    """A holder, whose key the service does not have, presents a credential"""
    async with work.step("presentation", guest):
        definition = await service.define_presentation("nonce")
        holder = credentials.Holder()
        claims = {"nonce": secrets.token_hex(16)}
        made = await service.issue(work.issuer, holder.did, claims)
        given = holder.present([made.jwt], definition, work.issuer)
        status = await service.review(await service.submit(given), True)
        check(status == "approved", f"the submission is {status}")
        forged = credentials.forgeries(made.jwt)["changed claim"]
        with contextlib.suppress(DecentrAliceError):
            await service.submit(holder.present([forged], definition, work.issuer))
            raise Wrong("the service takes a presentation of a forged credential")


async def hardening(work: Verification, guest: Guest, limit: float) -> None:
    """systemd's figure for the unit's exposure, its memory, and the time it took"""
    async with work.step("hardening", guest) as done:
        said = await guest.run(f"systemd-analyze security --no-pager {SERVICE}")
        found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", said)
        check(found, "systemd-analyze does not tell the unit's exposure")
        exposure = float(found[1]) if found else 10.0
        work.measured["exposure"] = exposure
        check(exposure <= limit, f"exposure is {exposure}, more than {limit}")
        done["detail"] = f"exposure {exposure}"
    async with work.step("resources", guest) as done:
        told = await unit(guest)
        begun, entered = (
            int(told[f"{name}TimestampMonotonic"]) / 1e6
            for name in ("ExecMainStart", "ActiveEnter")
        )
        status = await guest.run(f"cat /proc/{int(told['MainPID'])}/status")
        rss = re.search(r"^VmRSS:\s+(\d+) kB$", status, re.M)
        work.measured["ready_seconds"] = round(entered - begun, 3)
        work.measured["rss_mib"] = round(int(rss[1]) / 1024, 1) if rss else 0.0
        done["detail"] = (
            f"ready after {work.measured['ready_seconds']} s, "
            f"{work.measured['rss_mib']} MiB"
        )


async def kept(work: Verification, service: Client) -> None:
    """DID, credential, schema and status are what they were"""
    document = await service.known_did(work.issuer)
    check(document["id"] == work.issuer, "the issuer's DID is another one")
    found = await service.credential(work.credential.id)
    check(found == work.credential, "the credential is another one")
    await service.confirm(found.jwt)
    schema = await service.schema(work.schema)
    check(schema["properties"] == SCHEMA["properties"], "the schema is another one")
    status = await service.status(work.revoked)
    check(status.revoked, "what was revoked is not any more")
