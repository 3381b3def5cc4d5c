"""
The SSI service in a machine: for each user, asked for what is wrong, broken in each way
that has a name, and over a power cut. Two boots for all of it.
"""

import asyncio
import json

import pytest

from dffml_operations_decentralice.engine import Step, operation
from dffml_operations_decentralice.engine.testing import run_operation
from dffml_operations_decentralice.errors import NetworkError
from dffml_operations_decentralice.operations.ssi_verify import (
    Lab,
    SsiVerifySettings,
)
from dffml_operations_decentralice.ssi import credentials
from dffml_operations_decentralice.ssi.client import Client
from dffml_operations_decentralice.ssi.verification import (
    Verification,
    Wrong,
    reach,
)
from dffml_operations_decentralice.types import DiskImage, SsiReport

pytestmark = pytest.mark.slow
MASK = "systemctl mask --runtime --now ssi-service.service ssi-service.socket"
UNMASK = "systemctl unmask --runtime ssi-service.service ssi-service.socket"
CONFIG = "/etc/ssi-service/config.toml"
DATA = "/var/lib/ssi-service/bolt.db"
STOP = "systemctl stop ssi-service.socket ssi-service.service"
START = "systemctl reset-failed; systemctl start ssi-service.socket ssi-service.service"
CONTROLS = {
    "masked": (MASK, UNMASK),
    "config": (
        rf"cp -p {CONFIG} /run/config; sed -i '/services.schema/,+1d' {CONFIG}; {STOP}",
        f"cp -p /run/config {CONFIG}",
    ),
    "data": (
        f"{STOP}; cp -p {DATA} /run/data; yes damaged | head -c 100000 > {DATA}",
        f"cp -p /run/data {DATA}",
    ),
}
ENDED = "systemctl show --property=ActiveState,Result,ExecMainStatus,NRestarts"
PASSWORD, SECRET = "ssi-service.keystore-password", "of-nobodys-business"
# The same file, as it may come with the machine, and without a password in it
GIVEN = f"""set -e
mkdir -p -m 700 /run/credstore; printf {SECRET} > /run/credstore/{PASSWORD}
sed -i.with 's/^password = .*//' {CONFIG}
systemctl restart ssi-service.service
cat /run/credentials/ssi-service.service/{PASSWORD}
"""
EMPTY = f"""truncate --size=0 /run/credstore/{PASSWORD}
systemctl restart ssi-service.service
{ENDED} ssi-service.service
journalctl --boot --unit=ssi-service.service --output=cat --lines=20
"""
WITHOUT = f"rm /run/credstore/{PASSWORD}; mv {CONFIG}.with {CONFIG}"
STATUS = "curl --silent --max-time 300 --output /dev/null --write-out '%{http_code}'"
BAD_REQUESTS = {
    "large": ("413", "--request PUT --data-binary @/run/large", "/v1/dids/key"),
    "chunked": ("413", "--upload-file - < /run/large", "/v1/dids/key"),
    "malformed": ("400", "--request PUT --data '{'", "/v1/dids/key"),
    "unknown": ("500", "", "/v1/credentials/00000000-0000-0000-0000-000000000000"),
    "method": ("404", "--request DELETE", "/v1/dids/key"),
    "host": ("403", "--header Host:example.org", "/readiness"),
    "health": ("200", "", "/health"),
}
USERS = ("bob", "carol")
# By hand, as a login at the console does, and without anybody: both start user@.service
LOG_IN = """set -e
useradd -m bob; useradd -m carol
loginctl enable-linger carol
systemd-run --quiet --uid=bob --property=PAMName=login --unit=bobs-session sleep 600
for user in bob carol; do
    socket=/run/user/$(id -u $user)/ssi-service.sock
    for second in $(seq 300); do [ -S $socket ] && break; sleep 1; done
    ls -l $socket
done
"""
# A drop-in of the user's own; then what the service is given, wherever it sees that
OWN_CREDENTIAL = f"""set -e
export XDG_RUNTIME_DIR=/run/user/$(id -u {{user}})
as() {{{{ runuser -u {{user}} -- "$@"; }}}}
folder=/home/{{user}}/.config/systemd/user/ssi-service.service.d
as mkdir -p $folder
printf {SECRET} | as tee /home/{{user}}/password > /dev/null
printf '[Service]\\nLoadCredential={PASSWORD}:%%h/password\\n' \
    | as tee $folder/password.conf > /dev/null
as systemctl --user daemon-reload
as systemctl --user restart ssi-service.service
pid=$(as systemctl --user show --property=MainPID --value ssi-service.service)
given=$(tr '\\0' '\\n' < /proc/$pid/environ | sed -n 's/^CREDENTIALS_DIRECTORY=//p')
cat /proc/$pid/root$given/{PASSWORD}
"""
COUNT = 200  # issuances, in the middle of which the power is cut


def as_user(user, command):
    runtime = f"XDG_RUNTIME_DIR=/run/user/$(id -u {user})"
    return f"runuser -u {user} -- env {runtime} {command}"


def ask(user, whose, path, more=""):
    socket = f"/run/user/$(id -u {whose})/ssi-service.sock"
    curl = f"curl --silent --show-error --max-time 300 --unix-socket {socket}"
    return as_user(user, f"{curl} {more} http://localhost{path}")


async def users(guest, found):
    """What two users who log in have, and what they see of each other"""
    found["log in"] = await guest.ask(LOG_IN)
    create = '--request PUT --data \'{"keyType":"Ed25519"}\''
    active = "systemctl --user is-active ssi-service.service"
    for user in USERS:
        found[user, "before"] = await guest.ask(as_user(user, active))
    for user, other in zip(USERS, reversed(USERS)):
        state = f"/home/{user}/.local/state/ssi-service"
        commands = {
            "did": ask(user, user, "/v1/dids/key", create),
            "after": as_user(user, active),
            "mode": f"stat -c '%U %a' {state}",
            "theirs": ask(other, user, "/health"),
            "files": as_user(other, f"ls {state}"),
            "credential": OWN_CREDENTIAL.format(user=user),
        }
        for name, command in commands.items():
            found[user, name] = await guest.ask(command)
    for user in USERS:
        found[user, "dids"] = await guest.ask(ask(user, user, "/v1/dids/key"))
    system = "curl --silent --max-time 300 http://127.0.0.1:3000/v1/dids/key"
    found["system"] = await guest.ask(system)


async def bad_requests(guest, found):
    """What is answered; and what is left of the service"""
    await guest.ask("head --bytes=10000000 /dev/zero | tr '\\0' 1 > /run/large")
    for name, (_, options, path) in BAD_REQUESTS.items():
        said = await guest.ask(f"{STATUS} http://127.0.0.1:3000{path} {options}")
        found["answer", name] = said.output
    found["after answers"] = (await guest.ask(f"{ENDED} ssi-service.service")).output


async def credential(guest, found, limit):
    """The keystore's password from systemd, and one that cannot be used"""
    found["credential"] = await guest.ask(GIVEN)
    await reach(Verification(), guest, limit)
    found["journal"] = await guest.ask(f"journalctl --boot --grep={SECRET} --quiet")
    found["empty credential"] = (await guest.ask(EMPTY)).output
    await guest.ask(f"{STOP}; {WITHOUT}; {START}")
    await reach(Verification(), guest, limit)


async def controls(guest, found, limit):
    """What is said of each way in which the service is broken"""
    for name, (damage, repair) in CONTROLS.items():
        await guest.ask(f"{damage}; {START}")
        work = Verification()
        try:
            await reach(work, guest, limit)
        except Wrong as error:
            found[name] = str(error)
        found[name, "ended"] = (await guest.ask(f"{ENDED} ssi-service.service")).output
        await guest.ask(f"{STOP}; {repair}; systemctl daemon-reload; {START}")
    await reach(Verification(), guest, limit)


async def issue_until_cut(guest, found, limit):
    """Credentials by their identifiers, as the service acknowledged them"""
    address = await reach(Verification(), guest, limit)
    gate, told = asyncio.Semaphore(8), found.setdefault("told", {})
    async with Client(address, limit) as service:
        found["issuers"] = issuers = [await service.create_did() for _ in range(4)]

        async def one(number):
            async with gate:
                if found.get("cut"):
                    return
                did = issuers[number % len(issuers)]
                try:
                    made = await service.issue(did, did, {"nonce": str(number)})
                except NetworkError:
                    return
                told[made.id] = made.jwt
                if len(told) == COUNT // 2:
                    found["cut"] = True
                    await guest.cut()

        await asyncio.gather(*map(one, range(COUNT)))


async def after_the_cut(guest, found, limit):
    address = await reach(Verification(), guest, limit)
    async with Client(address, limit) as service:
        for identifier, jwt in found["told"].items():
            kept = await service.credential(identifier)
            credentials.verify(kept.jwt)
            if kept.jwt != jwt:
                found.setdefault("lost", []).append(identifier)
        for did in found["issuers"]:
            made = await service.issue(did, did, {"nonce": "after"})
            await service.confirm(made.jwt)
            credentials.verify(made.jwt, did)
            found.setdefault("signs", []).append(did)


FOUND = {}


@operation(cached=False, result="seen.json")
async def see(step: Step[SsiVerifySettings], disk: DiskImage) -> SsiReport:
    """Both boots"""
    step.out.mkdir()
    accelerator = FOUND["accelerator"]
    lab = Lab(step, accelerator)
    await lab.prepare(disk)
    limit = 60 * lab.scale

    async def first(guest):
        await reach(Verification(), guest, limit)
        await users(guest, FOUND)
        await bad_requests(guest, FOUND)
        await credential(guest, FOUND, limit)
        await controls(guest, FOUND, limit)
        await issue_until_cut(guest, FOUND, limit)

    async def second(guest):
        await after_the_cut(guest, FOUND, limit)

    for act in (first, second):
        outcome = await lab.boot(act)
        FOUND[act.__name__] = outcome.ending
    return SsiReport(str(step.out))


@pytest.fixture(scope="module")
def seen(image, tmp_path_factory):
    FOUND.clear()
    FOUND["accelerator"] = image.report["accelerator"]["name"]
    running = run_operation(
        see,
        store=tmp_path_factory.mktemp("store"),
        settings={"limit": 300},
        disk=str(image.disk),
    )
    asyncio.run(running)
    return FOUND


def test_each_user_has_a_service(seen):
    assert seen["log in"].status == 0, seen["log in"]
    for user in USERS:
        assert seen[user, "before"].output == "inactive"
        assert seen[user, "after"].output == "active"
        assert seen[user, "mode"].output == f"{user} 700"
        assert "did:key:z6Mk" in seen[user, "did"].output


def test_users_see_nothing_of_each_other(seen):
    own = {user: json.loads(seen[user, "did"].output)["did"]["id"] for user in USERS}
    for user, other in zip(USERS, reversed(USERS)):
        assert seen[user, "theirs"].status == 7, seen[user, "theirs"]  # curl: no way
        assert "Permission denied" in seen[user, "files"].output
        assert own[user] in seen[user, "dids"].output
        assert own[other] not in seen[user, "dids"].output
        assert own[user] not in seen["system"].output
    assert seen["system"].status == 0


def test_each_user_has_a_password(seen):
    for user in USERS:
        assert seen[user, "credential"] == (0, SECRET)


@pytest.mark.parametrize("name", BAD_REQUESTS)
def test_bad_requests(seen, name):
    assert seen["answer", name] == BAD_REQUESTS[name][0]


def test_bad_requests_do_not_make_the_unit_fail(seen):
    found = properties(seen["after answers"])
    assert (found["ActiveState"], found["NRestarts"]) == ("active", "0")


def properties(said):
    return dict(line.split("=", 1) for line in said.splitlines() if "=" in line)


def test_password_from_systemd(seen):
    assert seen["credential"] == (0, SECRET)
    assert seen["journal"].output == ""
    assert "keystore-password is empty" in seen["empty credential"]


@pytest.mark.parametrize("name", ["config", "data", "empty credential"])
def test_what_no_restart_mends_is_not_restarted(seen, name):
    found = properties(seen.get((name, "ended")) or seen[name])
    assert (found["ActiveState"], found["ExecMainStatus"]) == ("failed", "78")
    assert found["NRestarts"] == "0"


@pytest.mark.parametrize(
    "name, said",
    [
        ("masked", "unit: ssi-service.service is masked"),
        ("config", "schema"),
        ("data", "is damaged: it is no bolt database"),
    ],
)
def test_what_is_broken_is_named(seen, name, said):
    assert seen[name].startswith("unit: ssi-service.service is ")
    assert said in seen[name], seen[name]


def test_a_power_cut_loses_nothing(seen):
    """Of what was acknowledged; and every key still signs"""
    assert seen["first"] == "killed"
    assert COUNT // 2 <= len(seen["told"]) <= COUNT
    assert "lost" not in seen
    assert seen["signs"] == seen["issuers"] and len(seen["issuers"]) == 4
