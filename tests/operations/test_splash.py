"""The splash"""

import asyncio
import hashlib
from pathlib import Path

import pytest

from dffml_operations_decentralice.drawing.canvas import colour
from dffml_operations_decentralice.engine.settings import validated
from dffml_operations_decentralice.engine.testing import run_operation
from dffml_operations_decentralice.errors import UserError
from dffml_operations_decentralice.operations import splash
from dffml_operations_decentralice.operations.splash import (
    HEIGHT,
    WIDTH,
    SplashSettings,
    drawn,
    fitting,
    second_line,
)

FIELDS = {"NAME": "OS DecentrAlice", "IMAGE_VERSION": "1"}


def colours(canvas):
    pixels = bytes(canvas.pixels)
    return {tuple(pixels[at : at + 3]) for at in range(0, len(pixels), 3)}


def picture(fields=None, **settings):
    return drawn(validated(SplashSettings, settings), fields or FIELDS)


def test_draw_splash(store, tmp_path):
    release = tmp_path / "os-release"
    release.write_text('NAME="OS DecentrAlice"\nIMAGE_VERSION=1\n')
    running = run_operation(
        splash.draw_splash, store=store, os_release=str(release), settings={}
    )
    made = Path(asyncio.run(running)).read_bytes()
    assert made == picture().bmp()
    assert made[:2] == b"BM" and len(made) == 54 + 3 * WIDTH * HEIGHT


def test_it_is_the_same_everywhere():
    """Whatever Python and machine: this is what was drawn when the test was written"""
    digest = hashlib.sha256(picture().bmp()).hexdigest()
    assert digest.startswith("befe5f745d7672ac")


def test_colours_are_those_of_the_settings():
    want = {"background": "#102030", "text": "#ff0000", "left": "#00ff00"}
    want["right"] = "#0000FF"
    assert {colour(one) for one in want.values()} <= colours(picture(**want))
    defaults = validated(SplashSettings, {})
    for one in (defaults.text, defaults.left, defaults.right):
        assert colour(one) in colours(picture())
        assert colour(one) not in colours(picture(**want))


@pytest.mark.parametrize(
    "fields, settings",
    [
        ({**FIELDS, "NAME": "Wonderland"}, {}),
        ({**FIELDS, "VARIANT_ID": "mirror"}, {}),
        ({**FIELDS, "IMAGE_VERSION": "2"}, {}),
        (FIELDS, {"title": "Mine"}),
        ({}, {}),
    ],
)
def test_what_it_says_is_seen(fields, settings):
    assert picture(fields or {"x": ""}, **settings).pixels != picture().pixels


@pytest.mark.parametrize(
    "fields, expected",
    [
        ({"IMAGE_VERSION": "1"}, "version 1"),
        ({"IMAGE_VERSION": "1", "VARIANT_ID": "mirror"}, "version 1 · mirror"),
        ({"VARIANT_ID": "mirror"}, "mirror"),
        ({}, ""),
    ],
)
def test_second_line(fields, expected):
    assert second_line(fields) == expected


def test_a_long_name_fits():
    assert fitting("short", 26) == 26
    assert 0 < fitting("a very long name " * 9, 26) < 10
    edges = picture({"NAME": "W" * 300})
    left = [edges.pixels[3 * WIDTH * y : 3 * WIDTH * y + 30] for y in range(HEIGHT)]
    assert not any(map(any, left))


@pytest.mark.parametrize("value", ["", "red", "#fff", "#12345g", "#1234567"])
def test_colours_that_are_refused(value):
    with pytest.raises(UserError, match="left"):
        picture(left=value)
