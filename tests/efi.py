"""Small EFI programs"""

import struct
from typing import Dict

ALIGNMENT = 512  # of sections, in the file and in memory
SECTION = struct.Struct("<8s6I2HI")


def program(sections: Dict[str, bytes], time: int = 0) -> bytes:
    """
    A PE32+ program of sections that are data

    https://learn.microsoft.com/en-us/windows/win32/debug/pe-format
    """
    head = b"MZ" + bytes(58) + struct.pack("<I", 64)
    optional = struct.pack("<H", 0x20B) + bytes(30) + struct.pack("<II", 512, 512)
    optional += bytes(16) + struct.pack("<IIIHH", 0x10000, 512, 0, 10, 0)
    optional = optional.ljust(112, b"\0")
    count = len(sections)
    head += b"PE\0\0"
    head += struct.pack("<HHIIIHH", 0x8664, count, time, 0, 0, len(optional), 0x22)
    table, body, start = b"", b"", 4 * ALIGNMENT
    for name, content in sections.items():
        padded = content.ljust(-(-len(content) // ALIGNMENT) * ALIGNMENT, b"\0")
        where = start + len(body)
        sizes = len(content), where, len(padded), where
        table += SECTION.pack(name.encode(), *sizes, 0, 0, 0, 0, 0x40000040)
        body += padded
    return (head + optional + table).ljust(start, b"\0") + body
