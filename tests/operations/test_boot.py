"""boot_verify, with a real QEMU where that is cheap"""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

import pytest

from dffml_operations_decentralice.engine.progress import Recorder, monitored
from dffml_operations_decentralice.engine.testing import run_operation
from dffml_operations_decentralice.errors import MissingTool, UserError
from dffml_operations_decentralice.operations.boot import boot_verify, is_certain
from dffml_operations_decentralice.vm import accelerator
from dffml_operations_decentralice.vm.qemu import find_firmware


@pytest.fixture
def disk(tmp_path):
    """Nothing on it that could be booted"""
    path = tmp_path / "empty.raw"
    path.write_bytes(bytes(4 << 20))
    return path


def verify(tmp_path, disk, **settings):
    """The report, and the folder it is in"""
    settings = {"accelerator": "tcg", **settings}
    path = asyncio.run(
        run_operation(
            boot_verify, store=tmp_path / "store", settings=settings, disk=str(disk)
        )
    )
    return json.loads(Path(path, "report.json").read_text()), Path(path)


def fake_qemu(tmp_path, body):
    path = tmp_path / "fake-qemu"
    path.write_text(f"#!{sys.executable}\n{body}\n")
    path.chmod(0o755)
    return str(path)


def test_nothing_to_boot(tmp_path, disk):
    before = disk.read_bytes()
    # As deep as no socket's path may be
    store = tmp_path / ("long" * 30)
    store.mkdir()
    recorder = Recorder()
    with monitored(recorder):
        report, path = verify(store, disk)
    assert report["verdict"] == "does-not-boot"
    assert report["reached"] == "firmware"
    assert report["reason"].startswith("no-bootable-disk")
    assert report["matched_line"].startswith("BdsDxe: failed to load")
    assert report["qemu"] and report["accelerator"]["name"] == "tcg"
    # The firmware's screen: what it says when it finds nothing
    assert report["screenshot"]["stage"] == "firmware"
    assert (path / report["screenshot"]["file"]).read_bytes()[:4] == b"\x89PNG"
    assert b"BdsDxe" in (path / "console.log").read_bytes()
    header, *events = map(json.loads, (path / "console.cast").read_text().splitlines())
    assert header["version"] == 2 and events
    assert disk.read_bytes() == before
    said = [event["text"] for event in recorder.events if event["event"] == "say"]
    assert any(text.startswith("firmware ") for text in said)
    # An answer about the image is one to remember
    with monitored(recorder):
        assert verify(store, disk)[1] == path
    assert recorder.count("unchanged") == 1


def test_killed_from_outside(tmp_path, disk):
    async def run():
        killed = asyncio.Event()
        loop = asyncio.get_running_loop()

        def monitor(event):
            text = event.get("text", "")
            if event["event"] == "say" and text.startswith("firmware"):
                # After the loop's turn: a failure is seen, and given time
                loop.call_soon(kill)

        def kill():
            for pid in qemus(tmp_path):
                os.kill(pid, signal.SIGKILL)
                killed.set()

        with monitored(monitor):
            path = await run_operation(
                boot_verify,
                store=tmp_path / "store",
                settings={"accelerator": "tcg"},
                disk=str(disk),
            )
        assert killed.is_set()
        return json.loads(Path(path, "report.json").read_text())

    report = asyncio.run(run())
    assert report["verdict"] == "vm-failed"
    assert "9" in report["reason"]
    assert qemus(tmp_path) == []


def qemus(below):
    """Processes of QEMU which work below a directory"""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if (entry / "comm").read_text().startswith("qemu-system"):
                if os.readlink(entry / "cwd").startswith(str(below)):
                    found.append(int(entry.name))
        except OSError:
            continue
    return found


@pytest.mark.parametrize(
    "body,said",
    [
        (
            "import sys; sys.stderr.write('KVM internal error. Suberror: 1\\n'); "
            "sys.exit(1)",
            "KVM internal error",
        ),
        ("import sys; sys.exit('cannot open the disk')", "cannot open the disk"),
        ("import os; os.abort()", "signal 6"),
    ],
)
@pytest.mark.parametrize("wanted", ["auto", "tcg"])
def test_a_machine_that_cannot_run(tmp_path, disk, body, said, wanted):
    qemu = fake_qemu(tmp_path, body)
    recorder = Recorder()
    with monitored(recorder):
        for _ in range(2):
            report, _path = verify(tmp_path, disk, qemu=qemu, accelerator=wanted)
    assert report["verdict"] == "vm-failed"
    assert said in report["reason"]
    assert report["screenshot"]["file"] == "" and report["screenshot"]["reason"]
    # It says nothing about the image, so it is asked again
    assert recorder.count("unchanged") == 0
    assert recorder.count("start") == 2


@pytest.mark.parametrize(
    "verdict, matched, certain",
    [
        ("boots", "", True),
        ("does-not-boot", "Kernel panic - not syncing", True),
        ("does-not-boot", "", False),  # a limit, or a unit that timed out
        ("vm-failed", "", False),
        ("vm-failed", "KVM internal error", False),
    ],
)
def test_what_is_remembered(verdict, matched, certain):
    assert is_certain({"verdict": verdict, "matched_line": matched}) is certain


def test_a_silent_machine(tmp_path, disk):
    qemu = fake_qemu(tmp_path, "import signal; signal.pause()")
    report, _path = verify(tmp_path, disk, qemu=qemu, limit=1, accelerator="kvm")
    assert report["verdict"] == "vm-failed"
    assert "said nothing" in report["reason"]


def test_firmware_that_is_not_there(tmp_path, disk):
    with pytest.raises(MissingTool) as caught:
        verify(tmp_path, disk, firmware_code="/none/CODE.fd", firmware_vars="/none")
    assert "ovmf" in caught.value.remedy
    assert not list((tmp_path / "store" / "objects").iterdir())


@pytest.mark.parametrize(
    "settings",
    [
        {"accelerator": "hvf"},
        {"memory": 1},
        {"cpus": 0},
        {"limit": 0},
        {"memory": "2G"},
        {"ram": 2048},
    ],
)
def test_settings_that_cannot_be_used(tmp_path, disk, settings):
    with pytest.raises(UserError):
        verify(tmp_path, disk, **settings)


def test_accelerator_is_tried_and_remembered(tmp_path, monkeypatch):
    firmware, memo = find_firmware(), tmp_path / "memo"
    memo.mkdir()
    (memo / "earlier-boot.json").write_text("{}")
    work = tmp_path / "work"
    found = asyncio.run(accelerator.find_accelerator(firmware, work, memo))
    assert found.name in ("kvm", "tcg") and found.reason
    assert len(list(memo.iterdir())) == 1

    async def never(*_):
        raise AssertionError("asked twice")

    monkeypatch.setattr(accelerator, "probe", never)
    assert found == asyncio.run(accelerator.find_accelerator(firmware, work, memo))
