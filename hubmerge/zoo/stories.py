"""Language-neutral little stories and the voices that tell them, in English, in Japanese or in a mix of both.

A `Story` holds facts only (`Chain`: somebody has, gains and loses things; `Boxes`: so many boxes with so many things
each). A `Voice` decides in which language each sentence and each word is spoken. Stories are split by a hash of their
facts, so a held-out story is held out in every language.

Example:
    >>> story = Chain(NAMES[0], ITEMS[0], 13, ((VERBS[0], 7),))
    >>> join(story.facts(Voice("en")) + [story.question(Voice("en"))])
    'Tom had 13 apples. Tom bought 7 apples. How many apples does Tom have now?'
    >>> join(story.facts(Voice("ja")))
    'トムはリンゴを13個持っていました。トムはリンゴを7個買いました。'
    >>> story.equation(), story.answer
    ('13+7=20.', 20)
"""

import random
import zlib
from dataclasses import dataclass
from typing import NamedTuple

LANGUAGES = ("en", "ja")


class Word(NamedTuple):
    """One meaning in both languages."""

    en: str
    ja: str


class Item(NamedTuple):
    """A countable thing: English singular and plural, Japanese noun and its counter word."""

    one: str
    many: str
    ja: str
    counter: str

    def english(self, count: int | str) -> str:
        return self.one if count == 1 else self.many


class Verb(NamedTuple):
    """What an event does to a possession: `sign` +1 or -1, English past and base form, Japanese polite past."""

    sign: int
    past: str
    base: str
    ja: str


NAMES = [
    Word("Tom", "トム"),
    Word("Ken", "ケン"),
    Word("Mary", "メアリー"),
    Word("Anna", "アンナ"),
    Word("Bob", "ボブ"),
    Word("Lisa", "リサ"),
    Word("Emma", "エマ"),
    Word("Jack", "ジャック"),
    Word("Nick", "ニック"),
    Word("Kate", "ケイト"),
]
ITEMS = [
    Item("apple", "apples", "リンゴ", "個"),
    Item("orange", "oranges", "ミカン", "個"),
    Item("ball", "balls", "ボール", "個"),
    Item("egg", "eggs", "卵", "個"),
    Item("card", "cards", "カード", "枚"),
    Item("stamp", "stamps", "切手", "枚"),
    Item("photo", "photos", "写真", "枚"),
    Item("pencil", "pencils", "鉛筆", "本"),
    Item("flower", "flowers", "花", "本"),
    Item("notebook", "notebooks", "ノート", "冊"),
]
VERBS = [
    Verb(+1, "bought", "buy", "買いました"),
    Verb(+1, "found", "find", "見つけました"),
    Verb(+1, "got", "get", "もらいました"),
    Verb(+1, "made", "make", "作りました"),
    Verb(-1, "sold", "sell", "売りました"),
    Verb(-1, "lost", "lose", "なくしました"),
    Verb(-1, "gave away", "give away", "あげました"),
    Verb(-1, "used", "use", "使いました"),
]
GAINS = [verb for verb in VERBS if verb.sign > 0]
BOXES = [
    Item("box", "boxes", "箱", "個"),
    Item("bag", "bags", "袋", "個"),
    Item("basket", "baskets", "かご", "個"),
    Item("shelf", "shelves", "棚", "個"),
]
COLORS = [Word("red", "赤い"), Word("blue", "青い"), Word("white", "白い"), Word("black", "黒い")]
PLACES = [
    Word("park", "公園"),
    Word("school", "学校"),
    Word("station", "駅"),
    Word("store", "店"),
    Word("library", "図書館"),
]


class Voice:
    """Speaks a story: `sentence` picks the language of the next sentence, `word` that of one word in it.

    `Voice("en")` and `Voice("ja")` are pure. With `rng`, each sentence is in the other language with probability
    `sentences` and each name, noun or verb with probability `words`.
    """

    def __init__(self, lang: str, rng: random.Random | None = None, sentences: float = 0.0, words: float = 0.0):
        if lang not in LANGUAGES:
            raise ValueError(f"Voice language is {lang!r}, expected one of {LANGUAGES}")
        self.lang, self.rng, self.sentences, self.words = lang, rng, sentences, words

    def _switched(self, lang: str, chance: float) -> str:
        if self.rng is None or self.rng.random() >= chance:
            return lang
        return "ja" if lang == "en" else "en"

    def sentence(self) -> str:
        return self._switched(self.lang, self.sentences)

    def word(self, frame: str, en: str, ja: str) -> str:
        """`en` or `ja`; an English word inside a Japanese sentence stands between spaces, as Latin script does."""
        if self._switched(frame, self.words) == "ja":
            return ja
        return en if frame == "en" else f" {en} "


def _tidy(text: str) -> str:
    return " ".join(text.split()).replace(" 。", "。")


def join(sentences: list[str]) -> str:
    """Sentences as one text: a space after a Latin sentence end, none after a Japanese one."""
    text = ""
    for sentence in map(_tidy, sentences):
        text += (" " if text and text[-1].isascii() else "") + sentence
    return text


@dataclass(frozen=True)
class Chain:
    """`name` had `start` of `item`, then gains or loses some: one or two `events` of (verb, count)."""

    name: Word
    item: Item
    start: int
    events: tuple[tuple[Verb, int], ...]

    @property
    def kind(self) -> str:
        return f"chain{len(self.events)}"

    @property
    def answer(self) -> int:
        return self.start + sum(verb.sign * count for verb, count in self.events)

    def facts(self, voice: Voice) -> list[str]:
        return [self.fact(voice, index) for index in range(len(self.events) + 1)]

    def fact(self, voice: Voice, index: int) -> str:
        frame = voice.sentence()
        count = self.start if index == 0 else self.events[index - 1][1]
        name, item = voice.word(frame, *self.name), voice.word(frame, self.item.english(count), self.item.ja)
        if index == 0:
            verb = voice.word(frame, "had", "持っていました")
        else:
            verb = voice.word(frame, self.events[index - 1][0].past, self.events[index - 1][0].ja)
        return (
            f"{name} {verb} {count} {item}." if frame == "en" else f"{name}は{item}を{count}{self.item.counter}{verb}。"
        )

    def question(self, voice: Voice) -> str:
        frame = voice.sentence()
        name, item = voice.word(frame, *self.name), voice.word(frame, self.item.many, self.item.ja)
        if frame == "en":
            return f"How many {item} does {name} have now?"
        return f"{name}は今{item}を何{self.item.counter}持っていますか。"

    def reading(self, voice: Voice, index: int) -> tuple[str, int]:
        """A question whose answer is one of the story's own numbers, and that number."""
        frame = voice.sentence()
        name, item = voice.word(frame, *self.name), voice.word(frame, self.item.many, self.item.ja)
        counter = self.item.counter
        if index == 0:
            if frame == "en":
                return f"How many {item} did {name} have at first?", self.start
            return f"{name}は最初に{item}を何{counter}持っていましたか。", self.start
        verb, count = self.events[index - 1]
        if frame == "en":
            return f"How many {item} did {name} {voice.word(frame, verb.base, verb.ja)}?", count
        return f"{name}は{item}を何{counter}{voice.word(frame, verb.past, verb.ja)}か。", count

    def state(self, voice: Voice, number: int | str) -> str:
        """The final state as a plain sentence, with `number` as the count."""
        frame = voice.sentence()
        name, item = voice.word(frame, *self.name), voice.word(frame, self.item.english(number), self.item.ja)
        if frame == "en":
            return f"{name} has {number} {item} now."
        return f"{name}は今{item}を{number}{self.item.counter}持っています。"

    def expression(self) -> str:
        return str(self.start) + "".join(f"{'+' if verb.sign > 0 else '-'}{count}" for verb, count in self.events)

    def equation(self) -> str:
        """The expression evaluated from left to right, a step at a time: `13+7-5=20-5=15.`"""
        terms = [f"{'+' if verb.sign > 0 else '-'}{count}" for verb, count in self.events]
        total, steps = self.start, [self.expression()]
        for done, (verb, count) in enumerate(self.events, 1):
            total += verb.sign * count
            steps.append(str(total) + "".join(terms[done:]))
        return "=".join(steps) + "."


@dataclass(frozen=True)
class Boxes:
    """`boxes` containers with `each` of `item` in every one."""

    box: Item
    item: Item
    boxes: int
    each: int

    kind = "boxes"

    @property
    def answer(self) -> int:
        return self.boxes * self.each

    def facts(self, voice: Voice) -> list[str]:
        return [self.fact(voice, 0), self.fact(voice, 1)]

    def fact(self, voice: Voice, index: int) -> str:
        frame = voice.sentence()
        if index == 0:
            box = voice.word(frame, self.box.many, self.box.ja)
            return f"There are {self.boxes} {box}." if frame == "en" else f"{box}が{self.boxes}個あります。"
        box, item = voice.word(frame, self.box.one, self.box.ja), voice.word(frame, self.item.many, self.item.ja)
        if frame == "en":
            return f"Each {box} has {self.each} {item}."
        return f"どの{box}にも{item}が{self.each}{self.item.counter}入っています。"

    def question(self, voice: Voice) -> str:
        frame = voice.sentence()
        item = voice.word(frame, self.item.many, self.item.ja)
        if frame == "en":
            return f"How many {item} are there in all?"
        return f"{item}は全部で何{self.item.counter}ありますか。"

    def reading(self, voice: Voice, index: int) -> tuple[str, int]:
        """A question whose answer is one of the story's own numbers, and that number."""
        frame = voice.sentence()
        if index == 0:
            box = voice.word(frame, self.box.many, self.box.ja)
            return (f"How many {box} are there?" if frame == "en" else f"{box}は何個ありますか。"), self.boxes
        box, item = voice.word(frame, self.box.one, self.box.ja), voice.word(frame, self.item.many, self.item.ja)
        if frame == "en":
            return f"How many {item} does each {box} have?", self.each
        return f"どの{box}にも{item}は何{self.item.counter}入っていますか。", self.each

    def state(self, voice: Voice, number: int | str) -> str:
        """The total as a plain sentence, with `number` as the count."""
        frame = voice.sentence()
        item = voice.word(frame, self.item.many, self.item.ja)
        if frame == "en":
            return f"There are {number} {item} in all."
        return f"{item}は全部で{number}{self.item.counter}あります。"

    def expression(self) -> str:
        return f"{self.boxes}*{self.each}"

    def equation(self) -> str:
        return f"{self.boxes}*{self.each}={self.answer}."


Story = Chain | Boxes
# Twentieths of all stories, by hash of their facts; `design` is for choosing how the zoo is trained.
SPLITS = ("design", "search", "validation", "test", "test", "test")
KINDS = {"chain1": 0.5, "chain2": 0.25, "boxes": 0.25}


def split_of(story: Story) -> str:
    """The split a story belongs to: `train`, or one of the held-out `SPLITS`; the same in every language."""
    bucket = zlib.crc32(join(story.facts(Voice("en"))).encode()) % 20
    return SPLITS[bucket] if bucket < len(SPLITS) else "train"


def draw_story(rng: random.Random, kind: str | None = None, split: str = "train") -> Story:
    """A random story of `split`; `kind` is one of `KINDS`, or None for their usual mix."""
    while True:
        story = _draw(rng, kind or rng.choices(list(KINDS), list(KINDS.values()))[0])
        if split_of(story) == split:
            return story


def _draw(rng: random.Random, kind: str) -> Story:
    if kind == "boxes":
        return Boxes(rng.choice(BOXES), rng.choice(ITEMS), rng.randint(2, 9), rng.randint(2, 9))
    start = total = rng.randint(2, 20)
    events = []
    for _ in range(int(kind.removeprefix("chain"))):
        verb = rng.choice(VERBS if total > 1 else GAINS)
        count = rng.randint(1, 9 if verb.sign > 0 else min(9, total - 1))
        events.append((verb, count))
        total += verb.sign * count
    return Chain(rng.choice(NAMES), rng.choice(ITEMS), start, tuple(events))
