"""The client's commands and operations, with the real service"""

import asyncio
import json
import os
import subprocess

import pytest
from dffml import DataFlow, GetSingle, Input, MemoryOrchestrator

from dffml_operations_decentralice.engine.operation import definition
from dffml_operations_decentralice.errors import SignatureError, cause
from dffml_operations_decentralice.operations import ssi_client
from dffml_operations_decentralice.ssi import credentials
from dffml_operations_decentralice.types import (
    SsiClaims,
    SsiCredential,
    SsiServiceAddress,
    SubjectDid,
    VerifiedClaims,
)

from ..conftest import DFFML
from ..test_cli import complains

COMMAND = [*DFFML, "service", "decentralice"]


@pytest.fixture
def run(service, tmp_path):
    def run(*argv, address=service.address, stdin=""):
        more = ["-service", address] if address else []
        return subprocess.run(
            [*COMMAND, *argv, *more],
            cwd=tmp_path,
            env={**os.environ, "XDG_RUNTIME_DIR": ""},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            input=stdin,
            text=True,
        )

    return run


def answer(done):
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return json.loads(done.stdout)


def test_all_of_them(run, tmp_path):
    issuer = answer(run("did", "create"))["did"]
    assert answer(run("did", "resolve", issuer))["id"] == issuer
    given = ["-issuer", issuer, "-subject", issuer, "-claims", '{"nonce": "n"}']
    issued = answer(run("credential", "issue", *given, "-revocable"))
    (tmp_path / "c.jwt").write_text(issued["jwt"] + "\n")
    for words in ([issued["jwt"]], ["c.jwt"], ["c.jwt", "-issuer", issuer]):
        found = answer(run("credential", "verify", *words))
        assert found["vc"]["credentialSubject"]["nonce"] == "n"
    # Without the service: there is none at this address
    offline = ["credential", "verify", "-", "-offline"]
    assert answer(run(*offline, address="/none", stdin=issued["jwt"])) == found
    shown = answer(run("credential", "show", issued["id"]))
    assert shown["jwt"] == issued["jwt"] and shown["claims"] == found
    assert shown["status"] == {"revoked": False, "suspended": False}
    for forged in credentials.forgeries(issued["jwt"]).values():
        for more in ([], ["-offline"]):
            complains(run("credential", "verify", forged, *more), 5, "refused")
    other = credentials.Holder().did
    done = run("credential", "verify", "c.jwt", "-offline", "-issuer", other)
    complains(done, 5, "not by")


@pytest.mark.parametrize(
    "argv, address, status, said",
    [
        (["did", "create"], "/no/socket", 4, "does not answer"),
        (["did", "create"], "http://10.0.0.1:3000", 2, "no address"),
        (["did", "resolve", "did:key:zNo"], None, 2, "did:key:zNo"),
        (["did", "create", "-nosuch", "x"], None, 2, "-nosuch"),
        (["credential", "show", "nosuch"], None, 2, "nosuch"),
        (["credential", "verify", "nosuch"], None, 2, "JWT"),
        (["credential", "verify", "a.b.c", "-offline"], None, 2, "JWT"),
        (
            ["credential", "issue", "-issuer", "a", "-subject", "b", "-claims", "{"],
            None,
            2,
            "no JSON",
        ),
        (
            ["credential", "issue", "-issuer", "a", "-subject", "b", "-claims", "{}"],
            None,
            2,
            "says something",
        ),
    ],
)
def test_what_cannot_be(run, service, argv, address, status, said):
    complains(run(*argv, address=address or service.address), status, said)


def flow(*operations, want):
    return DataFlow(
        operations={
            **{one.op.name: one for one in operations},
            "get_single": GetSingle,
        },
        seed=[
            Input(value=[want.__name__], definition=GetSingle.op.inputs["spec"]),
        ],
    )


def results(dataflow, given):
    """What a flow gives, wired by type alone"""
    inputs = [Input(value=v, definition=definition(kind)) for kind, v in given.items()]

    async def run():
        found = [one async for one in MemoryOrchestrator.run(dataflow, inputs)]
        return found[0][1]

    return asyncio.run(run())


def test_operations_in_a_flow(service):
    every = flow(
        ssi_client.ssi_create_did,
        ssi_client.ssi_issue_credential,
        ssi_client.ssi_verify_credential,
        want=VerifiedClaims,
    )
    subject = credentials.Holder().did
    given = {
        SsiServiceAddress: service.address,
        SubjectDid: subject,
        SsiClaims: {"nonce": "n"},
    }
    claims = results(every, given)["VerifiedClaims"]
    assert claims["sub"] == subject
    assert claims["vc"]["credentialSubject"]["nonce"] == "n"


def test_a_forged_credential_ends_a_flow(service):
    async def issued():
        did = (await ssi_client.ssi_create_did.test(service=service.address))["result"]
        made = await ssi_client.ssi_issue_credential.test(
            service=service.address, issuer=did, subject=did, claims={"nonce": "n"}
        )
        return made["result"]

    forged = credentials.forgeries(asyncio.run(issued()))["changed claim"]
    given = {SsiServiceAddress: service.address, SsiCredential: forged}
    with pytest.raises(Exception) as raised:
        results(flow(ssi_client.ssi_verify_credential, want=VerifiedClaims), given)
    assert isinstance(cause(raised.value), SignatureError)
