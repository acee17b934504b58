"""Prompts in Japanese and English as a data set, and as tasks: every wording of each combination of a split."""

import json
from pathlib import Path
from typing import Any

from ..cards import front_matter
from .world import FRAMES, SPLITS, scenes

NAME = "ja-picture-prompts"
DRAW = {"steps": 4, "seeds": [1, 2, 3], "guidance": 1.0}
"""How pictures are drawn, in searches and in tests."""


def rows(split: str) -> list[dict[str, str]]:
    """The prompts of a split: prompt, prompt_en, label (what a judge calls a picture that is right) and pair (of object
    and colour: "known", or "new" where no training picture has it)."""
    return [
        {
            "prompt": scene.say(frame, "ja"),
            "prompt_en": scene.say(frame, "en"),
            "label": scene.label("fine"),
            "pair": "new" if scene.is_new else "known",
        }
        for scene in scenes(split)
        for frame in FRAMES
    ]


def drawing_task(examples: dict[str, Any], judge: str, lang: str = "ja", **changes: Any) -> dict[str, Any]:
    """A task's document: examples as a task has them, the judge, what prompts are in; `changes`: other keys."""
    return {
        "name": NAME,
        "examples": examples,
        "prompt": "{prompt}" if lang == "ja" else "{prompt_en}",
        "answer": "{label}",
        "classifier": judge,
        "draw": DRAW,
        **changes,
    }


def dataset_folder(folder: Path) -> Path:
    """The data set in `folder`: a file a split, and its card."""
    folder.mkdir(parents=True)
    for split in SPLITS:
        lines = (json.dumps(row, ensure_ascii=False) for row in rows(split))
        (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "README.md").write_text(_card(), encoding="utf-8")
    return folder


def _card() -> str:
    front = {
        "license": "apache-2.0",
        "language": ["ja", "en"],
        "task_categories": ["text-to-image"],
        "tags": ["hubmerge", "demo"],
        "configs": [
            {
                "config_name": "default",
                "data_files": [{"split": split, "path": f"{split}.jsonl"} for split in SPLITS],
            }
        ],
    }
    counts = "\n".join(f"| {split} | {len(rows(split))} |" for split in SPLITS)
    line = json.dumps(rows("test")[0], ensure_ascii=False)
    return f"""{front_matter(front)}# hubmerge demo zoo: prompts of pictures

What the pipelines of the zoo are asked to draw, in Japanese and English, each in two wordings: `{line}`.
`label` is what a judge of the zoo calls a picture that is right. A combination of object, colour and time is in one
split alone. In half of the test's prompts object and colour are a pair that no training picture has ("new").

| split | prompts |
|---|---|
{counts}
"""
