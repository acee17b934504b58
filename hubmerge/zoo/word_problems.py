"""Evaluation problems of the zoo: a question in one language and the integer that answers it.

Splits are disjoint from each other and from every training text by construction: a story belongs to exactly one
split, in every language (`hubmerge.zoo.stories.split_of`).
"""

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..evaluate.task import Example, Task
from .cards import dataset_card
from .stories import KINDS, LANGUAGES, SPLITS, Voice, World, draw_story, question_of

SEED = 2403
COUNTS = {"search": 150, "validation": 200, "test": 600}
"""How many problems of each split are published."""
UNSEEN_EVERY = {"test": 3}
"""Every third test problem has a name, a wording and a combination of numbers that no solved training problem has."""
MAX_NEW_TOKENS = 32
"""Right answers need at most 28; a bad merge rambles on."""


@dataclass(frozen=True)
class Problem:
    """A word problem: `question` as the user asks it, `answer`, its `kind` (one of `stories.KINDS`) and whether its
    `template`, name and numbers are "seen" in training problems or "unseen"."""

    question: str
    answer: int
    kind: str
    template: World


def problems(split: str, count: int, lang: str = "ja", seed: int = SEED) -> list[Problem]:
    """The first `count` problems of a held-out split, no question twice, always the same for the same arguments.

    The same `split`, `count` and `seed` give the same stories in both languages, as MGSM does.

    Raises:
        ValueError: for a split that is not held out, or an unknown language.
    """
    if split not in SPLITS or lang not in LANGUAGES:
        raise ValueError(
            f"No problems for split {split!r} in {lang!r}: expected one of {sorted(set(SPLITS))} in {LANGUAGES}."
        )
    rng = random.Random(f"{seed} {split}")
    kinds = list(KINDS)
    every = UNSEEN_EVERY.get(split, 1)
    pattern = [kind for kind in kinds for _ in range(round(4 * KINDS[kind]))]
    found: dict[str, Problem] = {}
    while len(found) < count:
        place = len(found)
        kind = pattern[place // every % len(pattern)]
        world: World = "unseen" if every > 1 and place % every == every - 1 else "seen"
        story = draw_story(rng, kind, split, world)
        question = question_of(story, Voice(lang))
        found.setdefault(question, Problem(question, story.answer, kind, world))
    return list(found.values())


def word_problems(lang: str, counts: Mapping[str, int] = COUNTS) -> Task:
    """The evaluation task of the zoo in `lang`: the last number must be right, and the answer in `lang`."""

    def examples(split: str) -> tuple[Example, ...]:
        return tuple(Example(p.question, str(p.answer)) for p in problems(split, counts.get(split, 0), lang))

    return Task(
        name=f"{lang}-word-problems",
        search=examples("search"),
        validation=examples("validation"),
        test=examples("test"),
        language=lang,
        max_new_tokens=MAX_NEW_TOKENS,
    )


def dataset_folder(lang: str, folder: Path) -> Path:
    """The word problems in `lang` as one JSONL file a split and a card, in `folder`."""
    folder.mkdir(parents=True)
    for split, count in COUNTS.items():
        lines = [
            json.dumps({"question": p.question, "answer": str(p.answer), "template": p.template}, ensure_ascii=False)
            for p in problems(split, count, lang)
        ]
        (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "README.md").write_text(dataset_card(lang, COUNTS), encoding="utf-8")
    return folder
