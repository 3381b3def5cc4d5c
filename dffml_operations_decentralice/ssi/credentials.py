"""
Credentials, checked and presented without the service: a DID is all that is needed

A did:key *is* its public key (https://w3c-ccg.github.io/did-key-spec/), a credential a
JWT that its issuer signed (https://www.w3.org/TR/vc-data-model/#json-web-token).
"""

from __future__ import annotations

import base64
import contextlib
import json
import time
import uuid
import warnings
from typing import Any, Dict, Iterator, List

from ..errors import SignatureError, UserError

PREFIX = "did:key:"
ED25519 = b"\xed\x01"  # https://github.com/multiformats/multicodec, as a varint
LENGTH = 32  # bytes of a public key
LEEWAY = 60  # seconds that two clocks may differ
# What the service signs with; RFC 9864 prefers another name of the same
ALGORITHM = "EdDSA"


def public_key(did: str) -> bytes:
    """The Ed25519 key, 32 bytes, that a did:key is; `UserError` of another DID"""
    import base58

    encoded = did[len(PREFIX) :]
    if not did.startswith(PREFIX) or not encoded.startswith("z"):
        raise UserError(
            f"{did!r} is no did:key", remedy=f"give one: {PREFIX}z6Mk…, of Ed25519"
        )
    try:
        raw = base58.b58decode(encoded[1:])
    except ValueError as error:
        raise UserError(
            f"{did!r} is not in base58: {error}", remedy="give the DID whole"
        ) from error
    if raw[:2] != ED25519 or len(raw) != len(ED25519) + LENGTH:
        raise UserError(
            f"{did!r} is not the DID of an Ed25519 key",
            remedy=f"give one that begins with {PREFIX}z6Mk",
        )
    return raw[2:]


def did_key(key: bytes) -> str:
    """The did:key of an Ed25519 key"""
    import base58

    return f"{PREFIX}z{base58.b58encode(ED25519 + key).decode()}"


def key_id(did: str) -> str:
    """The DID URL of a did:key's one signing key"""
    return f"{did}#{did[len(PREFIX) :]}"


def read(token: str) -> Dict[str, Any]:
    """What a JWT says, **unverified**; `UserError` if it is none"""
    return _part(token, 1)


def verify(token: str, issuer: str = "") -> Dict[str, Any]:
    """
    The claims of a credential, from the DID of its issuer alone: ``issuer``, else the
    one it names. `SignatureError` if that key did not sign it, or it is not valid now.
    """
    claims, header = read(token), _part(token, 0)
    named = str(claims.get("iss", ""))
    if issuer and named != issuer:
        raise _refused(f"it was issued by {named!r}, not by {issuer!r}")
    if header.get("alg") != ALGORITHM:
        raise _refused(f"its algorithm is {header.get('alg')!r}, not {ALGORITHM}")
    check_signature(token, public_key(named))
    if not isinstance(claims.get("vc"), dict):
        raise _refused("it is signed, but no credential (no `vc`)")
    check_time(claims)
    return claims


def check_signature(token: str, key: bytes) -> None:
    """`SignatureError` if a JWT was not signed by a key"""
    from joserfc import jws
    from joserfc.errors import JoseError

    try:
        with _newer_name_unsaid():
            jws.deserialize_compact(token, _jwk(key), algorithms=[ALGORITHM])
    except (JoseError, ValueError) as error:
        raise _refused(f"the signature is not its issuer's ({error})") from error


def check_time(claims: Dict[str, Any]) -> None:
    """`SignatureError` before ``nbf`` and after ``exp``, both in seconds since 1970"""
    now = time.time()
    start, end = claims.get("nbf", now), claims.get("exp", now)
    for value in (start, end):
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise _refused(f"{value!r} is no time")
    if start > now + LEEWAY:
        raise _refused("it is not valid yet")
    if end < now - LEEWAY:
        raise _refused("it has expired")


def forgeries(token: str) -> Dict[str, str]:
    """A credential as nobody signed it, in each of the ways that must be refused"""
    head, body, signature = token.split(".")
    claims = read(token)
    claims["vc"]["credentialSubject"]["nonce"] = "forged"
    flipped = bytearray(_decoded(signature))
    flipped[10] ^= 1
    unsigned = {**_part(token, 0), "alg": "none"}
    return {
        "changed claim": ".".join((head, _json(claims), signature)),
        "flipped bit": ".".join((head, body, _encoded(bytes(flipped)))),
        "alg none": f"{_json(unsigned)}.{body}.",
    }


class Holder:
    """Somebody who has credentials, with a key of their own that is kept nowhere"""

    def __init__(self) -> None:
        from joserfc.jwk import OKPKey

        self._key = OKPKey.generate_key("Ed25519")
        self.did = did_key(_decoded(str(self._key.as_dict(private=False)["x"])))

    def present(self, tokens: List[str], definition: Dict[str, Any], to: str) -> str:
        """
        A presentation of credentials, as a JWT, one for each input of a definition
        https://identity.foundation/presentation-exchange/spec/v2.0.0/
        """
        inputs = definition["input_descriptors"]
        places = [
            {
                "id": one["id"],
                "format": "jwt_vp",
                "path": f"$.verifiableCredential[{number}]",
            }
            for number, one in enumerate(inputs)
        ]
        presentation = {
            "@context": ["https://www.w3.org/2018/credentials/v1"],
            "type": ["VerifiablePresentation"],
            "verifiableCredential": tokens,
            "presentation_submission": {
                "id": str(uuid.uuid4()),
                "definition_id": definition["id"],
                "descriptor_map": places,
            },
        }
        now = int(time.time())
        return self.sign(
            {
                "iss": self.did,
                "aud": [to],
                "jti": str(uuid.uuid4()),
                "nonce": str(uuid.uuid4()),
                "iat": now,
                "nbf": now,
                "vp": presentation,
            }
        )

    def sign(self, claims: Dict[str, Any]) -> str:
        """A JWT (https://www.rfc-editor.org/rfc/rfc7515#section-3.1)"""
        from joserfc import jws

        header = {"alg": ALGORITHM, "kid": key_id(self.did), "typ": "JWT"}
        content = json.dumps(claims)
        with _newer_name_unsaid():
            return jws.serialize_compact(header, content, self._key, [ALGORITHM])


@contextlib.contextmanager
def _newer_name_unsaid() -> Iterator[None]:
    """joserfc warns of EdDSA, which is what the service signs with"""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _jwk(key: bytes) -> Any:
    from joserfc.jwk import OKPKey

    return OKPKey.import_key({"kty": "OKP", "crv": "Ed25519", "x": _encoded(key)})


def _part(token: str, number: int) -> Dict[str, Any]:
    parts = token.strip().split(".")
    try:
        if len(parts) != 3:
            raise ValueError(f"{len(parts)} parts instead of 3")
        found = json.loads(_decoded(parts[number]))
        if not isinstance(found, dict):
            raise ValueError("no claims in it")
        return found
    except ValueError as error:
        raise UserError(
            f"this is no credential in JWT's form: {error}",
            remedy="give what `credential issue` printed as `jwt`, whole",
        ) from error


def _refused(reason: str) -> SignatureError:
    return SignatureError(
        f"the credential is refused: {reason}",
        remedy="ask its issuer for another one; do not rely on this one",
    )


def _json(value: Dict[str, Any]) -> str:
    return _encoded(json.dumps(value, separators=(",", ":")).encode())


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
