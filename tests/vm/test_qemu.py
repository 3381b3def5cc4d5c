"""QEMU's command line"""

import base64
import json
from dataclasses import replace

import pytest

from dffml_operations_decentralice.errors import MissingTool
from dffml_operations_decentralice.vm.qemu import (
    Machine,
    credential,
    find_firmware,
    image_format,
    overlay_argv,
    qemu_argv,
    unavailable_accelerator,
)

WHOLE = Machine(
    accelerator="tcg",
    firmware_code="/fw/CODE.fd",
    firmware_variables="variables",
    disk="disk.qcow2",
    serial="serial",
    qmp="qmp",
    ports=(("a.port", "health"),),
    network="restricted",
)


def values(argv, option):
    return [argv[i + 1] for i, word in enumerate(argv) if word == option]


@pytest.mark.parametrize(
    "option,expected",
    [
        ("-smp", ["2"]),
        ("-m", ["2048M"]),
        ("-cpu", ["max,la57=off,svm=off"]),
        ("-display", ["none"]),
        ("-netdev", ["user,id=net0,restrict=on"]),
        ("-serial", ["chardev:serial"]),
        ("-mon", ["chardev=qmp,mode=control"]),
        ("-kernel", []),
        ("-drive", []),
    ],
)
def test_options(option, expected):
    assert values(qemu_argv(WHOLE), option) == expected


@pytest.mark.parametrize(
    "bus,driver", [("virtio", "virtio-blk-pci"), ("ahci", "ide-hd"), ("nvme", "nvme")]
)
def test_what_a_disk_hangs_on(bus, driver):
    argv = qemu_argv(replace(WHOLE, disk_bus=bus))
    devices = [json.loads(one) for one in values(argv, "-device") if one[0] == "{"]
    [disk] = [one for one in devices if one.get("drive") == "disk"]
    assert (disk["driver"], disk["bootindex"]) == (driver, 1)


def test_firmware_is_read_only_and_its_variables_are_not():
    nodes = {
        node["node-name"]: node
        for node in map(json.loads, values(qemu_argv(WHOLE), "-blockdev"))
    }
    assert nodes["flash0"]["read-only"] is True
    assert nodes["flash1"]["read-only"] is False
    assert nodes["disk"]["driver"] == "qcow2"
    machine = values(qemu_argv(WHOLE), "-machine")[0]
    assert machine.endswith("pflash0=flash0,pflash1=flash1")


@pytest.mark.parametrize(
    "machine,option,present",
    [
        (Machine(), "-no-reboot", True),
        (Machine(reboot=True), "-no-reboot", False),
        (Machine(), "-netdev", False),
        (Machine(), "-blockdev", False),
        (Machine(network="open"), "-netdev", True),
        (Machine(screen=True), "ramfb", True),
        (Machine(), "ramfb", False),
        (Machine(credentials=(("a", b"b"),)), "-smbios", True),
    ],
)
def test_what_is_not_asked_for_is_not_there(machine, option, present):
    assert (option in qemu_argv(machine)) is present


@pytest.mark.parametrize(
    "machine,option,value",
    [
        (Machine(accelerator="kvm"), "-cpu", "host"),
        (Machine(accelerator="kvm"), "-accel", "kvm"),
        (Machine(accelerator="kvm", cpu="qemu64"), "-cpu", "qemu64"),
        (Machine(serial="stdio"), "-serial", "mon:stdio"),
        (Machine(network="open"), "-netdev", "user,id=net0"),
        (
            Machine(network="restricted", forwards=((0, 3000),)),
            "-netdev",
            "user,id=net0,restrict=on,hostfwd=tcp:127.0.0.1:0-:3000",
        ),
        (
            Machine(qmp="a,b"),
            "-chardev",
            "socket,id=qmp,path=a,,b,server=off",
        ),
    ],
)
def test_values(machine, option, value):
    assert values(qemu_argv(machine), option) == [value]


def test_commas_and_quotes_of_a_path_end_no_option():
    path = 'a,readonly=on"\\b.qcow2'
    argv = qemu_argv(Machine(disk=path))
    assert json.loads(values(argv, "-blockdev")[0])["file"]["filename"] == path


@pytest.mark.parametrize("content", [b"", b"a,b=c", "ä\n".encode(), bytes(range(256))])
def test_credential(content):
    option, value = credential("systemd.extra-unit.a@b.service", content)
    head, _, encoded = value.partition("a@b.service=")
    assert option == "-smbios"
    assert head == ("type=11,value=io.systemd.credential.binary:systemd.extra-unit.")
    assert "," not in encoded
    assert base64.b64decode(encoded) == content


@pytest.mark.parametrize("name", ["", "a,b", "a=b", "a b", "a/b", "ä"])
def test_not_a_credential(name):
    with pytest.raises(ValueError):
        credential(name, b"")


@pytest.mark.parametrize(
    "head,expected", [(b"QFI\xfb", "qcow2"), (b"", "raw"), (b"\0" * 512, "raw")]
)
def test_image_format(tmp_path, head, expected):
    (tmp_path / "disk").write_bytes(head)
    assert image_format(str(tmp_path / "disk")) == expected
    argv = overlay_argv(str(tmp_path / "disk"), "over")
    assert argv[argv.index("-F") + 1] == expected


def test_named_firmware_needs_both(tmp_path):
    (tmp_path / "code").write_bytes(b"")
    (tmp_path / "vars").write_bytes(b"")
    found = find_firmware(str(tmp_path / "code"), str(tmp_path / "vars"))
    assert found.code == str(tmp_path / "code")
    for pair in ((found.code, ""), ("", found.variables), (found.code, "/none")):
        with pytest.raises(MissingTool) as caught:
            find_firmware(*pair)
        assert "ovmf" in caught.value.remedy


@pytest.mark.parametrize(
    "stderr,expected",
    [
        ("a\nKVM internal error. Suberror: 1\nb", "KVM internal error. Suberror: 1"),
        ("failed to set MSR 0x10a to 0x69\n", "failed to set MSR 0x10a to 0x69"),
        ("qemu: failed to initialize kvm: No such file", None),
        ("qemu-system-x86_64: terminating on signal 15", None),
        ("", None),
    ],
)
def test_unavailable_accelerator(stderr, expected):
    if "failed to initialize" in stderr:
        expected = stderr
    assert unavailable_accelerator(stderr) == expected
