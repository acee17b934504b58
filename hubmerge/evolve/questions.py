"""What each candidate of a search is asked: all examples of the search split, or less where the search saves."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .economy import Economy
from .items import Items
from .journal import Evaluation
from .measurement import Job
from .racing import Race, block_ends, mean


@dataclass(frozen=True)
class Questions:
    """The examples that candidates are asked, in one order for the whole run, and how a race goes.

    `positions` in the search split and `weights` of the same length; without them everything is asked, in the split's
    order. `ends`: where the blocks of a race end, () where there is none; `level`: see `Race`. `tokens` and `seconds`
    were spent outside of the search itself: to choose the examples, and to ask finalists those left out.
    """

    positions: tuple[int, ...] | None = None
    weights: tuple[float, ...] | None = None
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
            chosen = Items(tuple(order.tolist()), (1.0,) * examples, {})
        ends = block_ends(len(chosen.positions), economy.blocks) if economy.racing else ()
        return cls(chosen.positions, chosen.weights, ends, economy.level, chosen.tokens, chosen.seconds)

    def job(self, collected: Sequence[Evaluation]) -> Job:
        """What the next candidate is asked, after those `collected`: the best of them that was asked everything is its
        rival. What was collected when a candidate is submitted depends on the searcher alone, not on actors."""
        race = None
        whole = [e for e in collected if e.error is None and e.n == len(self.positions or ())] if self.ends else []
        if whole and self.weights is not None:
            race = Race(max(whole, key=lambda e: e.score).values, self.weights, self.ends, self.level)
        return Job("search", self.positions, self.weights, race)

    def filled(self, values: tuple[float, ...]) -> tuple[float, ...]:
        """The values of all questions: for those that a candidate was not asked any more, its mean on the others."""
        if not self.ends or not values or self.weights is None:
            return values
        missing = len(self.weights) - len(values)
        return (*values, *[mean(values, self.weights)] * missing)

    def after(self, tokens: int, seconds: float) -> "Questions":
        """The same questions, with more spent on them."""
        return replace(self, tokens=self.tokens + tokens, seconds=self.seconds + seconds)

    def stopped(self, evaluations: Sequence[Evaluation]) -> int:
        """How many candidates lost their race."""
        return len({e.candidate for e in evaluations if self.ends and e.error is None and e.n < self.ends[-1]})


def cost(questions: Questions, evaluations: Sequence[Evaluation], examples: int) -> dict[str, Any]:
    """What the search spent and saved, in generated tokens. `tokens_beside` of its `tokens` were spent to choose the
    examples and to ask finalists those left out.

    `tokens_full` estimates what asking each candidate all `examples` would have taken, by its own tokens an example.
    """
    spent = sum(e.tokens for e in evaluations) + questions.tokens
    return {
        "tokens": spent,
        "tokens_beside": questions.tokens,
        "tokens_full": round(sum(e.tokens * examples / e.n for e in evaluations if e.n)),
        "examples_asked": len(questions.positions or ()) or examples,
        "evaluations_raced": questions.stopped(evaluations),
    }
