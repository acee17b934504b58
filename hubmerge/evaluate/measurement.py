"""What is known of a model after it was asked examples."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from .statistics import marks_of


@dataclass(frozen=True)
class Measurement:
    """How good a candidate is on `n` examples.

    `score` is the plain score 0..1: the mean of `values`, which has one entry per example, in the order asked: the
    split's, unless the search saves (see economy.py); then it estimates the mean over the whole split. `problems`:
    what each of these examples is called (`Task.problems`).
    `metric` and `language` are its two parts where the task has both: the share that is right whatever its language,
    and the share in the task's language. `tokens` were generated for it.
    """

    score: float
    metric: float
    language: float
    n: int
    values: tuple[float, ...] = ()
    tokens: int = 0
    problems: tuple[str, ...] = ()

    @property
    def marks(self) -> Mapping[str, float]:
        """The values by problem, for all comparisons."""
        return marks_of(self.problems, self.values)

    @property
    def is_finite(self) -> bool:
        """Whether all shares are numbers."""
        return all(map(math.isfinite, (self.score, self.metric, self.language, *self.values)))
