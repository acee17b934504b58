"""The pictures of the zoo that sees: things of ja-vlm-bench, in nine cells."""

import random

from ..pictures.canvas import Canvas
from ..pictures.painter import GROUNDS
from .world import COLOURS, THINGS, Scene

CELL = 74
"""Pixels of a cell's side: three of them are a picture's, but for two pixels."""


def draw(scene: Scene, look: random.Random) -> Canvas:
    """A picture of a scene; `look` chooses the ground, and by how many pixels the thing is moved."""
    canvas = Canvas(look.choice(GROUNDS))
    row, column = divmod(scene.place, 3)
    x, y = (38 + CELL * at + look.randrange(-4, 5) for at in (column, row))
    size = (62, 46, 32)[scene.size] + look.randrange(-2, 3)
    canvas.thing(THINGS[scene.thing].en, x, y, size, COLOURS[scene.colour].en)
    return canvas
