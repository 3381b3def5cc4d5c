"""What check_loader refuses: the build ends there, and who insists sees the panic"""

import json
import os
import shutil
import subprocess

import pytest

from .test_build import BUILD, environment, overlay

SYSTEMD = "usr/lib/systemd/systemd"


@pytest.fixture
def mixed(image, tmp_path):
    """An overlay which puts Fedora's systemd where Wolfi's is, as the recipe did"""
    target = tmp_path / "files" / SYSTEMD
    target.parent.mkdir(parents=True)
    shutil.copy(image.artefact("fedora-tree") / SYSTEMD, target)
    settings = {"compose_root": {"files": str(tmp_path / "files")}}
    return overlay(tmp_path / "o.yaml", settings)


def build(copy, tmp_path, *options):
    return subprocess.run(
        [*BUILD, "-progress", "lines", *options],
        cwd=tmp_path,
        env=environment(copy),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_refused_before_there_is_a_disk(image, copy, mixed, tmp_path):
    (tmp_path / "result").symlink_to(image.directory)
    done = build(copy, tmp_path, "-overlays", mixed, "mirror")
    assert done.returncode == 9 and done.stdout == ""
    assert "Traceback" not in done.stderr
    error, remedy, log = done.stderr.splitlines()[-3:]
    assert error.startswith(f"error: would not start: /{SYSTEMD} needs libsystemd-")
    assert remedy.startswith("remedy: what would work: default or init-fedora-root")
    assert os.path.exists(log.partition(": ")[2])
    assert "format_root" not in done.stderr
    assert (tmp_path / "result").resolve() == image.directory


@pytest.mark.slow
def test_forced_it_panics(image, copy, mixed, tmp_path):
    """PID 1 ends with the loader's own exit status, 127"""
    done = build(copy, tmp_path, "-force", "-overlays", mixed, "mirror")
    assert done.returncode == 9, done.stderr
    assert f"check_loader: /{SYSTEMD} needs libsystemd-" in done.stderr
    report = json.loads((tmp_path / "result/report.json").read_text())
    assert report["verdict"] == "does-not-boot"
    assert "switch-root" in report["stages"] and "login" not in report["stages"]
    assert "panic" in report["matched_line"].lower()
    said = (tmp_path / "result/console.log").read_text(errors="replace")
    assert "Attempted to kill init! exitcode=0x00007f00" in said
