"""Who is started in a tree, from where, with what"""

import pytest

from dffml_operations_decentralice.loader.dynamic import Loader
from dffml_operations_decentralice.loader.starts import (
    Start,
    assignments,
    pam_modules,
    starts,
)
from dffml_operations_decentralice.loader.tree import Tree

from . import real
from .test_dynamic import LIB, library, program
from .writer import write

UNITS = "usr/lib/systemd/system"


def found(tmp_path, init=""):
    loader = Loader(Tree(str(tmp_path)))
    answer = []
    for start in starts(loader, init):
        answer.append(start)
        loader.execute(start.path)  # as who asks does: PID 1's loader is then known
    return answer


def of(tmp_path, *by):
    """The starts of one origin"""
    return [one for one in found(tmp_path) if one.by[: len(by)] == by]


def service(tmp_path, text, name="a.service"):
    write(tmp_path / UNITS / "default.target", f"[Unit]\nWants={name}\n".encode())
    write(tmp_path / UNITS / name, text.encode())
    return [one for one in found(tmp_path) if one.by[0] == "default.target"]


@pytest.mark.parametrize(
    "there, init, path",
    [
        # The initrd's systemd executes systemd before init, unless `init=` is given
        (["usr/lib/systemd/systemd", "sbin/init"], "", "/usr/lib/systemd/systemd"),
        (["sbin/init", "bin/sh"], "", "/sbin/init"),
        (["bin/sh"], "", "/bin/sh"),
        ([], "", "/sbin/init"),
        (["usr/lib/systemd/systemd"], "/sbin/init", "/sbin/init"),
    ],
)
def test_pid_1(there, init, path, tmp_path):
    for name in there:
        write(tmp_path / name, b"")
    first = found(tmp_path, init)[0]
    assert first.path == path and not first.may_miss
    assert (init in first.by[0]) if init else ("initrd" in first.by[0])


@pytest.mark.parametrize(
    "line, path, may_miss",
    [
        ("ExecStart=/bin/x -a", "/bin/x", False),
        ("ExecStart=-/bin/x", "/bin/x", True),
        ("ExecStart=@/bin/x name", "/bin/x", False),
        ("ExecStart=-@!!/bin/x name", "/bin/x", True),
        ('ExecStart="/bin/x y" z', "/bin/x y", False),
        ("ExecStart=/bin/x 'open", "/bin/x", False),
        ("ExecStartPre=/bin/x", "/bin/x", False),
        ("ExecStop=/bin/x", "/bin/x", False),
        ("ExecStart=/bin/%p", "/bin/a", False),
        ("ExecStart=tool", "/usr/bin/tool", False),
    ],
)
def test_commands(line, path, may_miss, tmp_path):
    (start,) = service(tmp_path, f"[Service]\n{line}\n")
    assert (start.path, start.may_miss) == (path, may_miss)
    assert start.by == ("default.target", "a.service", line.partition("=")[0] + "=")


@pytest.mark.parametrize(
    "line", ["ExecStart=", "ExecStart=/bin/%H", "ExecStart=$X", "ExecStart=-"]
)
def test_commands_that_are_not_known(line, tmp_path):
    assert service(tmp_path, f"[Service]\n{line}\n") == []


def test_the_environment(tmp_path):
    write(tmp_path / "etc/a.env", b"# c\nLD_LIBRARY_PATH=/file\nPATH=/p\n")
    write(
        tmp_path / "etc/systemd/system.conf",
        b"[Manager]\nDefaultEnvironment=LD_LIBRARY_PATH=/default X=1\n",
    )
    text = "[Service]\nExecStart=/x\n"
    (start,) = service(tmp_path, text)
    assert start.environment.library_path == "/default"
    assert start.environment.as_root
    text += "Environment=Y=2 'LD_LIBRARY_PATH=/unit:/b'\nUser=alice\n"
    (start,) = service(tmp_path, text)
    assert start.environment.library_path == "/unit:/b"
    assert not start.environment.as_root
    (start,) = service(tmp_path, text + "EnvironmentFile=-/etc/a.env\n")
    assert start.environment[:2] == ("/file", "/p")
    (start,) = service(tmp_path, text + "UnsetEnvironment=LD_LIBRARY_PATH\n")
    assert start.environment.library_path == ""


@pytest.mark.parametrize(
    "line, root",
    [("ExecStart=/bin/x", "/wolfi"), ("ExecStart=+/bin/x", "")],
)
def test_root_directory(line, root, tmp_path):
    (start,) = service(tmp_path, f"[Service]\nRootDirectory=/wolfi\n{line}\n")
    assert start.root == root


def test_root_directory_of_the_start_only(tmp_path):
    text = "[Service]\nRootDirectory=/w\nRootDirectoryStartOnly=yes\n"
    text += "ExecStartPre=/bin/x\nExecStart=/bin/y\n"
    found = {one.path: one.root for one in service(tmp_path, text)}
    assert found == {"/bin/x": "", "/bin/y": "/w"}


def test_root_image(tmp_path):
    assert not service(tmp_path, "[Service]\nRootImage=/x.raw\nExecStart=/bin/x\n")


@pytest.mark.parametrize(
    "line, starts",
    [
        ("ConditionPathExists=/etc/initrd-release", 0),
        ("ConditionPathExists=!/etc/initrd-release", 1),
        ("ConditionPathExists=/etc/there", 1),
        ("ConditionPathExists=/proc/none", 1),
        ("ConditionFileIsExecutable=/usr/bin/none", 0),
        ("ConditionPathExists=|/etc/none", 1),
    ],
)
def test_conditions(line, starts, tmp_path):
    write(tmp_path / "etc/there", b"")
    text = f"[Unit]\n{line}\n[Service]\nExecStart=/x\n"
    assert len(service(tmp_path, text)) == starts


def test_agetty_starts_login(tmp_path):
    text = "[Service]\nExecStart=-/sbin/agetty -o x tty1\n"
    assert [one.path for one in service(tmp_path, text)] == [
        "/sbin/agetty",
        "/bin/login",
    ]


def test_mounts(tmp_path):
    found = service(tmp_path, "[Mount]\nWhat=x\nWhere=/a\n", "a.mount")
    assert [one.path for one in found] == ["/bin/mount", "/bin/umount"]


def test_generators(tmp_path):
    folders = ["usr/lib/systemd/system-generators", "etc/systemd/system-generators"]
    for name in ("one", "two", "masked"):
        write(tmp_path / folders[0] / name, b"")
    write(tmp_path / folders[0] / "text", b"", 0o644)
    write(tmp_path / folders[1] / "two", b"")
    (tmp_path / folders[1] / "masked").symlink_to("/dev/null")
    assert sorted(one.path for one in of(tmp_path, "system-generators")) == [
        "/etc/systemd/system-generators/two",
        "/usr/lib/systemd/system-generators/one",
    ]


RULES = rb"""
# RUN+="/bin/comment"
ACTION=="add", RUN+="/bin/one --x", PROGRAM="two 'a b'", IMPORT{program}="three"
RUN{builtin}+="kmod load", IMPORT{builtin}="hwdb", IMPORT{parent}="ID_*"
RUN{program}+="/bin/fo\"ur", \
  RUN+="/bin/five", RUN+="$env{X}", ENV{RUN}="/bin/six"
"""


def test_udev(tmp_path):
    """Helpers must start; programs that rules name need not be there"""
    write(tmp_path / "usr/lib/udev/helper", b"")
    write(tmp_path / "usr/lib/udev/rules.d/1.rules", RULES)
    write(tmp_path / "usr/lib/udev/rules.d/1.rules.off", b'RUN+="/bin/off"')
    answer = {one.path: one.may_miss for one in of(tmp_path, "udev")}
    assert answer == {
        "/usr/lib/udev/helper": False,
        "/bin/one": True,
        "/usr/lib/udev/two": True,
        "/usr/lib/udev/three": True,
        '/bin/fo"ur': True,
        "/bin/five": True,
    }


def test_bus(tmp_path):
    folder = tmp_path / "usr/share/dbus-1/system-services"
    write(folder / "a.service", b"[D-BUS Service]\nName=a\nExec=/bin/a -x\n")
    write(folder / "b.service", b"[D-BUS Service]\nExec=/bin/b\nSystemdService=b\n")
    assert [one.path for one in of(tmp_path, "dbus")] == ["/bin/a"]


def test_shells(tmp_path):
    write(tmp_path / "bin/sh", b"")
    write(
        tmp_path / "etc/passwd",
        b"root:x:0:0::/root:/bin/sh\na:x:1:1::/:/bin/sh\nb:x:2:2::/:/none\nc\n",
    )
    assert [one.path for one in of(tmp_path, "/etc/passwd")] == ["/bin/sh"]


@pytest.mark.parametrize(
    "line, found",
    [
        ("auth required pam_unix.so nullok", [("pam_unix.so", False)]),
        ("-auth required pam_unix.so", [("pam_unix.so", True)]),
        ("session optional pam_motd.so", [("pam_motd.so", True)]),
        ("auth [success=1 default=ignore] /x/pam_a.so", [("/x/pam_a.so", False)]),
        ("auth include common-auth", []),
        ("@include common-auth", []),
        ("# auth required pam_unix.so", []),
        ("nonsense required pam_unix.so", []),
        ("auth", []),
    ],
)
def test_pam_modules(line, found):
    assert list(pam_modules(line)) == found


@pytest.fixture
def init(tmp_path):
    """A tree with a PID 1 that starts, whose loader is that of this machine"""
    real.copy(real.host_loader(), tmp_path / real.LOADER[1:])
    write(tmp_path / "sbin/init", program())
    return tmp_path


def test_pam(init):
    """Where libpam looks is compiled into it"""
    folder = f"{LIB}/security"
    write(
        init / LIB[1:] / "libpam.so.0",
        library("libpam.so.0") + b"\0" + folder.encode() + b"/\0",
    )
    write(init / folder[1:] / "pam_unix.so", library())
    write(init / "etc/pam.d/login", b"auth required pam_unix.so\nauth required no.so\n")
    answer = of(init, "PAM")
    assert [one.path for one in answer] == [f"{folder}/pam_unix.so", f"{folder}/no.so"]
    assert all(one.is_library and not one.may_miss for one in answer)


def test_nss(init):
    """Of the modules those that are there; files and dns are glibc's own"""
    write(init / LIB[1:] / "libnss_systemd.so.2", library())
    text = b"passwd: files [SUCCESS=merge] systemd # x\nhosts: dns none ../x\n"
    write(init / "etc/nsswitch.conf", text)
    (start,) = of(init, "NSS")
    assert start.path == f"{LIB}/libnss_systemd.so.2" and start.is_library


def test_assignments():
    assert assignments("A=1 'B=2 3' C D=") == {"A": "1", "B": "2 3", "D": ""}


def test_a_start_is_plain():
    assert Start("/x", ()).environment.library_path == ""
