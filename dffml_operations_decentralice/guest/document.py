"""
What the health script's document says

The script gives what commands said, here it gets its meaning: nothing is interpreted
by a shell in the guest.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import json
import shlex
from typing import Any, Callable, Dict, List, Optional, Tuple

FORMAT = 1
CHECK = "\1"  # before the output of each
TOLD = 20  # lines of errors that are told, the others are counted
LISTEN = {"tcp": "0A", "tcp6": "0A", "udp": "07", "udp6": "07"}


def read_document(raw: bytes) -> Dict[str, Any]:
    """The guest's part of a report; `ValueError` if it is no document of ours"""
    try:
        found = json.loads(raw.decode("ascii"))
        if not isinstance(found, dict) or found.pop("format", None) != FORMAT:
            raise ValueError(f"not a document of format {FORMAT}")
        fields = {name: _decoded(value) for name, value in found.items()}
    except (UnicodeDecodeError, binascii.Error, TypeError, AttributeError) as error:
        raise ValueError(f"not a document of the health script: {error}") from error
    document: Dict[str, Any] = {}
    for name, read in READERS.items():
        text = fields.get(name, "")
        try:
            document[name] = read(text)
        except (ValueError, KeyError, IndexError, TypeError, AttributeError):
            # A command which is missing or says something else spoils its field only
            document[name] = None
            document.setdefault("unreadable", {})[name] = text[:500]
    document["sockets"] = [
        {"protocol": protocol, "address": address, "port": port}
        for protocol in LISTEN
        for address, port in listening(fields.get(protocol, ""), protocol)
    ]
    return document


def _decoded(value: str) -> str:
    return base64.b64decode(value, validate=True).decode("utf-8", "replace").strip()


def failed_units(text: str) -> List[Dict[str, str]]:
    """``systemctl list-units --output=json``"""
    names = ("unit", "load", "active", "sub", "description")
    return [{name: str(one.get(name, "")) for name in names} for one in _json(text)]


def _json(text: str) -> Any:
    return json.loads(text) if text else []


def properties(text: str) -> Dict[str, str]:
    """One block of ``systemctl show``"""
    pairs = (line.partition("=") for line in text.splitlines())
    return {name: value for name, separator, value in pairs if separator}


def units(text: str) -> Dict[str, Dict[str, str]]:
    """``systemctl show`` of several units, by name"""
    blocks = [properties(block) for block in text.split("\n\n")]
    names = ("LoadState", "ActiveState", "SubState", "Result", "NRestarts")
    return {
        one["Id"]: {name: one[name] for name in names if name in one}
        for one in blocks
        if one
    }


def readiness(text: str) -> Dict[str, Any]:
    """An HTTP response: status, and body, parsed if it is JSON"""
    status: Optional[int] = None
    body = text.replace("\r\n", "\n")
    if body.startswith("HTTP/"):
        head, _, body = body.partition("\n\n")
        status = int(head.split()[1])
    try:
        return {"http": status, "body": json.loads(body)}
    except ValueError:
        return {"http": status, "body": body[:500]}


def boot_times(text: str) -> Dict[str, float]:
    """
    Seconds by phase. Firmware and loader count back from the kernel's start, the others
    forward: https://www.freedesktop.org/software/systemd/man/latest/org.freedesktop.systemd1.html
    """
    suffix = "TimestampMonotonic"
    at = {
        name[: -len(suffix)]: int(value) / 1e6
        for name, value in properties(text).items()
        if name.endswith(suffix)
    }
    initrd = at["InitRD"] or at["Userspace"]
    phases = {
        "firmware": at["Firmware"] - at["Loader"],
        "loader": at["Loader"],
        "kernel": initrd,
        "initrd": at["Userspace"] - initrd,
        "userspace": max(0.0, at["Finish"] - at["Userspace"]),
    }
    return {name: round(seconds, 3) for name, seconds in phases.items()}


def targets(text: str) -> Dict[str, float]:
    """Seconds from the kernel's start to targets that were reached"""
    blocks = [properties(block) for block in text.split("\n\n")]
    times = {b["Id"]: int(b["ActiveEnterTimestampMonotonic"]) for b in blocks if b}
    return {name: round(time / 1e6, 3) for name, time in times.items() if time}


def links(text: str) -> List[Dict[str, Any]]:
    """``networkctl list --json=short``"""
    return [
        {
            "name": one["Name"],
            "operational": one.get("OperationalState", ""),
            "setup": one.get("AdministrativeState", ""),
            "addresses": [
                str(ipaddress.ip_address(bytes(address["Address"])))
                for address in one.get("Addresses", ())
            ],
        }
        for one in (json.loads(text)["Interfaces"] if text else ())
    ]


def mounts(text: str) -> Dict[str, Dict[str, str]]:
    """What is mounted from block devices: ``/proc/self/mounts``, proc(5)"""
    found = {}
    for line in text.splitlines():
        source, target, kind, options = line.split()[:4]
        if source.startswith("/dev/") or target == "/":
            path = target.encode().decode("unicode_escape")
            found[path] = {"source": source, "type": kind, "options": options}
    return found


def swaps(text: str) -> List[str]:
    """Devices in ``/proc/swaps``"""
    return [line.split()[0] for line in text.splitlines()[1:]]


def os_release(text: str) -> Dict[str, str]:
    """https://www.freedesktop.org/software/systemd/man/latest/os-release.html"""
    found = {}
    for word in shlex.split(text, comments=True):
        name, separator, value = word.partition("=")
        if separator:
            found[name] = value
    return found


def listening(text: str, table: str) -> List[Tuple[str, int]]:
    """Address and port of what listens by a table of ``/proc/net``, proc(5)"""
    found = set()
    for line in text.splitlines()[1:]:
        columns = line.split()
        if len(columns) > 3 and columns[3] == LISTEN[table]:
            address, port = columns[1].split(":")
            found.add((_address(address), int(port, 16)))
    return sorted(found)


def _address(digits: str) -> str:
    """Words of four bytes in the order of the (little-endian) machine"""
    words = [bytes.fromhex(digits[i : i + 8])[::-1] for i in range(0, len(digits), 8)]
    return str(ipaddress.ip_address(b"".join(words)))


def memory(text: str) -> Dict[str, int]:
    """MiB in all and available, of ``/proc/meminfo``"""
    pairs = (line.split(":", 1) for line in text.splitlines() if ":" in line)
    sizes = {name: value for name, value in pairs}
    names = {"total": "MemTotal", "available": "MemAvailable"}
    return {key: int(sizes[name].split()[0]) // 1024 for key, name in names.items()}


def errors(text: str) -> Dict[str, Any]:
    """How many lines, and the first of them"""
    lines = text.splitlines()
    return {"count": len(lines), "lines": lines[:TOLD]}


def checks(text: str) -> List[str]:
    """What the commands of settings said, one behind the other"""
    return [output.strip() for output in text.split(CHECK)[1:]]


def nameservers(text: str) -> List[str]:
    """resolv.conf(5)"""
    words = [line.split() for line in text.splitlines()]
    return [line[1] for line in words if len(line) > 1 and line[0] == "nameserver"]


def first_line(text: str) -> str:
    """The first line"""
    return text.split("\n", 1)[0]


READERS: Dict[str, Callable[[str], Any]] = {
    "state": first_line,
    "failed": failed_units,
    "jobs": lambda text: [] if text == "No jobs running." else text.splitlines(),
    "units": units,
    "readiness": readiness,
    "times": boot_times,
    "targets": targets,
    "links": links,
    "mounts": mounts,
    "swaps": swaps,
    "pid1": str,
    "systemd": first_line,
    "os_release": os_release,
    "kernel": str,
    "cmdline": str,
    "hostname": str,
    "motd": str,
    "resolv_conf": nameservers,
    "memory": memory,
    "tainted": int,
    "errors": errors,
    "checks": checks,
}
