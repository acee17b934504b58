"""What is known of a model after it was asked examples."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .statistics import marks_of

if TYPE_CHECKING:
    from .score import Scores
    from .task import Task


@dataclass(frozen=True)
class Measurement:
    """How good a model is on `n` examples.

    `score` is the plain score 0..1: the mean of `values`, which has one entry per example, in the order asked. Where a
    search asks only some examples of a split, it estimates the mean over the whole split. `problems`: what each of
    these examples is called (`Task.problems`).
    `metric` and `language` are its two parts where the task has both: the share that is right whatever its language,
    and the share in the task's language. `tokens` were generated for it, in `seconds`.
    `error`: why the model could not be measured; everything else is then 0.
    """

    score: float = 0.0
    metric: float = 0.0
    language: float = 0.0
    n: int = 0
    values: tuple[float, ...] = ()
    tokens: int = 0
    problems: tuple[str, ...] = ()
    seconds: float = field(default=0.0, compare=False)
    error: str | None = None

    @classmethod
    def of(cls, scores: "Scores", task: "Task", split: str, positions: Sequence[int] | None = None) -> "Measurement":
        """What is kept of the scores on a split, or on its examples at `positions`, of which the first were asked."""
        names = task.problems(split)
        asked = names if positions is None else tuple(names[position] for position in positions)
        return cls(
            score=scores.score,
            metric=scores.metric_share,
            language=scores.language_share if task.language else 0.0,
            n=scores.n,
            values=scores.values,
            tokens=scores.tokens,
            problems=asked[: scores.n],
        )

    @property
    def marks(self) -> Mapping[str, float]:
        """The values by problem, for all comparisons."""
        return marks_of(self.problems, self.values)

    @property
    def is_finite(self) -> bool:
        """Whether all shares are numbers."""
        return all(map(math.isfinite, (self.score, self.metric, self.language, *self.values)))
