"""
Each way to PID 1, from the session's store to a verdict: those that are to boot do,
with a login that lands in Wolfi; of those that are refused it is seen that they panic
"""

import asyncio
import dataclasses
import json
import re
import subprocess

import pytest

from dffml_operations_decentralice.engine import Step, operation
from dffml_operations_decentralice.engine.testing import run_operation
from dffml_operations_decentralice.operations.ssi_verify import Lab, SsiVerifySettings
from dffml_operations_decentralice.types import DiskImage, SsiReport

from .test_build import BUILD, environment, overlay

pytestmark = pytest.mark.slow
PASSWORD = "through the looking-glass"
# `openssl passwd -6 -salt salt` of it
HASH = (
    "$6$salt$MrUuhXHOIC7Rjm.1aQ.5xa3jZ7ZSWxxPxQJIRwT1lir"
    "dPG41Y5caSIJylD5CpsiR5D2eB0zEGmbW/EgeI.bBZ/"
)
SETTINGS = {"compose_root": {"root_password_hash": HASH}, "boot_verify": {"limit": 300}}
WAYS = ["init-fedora-root", "init-overlayfs"]
TOLD = "/run/told"
# What whoever logs in sees, into a file that is the same inside and outside
LOOK = (
    "(grep -c ^P:wolfi-baselayout$ /usr/lib/apk/db/installed;"
    " systemctl is-active user@0.service; systemctl is-system-running;"
    " systemctl list-units --failed --no-legend | wc -l;"
    f" cat /proc/1/comm) > {TOLD}.new 2>&1; mv {TOLD}.new {TOLD}"
)
FOUND = {}


def build(store, work, *words):
    return subprocess.run(
        [*BUILD, *words, "mirror"],
        cwd=work,
        env=environment(store),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture(scope="module", params=WAYS)
def booted(request, image, tmp_path_factory):
    """The name of a way, and the directory of its image"""
    work = tmp_path_factory.mktemp(request.param)
    settings = overlay(work / "settings.yaml", SETTINGS)
    done = build(image.store, work, "-overlays", settings, request.param)
    assert done.returncode == 0, done.stderr
    return request.param, (work / "result").resolve()


@pytest.fixture(scope="module")
def report(booted):
    return json.loads((booted[1] / "report.json").read_text())


def test_it_boots_and_nothing_fails(booted, report):
    assert report["verdict"] == "boots", report["reason"]
    assert report["state"] == "running"
    assert report["failed_units"] == [] and report["warnings"] == []
    assert report["ssi"]["active"] == "active" and report["ssi"]["ready"] is True


def test_the_report_tells_the_way(booted, report, image):
    assert report["guest"]["os_release"]["DECENTRALICE_INIT"] == booted[0]
    assert report["guest"]["pid1"] == "/usr/lib/systemd/systemd"
    # Fedora's, not Wolfi's
    assert report["guest"]["systemd"] != image.report["guest"]["systemd"]


def test_the_disk_is_found_by_its_types(booted, report):
    kinds = {"init-fedora-root": "ext4", "init-overlayfs": "overlay"}
    assert report["guest"]["mounts"]["/"]["type"] == kinds[booted[0]]
    assert report["guest"]["mounts"]["/boot"]["type"] == "vfat"
    assert len(report["guest"]["swaps"]) == 1


def test_network_and_names_are_configured(report):
    links = {one["name"]: one for one in report["guest"]["links"]}
    assert [one["setup"] for name, one in links.items() if name != "lo"] == [
        "configured"
    ]
    assert report["guest"]["resolv_conf"] == ["127.0.0.53"]


def test_how_long_it_takes(booted, report, image):
    """For who reads the tests' output"""
    for name, one in (("default", image.report), (booted[0], report)):
        times = {stage: one["stages"][stage] for stage in ("switch-root", "login")}
        print(f"{name}: {times}, {one['seconds']} s in all")
        assert times["switch-root"] < times["login"]


class Keyboard:
    """Somebody at the serial console, who waits for a prompt and answers it"""

    def __init__(self, guest):
        self.guest, self.session, self.heard = guest, guest._session, b""
        plan = self.session.plan

        def hear(data, seconds):
            self.heard += data
            plan.on_output(data, seconds)

        self.session.plan = dataclasses.replace(plan, on_output=hear)

    async def log_in(self, name):
        while "login" not in self.session.console.stages:
            await self.guest.run("true")
        self.type(name)

    async def answer(self, prompt, text):
        while prompt not in self.heard:
            await self.guest.run("true")
        self.type(text)

    def type(self, text):
        self.heard = b""
        self.session.outs[""].write(f"{text}\n".encode())


@operation(result="ssi-report", cached=False)
async def log_in(step: Step[SsiVerifySettings], disk: DiskImage) -> SsiReport:
    """Log in at the serial console, as somebody at a keyboard does"""
    step.out.mkdir()
    lab = Lab(step, FOUND["accelerator"])
    await lab.prepare(disk)

    async def act(guest):
        await guest.run("systemctl is-system-running --wait || true")
        keyboard = Keyboard(guest)
        await keyboard.log_in("root")
        await keyboard.answer(b"Password: ", PASSWORD)
        await keyboard.answer(b"# ", LOOK)
        looking = f"cat {TOLD}"
        answer = await guest.ask(looking)
        while answer.status:
            answer = await guest.ask(looking)
        FOUND["told"] = answer.output.split()
        FOUND["outside"] = await guest.run("ls -d /wolfi /run/layers/wolfi; true")

    await lab.boot(act)
    return SsiReport(str(step.out))


def test_who_logs_in_is_in_wolfi(booted, image, tmp_path):
    FOUND.clear()
    FOUND["accelerator"] = image.report["accelerator"]["name"]
    running = run_operation(
        log_in,
        store=tmp_path / "store",
        settings={"limit": 300},
        disk=str((booted[1] / "disk.qcow2").resolve()),
    )
    asyncio.run(running)
    assert FOUND["told"] == ["1", "active", "running", "0", "systemd"]
    place = {"init-fedora-root": "/wolfi", "init-overlayfs": "/run/layers/wolfi"}
    assert place[booted[0]] in FOUND["outside"]


# ---- the recipe's first tries
LIBRARY = r"libsystemd-(core|shared)-\d+\S*\.so"
MESSAGE = rf"error while loading shared libraries: {LIBRARY}: cannot open shared object"
PANIC = r"Kernel panic - not syncing: Attempted to kill init! exitcode=0x00007f00"


@pytest.mark.parametrize(
    "way, seen",
    [
        # 0x7f is the loader's status
        ("init-fedora-symlink", [MESSAGE, PANIC]),
        ("init-ld-library-path", [PANIC]),
    ],
)
def test_a_first_try_is_refused_and_panics(image, tmp_path, way, seen):
    refused = build(image.store, tmp_path, "-overlays", way)
    assert refused.returncode == 9
    assert not (tmp_path / "result").exists()
    *_, cause, remedy, _log = refused.stderr.splitlines()
    assert re.search(rf"would not start: /fedora/\S+ needs {LIBRARY}", cause)
    assert "init-fedora-root" in remedy and "-force" in remedy

    forced = build(image.store, tmp_path, "-force", "-overlays", way)
    assert forced.returncode == 9, forced.stderr
    report = json.loads((tmp_path / "result/report.json").read_text())
    assert report["verdict"] == "does-not-boot"
    assert report["reached"] == "switch-root"
    assert re.search(seen[0], report["matched_line"])
    console = (tmp_path / "result/console.log").read_text(errors="replace")
    for line in seen:
        assert re.search(line, console)
