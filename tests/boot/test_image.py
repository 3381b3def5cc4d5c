"""The one image of this session: what it says of itself, and what lies on its disk"""

import json
import stat
import subprocess

import pefile
import pytest

from dffml_operations_decentralice.engine.commands import find_tool
from dffml_operations_decentralice.engine.digest import digest_of
from dffml_operations_decentralice.engine.sandbox import tree_argv
from dffml_operations_decentralice.guest import document
from dffml_operations_decentralice.operations.disk import TYPES

MIB = 1 << 20
# The recipe: ESP from 1 to 261 MiB, swap to 10491 MiB, root to the end of 20 GB
LAYOUT = {"esp": (1, 261), "swap": (261, 10491), "root": (10491, 20479)}
STAGES = ["firmware", "loader", "kernel", "initrd", "switch-root", "userspace", "login"]


@pytest.fixture
def in_tools(image, tmp_path):
    """Run a program of the tools tree; tmp_path is /run/work, the store /run/store"""

    def run(*argv, ok=(0,)):
        words = tree_argv(
            find_tool("bwrap"),
            str(image.artefact("tools-tree")),
            [str(word) for word in argv],
            env={},
            bind={str(tmp_path): "/run/work"},
            ro_bind={str(image.store): "/run/store"},
        )
        done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert done.returncode in ok, done.stdout.decode()
        return done.stdout.decode()

    return run


def test_it_boots_and_nothing_fails(image):
    report = image.report
    assert report["verdict"] == "boots", report["reason"]
    assert report["state"] == "running"
    assert report["failed_units"] == []


def test_stages_come_in_order(image):
    times = [image.report["stages"][name] for name in STAGES[:-1]]
    assert times == sorted(times)
    assert image.report["stages"]["login"] > image.report["stages"]["userspace"]


def test_the_service_is_ready_inside(image):
    assert image.report["ssi"]["active"] == "active"
    assert image.report["ssi"]["ready"] is True


def test_pid_1_is_the_userspaces_systemd(image):
    assert image.report["guest"]["pid1"] == "/usr/lib/systemd/systemd"


def test_it_says_that_it_is_a_mirrors(image):
    assert image.report["guest"]["os_release"]["VARIANT_ID"] == "mirror"
    assert image.report["variant"] == "mirror"


def test_os_release_is_the_same_everywhere(image):
    """What the boot loader sorts by, what is on the disk, what the system says"""
    root = (image.artefact("root-tree") / "usr/lib/os-release").read_text()
    uki = pefile.PE(str(image.artefact("decentralice.efi")), fast_load=True)
    [section] = [one for one in uki.sections if one.Name.rstrip(b"\0") == b".osrel"]
    assert section.get_data()[: section.Misc_VirtualSize].decode() == root
    guest = image.report["guest"]["os_release"]
    assert guest == document.os_release(root)
    assert guest["IMAGE_ID"] == guest["ID"] == "decentralice"
    assert guest["IMAGE_VERSION"] == guest["VERSION_ID"]
    title = image.report["guest"]["motd"].splitlines()[0]
    assert title == guest["PRETTY_NAME"]


def test_nothing_listens_outside_but_the_dhcp_client(image):
    outside = [
        (one["protocol"], one["port"])
        for one in image.report["guest"]["sockets"]
        if not one["address"].startswith(("127.", "::1"))
    ]
    assert set(outside) <= {("udp", 68), ("udp6", 546)}


def test_network_and_names_are_configured(image):
    guest = image.report["guest"]
    links = {one["name"]: one for one in guest["links"] if one["name"] != "lo"}
    assert [one["setup"] for one in links.values()] == ["configured"]
    assert guest["resolv_conf"] == ["127.0.0.53"]


def test_root_swap_and_esp_are_found_by_their_types(image):
    guest = image.report["guest"]
    assert guest["mounts"]["/"]["type"] == "ext4"
    assert guest["mounts"]["/boot"]["type"] == "vfat"
    assert len(guest["swaps"]) == 1


def test_its_settings_are_seen_inside(image):
    """Each one that has a default, and those of the flow"""
    seen = {one["setting"]: one["ok"] for one in image.report["settings"]}
    assert seen == {
        "compose_root.hostname": True,
        "compose_root.locale": True,
        "compose_root.timezone": True,
        "compose_root.root_password_hash": True,
        "partition": True,
        "lock_kernel_rpms.kernel": True,
        "build_uki.cmdline": True,
        "os_release": True,
        "install_bootloader": True,
        "lock_userspace.packages": True,
    }


def test_it_has_its_settings_for_root_alone(image):
    path = image.artefact("root-tree") / "usr/lib/decentralice/settings.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert json.loads(path.read_text())["compose_root"]["hostname"] == "alice"


def test_the_recordings_are_there(image):
    assert b"Linux version" in (image.directory / "console.log").read_bytes()
    with open(image.directory / "console.cast") as cast:
        assert json.loads(cast.readline())["version"] == 2


def test_the_splash_is_seen_while_the_kernel_starts(image):
    """In the middle of the screen, pixel for pixel"""
    from PIL import Image

    shot = image.report["screenshot"]
    assert shot["stage"] == "kernel", shot
    screen = Image.open(image.directory / shot["file"]).convert("RGB")
    splash = Image.open(image.artefact("splash.bmp")).convert("RGB")
    left, top = ((a - b) // 2 for a, b in zip(screen.size, splash.size))
    box = (left, top, left + splash.width, top + splash.height)
    assert screen.crop(box).tobytes() == splash.tobytes()


def test_the_disk_was_not_written_to(image):
    digest, _, _ = image.disk.name.partition("-")
    assert digest_of(image.disk) == digest
    assert not image.disk.stat().st_mode & 0o222


def test_roots_password_is_locked(image):
    shadow = (image.artefact("root-tree") / "etc/shadow").read_text()
    [root] = [line for line in shadow.splitlines() if line.startswith("root:")]
    assert root.split(":")[1] == "!*"


def accounts(root, file):
    """Names and numbers of passwd or group"""
    lines = (root / "etc" / file).read_text().splitlines()
    return {line.split(":")[0]: int(line.split(":")[2]) for line in lines}


@pytest.mark.parametrize(
    "path,user,group,mode",
    [
        ("etc/shadow", "root", "shadow", 0o640),
        ("usr/bin/unix_chkpwd", "root", "shadow", 0o2755),
        ("usr/bin/chage", "root", "shadow", 0o2755),
        ("usr/bin/su", "root", "root", 0o4755),
        ("root", "root", "root", 0o700),
        ("tmp", "root", "root", 0o1777),
        ("var/tmp", "root", "root", 0o1777),
        ("etc/machine-id", "root", "root", 0o444),
    ],
)
def test_owners_and_modes(image, path, user, group, mode):
    root = image.artefact("root-tree")
    info = (root / path).lstat()
    users, groups = accounts(root, "passwd"), accounts(root, "group")
    assert (info.st_uid, info.st_gid) == (users[user], groups[group])
    assert stat.S_IMODE(info.st_mode) == mode


def test_nothing_is_left_for_a_first_boot(image):
    root = image.artefact("root-tree")
    assert (root / "etc/machine-id").read_bytes() == b""
    for name in ("etc/.updated", "var/.updated", "usr/lib/udev/hwdb.bin"):
        assert (root / name).exists(), name
    for unit in ("systemd-networkd", "systemd-resolved", "ssi-service"):
        wanting = root.glob("etc/systemd/system/*.wants")
        assert any((one / f"{unit}.service").is_symlink() for one in wanting), unit


def test_no_key_is_in_the_image(image):
    root = image.artefact("root-tree")
    for path in root.rglob("*"):
        if path.is_file() and not path.is_symlink() and path.stat().st_size < MIB:
            assert b"PRIVATE KEY-----\n" not in path.read_bytes(), path


def test_the_partition_table_is_the_recipes(image, in_tools, tmp_path):
    argv = [find_tool("qemu-img"), "convert", "-O", "raw", str(image.disk)]
    subprocess.run([*argv, str(tmp_path / "disk")], check=True)
    table = json.loads(in_tools("sfdisk", "--json", "/run/work/disk"))["partitiontable"]
    assert table["label"] == "gpt" and table["sectorsize"] == 512
    found = {
        one["name"]: (one["start"] // 2048, (one["start"] + one["size"]) // 2048)
        for one in table["partitions"]
    }
    assert found == LAYOUT
    assert {one["name"]: one["type"] for one in table["partitions"]} == TYPES
    assert (tmp_path / "disk").stat().st_size == 20480 * MIB
    (tmp_path / "disk").unlink()


@pytest.mark.parametrize(
    "name,argv", [("root.img", ["e2fsck", "-fn"]), ("esp.img", ["fsck.vfat", "-n"])]
)
def test_the_file_systems_are_sound(image, in_tools, name, argv):
    artefact = image.artefact(name).relative_to(image.store)
    in_tools(*argv, f"/run/store/{artefact}")
