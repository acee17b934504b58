"""Language-neutral little stories and the voices that tell them, in English, in Japanese or in a mix of both.

A `Story` holds facts only (`Chain`: somebody has, gains and loses things; `Boxes`: so many boxes with so many things
each) and the number of the wording that it is told in. A `Voice` decides in which language each sentence and each word
is spoken. Stories are split by a hash of their facts, so a held-out story is held out in every language and wording.

Some stories are `unseen`: names, wording and combination of numbers are those of no solved problem in any training set.

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
import re
import zlib
from dataclasses import dataclass, replace
from typing import Literal

from .words import BOXES, HAD, ITEMS, NAMES, UNSEEN_NAMES, VERBS, Item, Verb, Word

LANGUAGES = ("en", "ja")

# Each kind of sentence in the wordings 0 and 1, which solved training problems use, and 2, which they never use.
_HAD = (
    Word("{name} {verb} {count} {item}.", "{name}は{item}を{count}{counter}{verb}。"),
    Word("At first {name} {verb} {count} {item}.", "初めに{name}は{item}を{count}{counter}{verb}。"),
    Word("{count} {item} is what {name} {verb}.", "{name}は{count}{counter}の{item}を{verb}。"),
)
_EVENT = (
    Word("{name} {verb} {count} {item}.", "{name}は{item}を{count}{counter}{verb}。"),
    Word("Then {name} {verb} {count} {item}.", "それから{name}は{item}を{count}{counter}{verb}。"),
    Word("Later {name} {verb} {count} {item}.", "その後{name}は{count}{counter}の{item}を{verb}。"),
)
_HOW_MANY_NOW = (
    Word("How many {item} does {name} have now?", "{name}は今{item}を何{counter}持っていますか。"),
    Word("How many {item} are with {name} now?", "今{name}のところに{item}は何{counter}ありますか。"),
    Word("Now {name} has how many {item}?", "{name}が今持っている{item}は何{counter}ですか。"),
)
_THERE_ARE = (
    Word("There are {count} {box}.", "{box}が{count}個あります。"),
    Word("{count} {box} are here.", "ここに{box}が{count}個あります。"),
    Word("We see {count} {box}.", "{count}個の{box}があります。"),
)
_EACH = (
    Word("Each {box} has {count} {item}.", "どの{box}にも{item}が{count}{counter}入っています。"),
    Word("In each {box} are {count} {item}.", "それぞれの{box}に{item}が{count}{counter}入っています。"),
    Word("{count} {item} are in each {box}.", "どの{box}にも{count}{counter}の{item}があります。"),
)
_HOW_MANY_IN_ALL = (
    Word("How many {item} are there in all?", "{item}は全部で何{counter}ありますか。"),
    Word("How many {item} is that in all?", "全部で{item}は何{counter}になりますか。"),
    Word("In all there are how many {item}?", "{item}は合わせて何{counter}ですか。"),
)
UNSEEN_WORDING = 2
_HAD_AT_FIRST = Word("How many {item} did {name} have at first?", "{name}は最初に{item}を何{counter}持っていましたか。")
_HOW_MANY_BOXES = Word("How many {box} are there?", "{box}は何個ありますか。")


class Voice:
    """Speaks a story: `sentence` picks the language of the next sentence, `word` that of one word in it.

    `Voice("en")` and `Voice("ja")` are pure. With `rng`, each sentence is in the other language with probability
    `sentences` and each name, noun or verb with probability `words`.
    """

    def __init__(self, lang: str, rng: random.Random | None = None, sentences: float = 0.0, words: float = 0.0):
        if lang not in LANGUAGES:
            raise ValueError(f"Voice language is {lang!r}, expected one of {LANGUAGES}")
        self.lang, self.rng, self.sentences, self.words = lang, rng, sentences, words

    def say(self, frame: Word, **parts: Word | str | int) -> str:
        """One sentence: `frame` in some language, its `{parts}` filled in; words among them may be in the other."""
        lang = self.sentence()
        spoken = {name: self._word(lang, p) if isinstance(p, Word) else p for name, p in parts.items()}
        return _tidy(getattr(frame, lang).format(**spoken))

    def sentence(self) -> str:
        """The language of the next sentence."""
        return self._switched(self.lang, self.sentences)

    def _switched(self, lang: str, chance: float) -> str:
        if self.rng is None or self.rng.random() >= chance:
            return lang
        return "ja" if lang == "en" else "en"

    def _word(self, lang: str, word: Word) -> str:
        if self._switched(lang, self.words) == "ja":
            return word.ja
        # An English word inside a Japanese sentence stands between spaces, as Latin script does.
        return word.en if lang == "en" else f" {word.en} "


def _tidy(text: str) -> str:
    return " ".join(text.split()).replace(" 。", "。")


def join(sentences: list[str]) -> str:
    """Sentences as one text: a space after a Latin sentence end, none after a Japanese one."""
    text = ""
    for sentence in sentences:
        text += (" " if text and text[-1].isascii() else "") + sentence
    return text


@dataclass(frozen=True)
class Chain:
    """`name` had `start` of `item`, then gains or loses some: one or two `events` of (verb, count)."""

    name: Word
    item: Item
    start: int
    events: tuple[tuple[Verb, int], ...]
    wording: int = 0

    @property
    def kind(self) -> str:
        return f"chain{len(self.events)}"

    @property
    def answer(self) -> int:
        return self.start + sum(verb.sign * count for verb, count in self.events)

    def facts(self, voice: Voice) -> list[str]:
        return [self.fact(voice, index) for index in range(len(self.events) + 1)]

    def fact(self, voice: Voice, index: int) -> str:
        if index == 0:
            count, frame, verb = self.start, _HAD[self.wording], HAD
        else:
            event, count = self.events[index - 1]
            frame, verb = _EVENT[self.wording], Word(event.past, event.ja)
        return self._say(voice, frame, count, verb=verb)

    def question(self, voice: Voice) -> str:
        return self._say(voice, _HOW_MANY_NOW[self.wording])

    def reading(self, voice: Voice, index: int) -> tuple[str, int]:
        """A question whose answer is one of the story's own numbers, and that number."""
        if index == 0:
            return self._say(voice, _HAD_AT_FIRST), self.start
        verb, count = self.events[index - 1]
        frame = Word("How many {item} did {name} {verb}?", "{name}は{item}を何{counter}{verb}か。")
        return self._say(voice, frame, verb=Word(verb.base, verb.ja)), count

    def state(self, voice: Voice, number: int | str) -> str:
        """The final state as a plain sentence, with `number` as the count."""
        frame = Word("{name} has {count} {item} now.", "{name}は今{item}を{count}{counter}持っています。")
        return self._say(voice, frame, number)

    def _say(self, voice: Voice, frame: Word, count: int | str = 2, **more: Word) -> str:
        parts = {"name": self.name, "item": self.item.word(count), "counter": self.item.counter, "count": count}
        return voice.say(frame, **parts, **more)

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
    wording: int = 0

    kind = "boxes"

    @property
    def answer(self) -> int:
        return self.boxes * self.each

    def facts(self, voice: Voice) -> list[str]:
        return [self.fact(voice, 0), self.fact(voice, 1)]

    def fact(self, voice: Voice, index: int) -> str:
        if index == 0:
            return voice.say(_THERE_ARE[self.wording], count=self.boxes, box=self.box.word())
        return self._say(voice, _EACH[self.wording], self.each)

    def question(self, voice: Voice) -> str:
        return self._say(voice, _HOW_MANY_IN_ALL[self.wording])

    def reading(self, voice: Voice, index: int) -> tuple[str, int]:
        """A question whose answer is one of the story's own numbers, and that number."""
        if index == 0:
            return voice.say(_HOW_MANY_BOXES, box=self.box.word()), self.boxes
        frame = Word("How many {item} does each {box} have?", "どの{box}にも{item}は何{counter}入っていますか。")
        return self._say(voice, frame), self.each

    def state(self, voice: Voice, number: int | str) -> str:
        """The total as a plain sentence, with `number` as the count."""
        frame = Word("There are {count} {item} in all.", "{item}は全部で{count}{counter}あります。")
        return self._say(voice, frame, number)

    def _say(self, voice: Voice, frame: Word, count: int | str = 2) -> str:
        return voice.say(frame, box=self.box.word(1), item=self.item.word(), counter=self.item.counter, count=count)

    def expression(self) -> str:
        return f"{self.boxes}*{self.each}"

    def equation(self) -> str:
        return f"{self.expression()}={self.answer}."


Story = Chain | Boxes
# Twentieths of all stories, by hash of their facts; `design` is for choosing how the zoo is trained.
SPLITS = ("design", "search", "validation", "test", "test", "test")
KINDS = {"chain1": 0.5, "chain2": 0.25, "boxes": 0.25}
World = Literal["seen", "unseen", "any"]
"""Which names, wordings and combinations of numbers: those of solved training problems, the others, or all."""


def blanks(story: Story) -> str:
    """The equation with what is to be worked out left blank: `13+7-5=?-5=?.`"""
    return re.sub(r"=\d+", "=?", story.equation())


def question_of(story: Story, voice: Voice) -> str:
    """The word problem that a story poses: its facts and its final question."""
    return join([*story.facts(voice), story.question(voice)])


def split_of(story: Story) -> str:
    """The split a story belongs to: `train`, or one of the held-out `SPLITS`; the same in every language."""
    bucket = _hash(join(replace(story, wording=0).facts(Voice("en")))) % 20
    return SPLITS[bucket] if bucket < len(SPLITS) else "train"


def has_unseen_numbers(story: Story) -> bool:
    """Whether the numbers, in this combination, are in no solved problem of any training set: a fifth of all."""
    return _hash(story.expression()) % 5 == 0


def draw_story(rng: random.Random, kind: str | None = None, split: str = "train", world: World = "seen") -> Story:
    """A random story of `split` in `world`; `kind` is one of `KINDS`, or None for their usual mix."""
    while True:
        story = _draw(rng, kind or rng.choices(list(KINDS), list(KINDS.values()))[0], world)
        if split_of(story) == split and (world == "any" or has_unseen_numbers(story) == (world == "unseen")):
            return story


def _draw(rng: random.Random, kind: str, world: World) -> Story:
    unseen = world == "unseen" or (world == "any" and rng.random() < 0.25)
    wording = UNSEEN_WORDING if unseen else rng.randrange(UNSEEN_WORDING)
    if kind == "boxes":
        return Boxes(rng.choice(BOXES), rng.choice(ITEMS), rng.randint(2, 9), rng.randint(2, 9), wording)
    start = total = rng.randint(2, 20)
    events = []
    for _ in range(int(kind.removeprefix("chain"))):
        verb = rng.choice([verb for verb in VERBS if total > 1 or verb.sign > 0])
        count = rng.randint(1, 9 if verb.sign > 0 else min(9, total - 1))
        events.append((verb, count))
        total += verb.sign * count
    return Chain(rng.choice(UNSEEN_NAMES if unseen else NAMES), rng.choice(ITEMS), start, tuple(events), wording)


def _hash(text: str) -> int:
    return zlib.crc32(text.encode())
