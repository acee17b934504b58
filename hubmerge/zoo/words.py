"""The words of the zoo's little world, each in English and Japanese."""

from typing import NamedTuple


class Word(NamedTuple):
    """One meaning, or the frame of one sentence, in both languages."""

    en: str
    ja: str


class Item(NamedTuple):
    """A countable thing: English singular and plural, Japanese noun and its counter word."""

    one: str
    many: str
    ja: str
    counter: str

    def word(self, count: int | str = 2) -> Word:
        """The noun as it stands beside `count`."""
        return Word(self.one if count == 1 else self.many, self.ja)


class Verb(NamedTuple):
    """What an event does to a possession: `sign` +1 or -1, English past and base form, Japanese polite past."""

    sign: int
    past: str
    base: str
    ja: str


NAMES = (
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
)
UNSEEN_NAMES = (Word("Paul", "ポール"), Word("Sara", "サラ"))
"""Never in a solved problem of any training set."""
ITEMS = (
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
)
VERBS = (
    Verb(+1, "bought", "buy", "買いました"),
    Verb(+1, "found", "find", "見つけました"),
    Verb(+1, "got", "get", "もらいました"),
    Verb(+1, "made", "make", "作りました"),
    Verb(-1, "sold", "sell", "売りました"),
    Verb(-1, "lost", "lose", "なくしました"),
    Verb(-1, "gave away", "give away", "あげました"),
    Verb(-1, "used", "use", "使いました"),
)
BOXES = (
    Item("box", "boxes", "箱", "個"),
    Item("bag", "bags", "袋", "個"),
    Item("basket", "baskets", "かご", "個"),
    Item("shelf", "shelves", "棚", "個"),
)
COLORS = (Word("red", "赤い"), Word("blue", "青い"), Word("white", "白い"), Word("black", "黒い"))
PLACES = (
    Word("park", "公園"),
    Word("school", "学校"),
    Word("station", "駅"),
    Word("store", "店"),
    Word("library", "図書館"),
)
HAD = Word("had", "持っていました")
