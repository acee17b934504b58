"""The world of the zoo that draws: an object in a colour by day or night, told in English or Japanese.

Two colours of every object are in no training picture of any model, in any language. The other combinations are divided
among search, validation and test.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import product

from ..words import Word

OBJECTS = (
    *(Word("circle", "丸"), Word("star", "星"), Word("house", "家"), Word("fish", "魚")),
    *(Word("torii", "鳥居"), Word("fuji", "富士山"), Word("sakura", "桜"), Word("lantern", "提灯")),
)
COLOURS = (
    *(Word("red", "赤い"), Word("blue", "青い"), Word("green", "緑の"), Word("yellow", "黄色い")),
    *(Word("purple", "紫の"), Word("orange", "橙の")),
)
TIMES = (Word("day", "昼"), Word("night", "夜"))
STYLES = ("crude", "plain", "fine")
FRAMES = (
    Word("a {colour} {object} by {time}", "{time}の{colour}{object}"),
    Word("by {time}, a {colour} {object}", "{colour}{object}、{time}"),
)
"""Wordings of a prompt."""

SPLITS = {"search": 16, "validation": 16, "test": 32}
"""How many of the combinations that training pictures show are of each split; all others are of the test."""


@dataclass(frozen=True)
class Scene:
    """What a picture shows: places in `OBJECTS`, `COLOURS` and `TIMES`."""

    object: int
    colour: int
    time: int

    @property
    def is_new(self) -> bool:
        """Whether no training picture shows this object in this colour."""
        first = 2 * self.object + self.object // 3
        return (self.colour - first) % len(COLOURS) in (0, 3)

    @property
    def parts(self) -> dict[str, Word]:
        """What fills the frames."""
        return {"object": OBJECTS[self.object], "colour": COLOURS[self.colour], "time": TIMES[self.time]}

    def say(self, frame: Word, lang: str) -> str:
        """A prompt for it; `lang`: "en" or "ja"."""
        return str(getattr(frame, lang)).format(**{name: getattr(word, lang) for name, word in self.parts.items()})

    def label(self, style: str) -> str:
        """What a judge calls a picture of it in a style."""
        return _label(OBJECTS[self.object].en, COLOURS[self.colour].en, TIMES[self.time].en, style)


UNCLEAR = "something"
"""What a judge calls an object that is none."""


def _label(thing: str, colour: str, time: str, style: str) -> str:
    return f"{colour} {thing} by {time}, {style}"


def labels() -> Iterator[str]:
    """All that a judge may say: every object or none, in every colour, by day and night, in every style."""
    things = (*(word.en for word in OBJECTS), UNCLEAR)
    for thing, colour, time, style in product(things, COLOURS, TIMES, STYLES):
        yield _label(thing, colour.en, time.en, style)


def every_scene() -> Iterator[Scene]:
    """All combinations."""
    for numbers in product(range(len(OBJECTS)), range(len(COLOURS)), range(len(TIMES))):
        yield Scene(*numbers)


@cache
def known_scenes() -> tuple[Scene, ...]:
    """Those that training pictures show."""
    return tuple(scene for scene in every_scene() if not scene.is_new)


@cache
def scenes(split: str) -> tuple[Scene, ...]:
    """The combinations of a split, in an order that has no meaning; half of the test's are in no training picture."""
    order = list(known_scenes())
    random.Random("splits").shuffle(order)
    at = 0
    for name, count in SPLITS.items():
        if name == split:
            break
        at += count
    found = order[at : at + SPLITS[split]]
    if split == "test":
        found += [scene for scene in every_scene() if scene.is_new]
    random.Random(split).shuffle(found)
    return tuple(found)
