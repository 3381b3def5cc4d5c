"""
The picture that is shown while the kernel starts, drawn here

systemd's stub shows it in the middle of a black screen:
https://www.freedesktop.org/software/systemd/man/systemd-stub.html
"""

from pathlib import Path
from typing import Dict

from ..drawing import letters
from ..drawing.canvas import Canvas, colour, lines, placed
from ..engine import Step, operation, setting, settings
from ..guest import document
from ..types import OsRelease, Splash

WIDTH, HEIGHT = 640, 360
COLOUR = r"#[0-9a-fA-F]{6}"
MIDDLE, MARK = WIDTH / 2, 30  # of the mark: its vertical, its top
TITLE, BELOW = 264, 316  # tops of the lines of text
WIDEST = WIDTH - 80
# Half a rabbit, whose other half is what the looking glass shows of it
HALF = (
    "M0 66 C-6 63 -12 63 -17 66 C-34 44 -40 18 -30 4 C-19 -4 -8 26 -8 63 "
    "M-17 66 C-34 76 -43 94 -43 112 C-43 138 -24 154 0 154"
)
EYE = "M-18 108 L-18 112"
BEHIND = "M-27 36 L27 36"  # what of the glass is behind the ears
GLASS = (
    "M0 32 C46.4 32 84 69.6 84 116 C84 162.4 46.4 200 0 200 "
    "C-46.4 200 -84 162.4 -84 116 C-84 69.6 -46.4 32 0 32"
)


@settings
class SplashSettings:
    title: str = setting(
        "Large text; empty: the name of the operating system", default=""
    )
    background: str = setting(
        "Colour; around the picture the screen is black",
        default="#000000",
        pattern=COLOUR,
    )
    text: str = setting("Colour of text and glass", default="#e7e4ef", pattern=COLOUR)
    left: str = setting(
        "Colour of the half that is the userspace", default="#a98bff", pattern=COLOUR
    )
    right: str = setting(
        "Colour of the half that is the kernel", default="#57a4f5", pattern=COLOUR
    )


@operation(result="splash.bmp", space=1)
async def draw_splash(step: Step[SplashSettings], os_release: OsRelease) -> Splash:
    """A BMP of 640 to 360 pixels: the mark, the system's name, what it is made of"""
    fields = document.os_release(Path(os_release).read_text())
    picture = await step.thread(drawn, step.settings, fields)
    step.out.write_bytes(picture.bmp())
    return Splash(str(step.out))


def drawn(want: SplashSettings, fields: Dict[str, str]) -> Canvas:
    """The picture for os-release's fields"""
    background, text, left, right = map(
        colour, (want.background, want.text, want.left, want.right)
    )
    canvas = Canvas(WIDTH, HEIGHT, background)
    for path, width, mirrored, paint in (
        (GLASS, 2.5, False, text),
        (BEHIND, 36, False, background),
        (HALF, 4.5, False, left),
        (HALF, 4.5, True, right),
        (EYE, 7, False, left),
        (EYE, 7, True, right),
    ):
        canvas.draw(placed(lines(path), MIDDLE, MARK, mirrored=mirrored), width, paint)
    title = want.title or fields.get("NAME", "")
    for words, top, most, paint in (
        (title, TITLE, 26, text),
        (second_line(fields), BELOW, 11, left),
    ):
        height = fitting(words, most)
        canvas.draw(letters.drawn(words, MIDDLE, top, height), height / 10, paint)
    return canvas


def second_line(fields: Dict[str, str]) -> str:
    """The version, and what kind of an image it is if it is no plain one"""
    version = fields.get("IMAGE_VERSION", "")
    words = (version and f"version {version}", fields.get("VARIANT_ID", ""))
    return " \N{MIDDLE DOT} ".join(word for word in words if word)


def fitting(words: str, height: float) -> float:
    """The height of letters with which a text is no wider than the picture has room"""
    wide = letters.width(words) * height / letters.HEIGHT
    return height * WIDEST / wide if wide > WIDEST else height
