"""One evaluated candidate: a line of the journal, and what the searcher is told."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ...evaluate.table import pack, unpack

WORST = -1.0
"""Fitness of a candidate that could not be measured; any that could has 0 or more."""


@dataclass(frozen=True)
class Evaluation:
    """One evaluated candidate.

    `number` counts all of the run in the order they were asked for; `stage` and `generation` say when that was.
    `genome` is its vector, `solution` the candidate that it stands for (as `to_dict` gives it), `candidate_key` the
    sha256 of that. `fitness` is what the searcher was told, one number per objective; `score`,
    `metric`, `language` are shares 0..1 of `n` examples, `values` the score on each of them. `seconds` and `tokens`
    (generated) are what it cost: nothing, where the same candidate was known. `error` says why a candidate could not
    be measured (its fitness is then `WORST`). `seed` is the search's.
    """

    number: int
    stage: int
    generation: int
    genome: tuple[float, ...]
    candidate_key: str
    fitness: tuple[float, ...]
    score: float
    metric: float
    language: float
    n: int
    values: tuple[float, ...]
    seconds: float
    tokens: int
    seed: int
    error: str | None = None
    solution: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; values that are all 0 or 1 become text such as "0110"."""
        return {**vars(self), "values": pack(self.values)}

    @property
    def failed(self) -> bool:
        """Whether the candidate could not be measured."""
        return self.error is not None

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> "Evaluation":
        """Reads what `to_dict` gives. Raises `KeyError`, `TypeError` or `ValueError` for anything else."""
        made = cls(
            **{
                **document,
                "genome": tuple(document["genome"]),
                "fitness": tuple(document["fitness"]),
                "values": unpack(document["values"]),
            }
        )
        numbers = [made.score, made.metric, made.language, made.seconds, *made.genome, *made.fitness]
        whole = (made.number, made.stage, made.generation, made.n, made.tokens, made.seed)
        texts = isinstance(made.candidate_key, str) and (made.error is None or isinstance(made.error, str))
        fits = texts and isinstance(made.solution, Mapping) and bool(made.fitness) and set(map(type, whole)) == {int}
        if not (fits and set(map(type, numbers)) <= {int, float} and all(map(math.isfinite, numbers))):
            raise TypeError("a field of another type")
        if min(made.number, made.stage, made.generation, made.n) < 0 or len(made.values) not in (0, made.n):
            raise ValueError("a number that counts nothing")
        return made
