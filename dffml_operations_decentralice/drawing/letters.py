"""
Capitals and digits as lines, so that no font of the host is needed

Six units high, origin at the top left; y grows downwards.
"""

from __future__ import annotations

import unicodedata
from typing import Dict, List

from .canvas import Line, lines, placed

HEIGHT = 6.0
SPACE = 3.4  # width of what is between words
GAP = 2.4  # between letters
CIRCLE = (
    "M3 0 C4.66 0 6 1.34 6 3 C6 4.66 4.66 6 3 6 C1.34 6 0 4.66 0 3 C0 1.34 1.34 0 3 0"
)
BELLY = (
    "M1.9 2.2 C2.95 2.2 3.8 3.05 3.8 4.1 C3.8 5.15 2.95 6 1.9 6 "
    "C.85 6 0 5.15 0 4.1 C0 3.05 .85 2.2 1.9 2.2"
)
HEAD = (
    "M1.9 0 C2.95 0 3.8 .85 3.8 1.9 C3.8 2.95 2.95 3.8 1.9 3.8 "
    "C.85 3.8 0 2.95 0 1.9 C0 .85 .85 0 1.9 0"
)
NOT_THERE = "M0 0 L3.4 0 L3.4 6 L0 6 L0 0"  # as fonts show what they have not
PATHS: Dict[str, str] = {
    "A": "M0 6 L2.2 0 L4.4 6 M.7 4.1 L3.7 4.1",
    "B": "M0 3 L2 3 C4 3 4 0 2 0 L0 0 L0 6 L2.2 6 C4.5 6 4.5 3 2.2 3",
    "C": "M5.12 .88 C4.58 .34 3.83 0 3 0 C1.34 0 0 1.34 0 3 "
    "C0 4.66 1.34 6 3 6 C3.83 6 4.58 5.66 5.12 5.12",
    "D": "M0 0 L1.8 0 C3.8 0 4.9 1.3 4.9 3 C4.9 4.7 3.8 6 1.8 6 L0 6 L0 0",
    "E": "M3.3 0 L0 0 L0 6 L3.3 6 M0 3 L2.9 3",
    "F": "M3.3 0 L0 0 L0 6 M0 3 L2.9 3",
    "G": "M5.12 .88 C4.58 .34 3.83 0 3 0 C1.34 0 0 1.34 0 3 "
    "C0 4.66 1.34 6 3 6 C4.66 6 5.8 4.8 5.8 3.2 L3.4 3.2",
    "H": "M0 0 L0 6 M4.2 0 L4.2 6 M0 3 L4.2 3",
    "I": "M0 0 L0 6",
    "J": "M2.4 0 L2.4 4.3 C2.4 5.6 1.6 6 .9 6 C.5 6 .2 5.9 0 5.7",
    "K": "M0 0 L0 6 M3.7 0 L0 3.5 M1.3 2.3 L3.9 6",
    "L": "M0 0 L0 6 L3.1 6",
    "M": "M0 6 L.5 0 L2.7 4.6 L4.9 0 L5.4 6",
    "N": "M0 6 L0 0 L4.2 6 L4.2 0",
    "O": CIRCLE,
    "P": "M0 6 L0 0 L1.9 0 C4.1 0 4.1 3.3 1.9 3.3 L0 3.3",
    "Q": f"{CIRCLE} M3.9 4.1 L6 6.3",
    "R": "M0 6 L0 0 L1.9 0 C4.1 0 4.1 3.3 1.9 3.3 L0 3.3 M1.9 3.3 L3.8 6",
    "S": "M3.3 1 C3 .35 2.4 0 1.7 0 C.8 0 .1 .6 .1 1.5 "
    "C.1 3.4 3.6 2.5 3.6 4.4 C3.6 5.4 2.8 6 1.8 6 C1 6 .3 5.6 0 4.9",
    "T": "M0 0 L4.2 0 M2.1 0 L2.1 6",
    "U": "M0 0 L0 3.8 C0 6.7 4.2 6.7 4.2 3.8 L4.2 0",
    "V": "M0 0 L2.2 6 L4.4 0",
    "W": "M0 0 L1.7 6 L3.4 .8 L5.1 6 L6.8 0",
    "X": "M0 0 L4.2 6 M4.2 0 L0 6",
    "Y": "M0 0 L2.1 2.9 L4.2 0 M2.1 2.9 L2.1 6",
    "Z": "M0 0 L4.2 0 L0 6 L4.2 6",
    "0": "M1.9 0 C2.95 0 3.8 1.34 3.8 3 C3.8 4.66 2.95 6 1.9 6 "
    "C.85 6 0 4.66 0 3 C0 1.34 .85 0 1.9 0",
    "1": "M0 1.2 L1.4 0 L1.4 6",
    "2": "M.2 1.5 C.3 -.5 3.6 -.5 3.6 1.6 C3.6 2.8 2.4 3.6 0 6 L3.8 6",
    "3": "M.2 0 L3.4 0 L1.5 2.4 C4.4 2.3 4.4 6 1.8 6 C1 6 .3 5.6 0 5",
    "4": "M2.9 6 L2.9 0 L0 4.3 L3.9 4.3",
    "5": "M3.3 0 L.6 0 L.3 2.7 C1.6 1.9 3.7 2.3 3.7 4.1 C3.7 6.3 .8 6.6 0 5.1",
    "6": f"{BELLY} M2.9 0 L.3 3.2",
    "7": "M0 0 L3.8 0 L1.4 6",
    "8": "M1.9 2.7 C.1 2.7 .1 0 1.9 0 C3.7 0 3.7 2.7 1.9 2.7 "
    "C4.4 2.7 4.4 6 1.9 6 C-.6 6 -.6 2.7 1.9 2.7",
    "9": f"{HEAD} M.9 6 L3.5 2.8",
    ".": "M0 6",
    ",": "M.3 5.8 L0 6.9",
    ":": "M0 2.2 M0 6",
    ";": "M.3 2.2 M.3 5.8 L0 6.9",
    "!": "M0 0 L0 4.2 M0 6",
    "?": "M0 1.3 C.2 -.5 3.2 -.4 3.2 1.6 C3.2 3 1.6 2.8 1.6 4.3 M1.6 6",
    "'": "M0 0 L0 1.4",
    '"': "M0 0 L0 1.4 M1.2 0 L1.2 1.4",
    "-": "M0 3.2 L2.2 3.2",
    "_": "M0 6.4 L3.6 6.4",
    "+": "M0 3.2 L3 3.2 M1.5 1.7 L1.5 4.7",
    "=": "M0 2.3 L3 2.3 M0 4.1 L3 4.1",
    "/": "M0 6.6 L2.6 -.6",
    "\\": "M0 -.6 L2.6 6.6",
    "|": "M0 -.6 L0 6.6",
    "(": "M1.4 -.6 C-.5 1.6 -.5 5 1.4 7.2",
    ")": "M0 -.6 C1.9 1.6 1.9 5 0 7.2",
    "[": "M1.3 -.6 L0 -.6 L0 6.8 L1.3 6.8",
    "]": "M0 -.6 L1.3 -.6 L1.3 6.8 L0 6.8",
    "*": "M1.2 0 L1.2 2.6 M0 .6 L2.4 2 M2.4 .6 L0 2",
    "#": "M1 0 L.4 6 M3.2 0 L2.6 6 M0 2 L3.7 2 M-.1 4.1 L3.5 4.1",
    "&": "M4.4 6 L.9 1.8 C.1 .8 .8 0 1.7 0 C2.6 0 3.2 .9 2.5 1.8 "
    "C1.8 2.6 0 3 0 4.4 C0 6.6 3.6 6.6 4.2 3.4",
    "@": f"{CIRCLE} M4.4 3 C4.4 4.9 1.6 4.9 1.6 3 C1.6 1.1 4.4 1.1 4.4 3 L4.5 4.4",
    "\N{MIDDLE DOT}": "M.6 3",
}


def letters(text: str) -> str:
    """What is drawn of a text: capitals, without accents"""
    apart = unicodedata.normalize("NFKD", text.upper())
    return "".join(one for one in apart if not unicodedata.combining(one))


def width(text: str) -> float:
    """Of a text that is drawn, in units"""
    return _lay(text)[1]


def drawn(text: str, x: float, y: float, height: float) -> List[Line]:
    """A text's lines, centred at ``x``, its top at ``y``"""
    found, units = _lay(text)
    scale = height / HEIGHT
    return placed(found, x - units * scale / 2, y, scale)


def _lay(text: str):
    """The lines of a text, and its width"""
    found: List[Line] = []
    at = 0.0
    for letter in letters(text):
        if letter == " ":
            at += SPACE
            continue
        glyph = lines(PATHS.get(letter, NOT_THERE))
        found += placed(glyph, at, 0)
        at += max(x for line in glyph for x, _ in line) + GAP
    return found, max(0.0, at - GAP)
