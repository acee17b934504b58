"""Questions about a scene, with their one right answer, in Japanese and English.

A template is one thing to ask, in several phrasings (`phrasings.txt`). What it can ask of a scene, and what is
answered, it reads from the scene's parts; no question's own words hold its answer.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..words import Word
from .scenes import Part, Scene
from .things import THINGS
from .words import (
    BESIDE,
    CELLS,
    CITIES,
    COLOURED,
    COLOURS,
    CORNERS,
    DISHES,
    LANDMARKS,
    MONTHS,
    SHOPS,
    SIDES,
    STATIONS,
    TRAINS,
    WAYS,
    WEATHER,
    WEEKDAYS,
    day,
    degrees,
    platform,
    time,
    yen,
)

Parts = Sequence[Part]
Asked = tuple[tuple[Word, ...], Word]
"""What fills the gaps of a phrasing, and the answer."""
Ask = Callable[[Parts], Iterator[Asked]]
"""All that one template can ask of a scene."""


@dataclass(frozen=True)
class Question:
    """A question and its answer in both languages, and the name of its template."""

    template: str
    ja: str
    en: str
    answer: Word


PHRASINGS = Path(__file__).parent / "phrasings.txt"
"""For each template its name, then its phrasings in Japanese and English, with gaps `{0}` and `{1}`."""


def _read(table: str) -> dict[str, tuple[tuple[str, ...], tuple[str, ...]]]:
    phrasings = {}
    for block in table.strip().split("\n\n"):
        names, *lines = block.splitlines()
        en = tuple(line for line in lines if line.isascii())
        for name in names.split():
            phrasings[name] = tuple(line for line in lines if line not in en), en
    return phrasings


_PHRASINGS = _read(PHRASINGS.read_text(encoding="utf-8"))


def questions(rng: random.Random, scene: Scene, turn: int, count: int = 2) -> list[Question]:
    """`count` questions about a scene, of different templates: those whose turn it is, of those that fit it."""
    names = [*ASKED[scene.kind]]
    begin = turn % len(names)
    found: list[Question] = []
    for name in names[begin:] + names[:begin]:
        if len(found) < count and (asked := [*ASKED[scene.kind][name](scene.parts)]):
            gaps, answer = rng.choice(asked)
            template = f"{scene.kind}-{name}"
            ja, en = map(rng.choice, _PHRASINGS[template])
            text = en.format(*(word.en for word in gaps))
            question = ja.format(*(word.ja for word in gaps))
            found.append(Question(template, question, text[0].upper() + text[1:], answer))
    return found


def _thing(part: Part) -> Word:
    return Word(THINGS[part.what].en, THINGS[part.what].ja)


def _many(part: Part) -> Word:
    return Word(THINGS[part.what].many, THINGS[part.what].ja)


def _each(gap: Callable[[Part], Word], answer: Callable[[Part], Word]) -> Ask:
    """Asks each part, called by `gap`, for its `answer`; not where two parts are called the same."""

    def ask(parts: Parts) -> Iterator[Asked]:
        called = [gap(part) for part in parts]
        return (((name,), answer(part)) for name, part in zip(called, parts, strict=True) if called.count(name) == 1)

    return ask


def _best(answer: Callable[[Part], Word], sign: int) -> Ask:
    """Asks for the part with the greatest (`sign` 1) or least (-1) number."""

    def ask(parts: Parts) -> Iterator[Asked]:
        yield (), answer(max(parts, key=lambda part: sign * part.number))

    return ask


def _counted(parts: Parts) -> Iterator[Asked]:
    for part in parts:
        counter = THINGS[part.what].counter
        yield (_many(part), Word(counter, counter)), Word(str(part.number), f"{part.number}{counter}")


def _total(parts: Parts) -> Iterator[Asked]:
    total = sum(part.number for part in parts)
    yield (), Word(str(total), f"{total}個")


def _gap(parts: Parts) -> Iterator[Asked]:
    for one in parts:
        for other in parts:
            if one is not other:
                number = str(abs(one.number - other.number))
                yield (_many(one), _many(other)), Word(number, f"{number}つ")


def _neighbour(parts: Parts) -> Iterator[Asked]:
    for one in parts:
        for other in parts:
            step = (other.place // 3 - one.place // 3, other.place % 3 - one.place % 3)
            if step in BESIDE:
                yield (_thing(one), BESIDE[step]), _thing(other)


def _way(parts: Parts) -> Iterator[Asked]:
    for one in parts:
        for other in parts:
            down, right = other.place // 3 - one.place // 3, other.place % 3 - one.place % 3
            if (down == 0) != (right == 0):
                yield (_thing(one), _thing(other)), WAYS[(down > 0) - (down < 0), (right > 0) - (right < 0)]


def _odd(answer: Callable[[Part], Word], differs: Callable[[Part], str]) -> Ask:
    """Asks for the one part of nine that differs from the others, where it does so in `differs`."""

    def ask(parts: Parts) -> Iterator[Asked]:
        values = [differs(part) for part in parts]
        for part, value in zip(parts, values, strict=True):
            if values.count(value) == 1:
                yield (), answer(part)

    return ask


def _odd_colour(parts: Parts) -> Iterator[Asked]:
    alike = len({part.what for part in parts}) == 1
    return _odd(lambda part: COLOURS[part.colour], lambda part: part.colour)(parts if alike else ())


def _marked(answer: Callable[[Parts, Part], Word]) -> Ask:
    return lambda parts: (((COLOURED[part.colour],), answer(parts, part)) for part in parts[1:])


def _weekday(parts: Parts, number: int) -> Word:
    return WEEKDAYS[(parts[0].number + number - 1) % 7]


def _weekdays(parts: Parts) -> Iterator[Asked]:
    return (((day(number),), _weekday(parts, number)) for number in range(1, 29))


def _priced(name: Callable[[Part], Word]) -> dict[str, Ask]:
    def price(part: Part) -> Word:
        return yen(part.number)

    best = {"dearest": _best(name, 1), "cheapest": _best(name, -1)}
    return {"price": _each(name, price), "priced": _each(price, name), **best}


ASKED: dict[str, dict[str, Ask]] = {
    "sign": {
        "coloured": _each(lambda part: COLOURED[part.colour], lambda part: SHOPS[part.what]),
        "placed": _each(lambda part: SIDES[part.place], lambda part: SHOPS[part.what]),
        "colour": _each(lambda part: SHOPS[part.what], lambda part: COLOURS[part.colour]),
        "place": _each(lambda part: SHOPS[part.what], lambda part: SIDES[part.place]),
    },
    "menu": _priced(lambda part: DISHES[part.what]),
    "tag": _priced(_thing),
    "count": {
        "one": _counted,
        "all": _total,
    },
    "compare": {
        "most": _best(_thing, 1),
        "least": _best(_thing, -1),
        "gap": _gap,
    },
    "colour": {
        "placed": _each(lambda part: CORNERS[part.place], lambda part: COLOURS[part.colour]),
        "named": _each(_thing, lambda part: COLOURS[part.colour]),
        "coloured": _each(lambda part: COLOURED[part.colour], _thing),
        "place": _each(lambda part: COLOURED[part.colour], lambda part: CORNERS[part.place]),
    },
    "place": {
        "neighbour": _neighbour,
        "way": _way,
        "where": _each(_thing, lambda part: CELLS[part.place]),
        "what": _each(lambda part: CELLS[part.place], _thing),
    },
    "name": {
        "placed": _each(lambda part: SIDES[2 * part.place], _thing),
        "bigger": _best(_thing, 1),
        "smaller": _best(_thing, -1),
    },
    "odd": {
        "where": _odd(lambda part: CELLS[part.place], lambda part: part.what + part.colour),
        "what": _odd(_thing, lambda part: part.what),
        "colour": _odd_colour,
    },
    "clock": {
        "placed": _each(lambda part: SIDES[2 * part.place], lambda part: time(part.number)),
        "named": _each(lambda part: LANDMARKS[part.what], lambda part: time(part.number)),
        "which": _each(lambda part: time(part.number), lambda part: LANDMARKS[part.what]),
    },
    "calendar": {
        "marked": _marked(lambda parts, part: day(part.number)),
        "weekday": _weekdays,
        "month": lambda parts: iter([((), MONTHS[int(parts[0].what) - 1])]),
        "marked-weekday": _marked(lambda parts, part: _weekday(parts, part.number)),
    },
    "timetable": {
        "time": _each(lambda part: STATIONS[part.what], lambda part: time(part.number)),
        "station": _each(lambda part: time(part.number), lambda part: STATIONS[part.what]),
        "platform": _each(lambda part: STATIONS[part.what], lambda part: platform(part.place)),
        "from": _each(lambda part: platform(part.place), lambda part: STATIONS[part.what]),
        "train": _each(lambda part: STATIONS[part.what], lambda part: TRAINS[part.more]),
    },
    "weather": {
        "weather": _each(lambda part: CITIES[part.what], lambda part: WEATHER[part.more]),
        "degrees": _each(lambda part: CITIES[part.what], lambda part: degrees(part.number)),
        "city": _each(lambda part: WEATHER[part.more], lambda part: CITIES[part.what]),
        "warmest": _best(lambda part: CITIES[part.what], 1),
        "coldest": _best(lambda part: CITIES[part.what], -1),
    },
}
"""What is asked of each kind of scene."""
