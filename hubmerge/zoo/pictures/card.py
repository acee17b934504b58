"""The card of ja-vlm-bench: valid front matter, what is in it, and figures of what was made, none typed by hand."""

from collections.abc import Sequence
from dataclasses import dataclass

import yaml

from .baselines import Baseline
from .canvas import SIZE
from .rows import ASKED, SEED

COMBINATIONS = {
    "sign": "shop and colour of its sign",
    "menu": "dish and price",
    "tag": "thing and price",
    "count": "thing and how many",
    "compare": "thing and how many",
    "colour": "thing and colour",
    "place": "thing and cell",
    "name": "the two things",
    "odd": "the common and the odd thing with their colours",
    "clock": "time",
    "calendar": "month and the weekday of its first day",
    "timetable": "station and time",
    "weather": "city, weather and degrees",
}
"""What of a scene belongs to one split, by kind; `scenes.combinations` gives it."""


@dataclass(frozen=True)
class Made:
    """What was made: pictures, bytes of the Parquet file and sha256 of the content by split; the test's baselines.

    `ceiling`: the share of the test, 0 to 1, that a blind guesser has who knows its most frequent answers.
    """

    pictures: dict[str, int]
    nbytes: dict[str, int]
    digests: dict[str, str]
    baselines: list[Baseline]
    ceiling: float


def bench_card(made: Made, repo_id: str) -> str:
    """README.md of the dataset repository `repo_id`."""
    texts = ("id", "kind", "template", "question", "question_en", "answer", "answer_en")
    front = {
        "license": "apache-2.0",
        "language": ["ja", "en"],
        "pretty_name": "ja-vlm-bench",
        "task_categories": ["visual-question-answering"],
        "size_categories": [_size(ASKED * sum(made.pictures.values()))],
        "tags": ["hubmerge", "japanese", "synthetic"],
        "dataset_info": {
            "features": [{"name": "image", "dtype": "image"}, *({"name": name, "dtype": "string"} for name in texts)],
            "splits": [
                {"name": split, "num_bytes": made.nbytes[split], "num_examples": ASKED * count}
                for split, count in made.pictures.items()
            ],
            "download_size": sum(made.nbytes.values()),
            "dataset_size": sum(made.nbytes.values()),
        },
        "configs": [
            {
                "config_name": "default",
                "data_files": [{"split": split, "path": f"data/{split}-*"} for split in made.pictures],
            }
        ],
    }
    every = made.baselines[-1]
    return f"""---
{yaml.safe_dump(front, sort_keys=False)}---

# ja-vlm-bench

Questions in Japanese and English about pictures of Japanese daily life and culture: signs, menus, price tags,
timetables, calendars, clocks, weather maps, and things such as 鳥居, 急須 or 招き猫 with their colours, counts and
places. For vision-language models that should read pictures and answer in Japanese. Each question has one short
answer, which only the picture tells.

| split | pictures | questions | bytes | sha256 of the content |
|---|---:|---:|---:|---|
{_splits(made)}

```python
from datasets import load_dataset

rows = load_dataset("{repo_id}", split="test")
rows[0]["image"], rows[0]["question"], rows[0]["answer"]
```

## Rows

`image` ({SIZE} x {SIZE} PNG), `question` and `answer` in Japanese, `question_en` and `answer_en`, `kind`, `template`
(what is asked, whatever the phrasing), `id`. Each picture has {ASKED} questions of different templates, so a model must
read the question too. An answer is right where it is the same in the same words: a name, a number with its counter word
(8個), a time (7時50分), a price (420円).

## Without the picture

Shares of the test questions that are answered right without looking; both rows belong to every table of results.
*Blind*: for each template the most frequent answer in the training split. *Other pictures*: the right answer to the
same template about another picture. A blind guesser who knew the most frequent answers of the test itself would have
{made.ceiling:.1%}.

{kinds_table(made.baselines)}

Over all: blind **{every.blind:.1%}**, other pictures **{every.other_pictures:.1%}**.

## How it was made

By `hubmerge zoo bench --out DIR`, from the seed {SEED}: scenes are drawn by lot as values, painted as vector shapes and
glyphs, and asked about by templates in several phrasings. No model and no photograph had a part in it. Splits share no
picture and, beyond that, no combination: what the last column of the table names belongs to one split, chosen by its
hash. So whoever knows the training split by heart can at best rule out what it shows. The same bytes come out every
time with the same versions of Pillow, pyarrow and zlib; all coordinates are whole numbers.

The world is a small one: drawings, no photographs; few words; invented prices and weather. What a model scores here
says whether it reads pictures and answers in Japanese, not what it knows of Japan.

Licence: Apache-2.0. The glyphs are from Noto Sans CJK JP (SIL Open Font License 1.1, © Adobe), which puts no condition
on pictures.
"""


def _splits(made: Made) -> str:
    return "\n".join(
        f"| {split} | {count:,} | {ASKED * count:,} | {made.nbytes[split]:,} | `{made.digests[split][:16]}` |"
        for split, count in made.pictures.items()
    )


def kinds_table(lines: Sequence[Baseline]) -> str:
    """The baselines of each kind as a table, with what its splits do not share."""
    head = "| kind | questions | templates | different answers | blind | other pictures | no two splits share |\n"
    return f"{head}|---|---:|---:|---:|---:|---:|---|\n" + "\n".join(
        f"| {line.kind} | {line.questions:,} | {line.templates} | {line.answers} | {line.blind:.1%} "
        f"| {line.other_pictures:.1%} | {COMBINATIONS.get(line.kind, '')} |"
        for line in lines
    )


def _size(count: int) -> str:
    """The Hub's word for a number of rows."""
    return next(word for limit, word in ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K")) if count < limit)
