"""What is known of a candidate after it was asked the examples, and what a searcher is told of it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from ..evaluate.statistics import marks_of
from .racing import Race

WORST = -1.0
"""Fitness of a candidate that could not be evaluated; any that could has 0 or more."""


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


@dataclass(frozen=True)
class Outcome:
    """What a searcher is told of a candidate.

    `fitness`: one finite number per objective, maximised; all are `WORST` for a candidate that could not be evaluated.
    `values`: its score on each example, empty where it could not be evaluated.
    """

    fitness: tuple[float, ...]
    values: tuple[float, ...] = ()

    @property
    def failed(self) -> bool:
        """Whether the candidate could not be evaluated."""
        return self.fitness[0] <= WORST


@dataclass(frozen=True)
class Job:
    """What a candidate is asked: examples of one split, all of them or those at the positions `items`, in that order.

    `weights`: what each of them counts in the score (None: the same). With a `race` it may be asked only the first.
    """

    split: str = "search"
    items: tuple[int, ...] | None = None
    weights: tuple[float, ...] | None = None
    race: Race | None = None
