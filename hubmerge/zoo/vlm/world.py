"""The world of the zoo that sees: one thing in a picture, and what is asked and said of it in English and Japanese.

A combination of thing, size, colour and place belongs to one split, in pictures and in texts, in every language and
wording. A question never names what it asks for, so that its answer can only come from the picture, or from what was
told of it before.
"""

import random
import re
import zlib
from dataclasses import dataclass
from functools import cache
from itertools import product

from ..pictures.things import THINGS as DRAWN
from ..stories import Voice
from ..words import Word

THINGS = tuple(
    Word(name, DRAWN[name].ja)
    for name in (
        *("teapot", "paper lantern", "carp streamer", "round fan", "kimono", "wind chime", "kokeshi doll"),
        *("origami crane", "car", "bus", "umbrella", "book", "tulip", "rice bowl", "cap", "balloon"),
    )
)
COLOURS = (
    *(Word("red", "赤い"), Word("blue", "青い"), Word("yellow", "黄色い"), Word("green", "緑の")),
    *(Word("white", "白い"), Word("black", "黒い"), Word("purple", "紫の"), Word("pink", "ピンクの")),
    Word("brown", "茶色い"),
)
PLACES = (
    *(Word("top left", "左上"), Word("top", "上"), Word("top right", "右上")),
    *(Word("left", "左"), Word("center", "真ん中"), Word("right", "右")),
    *(Word("bottom left", "左下"), Word("bottom", "下"), Word("bottom right", "右下")),
)
SIZES = (Word("big", "大きい"), Word("medium", "中くらいの"), Word("small", "小さい"))
UNKNOWN = Word("?", "？")
"""Stands for what nothing was told of."""

SHARES = {"train": 11, "search": 1, "validation": 1, "test": 3}
"""Of 16 combinations, how many are of each split."""


@dataclass(frozen=True)
class Kind:
    """A kind of question: its wordings, and the sentence that answers it."""

    questions: tuple[Word, ...]
    answer: Word


KINDS = {
    "what": Kind(
        (
            Word("what is in the picture?", "絵に何がありますか。"),
            Word("what do you see?", "何が見えますか。"),
            Word("say what there is.", "何があるか言ってください。"),
        ),
        Word("at the {place} is a {size} {colour} {thing}.", "{place}に{size}{colour}{thing}があります。"),
    ),
    "where": Kind(
        (
            Word("where is it?", "どこにありますか。"),
            Word("at which place is it?", "どの場所にありますか。"),
        ),
        Word("the {colour} {thing} is at the {place}.", "{colour}{thing}は{place}にあります。"),
    ),
    "looks": Kind(
        (
            Word("what does it look like?", "どんなものですか。"),
            Word("describe it.", "説明してください。"),
        ),
        Word("it is a {size} {colour} {thing}.", "{size}{colour}{thing}です。"),
    ),
}
"""The kinds by name: the question decides which facts are said, and in which sentence."""

FACTS = (
    *(kind.answer for kind in KINDS.values()),
    Word("the {size} {colour} {thing} is at the {place}.", "{size}{colour}{thing}は{place}にあります。"),
    Word("{place}: {size} {colour} {thing}.", "{place}: {size}{colour}{thing}。"),
)
"""Sentences that tell of a picture; the first as answers do."""
WHOLE = (FACTS[0], *FACTS[-2:])
"""Those that tell all of it."""
AGAIN = Word("say it again:", "もう一度言ってください。")
IN_LANGUAGE = {
    "en": (Word("in English.", "英語で。"),),
    "ja": (Word("in Japanese.", "日本語で。"),),
}


@dataclass(frozen=True)
class Scene:
    """A picture of one thing: places in `THINGS`, `SIZES`, `COLOURS` and `PLACES`."""

    thing: int
    size: int
    colour: int
    place: int

    @property
    def parts(self) -> dict[str, Word]:
        """What fills the frames of this world's sentences."""
        return {
            "thing": THINGS[self.thing],
            "size": SIZES[self.size],
            "colour": COLOURS[self.colour],
            "place": PLACES[self.place],
        }

    @property
    def split(self) -> str:
        """The split that its combination belongs to."""
        mark = zlib.crc32(repr((self.thing, self.size, self.colour, self.place)).encode()) % sum(SHARES.values())
        for name, share in SHARES.items():
            if mark < share:
                return name
            mark -= share
        raise AssertionError(mark)

    def say(self, frame: Word, voice: Voice) -> str:
        """A sentence about it."""
        return voice.say(frame, **self.parts)

    def answer(self, kind: str, lang: str) -> str:
        """The answer to questions of a kind."""
        return self.say(KINDS[kind].answer, Voice(lang))


@cache
def scenes(split: str) -> tuple[Scene, ...]:
    """All combinations of a split, in an order that has no meaning."""
    every = product(*(range(len(words)) for words in (THINGS, SIZES, COLOURS, PLACES)))
    found = [scene for scene in (Scene(*numbers) for numbers in every) if scene.split == split]
    random.Random(split).shuffle(found)
    return tuple(found)


def words() -> list[str]:
    """Every word of the world, each once: a slot's words whole, and what stands between them."""
    every = [word for group in (THINGS, COLOURS, PLACES, SIZES, (UNKNOWN,)) for pair in group for word in pair]
    frames = [*FACTS, AGAIN, *(q for kind in KINDS.values() for q in kind.questions)]
    frames += [flag for flags in IN_LANGUAGE.values() for flag in flags]
    for frame in frames:
        every += _cut(frame.en) + _cut(frame.ja, _PIECES)
    return list(dict.fromkeys(every))


_PIECES = (
    *("もう一度", "言ってください", "説明してください", "どんなもの", "どの場所", "どこ", "絵", "何", "見えます"),
    *("あります", "ある", "です", "日本語", "英語", "に", "が", "か", "は", "で"),
)
"""The words of Japanese sentences, the longer ones first: Japanese is written without spaces."""


def _cut(frame: str, pieces: tuple[str, ...] = ()) -> list[str]:
    plain = re.sub(r"\{\w+\}", " ", frame)
    known = "|".join(map(re.escape, pieces)) or r"[A-Za-z]+"
    return re.findall(rf"{known}|\S", plain)
