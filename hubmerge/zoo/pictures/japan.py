"""A weather map of Japan: islands, and for each city its weather and how warm it is."""

from collections.abc import Sequence

from .canvas import INKS, SIZE, Canvas, Point
from .scenes import Part
from .words import CITIES

ISLANDS: tuple[tuple[Point, ...], ...] = (
    ((146, 34), (158, 8), (170, 6), (186, 22), (212, 28), (208, 40), (188, 56), (170, 50), (156, 64), (148, 58)),
    (
        *((156, 70), (170, 72), (172, 96), (164, 116), (160, 138), (144, 152), (126, 154), (110, 166), (100, 160)),
        *((68, 164), (44, 174), (38, 164), (62, 150), (90, 146), (106, 132), (118, 128), (130, 112), (146, 100)),
    ),
    ((60, 178), (80, 170), (90, 176), (78, 188), (64, 192)),
    ((22, 178), (40, 178), (48, 188), (40, 212), (28, 216), (22, 198)),
    ((26, 104), (34, 94), (38, 98), (30, 110)),
)
"""Hokkaido, Honshu, Shikoku, Kyushu, and Okinawa in a frame of its own."""
PLACES: dict[str, tuple[Point, Point]] = {
    "Sapporo": ((166, 38), (110, 30)),
    "Sendai": ((168, 100), (192, 92)),
    "Niigata": ((132, 114), (92, 94)),
    "Tokyo": ((154, 142), (192, 148)),
    "Osaka": ((98, 156), (124, 196)),
    "Fukuoka": ((28, 182), (30, 146)),
    "Naha": ((32, 100), (30, 64)),
}
"""Where a city lies, and the middle of its label."""
ICONS = {
    "sunny": """l R 6 50,4 50,96
l R 6 4,50 96,50
l R 6 18,18 82,82
l R 6 18,82 82,18
e O 24,24 76,76""",
    "cloudy": """e A 4,40 50,86
e A 50,36 98,86
e A 24,18 74,74
R A 26,56 76,86""",
    "rain": """l K 6 50,50 50,90 62,94
p B 4,56 16,26 50,6 84,26 96,56 80,48 66,56 50,48 34,56 20,48""",
    "snow": """e W 18,40 82,98
e W 28,4 72,50
E K 38,20 46,28
E K 54,20 62,28
l O 5 50,32 60,36
l R 7 28,50 72,50""",
    "thunder": """p Y 56,2 14,56 44,56 32,98 88,38 56,38 76,2""",
}
"""The weather as forecasts draw it: a sun, clouds, an umbrella, a snowman, a bolt."""


def weather_map(canvas: Canvas, parts: Sequence[Part]) -> None:
    """Draws the map and a label for each of `parts`, a city with its weather and its degrees."""
    canvas.rectangle(0, 0, SIZE, SIZE, (196, 222, 240))
    canvas.line([(0, 122), (62, 122), (62, 34)], INKS["W"], 2)
    for island in ISLANDS:
        canvas.polygon(island, (178, 208, 150), (96, 132, 84))
    for part in parts:
        (x, y), (left, top) = PLACES[part.what]
        canvas.line([(x, y), (left, top)], INKS["K"])
        canvas.ellipse(x - 3, y - 3, x + 3, y + 3, INKS["R"], INKS["K"])
    for part in parts:
        x, y = PLACES[part.what][1]
        canvas.rectangle(x - 29, y - 21, x + 29, y + 21, (252, 252, 248), INKS["K"])
        canvas.text(x, y - 12, CITIES[part.what].ja, 14)
        canvas.drawing(ICONS[part.more], x - 14, y + 8, 22)
        canvas.text(x + 26, y + 8, f"{part.number}°", 14, INKS["K"], "rm")
