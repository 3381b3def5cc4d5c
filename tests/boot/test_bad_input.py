"""What cannot be built, as a user gets to see it: cause, remedy, exit status"""

import json
import re
import subprocess

import pytest

from .test_build import BUILD, environment, overlay


def refused(store, cwd, *overlays):
    """The exit status and the last lines of a build that fails"""
    done = subprocess.run(
        [*BUILD, "-overlays", *overlays, "mirror"],
        cwd=cwd,
        env=environment(store),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert not (cwd / "result").exists()
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    "settings,named",
    [
        ({"lock_userspace": {"packages": ["no-such-apk"]}}, "no-such-apk"),
        ({"lock_kernel_rpms": {"initrd": ["no-such-rpm"]}}, "no-such-rpm"),
        ({"compose_root": {"hostname": "not a name"}}, "not a name"),
        ({"compose_root": {"root_ssh_keys": ["rsa AAAA"]}}, "root_ssh_keys"),
        ({"compose_root": {"root_password_hash": "plain"}}, "root_password_hash"),
        ({"partition": {"size": 300}}, "300 MiB"),
        ({"install_bootloader": {"entry": "../x.efi"}}, "../x.efi"),
        ({"boot_verify": {"memory": 1}}, "memory"),
        ({"build_uki": {"cmdline": ["x" * 3000]}}, "cmdline"),
        ({"compose_root": {"enable": ["no-such.service"]}}, "o.yaml:4: compose_root"),
    ],
)
def test_settings_that_cannot_be(copy, tmp_path, settings, named):
    before = {path.name for path in (copy / "objects").iterdir()}
    status, said = refused(copy, tmp_path, overlay(tmp_path / "o.yaml", settings))
    assert status == 2, said
    [cause] = re.findall("^error: (.*)$", said, re.M)
    assert named in cause
    assert re.search("^remedy: .+$", said, re.M)
    assert list((copy / "tmp").iterdir()) == []
    added = {path.name for path in (copy / "objects").iterdir()} - before
    assert not [name for name in added if name.endswith("boot-report")]


def test_a_secret_is_not_in_what_is_said(copy, tmp_path):
    settings = {"compose_root": {"root_password_hash": "hunter2"}}
    _, said = refused(copy, tmp_path, overlay(tmp_path / "o.yaml", settings))
    assert "hunter2" not in said
    logs = (copy / "logs").glob("*")
    assert not [log for log in logs if b"hunter2" in log.read_bytes()]


def lock_of(image):
    """The lock of the image, as a build wrote it"""
    return json.loads((image.log.parent / "os.lock.json").read_text())


@pytest.mark.parametrize(
    "change,status,named",
    [
        (lambda lock: lock.update(version=99), 2, "version"),
        (lambda lock: lock["kernel"]["packages"].pop(), 2, "lock"),
        (lambda lock: lock["kernel"]["packages"][0].update(sha256="x"), 2, "damaged"),
        (
            lambda lock: lock["kernel"]["packages"][0].update(sha256="0" * 64),
            5,
            "sha256",
        ),
        (lambda lock: lock["userspace"]["request"]["image"].append("x"), 2, "image"),
        (
            lambda lock: lock["userspace"]["image"][0].update(
                checksum="Q1AAAAAAAAAAAAAAAAAAAAAAAAAAA="
            ),
            5,
            "wolfi-baselayout",
        ),
    ],
)
def test_a_lock_that_is_not_met(image, copy, tmp_path, change, status, named):
    lock = lock_of(image)
    change(lock)
    (tmp_path / "os.lock.json").write_text(json.dumps(lock))
    found, said = refused(copy, tmp_path)
    assert found == status, said
    assert named in re.findall("^error: (.*)$", said, re.M)[0]


def test_a_lock_that_is_no_json(copy, tmp_path):
    (tmp_path / "os.lock.json").write_text("{")
    status, said = refused(copy, tmp_path)
    assert status == 2 and "os.lock.json" in said


def test_a_missing_tool(copy, tmp_path):
    """Not even the way to a verdict is begun without what gives it"""
    code = {"boot_verify": {"firmware_code": str(tmp_path / "none.fd")}}
    status, said = refused(copy, tmp_path, overlay(tmp_path / "o.yaml", code))
    assert status in (2, 3) and "none.fd" in said


def test_an_unreachable_archive(copy, tmp_path):
    """The mirror's archive does not answer: one line, and nothing of it is kept"""
    settings = {"fetch_debian_kernel": {"archive": "http://127.0.0.1:9/debian"}}
    status, said = refused(copy, tmp_path, overlay(tmp_path / "o.yaml", settings))
    assert status == 4, said
