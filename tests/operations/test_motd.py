"""The motd: its text, and the script that says in it how the SSI service is"""

import os
import subprocess
from pathlib import Path

import pytest

from dffml_operations_decentralice.operations import motd
from dffml_operations_decentralice.operations.motd import text, versions, write_motd

SCRIPT = Path(motd.__file__).parent.parent / "files/root/usr/lib/decentralice/motd"
FIELDS = {
    "PRETTY_NAME": "OS DecentrAlice 1",
    "HOME_URL": "https://example.org/os",
    "DECENTRALICE_USERSPACE": "Wolfi",
    "DECENTRALICE_KERNEL": "Fedora 44",
}
PACKAGES = {"bash": "5.3-r1", "systemd": "261.2-r0", "ssi-service": "0.0.3-r0"}
EXPECTED = """
  OS DecentrAlice 1

  Userspace  Wolfi, systemd 261.2-r0
  Kernel     Fedora 44, Linux 7.0.1
  Source     https://example.org/os
  Identity   ssi-service 0.0.3-r0 has not started

"""


def test_text():
    assert text(FIELDS, "7.0.1", PACKAGES) == EXPECTED


def test_text_says_only_what_is_known():
    said = text({"PRETTY_NAME": "X"}, "7.0", {"bash": "1"})
    assert said == "\n  X\n\n  Kernel     Linux 7.0\n\n"


def test_versions():
    database = "C:Q1\nP:a\nV:1-r0\nF:usr\nR:b\n\nP:c-d\nV:2:3\nT:P: V:\n"
    assert versions(database) == {"a": "1-r0", "c-d": "2:3"}


@pytest.mark.parametrize("there", ["nothing", "file", "link"])
def test_write_motd(tmp_path, there):
    """What a package has there is replaced, and not written to"""
    root, release = tmp_path / "root", tmp_path / "os-release"
    (root / "etc").mkdir(parents=True)
    (tmp_path / "shared").write_text("old")
    if there == "file":
        os.link(tmp_path / "shared", root / "etc/motd")
    elif there == "link":
        (root / "etc/motd").symlink_to(tmp_path / "shared")
    (root / "database").write_text("P:ssi-service\nV:1\n")
    release.write_text('PRETTY_NAME="X 1"\n')
    write_motd(root, release, "7.0", "database")
    assert os.readlink(root / "etc/motd") == motd.LINK
    assert "  X 1\n" in (root / motd.SHARE).read_text()
    assert (tmp_path / "shared").read_text() == "old"


@pytest.mark.parametrize(
    "result, expected",
    [
        (None, "is running"),
        ("success", "is stopped"),
        ("exit-code", "has failed: exit-code"),
        ("oom-kill", "has failed: oom-kill"),
    ],
)
@pytest.mark.parametrize("shell", [["dash"], ["bash", "--posix"], ["busybox", "sh"]])
def test_script(tmp_path, shell, result, expected):
    """What systemd tells of the service is what the motd says, and again"""
    given, made = tmp_path / "given", tmp_path / "made"
    tricky = EXPECTED + "  a \\n %s line\n"
    given.write_text(tricky)
    env = {"PATH": os.environ["PATH"]}
    if result is not None:
        env["SERVICE_RESULT"] = result
    for _ in range(2):
        try:
            subprocess.run([*shell, SCRIPT, given, made], env=env, check=True)
        except FileNotFoundError:
            pytest.skip(f"no {shell[0]} here")
        assert made.read_text() == tricky.replace("has not started", expected)
    assert given.read_text() == tricky
    assert sorted(os.listdir(tmp_path)) == ["given", "made"]


def test_script_leaves_what_is_there_if_it_cannot_read(tmp_path):
    made = tmp_path / "made"
    made.write_text("old")
    done = subprocess.run(
        ["sh", SCRIPT, tmp_path / "none", made], stderr=subprocess.DEVNULL
    )
    assert done.returncode and made.read_text() == "old"


# The real image's


def test_image(image):
    """What is in the tree, and what a login in the machine says"""
    root = image.artefact("root-tree")
    said = (root / motd.SHARE).read_text()
    guest = image.report["guest"]
    assert os.readlink(root / "etc/motd") == motd.LINK
    assert said.count(motd.NOT_STARTED) == 1
    assert guest["motd"] == said.replace(motd.NOT_STARTED, "is running").strip()
    for fact in ("PRETTY_NAME", "HOME_URL", "DECENTRALICE_USERSPACE"):
        assert guest["os_release"][fact] in guest["motd"]
    assert f"Linux {guest['kernel']}" in guest["motd"]
    assert "mirror" in guest["motd"]
    assert max(map(len, said.splitlines())) < 80
