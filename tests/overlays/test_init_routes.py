"""The ways to PID 1, without a boot: what is put where, and by whom it is refused"""

import os
import shutil
import subprocess
from types import SimpleNamespace

import pytest

from dffml_operations_decentralice.composition import compose
from dffml_operations_decentralice.engine.commands import find_tool
from dffml_operations_decentralice.engine.step import FILES
from dffml_operations_decentralice.errors import UserError
from dffml_operations_decentralice.operations.root import copy_argvs
from dffml_operations_decentralice.overlays.init_routes import common, layers
from dffml_operations_decentralice.overlays.init_routes.fedora_root import (
    bring_out,
    let_in,
)

BOOT = ["init-fedora-root", "init-overlayfs"]
REFUSED = ["init-fedora-symlink", "init-ld-library-path"]
OURS = FILES / "init_routes"


def made(folder, files):
    """A tree: text of files, None of directories, `-> target` of links"""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if text is None:
            path.mkdir(exist_ok=True)
        elif text.startswith("-> "):
            path.symlink_to(text[3:])
        else:
            path.write_text(text)
    return folder


def seen(folder):
    """The same of a tree"""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = f"-> {os.readlink(path)}"
        else:
            found[name] = None if path.is_dir() else path.read_text()
    return found


@pytest.mark.parametrize("source", [[], ["mirror"]])
@pytest.mark.parametrize("way", [*BOOT, *REFUSED])
def test_composed(way, source):
    composition = compose([way, *source])
    composition.dataflow()
    inputs = composition.content["flow"]["compose_root"]["inputs"]
    assert inputs["fedora"] == [{"install_fedora": "result"}]
    assert {len(origins) for origins in inputs.values()} == {1}


@pytest.mark.parametrize("way", [*BOOT, *REFUSED])
def test_settings_of_the_root_are_those_of_the_default(way):
    settings = {"compose_root": {"hostname": "wonderland", "mask": ["a.service"]}}
    compose([way], settings).validate()
    with pytest.raises(UserError, match="hostnam"):
        compose([way], {"compose_root": {"hostnam": "x"}})


def test_two_ways_are_one_too_many():
    with pytest.raises(UserError) as caught:
        compose(BOOT)
    for way in BOOT:
        assert f"{way}.yaml" in caught.value.cause


@pytest.mark.parametrize(
    "content, expected",
    [
        (b"\x7fELF\0systemd.extra-unit.\0", True),
        (b"\x7fELF\0systemd.debug_shell\0", False),
        (None, False),
    ],
)
def test_a_systemd_that_makes_units_of_credentials(tmp_path, content, expected):
    if content is not None:
        path = tmp_path / common.CREDENTIALS
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
    assert common.takes_units(tmp_path) is expected


def test_the_way_is_in_os_release(tmp_path):
    release = tmp_path / "os-release"
    release.write_text("ID=x\n")
    step = SimpleNamespace(work=tmp_path / "work")
    step.work.mkdir()
    named = common.release_of(step, str(release), "a-way")
    assert named.read_text() == "ID=x\nDECENTRALICE_INIT=a-way\n"
    assert release.read_text() == "ID=x\n"


GENERATOR = (
    "credential_units/usr/lib/systemd/system-generators/decentralice-credential-units"
)


@pytest.mark.parametrize(
    "credentials, expected",
    [
        ({}, {}),
        ({"a.password": "x"}, {}),
        (
            {"systemd.extra-unit.a.service": "[Service]\n"},
            {"a.service": "[Service]\n"},
        ),
        (
            {"systemd.unit-dropin.b@c.target": "[Unit]\n", "other": "x"},
            {
                "b@c.target.d": None,
                "b@c.target.d/50-credential.conf": "[Unit]\n",
            },
        ),
    ],
)
def test_units_of_credentials(tmp_path, credentials, expected):
    run, out = tmp_path / "run", tmp_path / "early"
    made(run / "credentials/@system", credentials)
    out.mkdir()
    view = ["--dev-bind", "/", "/", "--bind", str(run), "/run", "--"]
    argv = [str(OURS / GENERATOR), "/nowhere", str(out), "/nowhere"]
    run.mkdir(exist_ok=True)
    subprocess.run([find_tool("bwrap"), *view, *argv], check=True)
    assert seen(out) == expected


UNIT = "[Service]\nExecStart=/usr/bin/a\n"
DROP_IN = OURS / "services/50-wolfi.conf"


def test_units_are_brought_out(tmp_path):
    folder = "usr/lib/systemd/system"
    wolfi = made(
        tmp_path / "wolfi",
        {f"{folder}/a.service": UNIT, f"{folder}/a.socket": "[Socket]\n"},
    )
    bring_out(wolfi, tmp_path, ["a.socket", "a.service"], DROP_IN)
    assert seen(tmp_path / folder) == {
        "a.service": UNIT,
        "a.service.d": None,
        "a.service.d/50-wolfi.conf": DROP_IN.read_text(),
        "a.socket": "[Socket]\n",
    }


@pytest.mark.parametrize("there", ["", "LANG=C\n", None])
def test_systemctl_works_inside(tmp_path, there):
    made(tmp_path, {"etc/environment": there} if there is not None else {})
    expected = f"{there or ''}SYSTEMD_IGNORE_CHROOT=1\n"
    let_in(tmp_path, is_old=False)
    assert (tmp_path / "etc/environment").read_text() == expected
    let_in(tmp_path, is_old=True)
    assert (
        (tmp_path / "etc/environment").read_text().endswith("XDG_SESSION_CLASS=user\n")
    )


def test_a_unit_that_wolfi_has_not(tmp_path):
    with pytest.raises(UserError, match="b.service"):
        bring_out(tmp_path / "wolfi", tmp_path, ["b.service"], DROP_IN)


DATABASE = """P:baselayout
V:1-r0
F:
R:bin
a:0:0:0777
F:etc
R:hosts
F:usr/lib
M:0:0:0755

P:systemd
V:257-r0
F:usr
F:usr/lib/systemd
R:systemd
a:0:0:0755
R:gone
F:etc/systemd
R:system.conf

P:systemd-init
F:usr/bin
R:init

"""


def test_the_files_of_a_package():
    baselayout, systemd, _, _ = DATABASE.split("\n\n")
    assert list(layers.paths(baselayout)) == ["bin", "etc/hosts"]
    assert list(layers.paths(systemd)) == [
        *("usr/lib/systemd/systemd", "usr/lib/systemd/gone", "etc/systemd/system.conf")
    ]
    assert layers.fields(systemd, "P") == ["systemd"]


@pytest.mark.parametrize(
    "name, patterns, expected",
    [
        ("systemd", ["systemd"], True),
        ("systemd-init", ["systemd"], False),
        ("systemd-init", ["systemd-*"], True),
        ("systemd=257-r0", ["systemd"], True),
        ("udev@local", ["systemd", "udev"], True),
        ("Systemd", ["systemd"], False),
        ("bash", [], False),
    ],
)
def test_packages_that_are_meant(name, patterns, expected):
    assert layers.matches([name], patterns) is expected


def test_packages_are_removed(tmp_path):
    there = {
        "usr/lib/apk/db/installed": DATABASE,
        "etc/apk/world": "bash\nsystemd\nsystemd-init=1\n",
        "etc/hosts": "",
        "usr/lib/systemd/systemd": "",
        "usr/lib/systemd/other": "",
        "etc/systemd/system.conf": "",
        "usr/bin/init": "-> ../lib/systemd/systemd",
    }
    layers.remove_packages(made(tmp_path, there), ["systemd", "systemd-*"])
    found = seen(tmp_path)
    assert found["etc/apk/world"] == "bash\n"
    assert found["usr/lib/apk/db/installed"].count("P:") == 1
    assert found["usr/lib/apk/db/installed"].endswith("M:0:0:0755\n\n")
    left = {name for name, text in found.items() if text is not None}
    gone = {"usr/lib/systemd/systemd", "etc/systemd/system.conf", "usr/bin/init"}
    assert left == {*there} - gone


WOLFI = {
    "lib64": "-> usr/lib",
    "usr/lib64": "-> lib",
    "usr/sbin": "-> bin",
    "usr/bin/ip": "wolfi",
    "usr/lib/libc.so.6": "wolfi",
    "usr/lib/plain": "wolfi",
    "etc/passwd": "wolfi",
}
FEDORA = {
    "lib64": "-> usr/lib64",
    "usr/lib64/libc.so.6": "fedora",
    "usr/lib64/systemd/libsystemd-shared.so": "fedora",
    "usr/lib64/libold.so.1": "-> libold.so.1.2",
    "usr/sbin/ip": "fedora",
    "usr/sbin/sysctl": "fedora",
    "usr/lib/plain/inside": "fedora",
    "usr/share/empty": None,
    "etc/passwd": "fedora",
    "etc/dracut.conf": "fedora",
}
WHOLE = {
    **WOLFI,
    "usr": None,
    "usr/bin": None,
    "usr/bin/sysctl": "fedora",
    "usr/lib": None,
    "usr/lib/systemd": None,
    "usr/lib/systemd/libsystemd-shared.so": "fedora",
    "usr/lib/libold.so.1": "-> libold.so.1.2",
    "usr/share": None,
    "usr/share/empty": None,
    "etc": None,
    "etc/dracut.conf": "fedora",
}


@pytest.fixture
def whole(tmp_path):
    """Both trees, and what they are together"""
    wolfi = made(tmp_path / "wolfi", WOLFI)
    fedora = made(tmp_path / "fedora", FEDORA)
    (tmp_path / "whole").mkdir()
    for argv in copy_argvs(wolfi, tmp_path / "whole"):
        subprocess.run(argv, check=True)
    layers.fill(fedora, tmp_path / "whole")
    return wolfi, fedora, tmp_path / "whole"


def test_what_is_there_stays_and_the_rest_is_relocated(whole):
    assert seen(whole[2]) == WHOLE


def test_files_of_usr_are_shared_others_are_not(whole):
    _wolfi, fedora, both = whole
    for inside, name, shared in (
        ("usr/lib64/libold.so.1", "usr/lib/libold.so.1", True),
        ("usr/sbin/sysctl", "usr/bin/sysctl", True),
        ("etc/dracut.conf", "etc/dracut.conf", False),
    ):
        same = (fedora / inside).lstat().st_ino == (both / name).lstat().st_ino
        assert same is shared, name


def test_a_link_that_leads_out_is_refused(tmp_path):
    fedora = made(tmp_path / "fedora", {"usr/share/a/x": ""})
    both = made(tmp_path / "whole", {"usr/share/a": "-> ../../../../outside"})
    with pytest.raises(UserError, match="leads out"):
        layers.fill(fedora, both)
    assert not (tmp_path / "outside").exists()


def test_layers(whole, tmp_path):
    wolfi, fedora, both = whole
    (both / "usr/lib/plain").unlink()
    (both / "usr/lib/plain").write_text("ours")
    (both / "usr/bin").chmod(0o711)
    origins = {"wolfi": [str(wolfi)], "fedora": [str(fedora)]}
    expected = seen(both)
    out = tmp_path / "out"
    layers.divide(both, out, layers.inodes(origins))
    assert seen(out / "wolfi").keys() >= {"usr/bin/ip", "usr/lib/libc.so.6"}
    assert seen(out / "fedora").keys() >= {"usr/bin/sysctl", "usr/lib/libold.so.1"}
    changes = {"usr/lib/plain": "ours", "etc/passwd": "wolfi", "usr/share/empty": None}
    assert changes.items() <= seen(out / "changes").items()
    assert seen(out / "work") == {}
    # One over another they are the whole, and no file is in two of them
    files = {}
    for layer in ("fedora", "wolfi", "changes"):
        own = seen(out / layer)
        assert not {one for one in own if own[one] is not None and one in files}
        files.update(own)
        if (out / layer / "usr/bin").is_dir():
            assert (out / layer / "usr/bin").stat().st_mode & 0o777 == 0o711
    assert files == expected


SCRIPTS = sorted(
    one for one in OURS.rglob("*") if one.is_file() and one.read_bytes()[:2] == b"#!"
)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_our_scripts(path):
    """They can be executed, and their shell can read them"""
    assert os.access(path, os.X_OK)
    shell = path.read_text().splitlines()[0][2:]
    if shutil.which(shell):
        subprocess.run([shell, "-n", str(path)], check=True)
