"""What answers that do not look at the picture are worth: two rows that belong to every table of ja-vlm-bench.

`blind`: for each template, the answer that is most frequent in the training split. `other_pictures`: the right answer
to the same template about another picture of the split; a model whose answers do no better reads no picture.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .rows import Row


def blind(train: Iterable[Row], asked: Iterable[Row]) -> list[str]:
    """A Japanese answer for each row of `asked`, chosen by its template alone; "" for a template not in `train`."""
    counts: dict[str, Counter[str]] = {}
    for row in train:
        counts.setdefault(row.template, Counter())[row.answer] += 1
    # Of answers equally frequent the first in order of the alphabet, so that nothing hangs on the order of rows.
    best = {template: min(found, key=lambda text: (-found[text], text)) for template, found in counts.items()}
    return [best.get(row.template, "") for row in asked]


def other_pictures(asked: Sequence[Row]) -> list[str]:
    """For each row the Japanese answer of the next row with its template: of another picture, as no picture has two.

    The last row of a template has the answer of the first.
    """
    following: dict[str, str] = {}
    for row in asked:
        following.setdefault(row.template, row.answer)
    answers = []
    for row in reversed(asked):
        answers.append(following[row.template])
        following[row.template] = row.answer
    return answers[::-1]


@dataclass(frozen=True)
class Baseline:
    """The shares of a kind's questions, 0 to 1, that are right without its pictures: the answer in the same words."""

    kind: str
    questions: int
    templates: int
    answers: int
    blind: float
    other_pictures: float


def baselines(train: Sequence[Row], asked: Sequence[Row]) -> list[Baseline]:
    """A line for each kind among `asked` and at the end one for `all`; `answers` counts those that differ."""
    guesses = list(zip(asked, blind(train, asked), other_pictures(asked), strict=True))
    kinds = dict.fromkeys(row.kind for row in asked)
    lines = []
    for name, chosen in [*((kind, {kind}) for kind in kinds), ("all", {*kinds})]:
        found = [guess for guess in guesses if guess[0].kind in chosen]
        lines.append(
            Baseline(
                name,
                len(found),
                len({row.template for row, _, _ in found}),
                len({row.answer for row, _, _ in found}),
                sum(row.answer == text for row, text, _ in found) / len(found),
                sum(row.answer == text for row, _, text in found) / len(found),
            )
        )
    return lines
