"""
Lines with round ends on a canvas of pixels, smoothed at their edges

Only what IEEE 754 rounds exactly is computed (no sines, no powers), so a picture does
not depend on a library, its version or the machine.
"""

from __future__ import annotations

import math
import re
import struct
from typing import Dict, Iterable, List, Tuple

Point = Tuple[float, float]
Line = List[Point]
Colour = Tuple[int, int, int]
STEPS = 16  # straight pieces that a curve is drawn as
COMMAND = re.compile(r"([MLC])([^MLC]*)")
NUMBER = re.compile(r"-?[\d.]+")
HEADER, INFO = 14, 40  # bytes
PIXELS_PER_METRE = 2835  # 72 dpi


def colour(text: str) -> Colour:
    """``#rrggbb``"""
    red, green, blue = bytes.fromhex(text[1:])
    return red, green, blue


def lines(path: str) -> List[Line]:
    """
    What ``M``, ``L`` and ``C`` of a path draw

    https://www.w3.org/TR/SVG2/paths.html#PathData
    """
    found: List[Line] = []
    for command, rest in COMMAND.findall(path):
        numbers = [float(one) for one in NUMBER.findall(rest)]
        points = list(zip(numbers[::2], numbers[1::2]))
        if command == "M":
            found.append(points)
        elif command == "L":
            found[-1] += points
        else:
            for number in range(0, len(points), 3):
                found[-1] += _curve(found[-1][-1], *points[number : number + 3])
    return found


def _curve(a: Point, b: Point, c: Point, d: Point) -> Line:
    """A cubic Bézier curve, without its first point"""
    found = []
    for step in range(1, STEPS + 1):
        t = step / STEPS
        s = 1 - t
        weights = (s * s * s, 3 * s * s * t, 3 * s * t * t, t * t * t)
        x, y = (
            sum(weight * point[axis] for weight, point in zip(weights, (a, b, c, d)))
            for axis in (0, 1)
        )
        found.append((x, y))
    return found


def placed(
    drawn: Iterable[Line], x: float, y: float, scale: float = 1, mirrored: bool = False
) -> List[Line]:
    """Lines moved to a place; mirrored at its vertical"""
    across = -scale if mirrored else scale
    return [[(x + across * a, y + scale * b) for a, b in line] for line in drawn]


class Canvas:
    """``width`` times ``height`` pixels of three bytes (red, green, blue), by rows"""

    def __init__(self, width: int, height: int, background: Colour):
        self.width, self.height = width, height
        self.pixels = bytearray(bytes(background) * (width * height))

    def draw(self, drawn: Iterable[Line], width: float, paint: Colour) -> None:
        """Lines as wide as that. What they cover twice is painted once."""
        covered: Dict[int, float] = {}
        for line in drawn:
            for start, end in zip(line, line[1:] or line):
                self._cover(covered, start, end, width / 2)
        for pixel, share in covered.items():
            at = 3 * pixel
            for channel, value in enumerate(paint, at):
                old = self.pixels[channel]
                self.pixels[channel] = int(old + (value - old) * share + 0.5)

    def _cover(
        self, covered: Dict[int, float], a: Point, b: Point, radius: float
    ) -> None:
        """How much of each pixel is nearer to a piece of a line than ``radius``"""
        along, down = b[0] - a[0], b[1] - a[1]
        length = along * along + down * down
        reach = radius + 1
        left = max(0, int(min(a[0], b[0]) - reach))
        right = min(self.width, int(max(a[0], b[0]) + reach) + 1)
        top = max(0, int(min(a[1], b[1]) - reach))
        bottom = min(self.height, int(max(a[1], b[1]) + reach) + 1)
        for row in range(top, bottom):
            y = row + 0.5 - a[1]
            for column in range(left, right):
                x = column + 0.5 - a[0]
                t = (x * along + y * down) / length if length else 0
                t = min(1, max(0, t))
                dx, dy = x - t * along, y - t * down
                share = min(1, radius + 0.5 - math.sqrt(dx * dx + dy * dy))
                pixel = row * self.width + column
                if share > covered.get(pixel, 0):
                    covered[pixel] = share

    def rows(self) -> List[bytes]:
        """From top to bottom"""
        length = 3 * self.width
        return [
            bytes(self.pixels[at : at + length])
            for at in range(0, len(self.pixels), length)
        ]

    def bmp(self) -> bytes:
        """
        As a BMP of 24 bits: rows from the bottom up, blue first, padded to four bytes

        https://learn.microsoft.com/windows/win32/gdi/bitmap-storage
        """
        body = b""
        for row in reversed(self.rows()):
            swapped = bytearray(row)
            swapped[0::3], swapped[2::3] = row[2::3], row[0::3]
            body += swapped + bytes(-len(row) % 4)
        start = HEADER + INFO
        head = struct.pack("<2sIHHI", b"BM", start + len(body), 0, 0, start)
        size = (INFO, self.width, self.height, 1, 24, 0, len(body))
        density = (PIXELS_PER_METRE, PIXELS_PER_METRE, 0, 0)
        return head + struct.pack("<IiiHHIIiiII", *size, *density) + body
