"""What a searcher is told of a candidate."""

from dataclasses import dataclass

WORST = -1.0
"""Fitness of a candidate that could not be evaluated; any that could has 0 or more."""


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
