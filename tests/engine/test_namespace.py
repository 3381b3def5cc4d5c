"""Root's rights without root: the same bytes, and what is said where it cannot be"""

import asyncio
import json
import os
import sys

import pytest
import yaml
from dffml import DataFlow, GetSingle, Input

from dffml_operations_decentralice.engine import namespace
from dffml_operations_decentralice.engine.testing import run_operation
from dffml_operations_decentralice.errors import MissingTool, UserError

from .. import user as users
from .owners import make_owners


@pytest.fixture(scope="module")
def user():
    yield from users.make()


DFFML = [sys.executable, "-m", "dffml"]
DOCTOR = [*DFFML, "service", "decentralice", "doctor"]


def test_same_bytes_under_dffml(user, store):
    """A flow that dffml's own command runs, as a user and as root"""
    made = asyncio.run(run_operation(make_owners, store=store))
    flow = DataFlow(
        operations={"make_owners": make_owners, "get_single": GetSingle},
        seed=[Input(value=["Owners"], definition=GetSingle.op.inputs["spec"])],
    )
    text = yaml.safe_dump(flow.export(linked=True))
    (user.folder / "flow.yaml").write_text(text)
    done = user.run(*DFFML, "dataflow", "run", "single", "-dataflow", "flow.yaml")
    assert done.returncode == 0, done.stderr
    [found] = json.loads(done.stdout)
    path = found["Owners"]
    assert os.path.basename(path) == os.path.basename(made), done.stderr
    info = os.stat(f"{path}/tree/nobody")
    assert info.st_uid > 65535 and os.stat(path).st_uid not in (0, info.st_uid)


def test_doctor_is_content(user):
    done = user.run(*DOCTOR)
    assert "MISSING rights" not in done.stdout, done.stdout
    assert "newuidmap" in done.stdout and done.stderr == ""


EMPTY = "mount --bind /dev/null"
NO_SETUID = (
    "cp /usr/bin/newuidmap /run/newuidmap; chmod 755 /run/newuidmap; "
    "mount --bind /run/newuidmap /usr/bin/newuidmap; umount -l /run"
)
FEW = (
    f"echo {users.NAME}:100000:1000 > /run/few; mount --bind /run/few /etc/subuid; "
    "umount -l /run"
)


@pytest.mark.parametrize(
    "before, cause, remedy",
    [
        (f"{EMPTY} /etc/subuid", "has no subordinate uids", "usermod --add-subuids"),
        (f"{EMPTY} /etc/subgid", "has no subordinate gids", "usermod --add-subgids"),
        (FEW, "1000 of 65535 subordinate uids", "usermod --add-subuids"),
        (NO_SETUID, "the kernel refuses subordinate ids: ", "setuid root"),
    ],
    ids=["subuid", "subgid", "few", "setuid"],
)
def test_what_is_missing(user, before, cause, remedy):
    """Doctor, and dffml's own command, tell of what is so in a mount namespace"""
    before = f"mount -t tmpfs none /run; {before}" if "/run" in before else before
    done = user.run(*DOCTOR, before=before)
    assert done.returncode == MissingTool.exit_code, done.stderr
    assert "Traceback" not in done.stderr
    [line] = [one for one in done.stdout.splitlines() if "MISSING rights" in one]
    assert cause in line
    assert remedy in done.stdout.splitlines()[-1]


def test_missing_program(user):
    done = user.run(*DOCTOR, env={"PATH": "/nowhere"})
    assert done.returncode == MissingTool.exit_code and done.stderr == ""


NONE_LEFT = (
    "import os, subprocess, sys; from pathlib import Path;"
    "from dffml_operations_decentralice.engine import namespace as n;"
    "n.become_root(); Path('/proc/sys/user/max_user_namespaces').write_text('0');"
    "os.setgroups([]); os.setresgid(1, 1, 1); os.setresuid(1, 1, 1);"
    "n.mappings = lambda pid: [];"
    "print(*n.attempt().lines(), sep='\\n')"
)


def test_no_namespaces(user):
    """A limit of none, in a namespace below, where it is ours to set"""
    done = user.run(sys.executable, "-c", NONE_LEFT)
    assert done.returncode == 0, done.stderr
    cause, remedy = done.stdout.splitlines()
    assert "no user namespace for this user" in cause
    assert "user.max_user_namespaces is 0" in cause
    assert "sysctl -w user.max_user_namespaces=" in remedy


@pytest.mark.parametrize(
    "name, value, said",
    [
        ("kernel.unprivileged_userns_clone", "0", "_clone=1"),
        ("kernel.apparmor_restrict_unprivileged_userns", "1", "_userns=0"),
        ("kernel.something", "0", "build as root; in a container"),
    ],
)
def test_refused(monkeypatch, name, value, said):
    """Of kernels that this machine does not have"""
    monkeypatch.setattr(namespace, "sysctl", {name: value}.get)
    error = namespace.refused("no")
    assert said in error.remedy and (name in error.cause) == ("something" not in name)


@pytest.mark.parametrize(
    "text, expected",
    [
        ("{0}:100000:65536\n", (100000, 65535)),
        ("other:1:99999999\n{0}:5:10\n{0}:200000:70000\n", (200000, 65535)),
        ("{1}:100000:65535\n", (100000, 65535)),
        ("{0}:100000:65534\n", "65534 of 65535"),
        ("{0}:x:y\n\n{0}\n", "no subordinate"),
        ("", "no subordinate"),
        (None, "no subordinate"),
    ],
)
def test_subordinate(tmp_path, text, expected):
    import pwd

    name = pwd.getpwuid(os.getuid()).pw_name
    if text is not None:
        (tmp_path / "subuid").write_text(text.format(name, os.getuid()))
    if isinstance(expected, str):
        with pytest.raises(UserError, match=expected):
            namespace.subordinate("uid", tmp_path)
    else:
        assert tuple(namespace.subordinate("uid", tmp_path)) == expected


def test_threads(user):
    code = (
        "import threading; from dffml_operations_decentralice.engine import namespace;"
        "e = threading.Event(); t = threading.Thread(target=e.wait); t.start()\n"
        "try: namespace.become_root()\n"
        "except Exception as error: print(*error.lines(), sep='\\n')\n"
        "e.set()"
    )
    done = user.run(sys.executable, "-c", code)
    assert "2 threads cannot enter" in done.stdout and "unshare" in done.stdout
