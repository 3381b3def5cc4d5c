"""What the health script says, and what is made of it"""

import base64
import json
import os
import subprocess
from pathlib import Path

import pytest

from dffml_operations_decentralice.guest import (
    HERE,
    SMBIOS_LIMIT,
    document,
    health_credentials,
    health_script,
)
from dffml_operations_decentralice.vm.qemu import credential

HOSTILE = 'a "b" \\ {}\n\x00\x1b[0m\xff é </script>'.encode("latin-1")


def encoded(**fields):
    values = {
        name: base64.b64encode(
            value if isinstance(value, bytes) else value.encode()
        ).decode()
        for name, value in fields.items()
    }
    return json.dumps({"format": 1, **values}).encode()


def test_what_the_unit_runs_is_what_is_sent():
    found = health_credentials()
    unit = found["systemd.extra-unit.decentralice-health.service"].decode()
    assert "ExecStart=/bin/sh /dev/virtio-ports/decentralice.script" in unit
    assert health_script(90.5).startswith(b"limit=90\n")
    assert health_script(0.1).startswith(b"limit=1\n")


def test_checks_of_settings():
    """Whatever a command says, and whatever it is made of"""
    commands = ['echo it\\\'s "so"', "printf 'a\\nb'", "exit 3", "echo 'x", "none"]
    script = health_script(1, commands).decode()
    head = script.partition("# One JSON document")[0]
    body = (HERE / "health.sh").read_text().replace("main; exit", "")
    lines = [head, body, "printf '{\"format\":1'; field checks checks; printf '}'"]
    ran = subprocess.run(
        ["sh"],
        input="\n".join(lines).encode(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=True,
    )
    checks = document.read_document(ran.stdout)["checks"]
    assert checks == ["it's so", "a\nb", "", "", ""]


def test_credentials_are_small_enough():
    strings = [
        credential(*item)[1].partition("value=")[2]
        for item in health_credentials().items()
    ]
    assert sum(len(one) + 1 for one in strings) + 64 < SMBIOS_LIMIT


def test_the_script_needs_no_end_of_file(tmp_path):
    """As a port gives it: a shell that waited for more would wait for ever"""
    script = health_script(1).decode().replace("main; exit", "echo done; exit")
    read, write = os.pipe()
    os.write(write, script.encode())
    try:
        ran = subprocess.run(
            ["sh", f"/dev/fd/{read}"],
            pass_fds=[read],
            stdout=subprocess.PIPE,
            timeout=10,
            check=True,
        )
    finally:
        os.close(read)
        os.close(write)
    assert ran.stdout == b"done\n"


def shell(*commands):
    """Lines of shell after the script's functions"""
    script = (HERE / "health.sh").read_text().replace("main; exit", "")
    text = "\n".join(["limit=5", script, *commands])
    ran = subprocess.run(
        ["sh", "-c", text],
        env={"PATH": "/usr/bin:/bin:/usr/sbin"},
        stdout=subprocess.PIPE,
        check=True,
    )
    return ran.stdout


def test_well_formed_whatever_is_said(tmp_path):
    (tmp_path / "said").write_bytes(HOSTILE * 100)
    raw = shell(
        "printf '{\"format\":1'",
        f"field motd cat {tmp_path}/said",
        "field hostname no-such-command",
        "field kernel false",
        "printf '}\\n'",
    )
    assert raw.endswith(b"}\n") and raw.count(b"\n") == 1
    found = document.read_document(raw)
    assert found["motd"] == (HOSTILE * 100).decode("utf-8", "replace").strip()
    assert found["hostname"] == found["kernel"] == ""


def test_the_whole_script_gives_a_document_anywhere():
    """Also where there is no systemd, no network and no service to ask"""
    raw = shell(
        "systemctl() { :; }",
        "journalctl() { :; }",
        "automounts() { :; }",
        "report",
    )
    found = document.read_document(raw)
    assert found["kernel"] == Path("/proc/sys/kernel/osrelease").read_text().strip()
    assert found["memory"]["total"] > 0
    assert found["os_release"]["ID"]


def test_syntax_of_the_script():
    subprocess.run(["sh", "-n", str(HERE / "health.sh")], check=True)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b'{"format":2}',
        b'{"format":1,"state":3}',
        b'{"format":1,"state":"?"}',
        b'{"format":1,"state":["YQ=="]}',
        b'{"format":1,"state":"YQ"}',
        b"\xff",
    ],
)
def test_not_a_document(raw):
    with pytest.raises(ValueError):
        document.read_document(raw)


def test_a_field_that_cannot_be_read_spoils_itself_only():
    found = document.read_document(encoded(failed="No such option", state="running"))
    assert found["state"] == "running"
    assert found["failed"] is None
    assert found["unreadable"]["failed"] == "No such option"


@pytest.mark.parametrize(
    "read,text,expected",
    [
        (document.failed_units, "", []),
        (
            document.failed_units,
            '[{"unit":"a.service","load":"loaded","active":"failed","sub":"failed",'
            '"description":"A"}]',
            [
                {
                    "unit": "a.service",
                    "load": "loaded",
                    "active": "failed",
                    "sub": "failed",
                    "description": "A",
                }
            ],
        ),
        (
            document.units,
            "Id=a.service\nActiveState=active\nNRestarts=0\n\nId=b.socket\n"
            "LoadState=not-found\nExtra=1",
            {
                "a.service": {"ActiveState": "active", "NRestarts": "0"},
                "b.socket": {"LoadState": "not-found"},
            },
        ),
        (
            document.readiness,
            'HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n{"a":{"b":1}}',
            {"http": 200, "body": {"a": {"b": 1}}},
        ),
        (document.readiness, '{"a":1}', {"http": None, "body": {"a": 1}}),
        (
            document.readiness,
            "curl: (7) Failed to connect",
            {"http": None, "body": "curl: (7) Failed to connect"},
        ),
        (
            document.boot_times,
            "FirmwareTimestampMonotonic=9000000\nLoaderTimestampMonotonic=4000000\n"
            "InitRDTimestampMonotonic=2500000\nUserspaceTimestampMonotonic=8000000\n"
            "FinishTimestampMonotonic=0",
            {
                "firmware": 5.0,
                "loader": 4.0,
                "kernel": 2.5,
                "initrd": 5.5,
                "userspace": 0.0,
            },
        ),
        (
            document.targets,
            "Id=basic.target\nActiveEnterTimestampMonotonic=1500000\n\n"
            "Id=network.target\nActiveEnterTimestampMonotonic=0",
            {"basic.target": 1.5},
        ),
        (document.links, "", []),
        (
            document.links,
            '{"Interfaces":[{"Name":"ens3","OperationalState":"routable",'
            '"AdministrativeState":"configured","Addresses":'
            '[{"Family":2,"Address":[10,0,2,15],"PrefixLength":24}]}]}',
            [
                {
                    "name": "ens3",
                    "operational": "routable",
                    "setup": "configured",
                    "addresses": ["10.0.2.15"],
                }
            ],
        ),
        (
            document.mounts,
            "/dev/vda3 / ext4 rw,relatime 0 0\nproc /proc proc rw 0 0\n"
            "/dev/vda1 /boot\\040x vfat rw 0 0",
            {
                "/": {"source": "/dev/vda3", "type": "ext4", "options": "rw,relatime"},
                "/boot x": {"source": "/dev/vda1", "type": "vfat", "options": "rw"},
            },
        ),
        (document.swaps, "Filename Type Size\n/dev/vda2 partition 1", ["/dev/vda2"]),
        (document.swaps, "", []),
        (
            document.os_release,
            "# c\nID=wolfi\nPRETTY_NAME=\"A 'b'\"\nVARIANT_ID=mirror\n",
            {"ID": "wolfi", "PRETTY_NAME": "A 'b'", "VARIANT_ID": "mirror"},
        ),
        (
            document.memory,
            "MemTotal:        2048000 kB\nMemFree: 1 kB\nMemAvailable:    1024000 kB",
            {"total": 2000, "available": 1000},
        ),
        (document.errors, "", {"count": 0, "lines": []}),
        (document.errors, "a\nb", {"count": 2, "lines": ["a", "b"]}),
        (document.nameservers, "# c\nnameserver 127.0.0.53\noptions a", ["127.0.0.53"]),
    ],
)
def test_readers(read, text, expected):
    assert read(text) == expected


@pytest.mark.parametrize(
    "table,text,expected",
    [
        (
            "tcp",
            "  sl  local_address rem_address   st\n"
            "   0: 0100007F:0BB8 00000000:0000 0A 00000000:00000000\n"
            "   1: 0100007F:0BB8 0100007F:1234 01 00000000:00000000\n",
            [("127.0.0.1", 3000)],
        ),
        (
            "tcp6",
            "  sl  local\n"
            "   0: 00000000000000000000000001000000:0016 "
            "00000000000000000000000000000000:0000 0A 0\n",
            [("::1", 22)],
        ),
        (
            "udp",
            "  sl  local\n  9: 3500007F:0035 00000000:0000 07 0\n",
            [("127.0.0.53", 53)],
        ),
        ("tcp", "", []),
    ],
)
def test_listening(table, text, expected):
    assert document.listening(text, table) == expected
