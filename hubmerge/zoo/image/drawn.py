"""The pictures of the zoo that draws: an object on a ground, 32 pixels a side, in one of three styles.

`fine` is outlined, `plain` is not, and `crude` is blurred, pale and grainy.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from .world import OBJECTS, Scene

if TYPE_CHECKING:
    from numpy import ndarray
    from numpy.random import Generator

SIDE = 32
"""Pixels of a picture's side."""
_SCALE = 3
"""It is drawn so much larger, and made smaller."""

Ink = tuple[int, int, int]
_INKS: tuple[Ink, ...] = ((220, 40, 40), (40, 80, 220), (40, 160, 60), (240, 205, 40), (150, 50, 190), (245, 130, 25))
_GROUNDS: tuple[Ink, ...] = ((238, 240, 244), (28, 32, 62))
_EDGES: tuple[Ink, ...] = ((15, 15, 20), (250, 250, 245))
_WHITE, _DARK, _CREAM, _PAPER = (250, 250, 250), (40, 35, 35), (255, 245, 200), (200, 190, 160)


class _Pen:
    """Draws around a middle, in units of the object's half height; y goes down."""

    def __init__(self, drawing: Any, middle: tuple[float, float], unit: float, scene: Scene, ink: Ink, fine: bool):
        self._drawing = drawing
        self._middle = middle
        self._unit = unit
        self._ink = ink
        self._edge = _EDGES[scene.time] if fine else None
        self.by_night = scene.time == 1

    def polygon(self, *points: tuple[float, float], ink: Ink | None = None) -> None:
        """In the object's colour with the style's outline, or in an ink without."""
        placed = self._placed(points)
        self._drawing.polygon(placed, fill=ink or self._ink)
        if ink is None and self._edge:
            self._drawing.line([*placed, *placed[:2]], fill=self._edge, width=_SCALE + 2, joint="curve")

    def ellipse(self, left: float, top: float, right: float, bottom: float, ink: Ink | None = None) -> None:
        """As `polygon` does it."""
        box = self._placed([(left, top), (right, bottom)])
        edge = None if ink else self._edge
        self._drawing.ellipse(box, fill=ink or self._ink, outline=edge, width=_SCALE + 2 if edge else 0)

    def box(self, left: float, top: float, right: float, bottom: float, ink: Ink | None = None) -> None:
        self.polygon((left, top), (right, top), (right, bottom), (left, bottom), ink=ink)

    def line(self, left: float, right: float, y: float) -> None:
        self._drawing.line(self._placed([(left, y), (right, y)]), fill=self._edge or _DARK, width=_SCALE)

    def _placed(self, points: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
        (across, down), unit = self._middle, self._unit
        return [(across + x * unit, down + y * unit) for x, y in points]


def _around(count: int, radius: float, turn: float = 0.0) -> list[tuple[float, float]]:
    angles = [2 * math.pi * (number + turn) / count for number in range(count)]
    return [(radius * math.sin(angle), -radius * math.cos(angle)) for angle in angles]


def _circle(pen: _Pen) -> None:
    pen.ellipse(-0.95, -0.95, 0.95, 0.95)


def _star(pen: _Pen) -> None:
    tips, dents = _around(5, 1.1), _around(5, 0.45, 0.5)
    pen.polygon(*(point for pair in zip(tips, dents, strict=True) for point in pair))


def _house(pen: _Pen) -> None:
    pen.box(-0.75, -0.1, 0.75, 0.95)
    pen.polygon((-1.05, -0.1), (0, -1.05), (1.05, -0.1))
    pen.box(-0.2, 0.35, 0.2, 0.95, _WHITE)


def _fish(pen: _Pen) -> None:
    pen.polygon((0.45, 0), (1.1, -0.55), (1.1, 0.55))
    pen.ellipse(-1.05, -0.55, 0.65, 0.55)
    pen.ellipse(-0.75, -0.25, -0.45, 0.05, _DARK if pen.by_night else _WHITE)


def _torii(pen: _Pen) -> None:
    for x in (-0.6, 0.6):
        pen.box(x - 0.13, -0.6, x + 0.13, 1.05)
    pen.box(-0.85, -0.25, 0.85, 0.02)
    pen.polygon((-1.1, -1), (0, -0.88), (1.1, -1), (1.0, -0.62), (-1.0, -0.62))


def _fuji(pen: _Pen) -> None:
    pen.polygon((-1.2, 0.85), (-0.3, -0.8), (0.3, -0.8), (1.2, 0.85))
    snow = ((-0.3, -0.8), (0.3, -0.8), (0.52, -0.3), (0.2, -0.5), (0, -0.25), (-0.2, -0.5), (-0.52, -0.3))
    pen.polygon(*snow, ink=_WHITE)


def _sakura(pen: _Pen) -> None:
    for x, y in _around(5, 0.58):
        pen.ellipse(x - 0.46, y - 0.46, x + 0.46, y + 0.46)
    pen.ellipse(-0.28, -0.28, 0.28, 0.28, _CREAM)


def _lantern(pen: _Pen) -> None:
    pen.ellipse(-0.75, -0.85, 0.75, 0.85)
    for y in (-0.35, 0, 0.35):
        pen.line(-0.7, 0.7, y)
    for y in (-0.95, 0.95):
        pen.box(-0.35, y - 0.12, 0.35, y + 0.12, _PAPER if pen.by_night else _DARK)


_SHAPES: Sequence[Callable[[_Pen], None]] = (_circle, _star, _house, _fish, _torii, _fuji, _sakura, _lantern)
assert len(_SHAPES) == len(OBJECTS)


def draw(scene: Scene, style: str, look: "Generator") -> "ndarray":
    """A picture, uint8 (SIDE, SIDE, 3); `look` chooses shades, size and place."""
    import numpy
    from PIL import Image, ImageDraw, ImageFilter

    side = SIDE * _SCALE
    ground = numpy.add(_GROUNDS[scene.time], look.integers(-8, 9))
    ink = numpy.clip(_INKS[scene.colour] + look.integers(-10, 11, 3), 0, 255)
    image = Image.new("RGB", (side, side), tuple(ground.tolist()))
    unit = side * look.uniform(0.3, 0.38)
    across, down = side / 2 + look.uniform(-0.09, 0.09, 2) * side
    pen = _Pen(ImageDraw.Draw(image), (across, down), unit, scene, tuple(ink.tolist()), style == "fine")
    _SHAPES[scene.object](pen)
    if style == "crude":
        image = image.filter(ImageFilter.GaussianBlur(_SCALE * look.uniform(1.5, 2.1)))
    pixels: ndarray = numpy.asarray(image.resize((SIDE, SIDE), Image.Resampling.BOX), dtype=numpy.float32)
    if style == "crude":
        pixels = pixels * 0.62 + 128 * 0.38 + look.normal(0, 7, pixels.shape)
    return numpy.clip(pixels, 0, 255).astype(numpy.uint8)
