"""What each candidate of a search is asked: all examples of the search split, or less where the search saves."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..records.journal import Evaluation
from ..spec.economy import Economy
from .items import Items, ItemSet
from .job import Job
from .racing import Race, block_ends

ROTATING = ("cmaes", "snes", "xnes")
"""Searchers that compare the candidates of a generation with each other alone, so each can have its own examples."""


@dataclass(frozen=True)
class Questions:
    """The examples that candidates are asked, in fixed orders for the whole run, and how a race goes.

    `sets` of one size, of which the generations take one after another; without them everything is asked, in the
    split's order. `ends`: where the blocks of a race end, () where there is none; `level`: see `Race`. `tokens` and
    `seconds` were spent outside of the search itself: to choose the examples, and to ask finalists those left out.
    """

    sets: tuple[ItemSet, ...] = ()
    ends: tuple[int, ...] = ()
    level: float = 0.0
    tokens: int = 0
    seconds: float = 0.0

    @classmethod
    def of(cls, economy: Economy | None, examples: int, seed: int, items: Callable[[], Items]) -> "Questions":
        """The questions of a search over so many examples; `items` gives those chosen, where the economy wants any."""
        if economy is None:
            return cls()
        if economy.items is not None:
            chosen = items()
        else:
            order = np.random.default_rng(seed).permutation(examples)  # any beginning of it is a fair sample
            chosen = Items((ItemSet(tuple(order.tolist()), (1.0,) * examples),), {})
        ends = block_ends(len(chosen.sets[0].positions), economy.blocks) if economy.racing else ()
        return cls(chosen.sets, ends, economy.level, chosen.tokens, chosen.seconds)

    def of_searcher(self, name: str) -> "Questions":
        """The same where the searcher is one of `ROTATING`; others compare candidates of all times, on one set."""
        return self if name in ROTATING else replace(self, sets=self.sets[:1])

    @property
    def size(self) -> int:
        """How many examples a candidate is asked at most; 0 where it is asked all, as they are."""
        return len(self.sets[0].positions) if self.sets else 0

    def job(self, collected: Sequence[Evaluation], generation: int) -> Job:
        """What the next candidate is asked; its rival is the best of the last of the generations `collected` that were
        asked the same set.

        Of that one alone: the more a rival is the best of, the more examples it takes to be clearly worse than it.
        What is collected when a candidate is submitted depends on the searcher alone, however many actors there are.
        """
        if not self.sets:
            return Job()
        own, race = self._set(generation), None
        # A candidate asked for again has the values of the generation that it first was in.
        first = {e.candidate_key: e for e in reversed(collected) if self.ends}.values()
        asked = [e for e in first if e.error is None and self._set(e.generation) is own]
        latest = max(((e.stage, e.generation) for e in asked), default=None)
        last = [e for e in asked if (e.stage, e.generation) == latest]
        if rivals := [e for e in last if e.n == self.size]:
            best = max(rivals, key=lambda e: (e.score, -e.number))
            race = Race(best.values, own.weights, self.ends, self.level, len(last))
        return Job("search", own.positions, own.weights, race)

    def asked(self, evaluation: Evaluation) -> tuple[int, ...]:
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

    def _set(self, generation: int) -> ItemSet:
        return self.sets[self.set_number(generation)]

    def after(self, tokens: int, seconds: float) -> "Questions":
        """The same questions, with more spent on them."""
        return replace(self, tokens=self.tokens + tokens, seconds=self.seconds + seconds)

    def stopped(self, evaluations: Sequence[Evaluation]) -> int:
        """How many candidates lost their race."""
        return len({e.candidate_key for e in evaluations if self.lost(e)})

    def lost(self, evaluation: Evaluation) -> bool:
        """Whether the candidate lost its race at this evaluation."""
        return bool(self.ends) and evaluation.error is None and evaluation.n < self.ends[-1]


def cost(questions: Questions, evaluations: Sequence[Evaluation], examples: int) -> dict[str, Any]:
    """What the search spent and saved, in generated tokens. `tokens_beside` of its `tokens` were spent to choose the
    examples and to ask finalists those left out.

    `tokens_full` estimates what asking each candidate all `examples` would have taken, by the mean tokens an example
    of those that were asked all they were meant to: who lost a race had begun more examples than there are values of.
    """
    spent = sum(e.tokens for e in evaluations) + questions.tokens
    asked = [e for e in evaluations if e.n and e.tokens]
    whole = [e for e in asked if not questions.lost(e)]
    each = statistics.fmean(e.tokens / e.n for e in whole) if whole else 0.0
    return {
        "tokens": spent,
        "tokens_beside": questions.tokens,
        "tokens_full": round(examples * each * len(asked)),
        "examples_asked": questions.size or examples,
        "evaluations_raced": questions.stopped(evaluations),
    }
