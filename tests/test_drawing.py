"""Pictures of lines"""

import hashlib
import struct

import pytest

from dffml_operations_decentralice.drawing import letters
from dffml_operations_decentralice.drawing.canvas import (
    STEPS,
    Canvas,
    colour,
    lines,
    placed,
)

BLACK, WHITE = (0, 0, 0), (255, 255, 255)


@pytest.mark.parametrize(
    "text, expected", [("#000000", BLACK), ("#ffFFff", WHITE), ("#0102fe", (1, 2, 254))]
)
def test_colour(text, expected):
    assert colour(text) == expected


@pytest.mark.parametrize(
    "path, expected",
    [
        ("M1 2", [[(1, 2)]]),
        ("M-1 .5 L3 4 5 -6", [[(-1, 0.5), (3, 4), (5, -6)]]),
        ("M0 0 L1 1 M2 2 L3 3", [[(0, 0), (1, 1)], [(2, 2), (3, 3)]]),
    ],
)
def test_lines(path, expected):
    assert lines(path) == expected


def test_curves():
    """Through its ends, within its control points; one goes on from another"""
    [line] = lines("M0 0 C0 1 1 1 1 0 C1 -1 2 -1 2 0")
    assert len(line) == 1 + 2 * STEPS
    assert line[0] == (0, 0) and line[STEPS] == (1, 0) and line[-1] == (2, 0)
    assert line[STEPS // 2] == (0.5, 0.75)
    assert all(-0.75 <= y <= 0.75 for _, y in line)


def test_placed():
    line = [(1.0, 2.0), (3.0, 4.0)]
    assert placed([line], 10, 20, 2) == [[(12, 24), (16, 28)]]
    assert placed([line], 10, 20, mirrored=True) == [[(9, 22), (7, 24)]]


def pixel(canvas, x, y):
    at = 3 * (y * canvas.width + x)
    return tuple(canvas.pixels[at : at + 3])


def test_a_line_covers_its_width():
    canvas = Canvas(20, 9, (10, 20, 30))
    canvas.draw([[(4, 4.5), (16, 4.5)]], 3, WHITE)
    column = [pixel(canvas, 10, y)[0] for y in range(9)]
    assert column == [10, 10, 10, 255, 255, 255, 10, 10, 10]
    assert pixel(canvas, 0, 4) == pixel(canvas, 19, 4) == (10, 20, 30)


def test_edges_are_smooth_and_crossings_are_painted_once():
    canvas = Canvas(9, 9, BLACK)
    canvas.draw([[(0, 4), (9, 4)], [(0, 4), (9, 4)]], 1, WHITE)
    assert [pixel(canvas, 4, y)[0] for y in range(2, 6)] == [0, 128, 128, 0]


def test_a_point_is_a_dot():
    canvas = Canvas(9, 9, BLACK)
    canvas.draw(lines("M4.5 4.5"), 3, WHITE)
    assert pixel(canvas, 4, 4) == pixel(canvas, 3, 4) == WHITE
    assert pixel(canvas, 1, 4) == BLACK


@pytest.mark.parametrize("line", [[(-9, 4), (99, 4)], [(4, -50), (4, -40)]])
def test_nothing_is_drawn_outside(line):
    canvas = Canvas(9, 9, BLACK)
    canvas.draw([line], 2, WHITE)
    assert len(canvas.pixels) == 3 * 81


def test_bmp():
    """Bottom row first, blue first, rows of whole words"""
    canvas = Canvas(2, 2, (1, 2, 3))
    canvas.draw([[(0.5, 0.5)]], 1, (9, 8, 7))
    made = canvas.bmp()
    magic, size, start = struct.unpack_from("<2sI4xI", made)
    assert (magic, size, start) == (b"BM", len(made), 54)
    assert struct.unpack_from("<IiiHHI", made, 14) == (40, 2, 2, 1, 24, 0)
    assert made[start:] == bytes([3, 2, 1] * 2 + [0, 0, 7, 8, 9, 3, 2, 1, 0, 0])


@pytest.mark.parametrize(
    "text, expected",
    [
        ("Alice", "ALICE"),
        ("Zürich", "ZURICH"),
        ("straße", "STRASSE"),
        ("ﬁ", "FI"),
        ("日", "日"),
        ("", ""),
    ],
)
def test_letters(text, expected):
    assert letters.letters(text) == expected


@pytest.mark.parametrize("letter", letters.PATHS)
def test_each_letter_is_drawn_between_its_lines(letter):
    drawn = lines(letters.PATHS[letter])
    points = [point for line in drawn for point in line]
    assert points and all(-0.2 <= x <= 7 and -0.7 <= y <= 7.3 for x, y in points)


def test_letters_are_told_apart():
    pictures = {}
    for letter in [*letters.PATHS, "日"]:
        canvas = Canvas(24, 24, BLACK)
        canvas.draw(letters.drawn(letter, 12, 6, 12), 2, WHITE)
        pictures[bytes(canvas.pixels)] = letter
    assert len(pictures) == len(letters.PATHS) + 1


def test_texts_are_centred():
    for text in ("I", "Alice", "two words", "日本"):
        xs = [x for line in letters.drawn(text, 100, 0, 12) for x, _ in line]
        assert min(xs) + max(xs) == pytest.approx(200, abs=1)
        assert max(xs) - min(xs) == pytest.approx(2 * letters.width(text), abs=1)
    assert letters.drawn("", 0, 0, 12) == [] and letters.width("") == 0


def test_it_is_the_same_everywhere():
    """Whatever Python and machine: this is what was drawn when the test was written"""
    canvas = Canvas(300, 40, (3, 5, 7))
    canvas.draw(letters.drawn("OS 2026 & 'x'", 150, 8, 24), 2.4, (200, 100, 50))
    digest = hashlib.sha256(canvas.bmp()).hexdigest()
    assert digest.startswith("cad38c078630801b")
