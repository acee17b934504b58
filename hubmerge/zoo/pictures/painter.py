"""Paints scenes: a function for each kind, all in whole pixels."""

import random
from collections.abc import Callable, Sequence

from .canvas import INKS, PAINTS, SIZE, Canvas, Ink
from .scenes import Part, Scene
from .words import DAYS, DISHES, LANDMARKS, SHOPS, STATIONS, TRAINS

GROUNDS: tuple[Ink, ...] = (
    *((244, 240, 228), (232, 240, 246), (236, 244, 232), (248, 236, 236)),
    *((240, 236, 248), (246, 244, 214), (228, 242, 240), (240, 240, 240)),
)
"""Pale grounds, from which every colour that is asked for stands out."""
MIDDLE = SIZE // 2
_K, _W, _A, _N = INKS["K"], INKS["W"], INKS["A"], INKS["N"]


def paint(scene: Scene) -> Canvas:
    """The picture of a scene."""
    rng = random.Random(scene.look)
    canvas = Canvas(rng.choice(GROUNDS))
    PAINTERS[scene.kind](canvas, rng, scene.parts)
    return canvas


Parts = Sequence[Part]


def _signs(canvas: Canvas, rng: random.Random, parts: Parts) -> None:
    """A street of three houses, each with an upright sign."""
    walls = rng.sample([(214, 196, 170), (196, 206, 214), (222, 214, 190), (206, 190, 186)], 3)
    canvas.rectangle(0, 204, SIZE, SIZE, (170, 170, 172))
    for part, wall in zip(parts, walls, strict=True):
        left, top = 4 + 73 * part.place, 10 + rng.randrange(14)
        canvas.rectangle(left, 28, left + 70, 206, wall, _K)
        canvas.polygon([(left - 4, 30), (left + 8, 8), (left + 62, 8), (left + 74, 30)], INKS["M"])
        canvas.rectangle(left + 5, 176, left + 25, 206, INKS["M"], _K)
        colour, text = PAINTS[part.colour], SHOPS[part.what].ja
        height = 36 * len(text) + 8
        canvas.rectangle(left + 28, top, left + 68, top + height, colour, _K)
        ink = _K if sum(colour) > 420 else _W
        for place, glyph in enumerate(text):
            canvas.text(left + 48, top + 22 + 36 * place, glyph, 33, ink)


def _menu(canvas: Canvas, rng: random.Random, parts: Parts) -> None:
    """A board on the wall: dishes to the left, prices to the right."""
    board, ink = rng.choice([((60, 84, 70), _W), ((250, 246, 230), _K), ((96, 62, 40), _W), ((44, 46, 60), _W)])
    canvas.rectangle(6, 4, 218, 220, board, _N)
    canvas.text(MIDDLE, 22, "お品書き", 20, ink)
    for row, part in enumerate(parts):
        y = 58 + 35 * row
        canvas.line([(16, y + 17), (208, y + 17)], _A)
        canvas.text(16, y, DISHES[part.what].ja, 19, ink, "lm")
        canvas.text(208, y, f"{part.number}円", 19, ink, "rm")


def _tags(canvas: Canvas, rng: random.Random, parts: Parts) -> None:
    """A shelf of goods, each above its price tag."""
    tag = rng.choice([INKS["Y"], _W, (255, 226, 226)])
    for part in parts:
        x, y = 58 + 108 * (part.place % 2), 40 + 110 * (part.place // 2)
        canvas.thing(part.what, x, y, 70)
        canvas.rectangle(0, y + 38, SIZE, y + 44, _N)
        canvas.rectangle(x - 38, y + 44, x + 38, y + 68, tag, _K)
        canvas.text(x, y + 56, f"{part.number}円", 19, INKS["R"])


def _scattered(canvas: Canvas, rng: random.Random, parts: Parts) -> None:
    """Things in mixed order, in cells of five by four, none over another."""
    cells = rng.sample(range(20), sum(part.number for part in parts))
    for part in parts:
        for _ in range(part.number):
            row, column = divmod(cells.pop(), 5)
            x, y = 24 + 44 * column + rng.randrange(-2, 3), 28 + 56 * row + rng.randrange(-7, 8)
            canvas.thing(part.what, x, y, 37, part.colour)


def _corners(canvas: Canvas, rng: random.Random, parts: Parts) -> None:
    for part in parts:
        row, column = divmod(part.place, 2)
        x, y = 56 + 112 * column + rng.randrange(-6, 7), 56 + 112 * row + rng.randrange(-6, 7)
        canvas.thing(part.what, x, y, 80 + rng.randrange(13), part.colour)


def _cells(canvas: Canvas, rng: random.Random, parts: Parts) -> None:
    for part in parts:
        row, column = divmod(part.place, 3)
        x, y = 38 + 74 * column + rng.randrange(-3, 4), 38 + 74 * row + rng.randrange(-3, 4)
        canvas.thing(part.what, x, y, 60, part.colour)


def _pair(canvas: Canvas, rng: random.Random, parts: Parts) -> None:
    for part in parts:
        x, y = 58 + 108 * part.place, MIDDLE + rng.randrange(-24, 25)
        canvas.thing(part.what, x, y, part.number, part.colour)


def _hand(canvas: Canvas, x: int, y: int, sixtieths: int, length: int, width: int) -> None:
    """A hand from `x`, `y` that has gone `sixtieths` of its way round, times 12 for those between two minutes."""
    right, up = TURN[sixtieths % len(TURN)]
    canvas.line([(x, y), (x + right * length // 1000, y - up * length // 1000)], _K, width)


def _quarter() -> list[tuple[int, int]]:
    """Points of a circle of radius 1000 from twelve o'clock to three, 181 half degrees; a table, so whole numbers."""
    from math import cos, pi, sin

    return [(round(1000 * sin(pi * step / 360)), round(1000 * cos(pi * step / 360))) for step in range(180)]


_FIRST = _quarter()
TURN = [*_FIRST, *((y, -x) for x, y in _FIRST), *((-x, -y) for x, y in _FIRST), *((-y, x) for x, y in _FIRST)]
"""Points of a circle of radius 1000, clockwise from twelve, 720 to a turn: (right, up)."""


def _clocks(canvas: Canvas, rng: random.Random, parts: Parts) -> None:
    """Two clocks, each above the name of where it hangs."""
    rim = rng.choice([_K, _N, INKS["B"], INKS["R"], INKS["D"]])
    for part in parts:
        x, y = 56 + 112 * part.place, 90
        canvas.ellipse(x - 53, y - 53, x + 53, y + 53, rim, _K)
        canvas.ellipse(x - 48, y - 48, x + 48, y + 48, _W)
        for hour in range(1, 13):
            right, up = TURN[hour * 60 % 720]
            canvas.text(x + right * 39 // 1000, y - up * 39 // 1000, str(hour), 13)
        hour, minute = divmod(part.number, 60)
        _hand(canvas, x, y, hour % 12 * 60 + minute, 22, 4)
        _hand(canvas, x, y, minute * 12, 36, 2)
        canvas.ellipse(x - 3, y - 3, x + 3, y + 3, _K)
        canvas.rectangle(x - 42, 156, x + 42, 186, _W, _K)
        canvas.text(x, 171, LANDMARKS[part.what].ja, 21)


def _calendar(canvas: Canvas, rng: random.Random, parts: Parts) -> None:
    """A month, weeks as rows from Sunday, with three days in circles."""
    month, first = int(parts[0].what), parts[0].number
    canvas.rectangle(4, 4, 220, 220, _W, _K)
    canvas.rectangle(4, 4, 220, 36, rng.choice([INKS["S"], INKS["C"], INKS["P"], INKS["L"]]), _K)
    canvas.text(MIDDLE, 20, f"{month}月", 25)
    marks = {part.number: PAINTS[part.colour] for part in parts[1:]}
    for column, glyph in enumerate("日月火水木金土"):
        canvas.text(22 + 30 * column, 49, glyph, 16, _shade(column))
    for number in range(1, DAYS[month - 1] + 1):
        row, column = divmod(first + number - 1, 7)
        x, y = 22 + 30 * column, 73 + 26 * row
        if number in marks:
            canvas.ellipse(x - 14, y - 13, x + 14, y + 13, marks[number])
            canvas.ellipse(x - 10, y - 9, x + 10, y + 9, _W)
        canvas.text(x, y, str(number), 14, _shade(column))


def _shade(column: int) -> Ink:
    """Sundays are red and Saturdays blue, as on Japanese calendars."""
    return (INKS["R"], _K, _K, _K, _K, _K, INKS["B"])[column]


def _timetable(canvas: Canvas, rng: random.Random, parts: Parts) -> None:
    """The board of a station, trains as rows: time, kind, destination, platform."""
    canvas.rectangle(0, 0, SIZE, SIZE, (28, 30, 36))
    canvas.rectangle(0, 0, SIZE, 34, rng.choice([(30, 90, 60), (36, 70, 140), (120, 40, 44), (70, 60, 110)]))
    for x, text in ((30, "発車"), (84, "種別"), (145, "行き先"), (200, "番線")):
        canvas.text(x, 17, text, 14, _W)
    colours = {"local": _W, "rapid": (120, 200, 255), "express": (255, 190, 70), "limited express": (255, 120, 110)}
    for row, part in enumerate(parts):
        y = 60 + 47 * row
        canvas.text(30, y, f"{part.number // 60}:{part.number % 60:02}", 19, (255, 216, 110))
        canvas.text(84, y, TRAINS[part.more].ja, 18, colours[part.more])
        canvas.text(145, y, STATIONS[part.what].ja, 20, _W)
        canvas.text(202, y, str(part.place), 20, _W)
        canvas.line([(8, y + 24), (216, y + 24)], (80, 84, 94))


def _weather(canvas: Canvas, rng: random.Random, parts: Parts) -> None:
    from .japan import weather_map

    weather_map(canvas, parts)


PAINTERS: dict[str, Callable[[Canvas, random.Random, Parts], None]] = {
    "sign": _signs,
    "menu": _menu,
    "tag": _tags,
    "count": _scattered,
    "compare": _scattered,
    "colour": _corners,
    "place": _cells,
    "name": _pair,
    "odd": _cells,
    "clock": _clocks,
    "calendar": _calendar,
    "timetable": _timetable,
    "weather": _weather,
}
