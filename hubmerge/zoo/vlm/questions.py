"""Questions about pictures as a data set, and as tasks: one about each combination of a split."""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ..pictures.parquet import picture_table
from .drawn import draw
from .world import KINDS, SHARES, Scene, scenes

NAME = "ja-picture-questions"
SPLITS = tuple(split for split in SHARES if split != "train")
MAX_NEW_TOKENS = 16
"""The longest answer has nine words and an end."""


@dataclass(frozen=True)
class Question:
    """A question about a picture and its answer, in both languages."""

    scene: Scene
    kind: str
    question: str
    question_en: str
    answer: str
    answer_en: str


def questions(split: str) -> Iterator[Question]:
    """A question about each combination of a split, of the kinds in turn."""
    rng = random.Random(f"questions {split}")
    for number, scene in enumerate(scenes(split)):
        kind = [*KINDS][number % len(KINDS)]
        asked = rng.choice(KINDS[kind].questions)
        yield Question(scene, kind, asked.ja, asked.en, scene.answer(kind, "ja"), scene.answer(kind, "en"))


def split_file(split: str) -> bytes:
    """A split as a Parquet file: image, kind, question, question_en, answer, answer_en."""
    listed, look = list(questions(split)), random.Random(f"looks {split}")
    pictures = [(f"{split}-{number:03}.png", draw(one.scene, look).png()) for number, one in enumerate(listed)]
    names = ("kind", "question", "question_en", "answer", "answer_en")
    return picture_table(pictures, {name: [getattr(one, name) for one in listed] for name in names})


def dataset_folder(folder: Path) -> Path:
    """The data set in `folder`: a file a split, and its card."""
    folder.mkdir(parents=True)
    for split in SPLITS:
        (folder / f"{split}.parquet").write_bytes(split_file(split))
    (folder / "README.md").write_text(_card(), encoding="utf-8")
    return folder


def picture_task(where: dict[str, str], lang: str = "ja", said: str = "", sees: bool = True) -> dict[str, Any]:
    """A task's document. `where`: the repo_id or the folder of the data set.

    lang: what it is asked in; the answer is in the same. said: what is added to each question. sees: whether the
    picture is shown.
    """
    suffix = "" if lang == "ja" else f"_{lang}"
    document = {
        "name": NAME,
        "examples": {**where, **{split: f"{split}.parquet" for split in SPLITS}},
        "image": "image",
        "prompt": f"{{question{suffix}}}{said}",
        "answer": f"{{answer{suffix}}}",
        "metric": "exact_match",
        "max_new_tokens": MAX_NEW_TOKENS,
    }
    return document if sees else {key: value for key, value in document.items() if key != "image"}


def _card() -> str:
    front = {
        "license": "apache-2.0",
        "language": ["ja", "en"],
        "task_categories": ["visual-question-answering"],
        "tags": ["hubmerge", "demo"],
        "configs": [
            {
                "config_name": "default",
                "data_files": [{"split": split, "path": f"{split}.parquet"} for split in SPLITS],
            }
        ],
    }
    rows = "\n".join(f"| {split} | {len(scenes(split))} |" for split in SPLITS)
    line = json.dumps({"question": "どこにありますか。", "answer": "赤い傘は左にあります。"}, ensure_ascii=False)
    return f"""---
{yaml.safe_dump(front, sort_keys=False)}---

# hubmerge demo zoo: questions about pictures

Pictures of one thing each, drawn by `hubmerge.zoo.vlm`, with a question in Japanese and English: `{line}`.
Each row has a combination of thing, size, colour and place of its own, which is in no other split, in no text that a
model of the zoo was trained on and in no picture that it was asked about. Questions never name what they ask for.

| split | pictures |
|---|---|
{rows}
"""
