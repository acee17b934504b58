"""The examples that the candidates of a search are asked: the whole search split, or less where the search saves."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..records.evaluation import Evaluation
from ..spec.economy import Economy
from .asked import EVERYTHING, Asked
from .chosen import ChosenExamples, ExampleSet
from .racing import Race, block_ends

ROTATING = ("cmaes", "snes", "xnes")
"""Searchers that compare the candidates of a generation with each other alone, so each can have its own examples."""


@dataclass(frozen=True)
class SearchExamples:
    """Examples in fixed orders for the whole run, and how a race over them goes.

    `sets` of one size, of which the generations take one after another; without them everything is asked, in the
    split's order. `ends`: where the blocks of a race end, () where there is none; `level`: see `Race`. `tokens` and
    `seconds` were spent outside of the search itself: to choose the examples, and to ask finalists those left out.
    """

    sets: tuple[ExampleSet, ...] = ()
    ends: tuple[int, ...] = ()
    level: float = 0.0
    tokens: int = 0
    seconds: float = 0.0

    @classmethod
    def of(
        cls, economy: Economy | None, count: int, seed: int, choose: Callable[[], ChosenExamples]
    ) -> "SearchExamples":
        """Those of a search whose split has `count`; `choose` gives the chosen ones, where the economy wants any."""
        if economy is None:
            return cls()
        if economy.examples is not None:
            chosen = choose()
        else:
            order = np.random.default_rng(seed).permutation(count)  # any beginning of it is a fair sample
            chosen = ChosenExamples((ExampleSet(tuple(order.tolist()), (1.0,) * count),), {})
        ends = block_ends(len(chosen.sets[0].positions), economy.blocks) if economy.racing else ()
        return cls(chosen.sets, ends, economy.level, chosen.tokens, chosen.seconds)

    def of_searcher(self, name: str) -> "SearchExamples":
        """The same where the searcher is one of `ROTATING`; others compare candidates of all times, on one set."""
        return self if name in ROTATING else replace(self, sets=self.sets[:1])

    @property
    def size(self) -> int:
        """How many examples a candidate is asked at most; 0 where it is asked all, as they are."""
        return len(self.sets[0].positions) if self.sets else 0

    def next(self, collected: Sequence[Evaluation], generation: int) -> Asked:
        """What the next candidate is asked; its rival is the best of the last of the generations `collected` that were
        asked the same set.

        Of that one alone: the more a rival is the best of, the more examples it takes to be clearly worse than it.
        What is collected when a candidate is submitted depends on the searcher alone, however many actors there are.
        """
        if not self.sets:
            return EVERYTHING
        own, race = self._set(generation), None
        # A candidate asked for again has the values of the generation that it first was in.
        first = {e.candidate_key: e for e in reversed(collected) if self.ends}.values()
        asked = [e for e in first if e.error is None and self._set(e.generation) is own]
        latest = max(((e.stage, e.generation) for e in asked), default=None)
        last = [e for e in asked if (e.stage, e.generation) == latest]
        if rivals := [e for e in last if e.n == self.size]:
            best = max(rivals, key=lambda e: (e.score, -e.number))
            race = Race(best.values, own.weights, self.ends, self.level, len(last))
        return Asked("search", own.positions, own.weights, race)

    def positions(self, evaluation: Evaluation) -> tuple[int, ...]:
        """The positions in the search split that a candidate, at its first evaluation, was asked."""
        return self._set(evaluation.generation).positions[: evaluation.n]

    def filled(self, values: tuple[float, ...]) -> tuple[float, ...]:
        """The values of a whole set: for examples that a candidate was not asked any more, its mean on the others."""
        if not values or not self.ends:
            return values
        return (*values, *[sum(values) / len(values)] * (self.size - len(values)))

    def set_number(self, generation: int) -> int:
        """Which of the sets a generation is asked."""
        return generation % len(self.sets)

    def _set(self, generation: int) -> ExampleSet:
        return self.sets[self.set_number(generation)]

    def after(self, tokens: int, seconds: float) -> "SearchExamples":
        """The same, with more spent on them."""
        return replace(self, tokens=self.tokens + tokens, seconds=self.seconds + seconds)

    def stopped(self, evaluations: Sequence[Evaluation]) -> int:
        """How many candidates lost their race."""
        return len({e.candidate_key for e in evaluations if self.lost(e)})

    def lost(self, evaluation: Evaluation) -> bool:
        """Whether the candidate lost its race at this evaluation."""
        return bool(self.ends) and evaluation.error is None and evaluation.n < self.ends[-1]


def cost(examples: SearchExamples, evaluations: Sequence[Evaluation], count: int) -> dict[str, Any]:
    """What the search spent and saved, in generated tokens. `tokens_beside` of its `tokens` were spent to choose the
    examples and to ask finalists those left out.

    `tokens_full` estimates what asking each candidate all `count` would have taken, by the mean tokens an example
    of those that were asked all they were meant to: who lost a race had begun more examples than there are values of.
    """
    spent = sum(e.tokens for e in evaluations) + examples.tokens
    asked = [e for e in evaluations if e.n and e.tokens]
    whole = [e for e in asked if not examples.lost(e)]
    each = statistics.fmean(e.tokens / e.n for e in whole) if whole else 0.0
    return {
        "tokens": spent,
        "tokens_beside": examples.tokens,
        "tokens_full": round(count * each * len(asked)),
        "examples_asked": examples.size or count,
        "evaluations_raced": examples.stopped(evaluations),
    }
