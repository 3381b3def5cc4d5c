"""Credentials without a service: what is accepted, and everything that is not"""

import time

import pytest

from dffml_operations_decentralice.errors import SignatureError, UserError
from dffml_operations_decentralice.ssi import credentials

# https://w3c-ccg.github.io/did-key-spec/#ed25519-x25519
KNOWN = {
    "did:key:z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooWp": (
        "3b6a27bcceb6a42d62a3a8d02a6f0d73653215771de243a63ac048a18b59da29"
    ),
    "did:key:z6MkjchhfUsD6mmvni8mCdXHw216Xrm9bQe2mBH1P5RDjVJG": (
        "4cb5abf6ad79fbf5abbccafcc269d85cd2651ed4b885b5869f241aedf0a5ba29"
    ),
}


def credential(holder, **more):
    claims = {"iss": holder.did, "vc": {"credentialSubject": {"nonce": "n"}}}
    return holder.sign({**claims, **more})


@pytest.mark.parametrize("did, key", KNOWN.items())
def test_did_key(did, key):
    assert credentials.public_key(did).hex() == key
    assert credentials.did_key(bytes.fromhex(key)) == did
    assert credentials.key_id(did) == f"{did}#{did[8:]}"


@pytest.mark.parametrize(
    "did",
    [
        *("", "did:key:", "did:key:z", "did:web:example.org", "z6Mk", "did:key:u6Mk"),
        "did:key:z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooW0",  # 0 is no digit
        "did:key:z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooW",
        "did:key:z6LSbysY2xFMRpGMhb7tFTLMpeuPRaqaWM1yECx2AtzE3KCc",  # X25519
    ],
)
def test_did_key_rejects(did):
    with pytest.raises(UserError) as raised:
        credentials.public_key(did)
    assert raised.value.remedy


def test_verify():
    holder = credentials.Holder()
    now = int(time.time())
    token = credential(holder, nbf=now, exp=now + 60)
    for issuer in ("", holder.did):
        claims = credentials.verify(token, issuer)
        assert claims["vc"]["credentialSubject"] == {"nonce": "n"}


def test_verify_refuses_forgeries():
    token = credential(credentials.Holder())
    forged = credentials.forgeries(token)
    assert len(forged) == 3 and token not in forged.values()
    for one in forged.values():
        with pytest.raises(SignatureError):
            credentials.verify(one)


def test_verify_refuses_another_issuer():
    one, other = credentials.Holder(), credentials.Holder()
    with pytest.raises(SignatureError, match="not by"):
        credentials.verify(credential(one), other.did)
    # Signed by another one's key in its name
    with pytest.raises(SignatureError, match="signature"):
        credentials.verify(credential(one, iss=other.did))


@pytest.mark.parametrize(
    "more, said",
    [
        ({"exp": 1000}, "expired"),
        ({"nbf": 1 << 40}, "not valid yet"),
        ({"exp": "tomorrow"}, "no time"),
        ({"nbf": True}, "no time"),
        ({"vc": None}, "no credential"),
    ],
)
def test_verify_refuses(more, said):
    with pytest.raises(SignatureError, match=said):
        credentials.verify(credential(credentials.Holder(), **more))


@pytest.mark.parametrize(
    "token", ["", "a", "a.b", "a.b.c", "a.b.c.d", "W10.W10.", "e30.bnVsbA.", "ü.ü.ü"]
)
def test_verify_of_what_is_no_credential(token):
    with pytest.raises(UserError) as raised:
        credentials.verify(token)
    assert "JWT" in raised.value.cause and raised.value.remedy
