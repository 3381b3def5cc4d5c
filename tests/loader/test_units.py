"""Unit files as systemd reads them, and which of them a boot starts"""

import pytest

from dffml_operations_decentralice.loader.tree import Tree
from dffml_operations_decentralice.loader.units import (
    Unit,
    Units,
    folders_of,
    parse,
    template,
    unescaped,
)

from .writer import write

ETC, USR = "etc/systemd/system", "usr/lib/systemd/system"


def put(tmp_path, name, text):
    """A unit's file, by a path below etc/ or usr/; a link as a tuple of one"""
    folder, _, rest = name.partition("/")
    path = tmp_path / {"etc": ETC, "usr": USR}[folder] / rest
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(text, tuple):
        path.symlink_to(*text)
    else:
        write(path, text.encode())


def names(found):
    return [unit.name for unit, _why in found.started()]


@pytest.mark.parametrize(
    "text, found",
    [
        ("", {}),
        ("[A]\nx=1\n", {"A": [("x", "1")]}),
        ("[A]\nx = 1 = 2\nx=\n", {"A": [("x", "1 = 2"), ("x", "")]}),
        ("# c\n[A]\n; c\nx=a \\\n  b\\\n# c\nc\n", {"A": [("x", "a  b c")]}),
        (
            "[A]\nx=1\n[B]\ny=2\n[A]\nx=3",
            {"A": [("x", "1"), ("x", "3")], "B": [("y", "2")]},
        ),
        ("x=1\n[A]\nnothing\n", {"A": []}),
        ("[A]\nx=a\\", {"A": [("x", "a")]}),
        ("[A]\r\nx=1\r\n", {"A": [("x", "1")]}),
    ],
)
def test_parse(text, found):
    assert parse(text) == found


def test_values():
    text = "[Service]\nExecStart=/a\nExecStart=\nExecStart=/b\nExecStart=/c\n"
    unit = Unit("x.service", "", parse(text))
    assert unit.all("ExecStart") == ["/b", "/c"]
    assert unit.last("ExecStart") == "/c" and unit.last("User") == ""


@pytest.mark.parametrize(
    "text, found",
    [
        ("/bin/x", "/bin/x"),
        ("/bin/%i-%p%%", "/bin/a\\x2db-c-x%"),
        ("%I", "a-b/c"),
        ("%n %N", "x@a\\x2db-c.service x@a\\x2db-c"),
        ("/run/%H", None),
        ("%", "%"),
    ],
)
def test_expanded(text, found):
    assert Unit("x@a\\x2db-c.service", "", {}).expanded(text) == found


def test_names():
    assert template("getty@tty1.service") == "getty@.service"
    assert template("a.service") == "a.service"
    assert unescaped("a-b\\x2dc") == "a/b-c"
    assert folders_of("a-b-c@d.service") == [
        *("a-b-c@d.service", "a-b-c@.service", "a-b-.service", "a-.service"),
        "service",
    ]


@pytest.mark.parametrize(
    "files, found",
    [
        ({}, []),
        (
            {"usr/default.target": "[Unit]\nWants=a.service\n", "usr/a.service": "x"},
            ["default.target", "a.service"],
        ),
        # A link in .wants, of a name that is another one's
        (
            {
                "usr/multi-user.target": "x",
                "etc/default.target": ("/usr/lib/systemd/system/multi-user.target",),
                "etc/multi-user.target.wants/b.service": ("../b.service",),
                "usr/b.service": "x",
            },
            ["multi-user.target", "b.service"],
        ),
        # An instance of a template
        (
            {
                "usr/default.target": "x",
                "etc/default.target.wants/getty@tty1.service": ("../x@.service",),
                "usr/getty@.service": "x",
            },
            ["default.target", "getty@tty1.service"],
        ),
        # Masked: by a link to /dev/null, or by an empty file
        (
            {
                "usr/default.target": "[Unit]\nWants=a.service b.service\n",
                "usr/a.service": "x",
                "usr/b.service": "x",
                "etc/a.service": ("/dev/null",),
                "etc/b.service": "",
            },
            ["default.target"],
        ),
        # The administrator's hides the package's
        (
            {
                "usr/default.target": "[Unit]\nWants=a.service\n",
                "etc/default.target": "[Unit]\nWants=b.service\n",
                "usr/a.service": "x",
                "usr/b.service": "x",
            },
            ["default.target", "b.service"],
        ),
        # Drop-ins, and what they take away
        (
            {
                "usr/default.target": "[Unit]\nWants=a.service\n",
                "etc/default.target.d/x.conf": "[Unit]\nRequires=b.service\n",
                "usr/default.target.d/x.conf": "[Unit]\nRequires=c.service\n",
                "usr/a.service": "x",
                "usr/b.service": "x",
                "usr/c.service": "x",
            },
            ["default.target", "a.service", "b.service"],
        ),
        # What starts something else
        (
            {
                "usr/default.target": "[Unit]\nWants=a.socket b.timer\n"
                "Wants=c.path d.socket\n",
                "usr/a.socket": "[Socket]\nListenStream=/a\n",
                "usr/a.service": "x",
                "usr/b.timer": "[Timer]\nUnit=other.service\n",
                "usr/other.service": "x",
                "usr/c.path": "x",
                "usr/c.service": "x",
                "usr/d.socket": "[Socket]\nAccept=yes\n",
                "usr/d@.service": "x",
            },
            ["default.target", "a.socket", "b.timer", "c.path", "d.socket"]
            + ["a.service", "other.service", "c.service", "d@.service"],
        ),
        # What a boot asks for by itself
        ({"usr/sysinit.target": "[Unit]\nWants=a.mount\n", "usr/a.mount": "x"},)
        + (["sysinit.target", "a.mount"],),
        # Names that are none
        ({"usr/default.target": "[Unit]\nWants=../x.service a b.exe \\xff\n"},)
        + (["default.target"],),
        # Circles
        (
            {
                "usr/default.target": "[Unit]\nWants=a.service\n",
                "usr/a.service": "[Unit]\nRequires=default.target a.service\n",
            },
            ["default.target", "a.service"],
        ),
    ],
)
def test_started(files, found, tmp_path):
    for name, text in files.items():
        put(tmp_path, name, text)
    assert names(Units(Tree(str(tmp_path)), {})) == found


def test_bus(tmp_path):
    """A message to a name starts a unit, once there is a bus"""
    put(tmp_path, "usr/default.target", "[Unit]\nWants=dbus.service\n")
    put(tmp_path, "usr/dbus.service", "x")
    put(tmp_path, "usr/a.service", "x")
    put(tmp_path, "etc/dbus-org.a.service", (f"/{USR}/a.service",))
    text = "[D-BUS Service]\nName=org.a\nExec=/x\nSystemdService=dbus-org.a.service\n"
    folder = tmp_path / "usr/share/dbus-1/system-services"
    write(folder / "org.a.service", text.encode())
    found = list(Units(Tree(str(tmp_path)), {}).started())
    assert [(unit.name, why) for unit, why in found][-1] == (
        "a.service",
        ("default.target", "dbus.service"),
    )


def test_others_start_units(tmp_path):
    put(tmp_path, "usr/default.target", "x")
    put(tmp_path, "usr/x@.service", "x")
    by_others = {"default.target": ("x@1.service", "none.service")}
    found = Units(Tree(str(tmp_path)), by_others)
    assert names(found) == ["default.target", "x@1.service"]
