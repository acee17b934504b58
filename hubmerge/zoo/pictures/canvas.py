"""A canvas of 224 x 224 pixels: shapes and texts in whole numbers, saved as a PNG of few colours.

All is drawn at whole coordinates, twice as large, and then averaged, four pixels to one; that, and the choice of the
palette, are arithmetic of integers in Pillow. Texts use the basic layout, which every build of Pillow has.
"""

import io
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from .things import THINGS

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont

SIZE = 224
"""Pixels of a side of a picture."""
SHADES = 48
"""Colours of a picture at most, with those between two inks along an edge."""
GLYPHS = Path(__file__).parent / "glyphs.otf"
"""Made by fonttools of Noto's NotoSansCJK-Bold.ttc: `pyftsubset --font-number=0 --no-hinting --desubroutinize
--layout-features= --text=...` with all text of this room."""
SCALE = 2

Ink = tuple[int, int, int]
Point = tuple[int, int]


def _inks(table: str) -> dict[str, Ink]:
    pairs = (pair.split("=") for pair in table.split())
    return {name: (int(code[:2], 16), int(code[2:4], 16), int(code[4:], 16)) for name, code in pairs}


INKS = _inks("""
    K=282424 W=ffffff R=d63028 B=2c58c4 Y=fad032 G=40a048 D=206840 P=f696b4
    O=f28c24 N=966238 M=583828 V=8046a4 S=fae2bc A=96969c L=dcdce0 C=96d0ee
""")
"""The inks of the drawings, by letter."""
PAINTS = _inks("""
    red=d62824 blue=2454d0 yellow=fcd628 green=2c9642 white=ffffff
    black=343236 purple=843eac pink=fa9cc0 orange=f68616 brown=88542c
""")
"""The colours that are asked for."""


@lru_cache
def font(size: int) -> "FreeTypeFont":
    """The glyphs that ship with the project, `size` pixels high."""
    from PIL import ImageFont

    return ImageFont.truetype(str(GLYPHS), size, layout_engine=ImageFont.Layout.BASIC)


def darker(ink: Ink) -> Ink:
    """The ink for details on `ink`: darker, or lighter on what is dark already."""
    if sum(ink) < 180:
        return (ink[0] + 80, ink[1] + 80, ink[2] + 80)
    return (ink[0] * 3 // 4, ink[1] * 3 // 4, ink[2] * 3 // 4)


class Canvas:
    """A picture that is being drawn. Places are pixels from the top left corner."""

    def __init__(self, ground: Ink) -> None:
        from PIL import Image, ImageDraw

        self.image = Image.new("RGB", (SIZE * SCALE, SIZE * SCALE), ground)
        self._draw = ImageDraw.Draw(self.image)

    def rectangle(self, x: int, y: int, right: int, bottom: int, fill: Ink | None, edge: Ink | None = None) -> None:
        self._draw.rectangle(self._box(x, y, right, bottom), fill, edge, SCALE)

    def ellipse(self, x: int, y: int, right: int, bottom: int, fill: Ink | None, edge: Ink | None = None) -> None:
        self._draw.ellipse(self._box(x, y, right, bottom), fill, edge, SCALE)

    def polygon(self, points: Sequence[Point], fill: Ink, edge: Ink | None = None) -> None:
        self._draw.polygon([(x * SCALE, y * SCALE) for x, y in points], fill, edge, SCALE)

    def line(self, points: Sequence[Point], ink: Ink, width: int = 1) -> None:
        self._draw.line([(x * SCALE, y * SCALE) for x, y in points], ink, width * SCALE, "curve")

    def text(self, x: int, y: int, text: str, size: int, ink: Ink = INKS["K"], anchor: str = "mm") -> None:
        """A line of text `size` pixels high; `anchor` as in Pillow, by default `x`, `y` is its middle."""
        self._draw.text((x * SCALE, y * SCALE), text, ink, font(size * SCALE), anchor)

    def thing(self, name: str, x: int, y: int, size: int, colour: str = "") -> None:
        """The thing `name` in a box of `size` pixels whose middle is `x`, `y`; paintable ones in `colour`."""
        self.drawing(THINGS[name].drawing, x, y, size, colour)

    def drawing(self, drawing: str, x: int, y: int, size: int, colour: str = "") -> None:
        """A drawing in the language of `things`, as `thing` places it."""
        left, top = (2 * x - size) * SCALE // 2, (2 * y - size) * SCALE // 2
        paint = PAINTS[colour] if colour else INKS["R"]
        inks = {**INKS, "*": paint, "+": darker(paint)}

        def place(pair: str) -> Point:
            right, down = pair.split(",")
            return left + int(right) * size * SCALE // 100, top + int(down) * size * SCALE // 100

        for line in drawing.splitlines():
            form, mark, *rest = line.split()
            ink, draw = inks[mark], self._draw
            edge = INKS["K"] if form.islower() else None
            width = max(SCALE, size * SCALE // 60)
            if form == "t":
                draw.text(place(rest[1]), rest[2], ink, font(int(rest[0]) * size * SCALE // 100), "mm")
            elif form == "l":
                draw.line([*map(place, rest[1:])], ink, max(SCALE, int(rest[0]) * size * SCALE // 100), "curve")
            elif form in "pP":
                draw.polygon([*map(place, rest)], ink, edge, width)
            elif form in "eE":
                draw.ellipse([*map(place, rest)], ink, edge, width)
            else:
                draw.rectangle([*map(place, rest)], ink, edge, width)

    def png(self) -> bytes:
        """The picture, `SIZE` x `SIZE` pixels, as a PNG with a palette."""
        from PIL import Image

        small = self.image.reduce(SCALE).quantize(SHADES, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
        file = io.BytesIO()
        small.save(file, "PNG")
        return file.getvalue()

    @staticmethod
    def _box(x: int, y: int, right: int, bottom: int) -> tuple[int, int, int, int]:
        return x * SCALE, y * SCALE, right * SCALE - 1, bottom * SCALE - 1
