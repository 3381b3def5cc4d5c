"""Builds as a user runs them: nothing twice, interrupted ones go on, bad ones say so"""

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml

from dffml_operations_decentralice import schemas

ROOT = Path(__file__).parents[2]
PATIENCE = 20.0  # seconds until what was killed is said to be left over
BUILD = [sys.executable, "-m", "dffml", "service", "decentralice", "build"]
EVENTS = jsonschema.Draft202012Validator(schemas.schema("progress"))
# In a network namespace of its own, where even the loopback is down
ALONE = ["unshare", "--net", "--"]
if os.geteuid() != 0:
    ALONE = ["unshare", "--user", "--map-root-user", "--map-auto", *ALONE[1:]]
CHANGED = """
import json, sys
from pathlib import Path
from tests.benchmarks.runner import run

costs = run(Path(sys.argv[1]), ["mirror"], {"compose_root": {"hostname": "alone"}})
print(json.dumps([cost.operation for cost in costs if cost.ran]))
"""


def overlay(path, settings):
    """A file with nothing but settings"""
    path.write_text(yaml.safe_dump({"linked": True, "configs": settings}))
    return str(path)


def environment(store):
    return {**os.environ, "DECENTRALICE_STORE": str(store)}


class Events:
    """A build whose progress is read as a program reads it"""

    def __init__(self, store, cwd, *overlays):
        self.seen = []
        self.process = subprocess.Popen(
            [*BUILD, "-progress", "json", "-overlays", *overlays, "mirror"],
            cwd=cwd,
            env=environment(store),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def until(self, event, operation):
        """Read on until an event, and return it; fails if the build ends before"""
        for line in self.process.stderr:
            found = json.loads(line)
            EVENTS.validate(found)
            self.seen.append((found["event"], found.get("operation")))
            if self.seen[-1] == (event, operation):
                return found
        pytest.fail(f"no {event} of {operation}: {self.seen}")

    def end(self, number):
        self.process.send_signal(number)
        self.process.stderr.read()
        return self.process.wait()


def commands_left(store):
    """
    Processes that have something of a store's scratch directories in their words, and
    do not end either
    """
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            words = Path("/proc", name, "cmdline").read_bytes().decode(errors="replace")
            if f"{store}/tmp/" in words and int(name) != os.getpid():
                handle = os.pidfd_open(int(name))
                if not select.select([handle], [], [], PATIENCE)[0]:
                    found.append(words.replace("\0", " "))
                os.close(handle)
    return found


def test_with_nothing_to_do_nothing_is_done(image, tmp_path):
    for _ in range(2):  # the first one finds no lock in this directory, and writes it
        done = subprocess.run(
            [*BUILD, "-progress", "json", "-overlays", "mirror"],
            cwd=tmp_path,
            env=environment(image.store),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            check=True,
        )
        assert json.loads(done.stdout)["verdict"] == "boots"
        events = [json.loads(line) for line in done.stderr.splitlines()]
        for event in events:
            EVENTS.validate(event)
        ran = {one["operation"] for one in events if one["event"] == "start"}
    assert ran <= {"publish_result", "lock_userspace", "lock_kernel_rpms"}
    assert events[-1]["event"] == "result" and events[-1]["ran"] == len(ran)
    assert (tmp_path / "result/disk.qcow2").resolve() == image.disk


def test_without_a_network_there_is_none():
    """The control of the two tests below"""
    done = subprocess.run([*ALONE, "cat", "/proc/net/dev"], stdout=-1, check=True)
    names = [line.split(b":")[0] for line in done.stdout.splitlines() if b":" in line]
    assert [name.strip() for name in names] == [b"lo"]
    ping = "import socket; socket.create_connection(('127.0.0.1', 9), 1)"
    done = subprocess.run([*ALONE, sys.executable, "-c", ping], stderr=-1, text=True)
    assert "Network is unreachable" in done.stderr


def test_a_warm_store_and_a_full_lock_need_no_network(image, tmp_path):
    shutil.copy(image.log.parent / "os.lock.json", tmp_path)
    done = subprocess.run(
        [*ALONE, *BUILD, "-overlays", "mirror"],
        cwd=tmp_path,
        env=environment(image.store),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["verdict"] == "boots"
    assert (tmp_path / "result/disk.qcow2").resolve() == image.disk


def test_a_changed_setting_needs_no_network(image, copy):
    """Up to another disk"""
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [*ALONE, sys.executable, "-c", CHANGED, copy],
        cwd=image.log.parent,
        env={**environment(copy), "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    ran = json.loads(done.stdout)
    assert ran[-1] == "write_disk" and {"compose_root", "format_root"} <= set(ran)
    assert not {one for one in ran if one.startswith(("fetch_", "install_"))}


def test_a_program_finds_what_failed(image, copy, tmp_path):
    """A step of the real flow: which one, why, and where it says more"""
    unit = overlay(tmp_path / "o.yaml", {"compose_root": {"enable": ["no.service"]}})
    events = Events(copy, tmp_path, unit)
    failed = events.until("failed", "compose_root")
    assert failed["kind"] == "user" and "no.service" in failed["cause"]
    assert ("start", "compose_root") in events.seen
    assert Path(failed["log"]).parent == copy / "logs"
    assert failed["cause"] in Path(failed["log"]).read_text()
    result = events.until("result", None)
    assert result["exit_code"] == failed["exit_code"] == events.process.wait() == 2
    # Each step that began has ended, this way or another
    ends = {"end", "failed", "cancelled"}
    began = sorted(name for event, name in events.seen if event == "start")
    assert began == sorted(name for event, name in events.seen if event in ends)


def test_a_killed_build_goes_on_where_it_stopped(image, copy, tmp_path):
    changed = overlay(tmp_path / "o.yaml", {"compose_root": {"hostname": "killed"}})
    (tmp_path / "result").symlink_to(image.directory)
    events = Events(copy, tmp_path, changed)
    events.until("start", "format_root")
    assert events.end(signal.SIGKILL) == -signal.SIGKILL
    assert commands_left(copy) == []
    assert (tmp_path / "result").resolve() == image.directory  # the last good one

    events = Events(copy, tmp_path, changed)
    events.until("start", "boot_verify")
    started = [operation for event, operation in events.seen if event == "start"]
    assert "format_root" in started and "compose_root" not in started
    # And a build that is asked to end does, and says so by its status
    assert events.end(signal.SIGTERM) == 128 + signal.SIGTERM
    assert commands_left(copy) == []
    assert list((copy / "tmp").iterdir()) == []


def test_a_broken_init_is_reported_with_stage_and_remedy(image, tmp_path):
    """The negative control: PID 1 ends at once, the kernel panics"""
    broken = overlay(
        tmp_path / "o.yaml", {"build_uki": {"cmdline": ["init=/bin/true"]}}
    )
    (tmp_path / "result").symlink_to(image.directory)
    done = subprocess.run(
        [*BUILD, "-overlays", broken, "mirror"],
        cwd=tmp_path,
        env=environment(image.store),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert done.returncode == 9, done.stderr
    assert "Traceback" not in done.stderr
    said = done.stderr.splitlines()[-3:]
    assert [line.partition(":")[0] for line in said] == ["error", "remedy", "log"]
    report = json.loads((tmp_path / "result/report.json").read_text())
    assert report["verdict"] == "does-not-boot"
    assert "switch-root" in report["stages"] and "login" not in report["stages"]
    assert "panic" in report["matched_line"].lower()
    assert report["remedy"]
    # Long before any limit, and the last image that boots is still at hand
    assert report["seconds"] < 2 * report["stages"]["switch-root"] + 60
    assert (tmp_path / "result.last-good").resolve() == image.directory
