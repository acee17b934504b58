"""Rows made into examples, and examples into splits: cut to size, no question twice.

A seed draws the search and the validation split. The test split knows no seed: which problems are in it, and in which
order, follows from the problems themselves, so that searches with different seeds are tested on the same ones.
"""

import hashlib
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ..errors import TaskError
from .choices import read_choices
from .examples import TASK, Example, Row, fill
from .fingerprint import fingerprint

TEST = "test"
SPLITS = ("search", "validation", TEST)
"""The three splits: candidates are scored on the first, the winner is chosen on the second, reported on the third."""


class RowSource(Protocol):
    """Reads the rows that a split's entry under `examples:` names."""

    @property
    def source(self) -> str | None:
        """Where the rows come from, for people."""

    def read(self, file: str | Sequence[Row], split: str) -> list[Row]:
        """The rows of `file`. Raises `TaskError` where there are none."""


@dataclass(frozen=True)
class Template:
    """How a row becomes an example: templates with {fields} of the row.

    `choices`: the name of a field that holds them, or a list of templates; None where the task has none. `asks`: what
    the task's metric asks for (see metrics.py). `image`: the name of the field that holds a picture.
    """

    prompt: str = "{question}"
    answer: str = "{answer}"
    choices: str | Sequence[str] | None = None
    asks: str = "text"
    image: str | None = None

    def __post_init__(self) -> None:
        given = self.choices
        is_list = isinstance(given, Sequence) and all(isinstance(choice, str) for choice in given)
        if given is not None and not is_list:
            raise TaskError(f"`choices` of the task must be the name of a field or a list of templates, got {given!r}.")

    def fill(self, row: Row, task: str, where: str) -> Example:
        """The example of one row, which is called `where`. Raises `TaskError` for a field that the row lacks."""
        place = f"task {task}, {where}"
        prompt = fill(self.prompt, row, place)
        if self.choices is not None:
            choices, answer = read_choices(self.choices, self.answer, row, place)
        else:
            choices, answer = (), fill(self.answer, row, place)
        if not prompt.strip() and self.asks != "likelihood":
            raise TaskError(f"{place}: the prompt is empty.")
        picture = None if self.image is None else row[self.image]
        return Example(prompt, answer, choices, str(row["id"]) if self.asks == "lm_eval" else "", where, picture)


def identity(example: Example, asks: str) -> str:
    """What two examples share that are one: prompt, choices, picture; where only likelihood is asked, the text too."""
    more = [example.image.digest] if example.image is not None else []
    more += [example.answer] if asks == "likelihood" else []
    return fingerprint("\n".join([example.prompt, *sorted(example.choices), *more]))


def problem_id(example: Example, asks: str) -> str:
    """The name that a problem's values are recorded under and joined by, wherever it stands: 16 hex digits."""
    return hashlib.sha256(identity(example, asks).encode()).hexdigest()[:16]


def cut(
    task: str,
    rows: RowSource,
    where: Mapping[str, Any],
    template: Template,
    counts: Mapping[str, int],
    seed: int,
) -> dict[str, tuple[Example, ...]]:
    """The examples of each split that `where` names.

    Splits that name the same file are cut from it one after the other, test first: a split that `counts` limits takes
    that many, and those it does not share the rest equally. Test takes those whose `problem_id` comes first, in that
    order; `seed` draws the others from what is left. Raises `TaskError` where nothing is left for one.
    """
    TASK.require_known(counts, SPLITS, f"the split sizes of task {task}")
    origins = {split: _origin(where[split], split) for split in SPLITS if where.get(split) is not None}
    splits: dict[str, tuple[Example, ...]] = {}
    for origin in dict.fromkeys(origins.values()):
        sharing = [split for split in origins if origins[split] == origin]
        made = _examples(rows.read(where[sharing[0]], sharing[0]), template, task, origin)
        sizes = _sizes(task, sharing, counts, len(made))
        if TEST in sizes:
            made.sort(key=lambda example: problem_id(example, template.asks))
            splits[TEST], made = tuple(made[: sizes[TEST]]), made[sizes[TEST] :]
        pool = random.Random(seed).sample(made, len(made))
        for split, size in sizes.items():
            if split != TEST:
                splits[split], pool = tuple(pool[:size]), pool[size:]
            if not splits[split]:
                raise TaskError(f"Task {task}: no examples are left in {origin} for the {split} split.")
    return splits


def _origin(file: Any, split: str) -> str:
    return file if isinstance(file, str) else f"the {split} rows"


def _sizes(task: str, sharing: Sequence[str], counts: Mapping[str, int], total: int) -> dict[str, int]:
    asked = {split: counts[split] for split in sharing if split in counts}
    for split, size in asked.items():
        if type(size) is not int or size < 1:
            raise TaskError(
                f"the size of the {split} split of task {task} must be a whole number of at least 1, got {size!r}."
            )
    rest, left = max(0, total - sum(asked.values())), [split for split in sharing if split not in asked]
    shares = {split: rest // len(left) + (place < rest % len(left)) for place, split in enumerate(left)}
    return {split: asked.get(split, shares.get(split, 0)) for split in sharing}


def _examples(rows: Iterable[Row], template: Template, task: str, origin: str) -> list[Example]:
    made: dict[str, Example] = {}
    for number, row in enumerate(rows, start=1):
        example = template.fill(row, task, f"row {number} of {origin}")
        made.setdefault(identity(example, template.asks), example)
    return list(made.values())
