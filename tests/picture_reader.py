"""Answers questions of ja-vlm-bench from the words of the question and the parts of the scene.

Written apart from `hubmerge.zoo.pictures.questions`: it knows no template and reads Japanese.
"""

import re
from collections.abc import Callable, Iterable

from hubmerge.zoo.pictures import words
from hubmerge.zoo.pictures.scenes import Part, Scene
from hubmerge.zoo.pictures.things import THINGS

GRID = "左上 上 右上 左 真ん中 右 左下 下 右下".split()  # noqa: SIM905
GRID_EN = ["top left", "top", "top right", "left", "middle", "right", "bottom left", "bottom", "bottom right"]
STEPS = {"右": (0, 1, "right"), "左": (0, -1, "left"), "上": (-1, 0, "above"), "下": (1, 0, "below")}
WEEK = {
    "日": "Sunday",
    "月": "Monday",
    "火": "Tuesday",
    "水": "Wednesday",
    "木": "Thursday",
    "金": "Friday",
    "土": "Saturday",
}
COLOURED = {word.ja: en for en, word in words.COLOURED.items()}
SIDE = {"左": 0, "真ん中": 1, "右": 2}

Answer = tuple[str, str]


def _names(kind: str) -> dict[str, str]:
    """What the parts of a kind are called in Japanese, and their English name."""
    tables = {
        "sign": words.SHOPS,
        "menu": words.DISHES,
        "clock": words.LANDMARKS,
        "timetable": words.STATIONS,
        "weather": words.CITIES,
    }
    table = tables.get(kind)
    return {word.ja: en for en, word in table.items()} if table else {thing.ja: en for en, thing in THINGS.items()}


def answer(scene: Scene, question: str) -> Answer:
    """The Japanese and the English answer."""
    readers: dict[str, Callable[[Reader, str], Answer]] = {
        "sign": Reader.sign,
        "menu": Reader.shop,
        "tag": Reader.shop,
        "count": Reader.count,
        "compare": Reader.compare,
        "colour": Reader.colour,
        "place": Reader.place,
        "name": Reader.name,
        "odd": Reader.odd,
        "clock": Reader.clock,
        "calendar": Reader.calendar,
        "timetable": Reader.timetable,
        "weather": Reader.weather,
    }
    return readers[scene.kind](Reader(scene), question)


def only(found: Iterable[Part]) -> Part:
    (part,) = found
    return part


def colour(part: Part) -> Answer:
    return words.COLOURS[part.colour].ja, part.colour


class Reader:
    def __init__(self, scene: Scene) -> None:
        self.parts = scene.parts
        self.english = _names(scene.kind)
        self.japanese = {en: ja for ja, en in self.english.items()}

    def called(self, part: Part) -> Answer:
        return self.japanese[part.what], part.what

    def named(self, text: str) -> Part:
        """The part whose name is `text`."""
        return only(part for part in self.parts if part.what == self.english[text])

    def inside(self, text: str) -> list[Part]:
        """The parts named in `text`, in the order of their names there; a longer name covers a shorter one in it."""
        pattern = "|".join(sorted(map(re.escape, self.english), key=len, reverse=True))
        whats = [self.english[name] for name in re.findall(pattern, text)]
        return [part for what in whats for part in self.parts if part.what == what]

    def coloured(self, text: str) -> Part:
        found = re.search("|".join(COLOURED), text)
        assert found
        return only(part for part in self.parts if part.colour == COLOURED[found[0]])

    def extreme(self, text: str, high: str, low: str) -> Part | None:
        ordered = sorted(self.parts, key=lambda part: part.number)
        if re.search(high, text):
            return ordered[-1]
        return ordered[0] if re.search(low, text) else None

    def sign(self, text: str) -> Answer:
        if quoted := re.match("「(.+?)」", text):
            part = self.named(quoted[1])
            if "色" in text:
                return colour(part)
            return ("左", "真ん中", "右")[part.place], ("left", "middle", "right")[part.place]
        if side := re.match("(左|真ん中|右)の看板", text):
            return self.called(only(part for part in self.parts if part.place == SIDE[side[1]]))
        return self.called(self.coloured(text))

    def shop(self, text: str) -> Answer:
        if price := re.search(r"(\d+)円", text):
            return self.called(only(part for part in self.parts if part.number == int(price[1])))
        if part := self.extreme(text, "高い", "安い"):
            return self.called(part)
        assert re.search("いくら", text)
        (part,) = self.inside(text)
        return f"{part.number}円", f"{part.number} yen"

    def count(self, text: str) -> Answer:
        if re.search("すべて|個の物|絵の中の物", text):
            total = sum(part.number for part in self.parts)
            return f"{total}個", str(total)
        found = re.match("(?:絵の中の)?(.+?)は(?:全部で)?何", text)  # 本 is a book, and counts bananas
        assert found
        part = self.named(found[1])
        counter = THINGS[part.what].counter
        assert f"何{counter}" in text
        return f"{part.number}{counter}", str(part.number)

    def compare(self, text: str) -> Answer:
        if part := self.extreme(text, "多", "少"):
            return self.called(part)
        one, other = self.inside(text)
        assert re.search("差|違い", text)
        gap = max(one.number, other.number) - min(one.number, other.number)
        return f"{gap}つ", str(gap)

    def colour(self, text: str) -> Answer:
        corners = {"左上": 0, "右上": 1, "左下": 2, "右下": 3}
        if corner := re.match("左上|右上|左下|右下", text):
            return colour(only(part for part in self.parts if part.place == corners[corner[0]]))
        if re.search("何色|色は何", text):
            (part,) = self.inside(text)
            return colour(part)
        part = self.coloured(text)
        if re.search("どこ|位置|場所", text):
            return [*corners][part.place], ("top left", "top right", "bottom left", "bottom right")[part.place]
        return self.called(part)

    def at(self, row: int, column: int) -> Part:
        return only(part for part in self.parts if divmod(part.place, 3) == (row, column))

    def place(self, text: str) -> Answer:
        if beside := re.match("(.+)のすぐ(右|左|上|下)", text):
            row, column = divmod(self.named(beside[1]).place, 3)
            down, right, _ = STEPS[beside[2]]
            return self.called(self.at(row + down, column + right))
        seen = re.match("(.+)から見て、(.+)はどちらの", text) or re.match("(.+)を基準にすると、(.+)はどの方向", text)
        turned = re.match("(.+)は(.+)の上下左右", text)
        if seen or turned:
            one, other = (seen[1], seen[2]) if seen else (turned[2], turned[1])
            (row, column), (row2, column2) = (divmod(self.named(name).place, 3) for name in (one, other))
            assert (row == row2) != (column == column2)
            way = ("右" if column2 > column else "左") if row == row2 else ("下" if row2 > row else "上")
            return way, STEPS[way][2]
        if cell := re.match(f"(?:絵の)?({'|'.join(sorted(GRID, key=len, reverse=True))})に", text):
            return self.called(self.at(*divmod(GRID.index(cell[1]), 3)))
        (part,) = self.inside(text)
        assert re.search("どこ|位置|場所", text)
        return GRID[part.place], GRID_EN[part.place]

    def name(self, text: str) -> Answer:
        if side := re.match("左|右", text):
            return self.called(self.parts[side[0] == "右"])
        part = self.extreme(text, "大き", "小さ")
        assert part
        return self.called(part)

    def odd(self, text: str) -> Answer:
        looks = [(part.what, part.colour) for part in self.parts]
        part = only(part for part in self.parts if looks.count((part.what, part.colour)) == 1)
        if "色" in text:
            assert len({what for what, _ in looks}) == 1
            return colour(part)
        if re.search("どこ|位置|場所", text):
            return GRID[part.place], GRID_EN[part.place]
        assert len({what for what, _ in looks}) == 2
        return self.called(part)

    def clock(self, text: str) -> Answer:
        if shown := re.search(r"(\d+)時(\d+)分", text):
            minutes = 60 * int(shown[1]) + int(shown[2])
            return self.called(only(part for part in self.parts if part.number == minutes))
        side = re.match("左|右", text)
        (part,) = [self.parts[side[0] == "右"]] if side else self.inside(text)
        return hours(part)

    def calendar(self, text: str) -> Answer:
        page, *marks = self.parts
        month = int(page.what)
        if "何月" in text:
            return f"{month}月", words.MONTHS[month - 1].en
        days = [(*WEEK,)[(page.number + past) % 7] for past in range(31)]
        if numbered := re.search(r"(\d+)日", text):
            day = int(numbered[1])
        else:
            day = only(mark for mark in marks if COLOURED[re.search("|".join(COLOURED), text)[0]] == mark.colour).number
        if "何曜日" in text:
            return f"{days[day - 1]}曜日", WEEK[days[day - 1]]
        return f"{day}日", str(day)

    def timetable(self, text: str) -> Answer:
        if leaves := re.match(r"(\d+)時(\d+)分", text):
            minutes = 60 * int(leaves[1]) + int(leaves[2])
            return self.called(only(part for part in self.parts if part.number == minutes))
        if platform := re.match(r"(\d+)番線", text):
            return self.called(only(part for part in self.parts if part.place == int(platform[1])))
        (part,) = self.inside(text)
        if "何番線" in text:
            return f"{part.place}番線", f"platform {part.place}"
        if re.search("種類|種別", text):
            return words.TRAINS[part.more].ja, part.more
        assert "何時何分" in text
        return hours(part)

    def weather(self, text: str) -> Answer:
        if part := self.extreme(text, "暖か|高い", "寒い|低い"):
            return self.called(part)
        if found := self.inside(text):
            (part,) = found
            if "天気" in text:
                return words.WEATHER[part.more].ja, part.more
            return f"{part.number}度", f"{part.number} degrees"
        sky = re.search("晴れ|くもり|雨|雪|雷", text)
        assert sky
        return self.called(only(part for part in self.parts if words.WEATHER[part.more].ja == sky[0]))


def hours(part: Part) -> Answer:
    hour, minute = divmod(part.number, 60)
    return f"{hour}時{minute}分", f"{hour}:{minute:02}"
