"""
QEMU's command line, as data

https://www.qemu.org/docs/master/system/invocation.html. Devices and drives are given as
JSON where QEMU takes it: no comma of a path can end an option.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Tuple

from ..errors import MissingTool

QEMU = "qemu-system-x86_64"
# (code, variables): Debian and Ubuntu, Fedora, Arch, openSUSE
FIRMWARE = (
    ("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"),
    ("/usr/share/edk2/ovmf/OVMF_CODE.fd", "/usr/share/edk2/ovmf/OVMF_VARS.fd"),
    ("/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"),
    ("/usr/share/edk2/x64/OVMF_CODE.4m.fd", "/usr/share/edk2/x64/OVMF_VARS.4m.fd"),
    ("/usr/share/qemu/ovmf-x86_64-code.bin", "/usr/share/qemu/ovmf-x86_64-vars.bin"),
)
# Without KVM: four levels of page tables instead of five, and no reason for the guest
# to load its own KVM. Other models (no AVX, qemu64) cost the same, Haswell's costs more
CPU = {"kvm": "host", "tcg": "max,la57=off,svm=off"}
# What a disk hangs on; q35 has a controller for AHCI. The firmware boots from all
BUSES: Dict[str, Dict[str, Any]] = {
    "virtio": {"driver": "virtio-blk-pci"},
    "ahci": {"driver": "ide-hd"},
    "nvme": {"driver": "nvme", "serial": "decentralice"},
}
ACCELERATOR = {"kvm": "kvm", "tcg": "tcg,thread=multi"}


class Firmware(NamedTuple):
    """OVMF: its code, never written to, and the template of its variables"""

    code: str
    variables: str


@dataclass(frozen=True)
class Machine:
    """
    A virtual machine. Relative paths are relative to the directory which QEMU is
    started in; sockets are listened on before it starts, QEMU connects to them.
    """

    accelerator: str = "tcg"
    cpu: str = ""
    cpus: int = 2
    memory: int = 2048  # MiB
    firmware_code: str = ""
    firmware_variables: str = ""  # of this machine alone: it is written to
    disk: str = ""
    disk_format: str = "qcow2"
    disk_bus: str = "virtio"  # one of BUSES
    disposable: bool = True  # what is written to the disk need not survive a crash
    serial: str = ""  # a socket; "stdio": the terminal, with the monitor behind it
    qmp: str = ""  # a socket
    ports: Tuple[Tuple[str, str], ...] = ()  # virtio-serial: name, socket
    credentials: Tuple[Tuple[str, bytes], ...] = ()
    network: str = ""  # "", "restricted" (no way out), "open"
    forwards: Tuple[Tuple[int, int], ...] = ()  # host's loopback port, guest's port
    reboot: bool = False
    # A screen that the firmware draws on: memory of the machine, so that a kernel which
    # writes its console there is no slower. https://www.qemu.org/docs/master/specs/fw_cfg.html
    screen: bool = False


def find_firmware(code: str = "", variables: str = "") -> Firmware:
    """The firmware that is named, else the first of those known which is there"""
    named = ((code, variables),) if code or variables else FIRMWARE
    for pair in named:
        if all(path and Path(path).is_file() for path in pair):
            return Firmware(*pair)
    missing = code or variables or FIRMWARE[0][0]
    raise MissingTool(
        f"no UEFI firmware for the virtual machine: {missing}",
        remedy="apt-get install ovmf (Fedora: dnf install edk2-ovmf), or set"
        " both firmware_code and firmware_vars",
    )


def credential(name: str, content: bytes) -> List[str]:
    """
    An SMBIOS string which systemd takes a credential from

    https://www.freedesktop.org/software/systemd/man/latest/systemd.html#Credentials
    """
    if not name or not set(name) <= _NAME:
        raise ValueError(f"not the name of a credential: {name!r}")
    value = base64.b64encode(content).decode()
    return ["-smbios", f"type=11,value=io.systemd.credential.binary:{name}={value}"]


_NAME = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-@:")


def qemu_argv(machine: Machine, qemu: str = QEMU) -> List[str]:
    """The command that runs a machine"""
    argv = [qemu, "-nodefaults", "-no-user-config", "-display", "none", "-vga", "none"]
    argv += _board(machine)
    argv += _channels(machine)
    argv += ["-device", "virtio-rng-pci"]
    if machine.screen:
        argv += ["-device", "ramfb"]
    if not machine.reboot:
        argv += ["-no-reboot"]
    if machine.disk:
        argv += _disk(machine)
    argv += _network(machine)
    for name, content in machine.credentials:
        argv += credential(name, content)
    return argv


def _board(machine: Machine) -> List[str]:
    argv, flash = [], ""
    if machine.firmware_code:
        files = (machine.firmware_code, True), (machine.firmware_variables, False)
        for number, (path, read_only) in enumerate(files):
            file = {"driver": "file", "filename": path}
            argv += _blockdev(f"flash{number}", "raw", file, {"read-only": read_only})
            flash += f",pflash{number}=flash{number}"
    return argv + [
        *("-machine", f"q35,smm=off,vmport=off{flash}"),
        *("-accel", ACCELERATOR[machine.accelerator]),
        *("-cpu", machine.cpu or CPU[machine.accelerator]),
        *("-smp", str(machine.cpus)),
        *("-m", f"{machine.memory}M"),
    ]


def _disk(machine: Machine) -> List[str]:
    cache = {"direct": False, "no-flush": machine.disposable}
    file = {"driver": "file", "filename": machine.disk, "cache": cache}
    more = {"cache": cache, "discard": "unmap"}
    device = {**BUSES[machine.disk_bus], "drive": "disk", "bootindex": 1}
    node = _blockdev("disk", machine.disk_format, file, more)
    return node + ["-device", json.dumps(device)]


def _blockdev(
    name: str, driver: str, file: Mapping[str, Any], more: Mapping[str, Any]
) -> List[str]:
    node = {"node-name": name, "driver": driver, "file": dict(file), **more}
    return ["-blockdev", json.dumps(node)]


def _channels(machine: Machine) -> List[str]:
    argv: List[str] = []
    if machine.serial == "stdio":
        argv += ["-serial", "mon:stdio"]
    elif machine.serial:
        argv += _socket("serial", machine.serial) + ["-serial", "chardev:serial"]
    if machine.qmp:
        argv += _socket("qmp", machine.qmp) + ["-mon", "chardev=qmp,mode=control"]
    if machine.ports:
        argv += ["-device", "virtio-serial-pci"]
    for number, (name, path) in enumerate(machine.ports):
        device = {"driver": "virtserialport", "chardev": f"port{number}", "name": name}
        device["id"] = f"port{number}"
        argv += _socket(f"port{number}", path) + ["-device", json.dumps(device)]
    return argv


def _socket(name: str, path: str) -> List[str]:
    return ["-chardev", f"socket,id={name},path={path.replace(',', ',,')},server=off"]


def _network(machine: Machine) -> List[str]:
    if not machine.network:
        return []
    user = "user,id=net0"
    if machine.network == "restricted":
        user += ",restrict=on"
    for host, guest in machine.forwards:
        user += f",hostfwd=tcp:127.0.0.1:{host}-:{guest}"
    # romfile: the firmware has a driver of its own, the option ROM is one more file
    device: Dict[str, str] = {"driver": "virtio-net-pci", "netdev": "net0"}
    device["romfile"] = ""
    return ["-netdev", user, "-device", json.dumps(device)]


def overlay_argv(disk: str, overlay: str) -> List[str]:
    """The command that makes a disk which keeps what is written beside ``disk``"""
    return [
        *("qemu-img", "create", "-q", "-f", "qcow2"),
        *("-b", disk, "-F", image_format(disk), overlay),
    ]


def image_format(disk: str) -> str:
    """
    qcow2 or raw. https://www.qemu.org/docs/master/interop/qcow2.html#header
    """
    with open(disk, "rb") as file:
        return "qcow2" if file.read(4) == b"QFI\xfb" else "raw"


def unavailable_accelerator(stderr: str) -> Optional[str]:
    """The line by which QEMU says that it cannot use an accelerator"""
    for line in stderr.splitlines():
        if any(sign in line for sign in INFRASTRUCTURE):
            return line.strip()
    return None


INFRASTRUCTURE = (
    "KVM internal error",
    "failed to initialize kvm",
    "Could not access KVM kernel module",
    "kvm_buf_set_msrs",
    "failed to set MSR",
    "not supported by this hypervisor",
    "Cannot allocate memory",
    "cannot set up guest memory",
)
