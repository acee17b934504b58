"""Word problems: English ones with worked solutions to train on; English and Japanese ones, answers alone, to be asked.

The numbers of a problem, in any order, belong to one split: training, search, validation or test. So nothing that is
asked was ever solved in training, in any language. Of the Japanese ones names and things are others too, and the
scenarios without an English text ("unseen") are told in no training problem.

    python examples/real/problems.py                                      # shows a few of each
    python examples/real/problems.py --language en --out problems         # writes the English ones, a file a split
    python examples/real/problems.py --language ja --out japanese-problems
"""

import argparse
import json
import random
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

from hubmerge.zoo.corpora import Sample
from hubmerge.zoo.words import ITEMS, NAMES

# Twentieths of all combinations of numbers; the rest is for training.
HELD_OUT = ("search",) * 3 + ("validation",) * 3 + ("test",) * 4
COUNTS = {"search": 100, "validation": 150, "test": 300}
"""How many problems of each split are published."""
SEED = 2403

JAPANESE_NAMES = ("健太", "さくら", "美咲", "大輔", "陽子", "翔太", "花子", "直樹")
JAPANESE_ITEMS = (
    ("クッキー", "個"),
    ("トマト", "個"),
    ("ビー玉", "個"),
    ("風船", "個"),
    ("シール", "枚"),
    ("折り紙", "枚"),
    ("絵はがき", "枚"),
    ("本", "冊"),
    ("色鉛筆", "本"),
)


class Scenario(NamedTuple):
    """A calculation with the numbers a, b and c, and the problem that asks for it; `en` is None where it is unseen.

    Texts may name {name}, {item} (in English a plural) and in Japanese its {counter}.
    """

    sum: str
    ja: str
    en: str | None = None


SCENARIOS = (
    Scenario(
        "a+b",
        "{name}は{item}を{a}{counter}持っています。友だちから{b}{counter}もらいました。{item}は全部で何{counter}ですか。",
        "{name} has {a} {item}. A friend gives {name} {b} more. How many {item} does {name} have in total?",
    ),
    Scenario(
        "a-b",
        "机の上に{item}が{a}{counter}あります。{name}が{b}{counter}使いました。残りは何{counter}ですか。",
        "There are {a} {item} on the desk. {name} uses {b} of them. How many {item} are left?",
    ),
    Scenario(
        "a*b",
        "{name}は袋を{a}つ持っています。どの袋にも{item}が{b}{counter}入っています。{item}は全部で何{counter}ですか。",
        "{name} has {a} bags. There are {b} {item} in each bag. How many {item} are there in all?",
    ),
    Scenario(
        "a*b",
        "{item}は1{counter}{a}ドルです。{name}は{b}{counter}買いました。全部で何ドルですか。",
        "The {item} cost {a} dollars each. {name} buys {b} {item}. How many dollars does {name} pay?",
    ),
    Scenario(
        "a+b-c",
        "{name}は{item}を{a}{counter}持っています。今日{b}{counter}買い、妹に{c}{counter}あげました。"
        "今{item}は何{counter}ありますか。",
        "{name} has {a} {item}. Today {name} buys {b} more and gives {c} to a sister. "
        "How many {item} does {name} have now?",
    ),
    Scenario(
        "a-b-c",
        "{name}は{item}を{a}{counter}作りました。月曜日に{b}{counter}、火曜日に{c}{counter}売りました。"
        "残りは何{counter}ですか。",
        "{name} makes {a} {item}. {name} sells {b} on Monday and {c} on Tuesday. How many {item} are left?",
    ),
    Scenario(
        "a*b+c",
        "{name}は{b}{counter}入りの{item}を{a}箱買いました。家にも{c}{counter}あります。{item}は全部で何{counter}ですか。",
        "{name} buys {a} boxes with {b} {item} in each. At home there are {c} more. How many {item} are there in all?",
    ),
    Scenario(
        "a*b-c",
        "{item}を{b}{counter}ずつ{a}人に配ります。{name}はもう{c}{counter}配りました。あと何{counter}配りますか。",
        "{a} children get {b} {item} each. {name} has handed out {c} {item} already. How many are still to hand out?",
    ),
    Scenario(
        "a+b+c",
        "{name}は{item}を、きのう{a}{counter}、今日{b}{counter}見つけました。明日{c}{counter}見つけると、全部で何{counter}になりますか。",
        "{name} found {a} {item} yesterday and {b} today. With {c} more tomorrow, how many {item} will {name} have?",
    ),
    Scenario("a+b", "{name}は{a}歳です。兄は{name}より{b}歳年上です。兄は何歳ですか。"),
    Scenario("a-b", "バスに{a}人乗っています。次の駅で{b}人降りました。バスには何人いますか。"),
    Scenario("a*b", "{name}は本を1日に{a}ページ読みます。{b}日で何ページ読みますか。"),
    Scenario("a+b-c", "公園に子どもが{a}人います。{b}人来て、{c}人帰りました。今子どもは何人いますか。"),
    Scenario("a*b-c", "1列に{a}人ずつ、{b}列に並んでいます。そのうち{c}人が座りました。立っている人は何人ですか。"),
    Scenario("a*b+c", "{name}は1枚{a}ドルの切符を{b}枚と、{c}ドルの地図を買いました。全部で何ドルですか。"),
)


def split_of(numbers: dict[str, int]) -> str:
    """The split that a combination of numbers belongs to, whatever their order and what is done with them."""
    bucket = zlib.crc32(" ".join(map(str, sorted(numbers.values()))).encode()) % 20
    return HELD_OUT[bucket] if bucket < len(HELD_OUT) else "train"


def steps(sum: str, numbers: dict[str, int]) -> list[tuple[int, str, int, int]]:
    """The calculation from left to right, a step at a time: (20, "-", 5, 15)."""
    total, made = numbers[sum[0]], []
    for operator, letter in zip(sum[1::2], sum[2::2], strict=True):
        before, by = total, numbers[letter]
        total = {"+": before + by, "-": before - by, "*": before * by}[operator]
        made.append((before, operator, by, total))
    return made


def draw_numbers(rng: random.Random, sum: str, split: str) -> dict[str, int]:
    """Small numbers of `split` for a calculation in which every result is at least 2."""
    while True:
        factors = sum[1] == "*"
        numbers = {letter: rng.randint(2, 12 if factors and letter in "ab" else 20) for letter in sum[::2]}
        if not factors:
            numbers["a"] = rng.randint(5, 40)
        if split_of(numbers) == split and all(step[3] > 1 for step in steps(sum, numbers)):
            return numbers


def english(rng: random.Random, scenario: Scenario, numbers: dict[str, int]) -> str:
    """The English text of a scenario that has one."""
    assert scenario.en is not None
    return scenario.en.format(name=rng.choice(NAMES).en, item=rng.choice(ITEMS).many, **numbers)


def japanese(rng: random.Random, scenario: Scenario, numbers: dict[str, int]) -> str:
    """The Japanese text of a scenario, with names and things that training does not know."""
    item, counter = rng.choice(JAPANESE_ITEMS)
    return scenario.ja.format(name=rng.choice(JAPANESE_NAMES), item=item, counter=counter, **numbers)


def math_sample(rng: random.Random) -> Sample:
    """An English problem of the training split with its worked solution: what the math expert is trained on."""
    scenario = rng.choice([one for one in SCENARIOS if one.en])
    numbers = draw_numbers(rng, scenario.sum, "train")
    made = steps(scenario.sum, numbers)
    worked = " ".join(f"{before} {operator} {by} = {result}." for before, operator, by, result in made)
    return Sample(english(rng, scenario, numbers), f"{worked} The answer is {made[-1][3]}.", "problem")


@dataclass(frozen=True)
class Problem:
    """A problem, its answer, and whether its scenario is told in training problems: "seen" or "unseen"."""

    question: str
    answer: int
    template: str


def problems(split: str, count: int, language: str = "ja", seed: int = SEED) -> list[Problem]:
    """The first `count` problems of a held-out split, no question twice; each scenario as often as others."""
    if split not in HELD_OUT:
        raise ValueError(f"No problems for split {split!r}: expected one of {', '.join(COUNTS)}.")
    told = [one for one in SCENARIOS if language == "ja" or one.en]
    rng = random.Random(f"{seed} {split}")
    found: dict[str, Problem] = {}
    while len(found) < count:
        scenario = told[len(found) % len(told)]
        numbers = draw_numbers(rng, scenario.sum, split)
        question = japanese(rng, scenario, numbers) if language == "ja" else english(rng, scenario, numbers)
        answer = steps(scenario.sum, numbers)[-1][3]
        found.setdefault(question, Problem(question, answer, "seen" if scenario.en else "unseen"))
    return list(found.values())


def write(folder: Path, language: str = "ja") -> None:
    """Writes the published problems: search.jsonl, validation.jsonl, test.jsonl."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, count in COUNTS.items():
        lines = [json.dumps(asdict(problem), ensure_ascii=False) for problem in problems(split, count, language)]
        (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="folder for the files; without it some are shown")
    parser.add_argument("--language", choices=("en", "ja"), default="en", help="of the problems (%(default)s)")
    options = parser.parse_args()
    if options.out:
        write(options.out, options.language)
        return
    shown = random.Random(0)
    for sample in (math_sample(shown) for _ in range(5)):
        print(f"{sample.prompt}\n  {sample.answer}")
    for problem in problems("test", 15, options.language):
        print(f"{problem.question} {problem.answer} ({problem.template})")


if __name__ == "__main__":
    main()
