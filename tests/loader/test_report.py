"""The report about a tree: what is told, to whom, and the way out"""

import jsonschema
import pytest

from dffml_operations_decentralice.loader import check, sentences
from dffml_operations_decentralice.loader.report import (
    ROUTES,
    SENTENCES,
    printable,
    shortened,
)
from dffml_operations_decentralice.schemas import schema

from . import real
from .test_dynamic import LIB, VERSIONED, Link, Script, library, program
from .writer import write

SYSTEMD = "/usr/lib/systemd/systemd"
SCHEMA = schema("loader-report")


def tree_of(tmp_path, files):
    real.copy(real.host_loader(), tmp_path / real.LOADER[1:])
    for path, what in files.items():
        if isinstance(what, Link):
            (tmp_path / path[1:]).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path[1:]).symlink_to(what.to)
        else:
            write(tmp_path / path[1:], what.line if isinstance(what, Script) else what)
    return str(tmp_path)


def checked(tmp_path, files, **options):
    report = check(tree_of(tmp_path, files), **options)
    jsonschema.validate(report, SCHEMA)
    assert report["verdict"] == ("refused" if report["findings"] else "starts")
    return report


def test_all_starts(tmp_path):
    files = {SYSTEMD: program("liba.so"), f"{LIB}/liba.so": library()}
    report = checked(tmp_path, files)
    assert (report["programs"], report["libraries"]) == (1, 1)
    assert sentences(report) == ["1 programs and 1 libraries: all would start"]


def test_a_private_library(tmp_path):
    """What the recipe panicked at: systemd's own library, where nothing looks for it"""
    files = {
        SYSTEMD: program("libsystemd-shared-250.so", runpath="/usr/lib64/systemd"),
        "/fedora/usr/lib64/systemd/libsystemd-shared-250.so": library(),
        "/sbin/init": Link(f"..{SYSTEMD}"),
    }
    (found,) = checked(tmp_path, files)["findings"]
    assert found["kind"] == "library-missing" and found["file"] == SYSTEMD
    assert found["what"] == "libsystemd-shared-250.so"
    assert found["searched"][0]["path"] == "/usr/lib64/systemd"
    assert found["needed_by"] == ["the initrd's switch-root", SYSTEMD]
    assert found["elsewhere"] == ["/fedora/usr/lib64/systemd/libsystemd-shared-250.so"]
    assert "init-overlayfs" in found["routes"] and "default" in found["routes"]
    for part in (SYSTEMD, "libsystemd-shared-250.so", "/usr/lib64/systemd", "/fedora"):
        assert part in found["sentence"]


def test_a_version_is_not_mended_by_an_overlay(tmp_path):
    files = {
        SYSTEMD: program("liba.so", needs={"liba.so": ["V_3"]}),
        f"{LIB}/liba.so": library("liba.so", **VERSIONED),
    }
    (found,) = checked(tmp_path, files)["findings"]
    assert found["kind"] == "version-missing"
    assert found["routes"] == ["default", "init-fedora-root"]


def test_init_of_the_command_line(tmp_path):
    files = {SYSTEMD: program(), "/sbin/init": program("liba.so")}
    assert not checked(tmp_path, files)["findings"]
    (found,) = checked(tmp_path / "2", files, init="/sbin/init")["findings"]
    assert found["file"] == "/sbin/init"


UNIT = "[Service]\nRootDirectory={}\nExecStart=/bin/x\n"


@pytest.mark.parametrize(
    "root, files, kinds",
    [
        ("/w", {"/w/bin/x": program()}, ["interpreter-missing"]),
        ("/w", {"/w/bin/x": program(), f"/w{real.LOADER}": "loader"}, []),
        ("/w", {"/bin/x": program()}, ["program-missing"]),
        ("/", {"/bin/x": program()}, []),
        ("/none", {"/bin/x": program()}, ["program-missing"]),
        # An absolute link is one of the new root
        ("/w", {"/w/bin/x": Link("/bin/y"), "/bin/y": program()}, ["program-missing"]),
    ],
)
def test_root_directory(root, files, kinds, tmp_path):
    (tmp_path / "w").mkdir()
    for path, what in list(files.items()):
        if what == "loader":
            real.copy(real.host_loader(), tmp_path / path[1:])
            del files[path]
    units = "/usr/lib/systemd/system"
    files = {
        **files,
        SYSTEMD: program(),
        f"{units}/default.target": b"[Unit]\nWants=a.service\n",
        f"{units}/a.service": UNIT.format(root).encode(),
    }
    report = checked(tmp_path, files)
    assert [one["kind"] for one in report["findings"]] == kinds
    for one in report["findings"]:
        assert one["root"] in ("", root) and "a.service" in one["needed_by"] + [root]


EVERYTHING = {
    SYSTEMD: program("liba.so"),
    f"{LIB}/liba.so": library("liba.so"),
    "/opt/bin/good": program(),
    "/opt/bin/bad": program("libx.so"),
    "/opt/bin/script": Script(b"#!/no/sh\n"),
    "/opt/lib/plugin.so": library(needed=["liby.so"]),
    "/opt/lib/alone.so": library(needed=["liba.so"]),
    "/opt/lib/cut.so": library()[:300],
    "/opt/firmware.elf": library(machine=40),
    "/opt/object.so": library(type=1),
    "/usr/lib/debug/bad": program("libx.so"),
    "/opt/text": b"hello",
    "/opt/link": Link("bin/bad"),
}


def test_everything(tmp_path):
    """Each that is broken once; what is of other machines, or no program, is not"""
    assert not checked(tmp_path, EVERYTHING)["findings"]
    report = checked(tmp_path / "2", EVERYTHING, everything=True)
    assert {(one["file"], one["kind"]) for one in report["findings"]} == {
        ("/opt/bin/bad", "library-missing"),
        ("/opt/bin/script", "script-interpreter-missing"),
        ("/opt/lib/plugin.so", "library-missing"),
        ("/opt/lib/cut.so", "program-unusable"),
    }
    # Nobody says that these are for PID 1: there is no route to recommend
    assert all(one["routes"] == [] for one in report["findings"])
    assert report["scope"] == "everything"


def test_said_once(tmp_path):
    """A library that is missing to many, by the first who needs it"""
    units = "/usr/lib/systemd/system"
    files = {
        SYSTEMD: program("liba.so"),
        f"{LIB}/liba.so": library(needed=["libb.so"]),
        "/bin/x": program("liba.so"),
        f"{units}/default.target": b"[Unit]\nWants=a.service\n",
        f"{units}/a.service": b"[Service]\nExecStart=/bin/x\n",
    }
    (found,) = checked(tmp_path, files)["findings"]
    assert found["needed_by"] == [
        *("the initrd's switch-root", SYSTEMD, f"{LIB}/liba.so")
    ]


def test_processors(tmp_path):
    """Also with the libraries that only newer processors get"""
    files = {
        SYSTEMD: program("liba.so"),
        f"{LIB}/liba.so": library("liba.so"),
        f"{LIB}/glibc-hwcaps/x86-64-v3/liba.so": library(needed=["libb.so"]),
    }
    (found,) = checked(tmp_path, files)["findings"]
    assert found["level"] == 3 and "x86-64-v3" in found["sentence"]


def test_many(tmp_path):
    names = [f"lib{number}.so" for number in range(30)]
    report = checked(tmp_path, {SYSTEMD: program(*names)})
    said = sentences(report)
    assert len(report["findings"]) == 30
    assert len(said) == 13 and said[-1] == "and 18 more"


def test_shortened():
    assert shortened(["a", "b", "a"]) == ("a", "b")
    many = shortened([str(number) for number in range(1000)])
    assert len(many) == 41 and (many[0], many[20], many[-1]) == ("0", "…", "999")


def test_the_schema_knows_all():
    item = SCHEMA["properties"]["findings"]["items"]["properties"]
    assert set(item["kind"]["enum"]) == set(SENTENCES) >= set(ROUTES)
    routes = {route for several in ROUTES.values() for route in several}
    assert set(item["routes"]["items"]["enum"]) == routes


def test_printable():
    assert printable("a\x1b[31m\udcff\n") == "a\\x1b[31m\\udcff\\n"


def test_this_machine():
    """It booted, or runs as a container that could: nothing is told of it"""
    assert check("/")["left_out"] == 0
