"""Scenes: what a picture shows, as values, before anything is drawn.

A scene is made of parts. What a question asks of a part - a dish and its price, a thing and its colour - is a
combination, and each combination belongs to one split, by its hash: splits share no combination, so no picture either.
"""

import hashlib
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache

from .canvas import PAINTS
from .things import COUNTED, GOODS, PAINTABLE, THINGS
from .words import CITIES, DAYS, DISHES, LANDMARKS, SHOPS, STATIONS, TRAINS, WEATHER

SPLITS = ("train",) * 3 + ("validation",) * 2 + ("test",) * 5
"""The split of a combination, by its hash modulo ten."""


@dataclass(frozen=True)
class Part:
    """One of the things that a scene is made of.

    Attributes:
        what: its English name: of a thing, a shop, a dish, a landmark, a station, a city, or `mark`.
        place: the cell, corner, row or platform that it is at, from 0 (platforms: from 1).
        colour: one of `canvas.PAINTS`, where it has one.
        number: how many there are, a price, minutes after midnight, a day, degrees, or pixels of its size.
        more: the kind of a train, or the weather.
    """

    what: str
    place: int = 0
    colour: str = ""
    number: int = 0
    more: str = ""


@dataclass(frozen=True)
class Scene:
    """A scene of a `kind`; `look` decides all that no question asks: grounds and where exactly things lie."""

    kind: str
    parts: tuple[Part, ...]
    look: int


Combination = tuple[str | int, ...]
Mine = Callable[..., bool]


@cache
def split_of(kind: str, *combination: str | int) -> str:
    """The one split whose scenes of `kind` may show a combination."""
    digest = hashlib.sha256(repr((kind, *combination)).encode()).digest()
    return SPLITS[int.from_bytes(digest[:8], "big") % len(SPLITS)]


def combinations(scene: Scene) -> list[Combination]:
    """The combinations of a scene, none of which another split shows."""
    parts = scene.parts
    if scene.kind == "name":
        return [tuple(sorted(part.what for part in parts))]
    if scene.kind == "odd":
        common, odd = _common_and_odd(parts)
        return [(common.what, common.colour, odd.what, odd.colour)]
    if scene.kind == "calendar":
        return [(parts[0].what, parts[0].number)]
    keys: dict[str, Callable[[Part], Combination]] = {
        "sign": lambda part: (part.what, part.colour),
        "colour": lambda part: (part.what, part.colour),
        "place": lambda part: (part.what, part.place),
        "clock": lambda part: (part.number,),
        "weather": lambda part: (part.what, part.more, part.number),
    }
    key = keys.get(scene.kind, lambda part: (part.what, part.number))
    return [key(part) for part in parts]


def _common_and_odd(parts: Iterable[Part]) -> tuple[Part, Part]:
    looks: dict[tuple[str, str], list[Part]] = {}
    for part in parts:
        looks.setdefault((part.what, part.colour), []).append(part)
    odd, common = sorted(looks.values(), key=len)
    return common[0], odd[0]


def draw_scene(rng: random.Random, kind: str, split: str) -> Scene:
    """A scene of a `kind` (see `KINDS`) that `split` may show."""

    def mine(*combination: str | int) -> bool:
        return split_of(kind, *combination) == split

    return Scene(kind, tuple(KINDS[kind](rng, mine)), rng.randrange(2**30))


def _signs(rng: random.Random, mine: Mine) -> list[Part]:
    parts: list[Part] = []
    while len(parts) < 3:
        shop, colour = rng.choice([*SHOPS]), rng.choice([*PAINTS])
        if mine(shop, colour) and all(part.what != shop and part.colour != colour for part in parts):
            parts.append(Part(shop, len(parts), colour))
    return parts


def _priced(rng: random.Random, mine: Mine, names: Iterable[str], count: int, prices: range) -> list[Part]:
    """`count` different names with different prices."""
    parts: list[Part] = []
    while len(parts) < count:
        name, price = rng.choice([*names]), rng.choice(prices)
        if mine(name, price) and all(part.what != name and part.number != price for part in parts):
            parts.append(Part(name, len(parts), number=price))
    return parts


def _menu(rng: random.Random, mine: Mine) -> list[Part]:
    return _priced(rng, mine, DISHES, 5, range(200, 1500, 10))


def _tags(rng: random.Random, mine: Mine) -> list[Part]:
    return _priced(rng, mine, GOODS, 4, range(58, 999, 10))


def _counts(rng: random.Random, mine: Mine) -> list[Part]:
    """Three kinds of things, nine at most of each and twenty of all, no two as many."""
    parts: list[Part] = []
    while len(parts) < 3:
        thing, number = rng.choice(COUNTED), rng.randrange(1, 10)
        if sum(part.number for part in parts) + number > 20 - (2 - len(parts)):
            parts.clear()
        elif mine(thing, number) and all(part.what != thing and part.number != number for part in parts):
            parts.append(Part(thing, number=number, colour=_paint(rng, thing)))
    return parts


def _colours(rng: random.Random, mine: Mine) -> list[Part]:
    parts: list[Part] = []
    while len(parts) < 4:
        thing, colour = rng.choice(PAINTABLE), rng.choice([*PAINTS])
        if mine(thing, colour) and all(part.what != thing and part.colour != colour for part in parts):
            parts.append(Part(thing, len(parts), colour))
    return parts


def _places(rng: random.Random, mine: Mine) -> list[Part]:
    parts: list[Part] = []
    while len(parts) < 5:
        thing, cell = rng.choice([*THINGS]), rng.randrange(9)
        if mine(thing, cell) and all(part.what != thing and part.place != cell for part in parts):
            parts.append(Part(thing, cell, _paint(rng, thing)))
    return sorted(parts, key=lambda part: part.place)


def _clocks(rng: random.Random, mine: Mine) -> list[Part]:
    times = [60 * hour + minute for hour in range(1, 13) for minute in range(5, 60, 5) if mine(60 * hour + minute)]
    shown = zip(rng.sample([*LANDMARKS], 2), rng.sample(times, 2), strict=True)
    return [Part(where, place, number=minutes) for place, (where, minutes) in enumerate(shown)]


def _calendar(rng: random.Random, mine: Mine) -> list[Part]:
    """The month (`what`, from 1) with the weekday of its first day (`number`, Sunday is 0); then three marked days."""
    first = rng.choice([(str(month), day) for month in range(1, 13) for day in range(7) if mine(str(month), day)])
    days = rng.sample(range(1, DAYS[int(first[0]) - 1] + 1), 3)
    colours = rng.sample(["red", "blue", "green", "purple", "orange"], 3)
    return [
        Part(first[0], number=first[1]),
        *(Part("mark", number=day, colour=colour) for day, colour in zip(days, colours, strict=True)),
    ]


def _names(rng: random.Random, mine: Mine) -> list[Part]:
    while True:
        pair = rng.sample([*THINGS], 2)
        if mine(*sorted(pair)):
            sizes = rng.sample([104, 60], 2)
            return [Part(name, place, _paint(rng, name), sizes[place]) for place, name in enumerate(pair)]


def _odd(rng: random.Random, mine: Mine) -> list[Part]:
    """Nine things alike but for one, which is another thing or has another colour."""
    while True:
        if rng.random() < 0.5:
            common, odd = rng.sample([*THINGS], 2)
            looks = [(common, _paint(rng, common)), (odd, _paint(rng, odd))]
        else:
            thing = rng.choice(PAINTABLE)
            looks = [(thing, colour) for colour in rng.sample([*PAINTS], 2)]
        if mine(*looks[0], *looks[1]):
            where = rng.randrange(9)
            return [Part(looks[cell == where][0], cell, looks[cell == where][1]) for cell in range(9)]


def _timetable(rng: random.Random, mine: Mine) -> list[Part]:
    parts: list[Part] = []
    platforms = rng.sample(range(1, 10), 4)
    while len(parts) < 4:
        station, minutes = rng.choice([*STATIONS]), 60 * rng.randrange(6, 23) + rng.randrange(1, 60)
        if mine(station, minutes) and all(part.what != station and part.number != minutes for part in parts):
            train = rng.choice([*TRAINS])
            parts.append(Part(station, platforms[len(parts)], number=minutes, more=train))
    return sorted(parts, key=lambda part: part.number)


def _weather(rng: random.Random, mine: Mine) -> list[Part]:
    """All cities; snow falls below four degrees, and no two are as warm."""
    parts: list[Part] = []
    for place, city in enumerate(CITIES):
        while len(parts) == place:
            weather = rng.choice([*WEATHER])
            warmth = rng.randrange(-9, 4) if weather == "snow" else rng.randrange(4, 37)
            if mine(city, weather, warmth) and all(part.number != warmth for part in parts):
                parts.append(Part(city, place, number=warmth, more=weather))
    return parts


def _paint(rng: random.Random, thing: str) -> str:
    return rng.choice([*PAINTS]) if THINGS[thing].paintable else ""


KINDS: dict[str, Callable[[random.Random, Mine], list[Part]]] = {
    "sign": _signs,
    "menu": _menu,
    "tag": _tags,
    "count": _counts,
    "compare": _counts,
    "colour": _colours,
    "place": _places,
    "name": _names,
    "odd": _odd,
    "clock": _clocks,
    "calendar": _calendar,
    "timetable": _timetable,
    "weather": _weather,
}
"""The kinds of scenes: what draws the parts of one."""
