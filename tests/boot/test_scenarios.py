"""
Operating systems that overlays make, built and booted: a daily driver with users, ssh,
containers and hibernation; a kernel for real machines on a disk as they have it
"""

import asyncio
import json
import subprocess

import pytest
import yaml

from dffml_operations_decentralice.engine import Step, operation
from dffml_operations_decentralice.engine.testing import run_operation
from dffml_operations_decentralice.operations.ssi_verify import Lab, SsiVerifySettings
from dffml_operations_decentralice.types import DiskImage, SsiReport
from dffml_operations_decentralice.vm.signs import LIMITS

from .test_build import BUILD, environment

pytestmark = pytest.mark.slow
HASH = "$6$saltsalt$ImtdQ7NR8a5EzgBr5MxhxmjgvHRS/n5tTMGTvF2HSbBY5T1Sj7cvW6NP0aAc5yGpLp"
SSH = 22
OPTIONS = {
    "BatchMode": "yes",
    "IdentitiesOnly": "yes",
    "StrictHostKeyChecking": "no",
    "UserKnownHostsFile": "/dev/null",
    "ConnectTimeout": "300",
}
DAILY = ["ssh", "podman", "hibernation", "mirror"]


def daily(key):
    """The overlay of somebody who uses the machine every day"""
    alice = {
        "name": "alice",
        "uid": 1234,
        "gecos": "Alice Liddell",
        "password_hash": HASH,
        "ssh_keys": [key],
        "groups": ["tea", "video"],
        "sudo": True,
        "sudo_password": False,
    }
    return {
        "lock_userspace": {"packages": ["sudo", "tzdata", "kbd", "console-data"]},
        "compose_root": {
            "hostname": "wonderland",
            "timezone": "Europe/Berlin",
            "keymap": "de",
            "users": [alice, {"name": "bob", "ssh_keys": [key]}],
            "groups": [{"name": "tea"}],
            "network": [{"name": "en*", "address": ["192.0.2.7/24"]}],
            "sysctl": {"vm.swappiness": "10"},
            "disable": ["systemd-timesyncd.service"],
            "mask": ["remote-fs.target"],
            "write_files": {
                "/etc/rabbit.conf": {"content": "late\n", "owner": "alice"}
            },
        },
        "partition": {"size": 8192, "swap": 3072},
    }


def built(folder, store, settings, *overlays):
    """The report of a build, in whose folder ``result`` is"""
    overlay = folder / "mine.yaml"
    overlay.write_text(yaml.safe_dump({"linked": True, "configs": settings}))
    done = subprocess.run(
        [*BUILD, "-overlays", str(overlay), *overlays],
        cwd=folder,
        env=environment(store),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads((folder / "result/report.json").read_text())


@pytest.fixture(scope="module")
def identity(tmp_path_factory):
    """A key of ssh, in a file, and beside it its public half"""
    file = tmp_path_factory.mktemp("identity") / "id"
    argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(file)]
    subprocess.run(argv, check=True)
    return file


@pytest.fixture(scope="module")
def driver(image, tmp_path_factory, identity):
    """The daily driver's folder and report"""
    folder = tmp_path_factory.mktemp("driver")
    key = identity.with_suffix(".pub").read_text().strip()
    return folder, built(folder, image.store, daily(key), *DAILY)


def test_every_setting_is_seen_inside(driver):
    _, report = driver
    seen = {one["setting"]: one for one in report["settings"]}
    assert report["verdict"] == "boots" and not report["failed_units"]
    assert all(one["ok"] is True for one in seen.values()), report["settings"]
    named = {name.split(".")[1].split("[")[0] for name in seen if "compose" in name}
    assert named >= {*daily("")["compose_root"], "ssh", "containers", "locale"}
    assert {"partition", "build_uki.hibernation", "lock_userspace.packages"} <= {*seen}


def test_the_image_tells_its_settings_without_secrets(driver):
    _, report = driver
    assert HASH not in json.dumps(report)


# ---- in a machine: what people do with it

KEEPER = """
token=$(cat /proc/sys/kernel/random/uuid)
trap 'echo "$token" > /run/told' USR1
echo "$token" > /run/token
while :; do sleep 1; done
"""
KEEP = "systemd-run --quiet --unit=keeper bash -c {script}"
# A process that waits, and whose memory alone has what it is asked for later
ASK = """
systemctl kill --signal=USR1 keeper.service
for second in $(seq 300); do [ -s /run/told ] && break; sleep 1; done
cat /run/told
"""
LISTENS = "until bash -c ': < /dev/tcp/127.0.0.1/22' 2> /dev/null; do sleep 1; done"
# An image of what is at hand: a program and what its loader finds for it
IMPORT = """set -e
tar --dereference -cf "$HOME/small.tar" -C / usr/bin/id \
    $(ldd /usr/bin/id | grep -o '/[^ ]*' | cut -c 2-)
podman import --quiet "$HOME/small.tar" localhost/small
"""
RUN = "podman run --rm --network=none localhost/small /usr/bin/id -u"


async def ssh(identity, port, user, command, **options):
    """Log in from the host: exit status and output"""
    argv = ["ssh", "-F", "none", "-i", str(identity), "-p", str(port)]
    for name, value in {**OPTIONS, **options}.items():
        argv += ["-o", f"{name}={value}"]
    process = await asyncio.create_subprocess_exec(
        *(*argv, f"{user}@127.0.0.1", command),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    return process.returncode, said.decode("utf-8", "replace")


async def log_in(guest, identity, found):
    """What who logs in finds, and who may not"""
    await guest.run(LISTENS)
    port = await guest.forwarded(SSH)
    commands = {
        "who": "id -un; pwd; hostname",
        "sudo": "sudo -n id -u",
        "socket": 'stat -c "%U %F" "$XDG_RUNTIME_DIR/ssi-service.sock"',
        "keymap": "sudo -n dumpkeys | grep -w 'keycode  *21'",
        "date": "date +%Z",
        "import": IMPORT,
        "container": RUN,
    }
    for name, command in commands.items():
        found[name] = await ssh(identity, port, "alice", command)
    found["bob"] = await ssh(identity, port, "bob", "id -un; sudo -n id -u")
    found["root"] = await ssh(identity, port, "root", "id -un")
    password = {"PubkeyAuthentication": "no"}
    found["password"] = await ssh(identity, port, "alice", "id -un", **password)


async def run_container(guest, found):
    found["root's import"] = await guest.ask(f"export HOME=/root; {IMPORT}")
    found["root's container"] = await guest.ask(f"export HOME=/root; {RUN}")


FOUND = {}


@operation(cached=False, result="lived.json")
async def live(step: Step[SsiVerifySettings], disk: DiskImage) -> SsiReport:
    """Two boots, the second of which goes on where the first one stopped"""
    step.out.mkdir()
    lab = Lab(step, FOUND["accelerator"], ports=(SSH,))
    await lab.prepare(disk)

    async def first(guest):
        await log_in(guest, FOUND["identity"], FOUND)
        await run_container(guest, FOUND)
        await guest.run(KEEP.format(script="'" + KEEPER.replace("'", "'\\''") + "'"))
        wait = "until [ -s /run/token ]; do sleep 1; done; cat /run/token"
        FOUND["token"] = await guest.run(wait)
        FOUND["boot"] = await guest.run("cat /proc/sys/kernel/random/boot_id")
        await guest.hibernate()

    async def second(guest):
        FOUND["told"] = await guest.run(ASK)
        FOUND["boot again"] = await guest.run("cat /proc/sys/kernel/random/boot_id")
        FOUND["state"] = await guest.run("systemctl is-system-running")
        FOUND["journal"] = await guest.ask("journalctl -b -o cat | grep -i hibernat")

    FOUND["first"] = (await lab.boot(first)).ending
    # What resumes mounts no root, switches to none: the stages after the initrd's
    resumes = {**LIMITS, "root": step.settings.limit}
    FOUND["second"] = (await lab.boot(second, limits=resumes)).ending
    FOUND["console"] = (step.out / "console.log").read_bytes()
    return SsiReport(str(step.out))


@pytest.fixture(scope="module")
def lived(driver, identity, tmp_path_factory):
    folder, report = driver
    FOUND.clear()
    FOUND.update(identity=identity, accelerator=report["accelerator"]["name"])
    running = run_operation(
        live,
        store=tmp_path_factory.mktemp("store"),
        settings={"limit": 300},
        disk=str((folder / "result/disk.qcow2").resolve()),
    )
    asyncio.run(running)
    return FOUND


def test_log_in_by_ssh(lived):
    status, said = lived["who"]
    assert (status, said.split()[-3:]) == (0, ["alice", "/home/alice", "wonderland"])


def test_sudo(lived):
    assert lived["sudo"][1].split()[-1] == "0"
    status, said = lived["bob"]
    assert status != 0 and "bob" in said.split()
    assert "password is required" in said


def test_the_users_own_ssi_service(lived):
    assert lived["socket"][1].splitlines()[-1] == "alice socket"


def test_keyboard_and_time(lived):
    assert lived["date"][1].split()[-1] in ("CET", "CEST")
    assert "z" in lived["keymap"][1].split()


@pytest.mark.parametrize("who", ["root", "password"])
def test_who_may_not_log_in(lived, who):
    status, said = lived[who]
    assert status == 255 and "Permission denied" in said


def test_a_container_of_an_image_that_was_made_here(lived):
    assert lived["root's import"].status == 0, lived["root's import"]
    assert lived["root's container"].output.splitlines()[-1] == "0"


def test_a_users_container(lived):
    assert lived["import"][0] == 0, lived["import"]
    status, said = lived["container"]
    assert (status, said.split()[-1]) == (0, "0")
    assert "level=warning" not in said


def test_what_was_in_memory_is_there_after_hibernation(lived):
    assert (lived["first"], lived["second"]) == ("powered-off", "acted")
    assert lived["told"] == lived["token"]
    assert lived["boot again"] == lived["boot"]
    assert lived["state"] == "running"
    assert lived["console"].count(b"Linux version ") == 2


# ---- another kernel, on another bus


@pytest.fixture(scope="module")
def hardware(image, tmp_path_factory):
    """The report about Debian's kernel for real machines, on a disk of AHCI"""
    folder = tmp_path_factory.mktemp("hardware")
    settings = {
        "fetch_debian_kernel": {"flavour": "generic"},
        "boot_verify": {"disk_bus": "ahci"},
    }
    return built(folder, image.store, settings, "hardware", "mirror")


def test_a_kernel_for_real_machines(hardware):
    assert hardware["verdict"] == "boots"
    assert "cloud" not in hardware["guest"]["kernel"]
    assert hardware["guest"]["mounts"]["/"]["source"] == "/dev/sda3"
    assert hardware["guest"]["mounts"]["/boot"]["type"] == "vfat"
